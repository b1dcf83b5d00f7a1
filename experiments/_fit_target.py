"""Which board `fit_board.py` is about: the board files it starts from, and what it can be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments._fit_beside import BESIDE
from experiments._fit_heat import TRACES
from experiments._fit_latency import ncnn
from experiments._fit_rail import A15, A57, GPU, rail_task
from experiments._fit_result import Task
from experiments._fit_unit import unit_task
from hw.boardfile import BOARDS, load_board
from hw.errors import InputError
from hw.fitfile import SUFFIX, Section, load_fit

# What a file of a kind is asked, the question it must be able to answer first
TASKS: dict[str, dict[str, tuple[Task, ...]]] = {
    "xu3": {"powmon": (rail_task(A15), BESIDE), "traces": (TRACES,), "ncnn": (ncnn("xu3"),)},
    "jetson_nano": {"parsec": (rail_task(A57),), "gpu": (rail_task(GPU),), "ncnn": (ncnn("jetson_nano"),)},
    "raspberry_pi_5": {"ncnn": (ncnn("raspberry_pi_5"),)},
}
MODES = {"jetson_nano": ("jetson_nano", "jetson_nano_5w")}  # boards with more files than one


@dataclass(frozen=True, kw_only=True)
class Target:
    """A board to be fitted or judged."""

    name: str
    files: Mapping[str, Path]  # board files that a fit starts from, by the name under which it writes them
    tasks: Mapping[str, tuple[Task, ...]]  # by flag
    known: Mapping[str, Section]  # what was fitted before
    known_file: Path  # where that stands; without any, there may be no such file
    unwritten: bool = False  # whether what is known stands in no board file yet


def shipped_files(board: str) -> dict[str, Path]:
    """The board files of a board that ships."""
    return {name: BOARDS / f"{name}.toml" for name in MODES.get(board, (board,))}


def open_target(name_or_path: str) -> Target:
    """The board by name, from a board file, or from a fit file; InputError where it is none of them.

    What was fitted before is what ships, or the fit file beside a board file.
    """
    known: Mapping[str, Section] = {}
    unwritten = name_or_path.endswith(SUFFIX)
    if unwritten:
        name, known = load_fit(name_or_path)
        files, known_file = shipped_files(name), Path(name_or_path)
    elif name_or_path.endswith(".toml"):
        path = Path(name_or_path)
        name, files = load_board(path).spec.name, {path.stem: path}
        known_file = path.with_name(f"{name}{SUFFIX}")
        known = load_fit(known_file)[1] if known_file.exists() else {}
    elif name_or_path in TASKS:
        name, files = name_or_path, shipped_files(name_or_path)
        known, known_file = load_fit(name)[1], BOARDS / f"{name}{SUFFIX}"
    else:
        want = f"known: {', '.join(TASKS)}, or the path of a board file or {SUFFIX} file"
        raise InputError(f"unknown board {name_or_path!r}; {want}")
    tasks = TASKS.get(name, {})
    if not unwritten:  # a fit file is no board file, and says nothing of the law of that one
        tasks = tasks | {"power": (unit_task(next(iter(files.values()))),)}
    return Target(name=name, files=files, tasks=tasks, known=known, known_file=known_file, unwritten=unwritten)
