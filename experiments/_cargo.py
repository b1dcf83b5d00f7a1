"""What flies, in a folder that can be copied to a machine with Python and NumPy: packages, and a flight's own files."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from agents.policy import policy_file
from hw.catalog import HOST
from hw.errors import InputError
from hw.ladderfile import find_ladder, ladder_names
from hw.real.workplan import WORKER_FILE, load_plan, save_plan

CLONE = Path(__file__).resolve().parents[1]
PACKAGES = ("hw", "envs", "agents", "dyndnn")
COMMAND = ("__init__", "_cargo", "_cli", "_flight", "_lines", "_remote", "_telemetry", "deploy_policy")
FILES = Path("flight")  # below the folder, which is where the flight runs


def load_cargo(
    folder: Path, *, policy: str, board: str, profile: str | None, scenario: str | None, fallback: str | None
) -> list[str]:
    """Fill a new folder; the command line of the flight, whose files are named as they are there.

    Raises InputError where a file cannot be read.
    """
    try:
        for package in PACKAGES:
            shutil.copytree(CLONE / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "experiments").mkdir()
        for name in COMMAND:
            shutil.copy(CLONE / "experiments" / f"{name}.py", folder / "experiments")
        words = ["--policy", _policy(folder, "policy", policy)]
        words += ["--board", _named(folder, "board", board, board.endswith(".toml"))]
        if profile is not None:
            words += ["--profile", _profile(folder, profile)]
        if scenario is not None:
            words += ["--scenario", _named(folder, "scenario", scenario, True)]
        if fallback is not None:
            words += ["--fallback", _policy(folder, "fallback", fallback)]
    except OSError as error:
        raise InputError.at(error.filename or folder, f"cannot be copied: {error.strerror or error}") from None
    return words


def _policy(folder: Path, role: str, name: str) -> str:
    """A controller's name there; a class of one's own keeps its own behind that of its file."""
    file = policy_file(name)
    return name if file is None else _copy(folder, role, Path(file)) + name.removeprefix(file)


def _named(folder: Path, role: str, name: str, is_file: bool) -> str:
    """The name there: of a file that goes along, or the same."""
    return _copy(folder, role, Path(name)) if is_file else name


def _copy(folder: Path, role: str, source: Path) -> str:
    target = FILES / role / source.name
    (folder / target).parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, folder / target)
    else:
        shutil.copy(source, folder / target)
    return str(target)


def _profile(folder: Path, profile: str) -> str:
    """A profile's name there; a measured one takes along what describes it, and what serves its frames."""
    path = Path(profile)
    if path.suffix != ".csv":
        ladder = find_ladder(profile) if profile not in ladder_names() else None
        return profile if ladder is None else _copy(folder, "profile", ladder.parent)
    for beside in (path.with_suffix(".toml"), path.parent / f"{HOST}.toml"):
        if beside.exists():
            _copy(folder, "profile", beside)
    if (path.parent / WORKER_FILE).exists():
        plan = load_plan(path.parent)
        ladder = find_ladder(plan.ladder) if not plan.rounds and plan.ladder not in ladder_names() else None
        if ladder is not None:
            plan = replace(plan, ladder=_copy(folder, "ladder", ladder.parent))
        if plan.frames:
            plan = replace(plan, frames=_copy(folder, "frames", Path(plan.frames)))
        (folder / FILES / "profile").mkdir(parents=True, exist_ok=True)
        save_plan(plan, folder / FILES / "profile")
    return _copy(folder, "profile", path)
