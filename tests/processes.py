"""What processes do, and waiting for it: for tests that start some."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def until(what: Callable[[], bool], limit_s: float = 60.0, process: subprocess.Popen[Any] | None = None) -> float:
    """Seconds until it is so; fails where it takes longer than the limit, or `process` ends before."""
    began_s = time.monotonic()
    while not what():
        assert process is None or process.poll() is None, "it ended before that"
        assert time.monotonic() < began_s + limit_s, "this hangs"
        time.sleep(0.02)
    return time.monotonic() - began_s


def descendants(pid: int | None = None) -> set[int]:
    """Every process that this one started, and those started by them."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = {pid or os.getpid()}
    while more := {child for child, parent in parents.items() if parent in found and child not in found}:
        found |= more
    return found - {pid or os.getpid()}


def worked_s(pids: Iterable[int]) -> float:
    """CPU time of these processes so far (s); none of those that are gone."""
    ticks = 0
    for pid in pids:
        try:
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(words[11]) + int(words[12])
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def works(before: set[int], seconds: float, pid: int | None = None) -> None:
    """Wait until descendants, but for those, have worked so long; on a busy machine they get a core late."""
    until(lambda: worked_s(descendants(pid) - before) >= seconds)


def gone(pids: Iterable[int], seconds: float = 10.0) -> None:
    """Wait until none of these processes is there."""
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), seconds)
