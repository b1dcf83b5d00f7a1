"""The examiner passes the simulated board and finds each classic slip of a driver writer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hw.catalog import open_board
from hw.check import check_board, check_spec
from hw.errors import InputError, Refused
from hw.types import Board, BoardSpec, Demand, Knobs, Load, Telemetry


class Wrapped:
    """A good board with one fault: what it reports, grants or does passes through `fault`."""

    def __init__(self, board: Board, fault: Callable[[Telemetry], Telemetry], spec: BoardSpec | None = None) -> None:
        self.board, self.fault, self.spec = board, fault, spec or board.spec

    def reset(self, *, seed: int | None = None) -> Telemetry:
        return self.fault(self.board.reset(seed=seed))

    def inject(self, load: Load) -> None:
        self.board.inject(load)

    def step(self, knobs: Knobs, demand: Demand) -> Telemetry:
        return self.fault(self.board.step(knobs, demand))

    def close(self) -> None:
        self.board.close()


def scaled(values: dict[str, float], factor: float) -> dict[str, float]:
    return {name: value * factor for name, value in values.items()}


def khz(t: Telemetry) -> Telemetry:
    return replace(t, granted=replace(t.granted, freqs_hz=scaled(dict(t.granted.freqs_hz), 1e-3)))


def times(name: str, factor: float) -> Callable[[Telemetry], Telemetry]:
    """A telemetry field, a number or a mapping of numbers, in another unit."""

    def fault(t: Telemetry) -> Telemetry:
        value = getattr(t, name)
        if value is None:
            return t
        changed: Any = value * factor if isinstance(value, float) else scaled(dict(value), factor)
        return replace(t, **{name: changed})

    return fault


def off_table(t: Telemetry) -> Telemetry:
    return replace(t, granted=replace(t.granted, freqs_hz=scaled(dict(t.granted.freqs_hz), 1.01)))


def boosted(t: Telemetry) -> Telemetry:
    """Throttled, yet every clock at 1.3 GHz, whatever was asked."""
    return replace(t, throttled=True, granted=replace(t.granted, freqs_hz=dict.fromkeys(t.granted.freqs_hz, 1.3e9)))


FAULTS: dict[str, tuple[Callable[[Telemetry], Telemetry], str]] = {
    "kHz": (khz, "kHz for Hz"),
    "m°C": (times("temp_c", 1e3), "m°C"),
    "kelvin": (lambda t: replace(t, temp_c={n: c + 273.15 for n, c in t.temp_c.items()}), "temp_c"),
    "mJ": (times("energy_j", 1e3), "mJ"),
    "MJ": (times("energy_j", 1e-6), "no powered board"),
    "ms": (times("latency_mean_s", 1e3), "latency_mean_s"),
    "p95 in ms": (times("latency_p95_s", 1e-3), "latency_p95_s"),
    "negative energy": (times("energy_j", -1.0), r"energy_j\['a7'\]"),
    "a rail short": (lambda t: replace(t, energy_j={"a7": 0.1}), "None or every rail"),
    "wrong counts": (lambda t: replace(t, served=t.served + 1), "must be frames"),
    "drops not missed": (
        lambda t: replace(t, served=0, labelled=0, dropped=t.frames, missed=0) if t.frames else t,
        "dropped <= missed",
    ),
    "lost frames": (
        lambda t: replace(t, frames=0, served=0, missed=0, dropped=0, labelled=0, latency_mean_s=None),
        "were demanded",
    ),
    "latency of nothing": (lambda t: replace(t, latency_mean_s=0.1), "with 0 frames served"),
    "per cent": (times("utilisation", 100.0), "utilisation"),
    "accuracy in per cent": (lambda t: replace(t, accuracy=71.2), "accuracy"),
    "another rung's accuracy": (lambda t: replace(t, profile_accuracy=0.5), r"profile_accuracy is 0.5, .* for rung 1"),
    "no node": (lambda t: replace(t, temp_c={}), "thermal nodes"),
    "interval": (lambda t: replace(t, interval_s=0.0), "interval_s"),
    "nan": (times("temp_c", float("nan")), "temp_c"),
    "off the table": (off_table, "not in the table"),
    "rung": (lambda t: replace(t, granted=replace(t.granted, rung=5)), "ladder"),
    "cores": (lambda t: replace(t, granted=replace(t.granted, cores=5)), "placement"),
    "deaf": (lambda t: replace(t, granted=replace(t.granted, rung=1)), "not throttled, but granted"),
    "forgetful": (lambda t: replace(t, asked=replace(t.asked, rung=1)), "asked"),
    "boost": (boosted, "throttled, but"),
}


def test_a_board_that_carries_no_profile() -> None:
    board = Wrapped(open_board("xu3"), lambda t: t)
    with pytest.raises(InputError, match="board 'xu3' carries no profile"):
        check_board(board)


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_is_found(what: str) -> None:
    fault, expected = FAULTS[what]
    board = open_board("xu3")
    with pytest.raises(AssertionError, match=expected) as caught:
        check_board(Wrapped(board, fault), board.profile)
    assert "\n" not in str(caught.value)


def test_a_board_without_meters_is_fine() -> None:
    board = open_board("xu3")
    check_board(Wrapped(board, lambda t: replace(t, energy_j=None)), board.profile)


def test_another_trace_of_the_same_seed_is_found_where_it_matters() -> None:
    count = iter(range(10_000))

    def drift(t: Telemetry) -> Telemetry:
        return replace(t, sensor_age_s=float(next(count)))

    board = open_board("xu3")
    with pytest.raises(AssertionError, match="same seed"):
        check_board(Wrapped(board, drift), board.profile)
    check_board(Wrapped(board, drift), board.profile, deterministic=False)


def test_a_board_that_crashes_on_nonsense_is_found() -> None:
    class Crashing(Wrapped):
        def step(self, knobs: Knobs, demand: Demand) -> Telemetry:
            try:
                return super().step(knobs, demand)
            except Refused as error:
                raise KeyError("no such thing") from error

    board = open_board("xu3")
    with pytest.raises(AssertionError, match="must be Refused"):
        check_board(Crashing(board, lambda t: t), board.profile)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"interval_s": 0.0}, "interval_s"),
        ({"clocks": ()}, "at least one clock"),
        ({"units": ()}, "at least one clock"),
        ({"rails": ("a7", "a7")}, "rail has two"),
        ({"name": "xu4"}, "profile is of 'xu3'"),
    ],
)
def test_bad_specs(changes: dict[str, object], expected: str) -> None:
    board = open_board("xu3")
    with pytest.raises(AssertionError, match=expected):
        check_spec(replace(board.spec, **changes), board.profile)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"freqs_hz": ()}, "no frequencies"),
        ({"volts": (1.0,)}, "volts"),
        ({"freqs_hz": (2e9, 1e9), "volts": (1.0, 1.0)}, "must rise"),
        ({"freqs_hz": (2e5, 1e6), "volts": (1.0, 1.0)}, "kHz"),
        ({"name": "cpu"}, "unknown clock"),
    ],
)
def test_bad_clocks(changes: dict[str, object], expected: str) -> None:
    board = open_board("xu3")
    clocks = (replace(board.spec.clocks[0], **changes), *board.spec.clocks[1:])  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=expected):
        check_spec(replace(board.spec, clocks=clocks), board.profile)


def test_unknown_names_are_refused() -> None:
    calls: tuple[Callable[[], object], ...] = (
        lambda: open_board("xu5"),
        lambda: open_board("xu3", profile="none such"),
        lambda: open_board("xu3", backend="real"),
        lambda: open_board("xu3", backend="cloud"),
    )
    for call in calls:
        with pytest.raises(InputError) as caught:
            call()
        assert "\n" not in str(caught.value)
