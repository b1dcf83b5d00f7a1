"""Flights as a person starts them: what the tests of the command share."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

from hw.boardfile import load_board
from hw.profile import open_profile
from hw.types import BoardSpec, Profile
from tests.untrained import untrained_policy

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "experiments" / "deploy_policy.py"


def policy_of(board: str, seed: int, path: Path) -> Path:
    """A policy for a board that ships."""
    model = load_board(board)
    return save_policy(model.spec, open_profile(model, None), seed, path)


def save_policy(spec: BoardSpec, profile: Profile, seed: int, path: Path) -> Path:
    """A policy that nobody trained: it sets everything there is to set, by what it sees."""
    untrained_policy(spec, profile, seed=seed).save(path)
    return path


def words(*more: object) -> list[str]:
    return [sys.executable, str(DEPLOY), *map(str, more)]


def rows(path: Path) -> list[dict[str, str]]:
    """Telemetry, every row whole."""
    text = path.read_text()
    assert text.endswith("\n")
    header, *lines = text.splitlines()
    assert all(line.count(",") == header.count(",") for line in lines)
    return list(csv.DictReader(text.splitlines()))


def run(*more: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words(*more), cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
