"""The run folder: where a command leaves its results, and the record that traces them back to it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from envs.scenario import Scenario
from hw.boardmodel import BoardModel
from hw.errors import InputError
from hw.files import atomic_write_text
from hw.types import Profile

ROOT = Path(__file__).resolve().parent.parent
RECORD = "run.json"
PACKAGES = ("powerband", "numpy", "torch", "gymnasium", "stable_baselines3", "sb3_contrib")


def default_folder(board: str, what: str) -> Path:
    """`runs/<time>-<board>-<what>` in the working folder, one that is not there yet."""
    base = Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{board}-{what}"
    folder, n = base, 2
    while folder.exists():
        folder, n = base.with_name(f"{base.name}-{n}"), n + 1
    return folder


def check_folder(out: str | Path, script: str, *, again: bool) -> None:
    """Whether `script` may write its run into `out`; makes nothing.

    Raises InputError where a file is in the way, permission is missing, or the folder holds a run that would
    be overwritten: another command's always, one of `script` unless `again`.
    """
    folder = Path(out)
    want = "name a folder you may write to"
    try:
        nearest = next(p for p in (folder, *folder.absolute().parents) if p.exists() or p.is_symlink())
        if not nearest.is_dir():
            raise InputError.at(folder, f"cannot be written: {nearest} is not a folder", want=want)
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise InputError.at(folder, f"cannot be written: no permission in {nearest}", want=want)
        found = (folder / RECORD).read_bytes() if (folder / RECORD).exists() else None
    except OSError as error:
        raise InputError.at(folder, f"cannot be written: {error.strerror or error}", want=want) from None
    if found is None:
        return
    try:
        owner = json.loads(found)["script"]
    except (ValueError, KeyError, TypeError):
        owner = "another program"
    if owner != script or not again:
        raise InputError.at(folder, f"already holds a run of {owner}", want="name a new folder")


def make_folder(folder: Path) -> None:
    """The folder, where it is not there yet; InputError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        want = "name a folder you may write to"
        raise InputError.at(folder, f"cannot be written: {error.strerror or error}", want=want) from None


class RunFolder:
    """A folder with `run.json` in it, kept up to date until the run ends; a context manager.

    Leaving it without an error sets the status "done", Ctrl-C "interrupted", anything else "failed".
    """

    def __init__(
        self,
        out: str | Path,
        script: str,
        *,
        config: Mapping[str, object],
        model: BoardModel,
        profile: Profile,
        scenarios: Sequence[Scenario] = (),
        seeds: Mapping[str, object],
        again: bool = False,
    ) -> None:
        check_folder(out, script, again=again)
        self.path = Path(out)
        make_folder(self.path)
        self.record: dict[str, object] = {
            "script": script,
            "command": command_line(),
            "config": dict(config),
            "board": {"name": model.spec.name, "hash": model.spec.hash, "checksum": model.checksum},
            "profile": {
                "name": profile.name,
                "kind": profile.kind,
                "checksum": profile.checksum,
                "accuracy": [rung.accuracy for rung in profile.rungs],
            },
            "scenarios": {s.name: s.checksum for s in scenarios},
            "seeds": dict(seeds),
            "git_commit": git_commit(),
            "versions": versions(),
            "platform": platform.platform(),
            "started": _now(),
            "finished": None,
            "status": "running",
        }
        self._write()

    def note(self, **facts: object) -> None:
        """Add to the record, on disk at once."""
        self.record |= facts
        self._write()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = "done" if kind is None else "interrupted" if kind is KeyboardInterrupt else "failed"
        if self.record["status"] == "running":
            self.record["status"] = status
        self.note(finished=_now())

    def _write(self) -> None:
        atomic_write_text(self.path / RECORD, json.dumps(self.record, indent=2, default=str) + "\n")


def command_line() -> str:
    """What was typed, as a shell would take it."""
    return shlex.join(["python", *sys.argv])


def git_commit() -> str | None:
    """The commit of this clone, with `+changes` where files differ from it; None outside of a clone."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    top = git("rev-parse", "--show-toplevel")
    # installed somewhere inside another project's clone: its commit says nothing about us
    if top is None or Path(top).resolve() != ROOT:
        return None
    commit = git("rev-parse", "HEAD")
    if commit is None:
        return None
    return commit + ("+changes" if git("status", "--porcelain") else "")


def versions() -> dict[str, str | None]:
    """Versions of what decides a result; None where a package is not installed. Imports nothing."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
