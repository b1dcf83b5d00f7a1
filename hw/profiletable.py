"""The table of a profile: its columns, the grid it must fill, and its rows as operating points and back."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from hw.errors import InputError
from hw.files import Row, number, whole
from hw.types import LATENCY_S, POWER_W, BoardSpec, OperatingPoint, Profile

MEASURES = ("latency_mean_s", "latency_std_s", "latency_p95_s", "power_w")
MOST_STD = 10.0  # means; of more than a hundred frames one alone may cause more
MOST_P95 = 20.0  # means: more than one frame in twenty so long would lift the mean
Key = tuple[int, str, int, float]  # rung, unit, cores, Hz


def columns(rails: Iterable[str]) -> tuple[str, ...]:
    """The columns of a profile of a board with these rails, in the order they are written."""
    return ("rung", "unit", "cores", "freq_hz", *MEASURES, *(f"power_{r}_w" for r in rails), "samples")


def grid(spec: BoardSpec, rungs: int) -> list[Key]:
    """Every operating point a profile must hold, in canonical order: rung, placement, frequency."""
    return [
        (rung, unit, cores, freq_hz)
        for rung in range(1, rungs + 1)
        for unit, cores in spec.placements
        for freq_hz in spec.clock(spec.unit(unit).clock).freqs_hz
    ]


def point_of(path: Path, row: Row, spec: BoardSpec, described: Profile) -> OperatingPoint:
    """One row as an operating point; InputError where it is not one of this board and ladder."""
    line, cells = row
    rung = whole(path, line, "rung", cells["rung"])
    if not 1 <= rung <= len(described.rungs):
        want = f"its .toml describes rungs 1 to {len(described.rungs)}"
        raise InputError.at(path, "unknown rung", line=line, column="rung", value=cells["rung"], want=want)
    names = [u.name for u in spec.units]
    if cells["unit"] not in names:
        want = f"{spec.name} has {', '.join(names)}"
        raise InputError.at(path, "unknown unit", line=line, column="unit", value=cells["unit"], want=want)
    unit = spec.unit(cells["unit"])
    cores = whole(path, line, "cores", cells["cores"], low=1, high=unit.cores)
    asked_hz = number(path, line, "freq_hz", cells["freq_hz"], low=0.0)
    clock = spec.clock(unit.clock)
    freq_hz = clock.freqs_hz[clock.nearest(asked_hz)]
    if abs(freq_hz - asked_hz) > 1e-6 * freq_hz:
        raise InputError.at(
            path,
            f"not a frequency of clock {clock.name!r}",
            line=line,
            column="freq_hz",
            value=cells["freq_hz"],
            want=f"in Hz, one of {', '.join(f'{f:g}' for f in clock.freqs_hz)}",
        )
    low, high = LATENCY_S
    mean = number(path, line, "latency_mean_s", cells["latency_mean_s"], low=low, high=high)
    std = number(path, line, "latency_std_s", cells["latency_std_s"], low=0.0, high=high)
    p95 = number(path, line, "latency_p95_s", cells["latency_p95_s"], low=low, high=high)
    samples = whole(path, line, "samples", cells["samples"], low=0)
    if p95 < mean:
        column, want = "latency_p95_s", f"at least the mean, {mean:g}"
        raise InputError.at(path, "below the mean", line=line, column=column, value=cells[column], want=want)
    most_std = max(MOST_STD, 1.001 * math.sqrt(samples))  # rounding
    for column, value, most in (("latency_std_s", std, most_std), ("latency_p95_s", p95, MOST_P95)):
        if value > most * mean:
            problem, want = f"{value / mean:.0f} times the mean", f"at most {most * mean:g}"
            raise InputError.at(path, problem, line=line, column=column, value=cells[column], want=want)
    if (samples > 0) != (described.kind == "measured"):
        want = "at least 1 where kind is 'measured', 0 where it is 'modelled'"
        problem = f"the .toml says {described.kind}"
        raise InputError.at(path, problem, line=line, column="samples", value=cells["samples"], want=want)
    missing = described.provenance.get("power") == "missing"
    watts = _watts(path, row, "power_w", missing)
    rails = {r: _watts(path, row, f"power_{r}_w", missing) for r in spec.rails}
    if not missing and not math.isclose(watts, rails[unit.name], rel_tol=0.01, abs_tol=1e-3):  # rounding
        want = f"power_{unit.name}_w, the unit's own rail: {rails[unit.name]:g}"
        raise InputError.at(path, "of another rail", line=line, column="power_w", value=cells["power_w"], want=want)
    return OperatingPoint(
        rung=rung,
        unit=unit.name,
        cores=cores,
        freq_hz=freq_hz,
        latency_mean_s=mean,
        latency_std_s=std,
        latency_p95_s=p95,
        power_w=watts,
        rail_power_w=rails,
        samples=samples,
    )


def _watts(path: Path, row: Row, column: str, missing: bool) -> float:
    """A power, or NaN for an empty cell where the sidecar says that power is missing: it is in all of them then."""
    line, cells = row
    if missing and cells[column]:
        problem = "the .toml says that power is missing"
        raise InputError.at(path, problem, line=line, column=column, value=cells[column], want="an empty cell")
    return math.nan if missing else number(path, line, column, cells[column], low=POWER_W[0], high=POWER_W[1])


def in_words(key: Key) -> str:
    """A point as an error names it."""
    rung, unit, cores, freq_hz = key
    return f"rung {rung}, unit {unit}, cores {cores}, freq_hz {freq_hz:.0f}"


def _shortest(value: float) -> str:
    """The shortest text that reads back as the same number, whole numbers without a point; "" for NaN: missing."""
    return "" if math.isnan(value) else repr(float(value)).removesuffix(".0")


def with_checksum(profile: Profile) -> Profile:
    """The same profile with the checksum that its CSV has or would have."""
    return replace(profile, checksum=hashlib.sha256(csv_bytes(profile)).hexdigest())


def csv_bytes(profile: Profile) -> bytes:
    """The table as it is written."""
    rails = tuple(profile.points[0].rail_power_w)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns(rails))
    for p in profile.points:
        measures = [getattr(p, name) for name in MEASURES]
        numbers = [p.freq_hz, *measures, *(p.rail_power_w[r] for r in rails)]
        writer.writerow([p.rung, p.unit, p.cores, *map(_shortest, numbers), p.samples])
    return stream.getvalue().encode("utf-8")
