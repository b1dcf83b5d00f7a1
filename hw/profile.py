"""Profiles: load, save, validate, Pareto front; leans on `hw.files` and every error names file and line.

`<board>-<name>.csv` holds one row per operating point; the `.toml` of the same stem says where they are from.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from hw.boardfile import load_board
from hw.boardmodel import BoardModel
from hw.errors import InputError, Missing
from hw.files import Row, atomic_write_files, number, read_bytes, read_table, whole
from hw.sidecar import read_sidecar, sidecar_text
from hw.types import BoardSpec, OperatingPoint, Profile

PROFILES = Path(__file__).parent / "profiles"
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


def profile_path(board: str, name: str) -> Path:
    """Where the profile of that name that ships for that board lies."""
    return PROFILES / f"{board}-{name}.csv"


def profile_names(board: str) -> list[str]:
    """Names of the profiles that ship for that board."""
    return sorted(p.stem.removeprefix(f"{board}-") for p in PROFILES.glob(f"{board}-*.csv"))


def open_profile(board: BoardSpec | BoardModel, name_or_path: str | Path | None) -> Profile:
    """A profile by name, from a .csv file, or modelled for a ladder; None is the board's default.

    A ladder is a name of the networks' zoo, a folder with a ladder.json, or that file (`hw.modelled`). Whoever has
    the whole model of a board gives that: a spec alone is looked up by its name, so it must be of a board that ships.
    Raises InputError for an unknown name, listing those that exist, and for whatever the two refuse.
    """
    from hw.ladderfile import find_ladder, ladder_names  # here: hw.modelled stands on this module
    from hw.modelled import model_profile

    spec = board.spec if isinstance(board, BoardModel) else board
    name = _model(board).default_profile if name_or_path is None else name_or_path
    if Path(name).suffix == ".csv":
        return load_profile(name, spec)
    known = profile_names(spec.name)
    if str(name) in known:
        return load_profile(profile_path(spec.name, str(name)), spec)
    ladder = find_ladder(name)
    if ladder is None:
        profiles, ladders = (", ".join(names) or "none" for names in (known, ladder_names()))
        raise InputError(
            f"unknown profile {str(name)!r} of board {spec.name}; known: {profiles}; modelled for the ladders "
            f"{ladders}; or the path of a .csv file or of a ladder's folder"
        )
    return model_profile(ladder, _model(board))


def _model(board: BoardSpec | BoardModel) -> BoardModel:
    """The board's model; InputError where a spec is none of a board that ships."""
    if isinstance(board, BoardModel):
        return board
    model = load_board(board.name)
    if model.spec.hash != board.hash:
        raise InputError(f"board {board.name!r} is not the one that ships; give its board file, not its spec alone")
    return model


def load_profile(path: str | Path, spec: BoardSpec) -> Profile:
    """Read and check a profile of this board: `path` is the CSV, its sidecar the .toml of the same stem.

    Points come back in canonical order whatever the order of the rows. Raises InputError, one line with file,
    line, column and value, for anything that is missing, doubled, out of range or not what the sidecar says.
    """
    path = Path(path)
    if path.suffix != ".csv":
        raise InputError.at(path, "is not a profile", want="name its .csv file")
    data = read_bytes(path)
    described = read_sidecar(path.with_suffix(".toml"), spec.name)
    points: dict[Key, OperatingPoint] = {}
    lines: dict[Key, int] = {}
    for row in read_table(path, columns(spec.rails)):
        point = _point(path, row, spec, described)
        key = (point.rung, point.unit, point.cores, point.freq_hz)
        if key in points:
            raise InputError.at(
                path,
                f"duplicate point: {_words(key)}",
                line=row[0],
                want=f"it stands in line {lines[key]} already",
            )
        points[key], lines[key] = point, row[0]
    wanted = grid(spec, len(described.rungs))
    missing = [key for key in wanted if key not in points]
    if missing:
        raise InputError.at(
            path,
            f"missing point: {_words(missing[0])}",
            want=f"{len(missing)} of {len(wanted)} points (rungs x placements x frequencies) are missing",
        )
    checksum = hashlib.sha256(data).hexdigest()
    if checksum != described.checksum:
        raise InputError.at(
            path,
            "checksum mismatch: this is not the file that its .toml describes",
            value=checksum,
            want=f"the .toml says {described.checksum}",
        )
    return replace(described, points=tuple(points[key] for key in wanted))


def save_profile(profile: Profile, path: str | Path) -> None:
    """Write the CSV and its sidecar, both or neither; the sidecar carries the checksum of the bytes written.

    `path` is the .csv file. Raises InputError where it cannot be written.
    """
    path = Path(path)
    if path.suffix != ".csv":
        raise InputError.at(path, "is not the name of a profile", want="a name that ends in .csv")
    if not profile.points:
        raise InputError.at(path, f"profile {profile.name!r} has no points to write")
    sidecar = sidecar_text(with_checksum(profile))
    atomic_write_files({path: _csv(profile), path.with_suffix(".toml"): sidecar.encode("utf-8")})


def with_checksum(profile: Profile) -> Profile:
    """The same profile with the checksum that its CSV has or would have."""
    return replace(profile, checksum=hashlib.sha256(_csv(profile)).hexdigest())


def _csv(profile: Profile) -> bytes:
    rails = tuple(profile.points[0].rail_power_w)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns(rails))
    for p in profile.points:
        measures = [getattr(p, name) for name in MEASURES]
        numbers = [p.freq_hz, *measures, *(p.rail_power_w[r] for r in rails)]
        writer.writerow([p.rung, p.unit, p.cores, *map(_shortest, numbers), p.samples])
    return stream.getvalue().encode("utf-8")


def need_power(profile: Profile) -> None:
    """Raise Missing for a profile without power: it was measured on a board that has no meter."""
    if any(math.isnan(p.power_w) for p in profile.points):
        raise Missing(
            f"profile {profile.name!r} of {profile.board} has no power: the board has no meter; profile it again with "
            "--power-model to have a modelled one"
        )


def pareto_front(points: Iterable[OperatingPoint]) -> list[OperatingPoint]:
    """The points that no other beats in both mean latency and energy per frame, fastest first.

    Of points equal in both the first is kept.
    """
    front: list[OperatingPoint] = []
    for point in sorted(points, key=lambda p: (p.latency_mean_s, p.energy_j)):
        if not front or point.energy_j < front[-1].energy_j:
            front.append(point)
    return front


def _point(path: Path, row: Row, spec: BoardSpec, described: Profile) -> OperatingPoint:
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


def _words(key: Key) -> str:
    rung, unit, cores, freq_hz = key
    return f"rung {rung}, unit {unit}, cores {cores}, freq_hz {freq_hz:.0f}"


def _shortest(value: float) -> str:
    """The shortest text that reads back as the same number, whole numbers without a point; "" for NaN: missing."""
    return "" if math.isnan(value) else repr(float(value)).removesuffix(".0")
