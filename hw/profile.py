"""Profiles: load, save, validate, Pareto front; leans on `hw.files` and every error names file and line.

`<board>-<name>.csv` holds one row per operating point; the `.toml` of the same stem says where they are from.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from hw.boardfile import load_board
from hw.boardmodel import BoardModel
from hw.errors import InputError, Missing
from hw.files import atomic_write_files, read_bytes, read_table
from hw.ladderfile import find_ladder, ladder_names
from hw.modelled import model_profile
from hw.profiletable import Key, columns, csv_bytes, grid, in_words, point_of, with_checksum
from hw.sidecar import read_sidecar, sidecar_text
from hw.types import Board, BoardSpec, OperatingPoint, Profile

PROFILES = Path(__file__).parent / "profiles"


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
        point = point_of(path, row, spec, described)
        key = (point.rung, point.unit, point.cores, point.freq_hz)
        if key in points:
            raise InputError.at(
                path,
                f"duplicate point: {in_words(key)}",
                line=row[0],
                want=f"it stands in line {lines[key]} already",
            )
        points[key], lines[key] = point, row[0]
    wanted = grid(spec, len(described.rungs))
    missing = [key for key in wanted if key not in points]
    if missing:
        raise InputError.at(
            path,
            f"missing point: {in_words(missing[0])}",
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
    atomic_write_files({path: csv_bytes(profile), path.with_suffix(".toml"): sidecar.encode("utf-8")})


def flown_profile(board: Board, profile: Profile | None) -> Profile:
    """`profile`, or where it is None the one the board carries. Raises InputError where it carries none."""
    found = getattr(board, "profile", None) if profile is None else profile
    if not isinstance(found, Profile):
        raise InputError(f"board {board.spec.name!r} carries no profile: name the one that it is flown with")
    return found


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
