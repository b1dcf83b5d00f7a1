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
from hw.types import BoardSpec, OperatingPoint, Profile

MEASURES = ("latency_mean_s", "latency_std_s", "latency_p95_s", "power_w")
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
    mean, std, p95 = (number(path, line, name, cells[name], low=0.0) for name in MEASURES[:3])
    missing = described.provenance.get("power") == "missing"
    if mean == 0.0:
        column, want = "latency_mean_s", "a number above 0"
        raise InputError.at(path, "too low", line=line, column=column, value=cells[column], want=want)
    if p95 < mean:
        column, want = "latency_p95_s", f"at least the mean, {mean:g}"
        raise InputError.at(path, "below the mean", line=line, column=column, value=cells[column], want=want)
    samples = whole(path, line, "samples", cells["samples"], low=0)
    if (samples > 0) != (described.kind == "measured"):
        want = "at least 1 where kind is 'measured', 0 where it is 'modelled'"
        problem = f"the .toml says {described.kind}"
        raise InputError.at(path, problem, line=line, column="samples", value=cells["samples"], want=want)
    return OperatingPoint(
        rung=rung,
        unit=unit.name,
        cores=cores,
        freq_hz=freq_hz,
        latency_mean_s=mean,
        latency_std_s=std,
        latency_p95_s=p95,
        power_w=_watts(path, row, "power_w", missing),
        rail_power_w={r: _watts(path, row, f"power_{r}_w", missing) for r in spec.rails},
        samples=samples,
    )


def _watts(path: Path, row: Row, column: str, missing: bool) -> float:
    """A power, or NaN for an empty cell where the sidecar says that power is missing: it is in all of them then."""
    line, cells = row
    if missing and cells[column]:
        problem = "the .toml says that power is missing"
        raise InputError.at(path, problem, line=line, column=column, value=cells[column], want="an empty cell")
    return math.nan if missing else number(path, line, column, cells[column], low=0.0)


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
