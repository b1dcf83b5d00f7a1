"""A profile looked through: its latencies, and points that physics or a quiet machine would not give."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from hw.catalog import find_model
from hw.errors import InputError
from hw.files import read_text, read_toml
from hw.profile import load_profile
from hw.types import BoardSpec, OperatingPoint, Profile

SLOWER = 1.05  # more than noise
SPREAD = 0.25  # standard deviation over mean
FEW = 5
HELD = 0.5  # of what the clock should slow
SHOWN = 5  # oddities, after a sweep


def validate(path: Path, board: str | None) -> None:
    """Load a profile, which refuses what is none, and say what is odd about it."""
    if path.suffix != ".csv":
        raise InputError.at(path, "is not a profile", want="name its .csv file")
    if board is None:
        read_text(path)  # else it is the file beside it that is said to be missing
        sidecar = path.with_suffix(".toml")
        name = read_toml(sidecar).get("board")
        if not isinstance(name, str):
            raise InputError.at(sidecar, "does not say which board it is of", want='board = "NAME"')
        beside = path.parent / f"{name}.toml"
        board = str(beside) if beside.is_file() else name
    spec = find_model(board, path).spec
    profile = load_profile(path, spec)
    oddities = list(lint(profile, spec))
    for line in oddities:
        print(f"odd: {line}")
    frames = sum(p.samples for p in profile.points)
    print(f"{path}: {profile.kind}, {len(profile.points)} points, {frames} frames, {len(oddities)} oddities")


def show(profile: Profile, spec: BoardSpec, path: Path) -> None:
    """A line per rung and placement: mean latency over the clock; then what is odd."""
    for unit, cores in spec.placements:
        freqs_hz = spec.clock(spec.unit(unit).clock).freqs_hz
        print(f"{cores} x {unit}, mean latency in ms at " + " ".join(f"{f / 1e6:8.0f}" for f in freqs_hz) + " MHz")
        for rung in profile.rungs:
            row = [p for p in profile.points if (p.rung, p.unit, p.cores) == (rung.index, unit, cores)]
            head = f"  rung {rung.index} ({rung.name})"
            print(f"{head:<{len(f'{cores} x {unit}, mean latency in ms at ')}}" + _cells(row))
    oddities = list(lint(profile, spec))
    for line in oddities[:SHOWN]:
        print(f"odd: {line}")
    if len(oddities) > SHOWN:
        print(f"... and {len(oddities) - SHOWN} more: --validate {path}")
    print(f"Written: {path}")


def _cells(row: list[OperatingPoint]) -> str:
    return " ".join(f"{1e3 * p.latency_mean_s:8.2f}" for p in row)


def lint(profile: Profile, spec: BoardSpec) -> Iterator[str]:
    """A line per oddity, with its point where it is one point's; none for a profile that is as it should be."""
    points = {(p.rung, p.unit, p.cores, p.freq_hz): p for p in profile.points}
    power = profile.provenance.get("power", profile.kind)
    if power != profile.kind:
        yield f"power is {power}, latency {profile.kind}"
    for point in profile.points:
        if point.latency_std_s > SPREAD * point.latency_mean_s:
            yield f"{_words(point)}: standard deviation {point.latency_std_s / point.latency_mean_s:.0%} of the mean"
    if few := sum(0 < p.samples < FEW for p in profile.points):
        yield f"{few} of {len(profile.points)} points: fewer than {FEW} frames; without --quick they get more"
    for unit, cores in spec.placements:
        freqs_hz = spec.clock(spec.unit(unit).clock).freqs_hz
        for rung in range(1, len(profile.rungs) + 1):
            row = [points[rung, unit, cores, f] for f in freqs_hz]
            for low, high in pairwise(row):
                if high.latency_mean_s > SLOWER * low.latency_mean_s:
                    yield f"{_words(high)}: slower than at {low.freq_hz / 1e6:.0f} MHz"
            gain, clock = row[0].latency_mean_s / row[-1].latency_mean_s, freqs_hz[-1] / freqs_hz[0]
            if gain < 1 + HELD * (clock - 1) and len(row) > 1:
                yield f"{_words(row[-1])}: {gain:.1f} times as fast at {clock:.1f} times the clock"
            if rung > 1:
                for point in row:
                    smaller = points[rung - 1, unit, cores, point.freq_hz]
                    if point.latency_mean_s * SLOWER < smaller.latency_mean_s:
                        yield f"{_words(point)}: faster than the smaller rung"


def _words(point: OperatingPoint) -> str:
    return f"rung {point.rung}, {point.cores} x {point.unit} at {point.freq_hz / 1e6:.0f} MHz"
