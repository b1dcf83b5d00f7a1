"""Every board file that ships makes a board that keeps its contract, with the profile that is its default."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check

from envs.plugin import IDS
from experiments.make_paper_profile import LAWS, NANO, build_profile
from hw.boardfile import board_names, load_board
from hw.catalog import HOST, open_board
from hw.check import check_board
from hw.errors import InputError, Refused
from hw.profile import open_profile, profile_path, save_profile
from hw.types import DEADLINE_S, MEM_GBPS, RATE_HZ, Demand, Load, OperatingPoint

NANO_NAMES = ("jetson_nano", "jetson_nano_5w")


@pytest.mark.parametrize("name", board_names())
def test_a_shipped_board_keeps_its_contract(name: str) -> None:
    check_board(open_board(name))


# this machine's task needs a profile that was measured on it
SHIPPED = {name: board for name, board in IDS.items() if board != HOST}


@pytest.mark.parametrize("task", [n for n, board in SHIPPED.items() if board != "xu3"])
def test_every_task_suits_the_checkers(task: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for view in ("multi", "flat"):
            env = gymnasium.make(task, family="held_out", action_view=view).unwrapped
            check_env(env)
            sb3_check(env, warn=True)


def test_every_task_is_of_a_board_that_ships() -> None:
    assert set(SHIPPED.values()) <= set(board_names())


def test_this_machine_needs_a_profile_of_its_own() -> None:
    with pytest.raises(InputError, match="no profile of this machine"):
        gymnasium.make("powerband/Host-v0")


WORK = Demand(rate_hz=5.0, deadline_s=0.3, accuracy_min=0.0, energy_budget_j=1.0, goal="min_energy")


@pytest.mark.parametrize("changes", [{"rate_hz": 0.0}, {"rate_hz": 1e-50}, {"rate_hz": 1e39}, {"deadline_s": math.inf}])
def test_a_simulated_board_refuses_what_it_cannot_reckon_with(changes: dict[str, float]) -> None:
    board = open_board("xu3")
    knobs = board.reset().granted
    with pytest.raises(Refused, match="a simulated board takes 1e-06 to") as caught:
        board.step(knobs, replace(WORK, **changes))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    with pytest.raises(Refused, match="a simulated board takes 0 to 100 GB/s"):
        board.inject(Load(busy={}, mem_gbps=1e39, ambient_c=25.0))
    for ambient_c in (math.nan, 1e4, -300.0):
        with pytest.raises(Refused, match=f"temperature of {ambient_c} deg C: a simulated board takes -40 to 85 deg C"):
            board.inject(Load(busy={}, ambient_c=ambient_c))


@pytest.mark.parametrize("rate_hz", RATE_HZ)
@pytest.mark.parametrize("deadline_s", DEADLINE_S)
def test_the_ends_of_what_may_be_demanded(rate_hz: float, deadline_s: float) -> None:
    """Warnings are errors here, so nothing overflows; hot and with all the traffic there may be."""
    board = open_board("xu3")
    knobs = board.reset(seed=0).granted
    board.inject(Load(busy={"a7": 4.0, "a15": 4.0}, mem_gbps=MEM_GBPS[1], ambient_c=85.0))
    for _ in range(30):
        told = board.step(knobs, replace(WORK, rate_hz=rate_hz, deadline_s=deadline_s))
        assert 0 <= told.dropped <= told.missed <= told.frames == told.served + told.dropped
        assert math.isfinite(told.temp_c["soc"]) and math.isfinite(told.total_energy_j or 0.0)


# ---- the two modes of the Jetson Nano ----


def test_the_nano_has_what_the_sources_list() -> None:
    spec = load_board("jetson_nano").spec
    assert [len(c.freqs_hz) for c in spec.clocks] == [15, 12]
    assert [(u.name, u.cores, u.kind) for u in spec.units] == [("a57", 4, "cpu"), ("gpu", 1, "gpu")]
    assert spec.rails == ("a57", "gpu", "rest")
    assert spec.clock("a57").max_hz == 1.479e9
    assert spec.clock("gpu").max_hz == 921.6e6


def test_the_5w_mode_differs_in_nothing_but_its_caps() -> None:
    """nvpmodel: two cores, CPU at most 918 MHz, GPU at most 640 MHz. All physics is that of MAXN."""
    full, capped = (load_board(n) for n in NANO_NAMES)
    caps_hz, cores = {"a57": 918e6, "gpu": 640e6}, {"a57": 2, "gpu": 1}
    for clock, of_full in zip(capped.spec.clocks, full.spec.clocks, strict=True):
        below = [(f, v) for f, v in zip(of_full.freqs_hz, of_full.volts, strict=True) if f <= caps_hz[clock.name]]
        assert list(zip(clock.freqs_hz, clock.volts, strict=True)) == below
    assert capped.units == tuple(replace(u, cores=cores[u.name]) for u in full.units)
    apart = ("spec", "units", "path")
    assert {k: v for k, v in asdict(capped).items() if k not in apart} == {
        k: v for k, v in asdict(full).items() if k not in apart
    }


# ---- profiles `paper` of the Nano ----


def full_network(name: str, unit: str, freq_hz: float) -> OperatingPoint:
    points = open_profile(load_board(name).spec, "paper").points
    return next(p for p in points if (p.rung, p.unit, p.cores, p.freq_hz) == (4, unit, 1, freq_hz))


@pytest.mark.parametrize(("unit", "ghz"), [(u, f) for u, rows in NANO.table.items() for f in rows])
def test_the_four_nano_rows_of_the_table(unit: str, ghz: float) -> None:
    point = full_network("jetson_nano", unit, round(ghz * 1e9))
    time_s, power_w, energy_j = NANO.table[unit][ghz]
    assert point.latency_mean_s == pytest.approx(time_s, rel=0.05)
    assert point.power_w == pytest.approx(power_w, rel=0.05)
    assert point.energy_j == pytest.approx(energy_j, rel=0.05)


def test_5w_shares_its_points_with_maxn() -> None:
    shared = ((u.name, f) for u in load_board("jetson_nano_5w").spec.units for f in _freqs(u.clock))
    for unit, freq_hz in shared:
        assert full_network("jetson_nano_5w", unit, freq_hz) == full_network("jetson_nano", unit, freq_hz)


def _freqs(clock: str) -> tuple[float, ...]:
    return load_board("jetson_nano_5w").spec.clock(clock).freqs_hz


@pytest.mark.parametrize("name", NANO_NAMES)
def test_the_shipped_profile_is_what_the_script_builds(name: str, tmp_path: Path) -> None:
    save_profile(build_profile(load_board(name)), tmp_path / f"{name}-paper.csv")
    for suffix in (".csv", ".toml"):
        built = (tmp_path / f"{name}-paper{suffix}").read_text()
        assert built == profile_path(name, "paper").with_suffix(suffix).read_text()


@pytest.mark.parametrize("name", NANO_NAMES)
def test_the_laws_are_monotone(name: str) -> None:
    spec = load_board(name).spec
    points = {(p.rung, p.unit, p.cores, p.freq_hz): p for p in open_profile(spec, "paper").points}
    for (rung, unit, cores, freq_hz), p in points.items():
        freqs = spec.clock(spec.unit(unit).clock).freqs_hz
        if freq_hz != freqs[-1]:
            faster = points[rung, unit, cores, freqs[freqs.index(freq_hz) + 1]]
            assert faster.latency_mean_s < p.latency_mean_s and faster.power_w > p.power_w
        if rung > 1:
            smaller = points[rung - 1, unit, cores, freq_hz]
            assert smaller.latency_mean_s < p.latency_mean_s and smaller.energy_j < p.energy_j
        if cores > 1:
            fewer = points[rung, unit, cores - 1, freq_hz]
            assert fewer.latency_mean_s > p.latency_mean_s and fewer.power_w < p.power_w


def test_boards_with_a_paper_profile() -> None:
    assert set(LAWS) == {n for n in board_names() if profile_path(n, "paper").exists()}
