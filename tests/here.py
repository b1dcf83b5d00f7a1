"""What this machine allows a test, found without the code that is tested: whatever that refuses is a failure then."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

CGROUP = Path("/sys/fs/cgroup")
QUOTA = ("cpu.max", "cpu.cfs_quota_us")  # of a group with a limit, v2 and v1


def need_state_folder() -> None:
    """Skip the test where this user cannot keep a board's state and lock."""
    folder = Path("/run/powerband")
    if not os.access(folder if folder.exists() else folder.parent, os.W_OK):
        pytest.skip(f"a board's state is kept in {folder}, which this user may not make or write")


@functools.cache
def has_quota() -> bool:
    """Whether this user can make a cgroup that limits CPU time, its own or one below the root."""
    own = Path("/proc/self/cgroup").read_text().partition("0::")[2].partition("\n")[0].strip("/")
    below = CGROUP / own
    inner = [folder for folder in (below, *below.parents) if folder.is_relative_to(CGROUP) and ".." not in folder.parts]
    for parent in (CGROUP / "cpu", CGROUP / "cpu,cpuacct", CGROUP / "cpuacct,cpu", *inner):
        group = parent / f"test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if any((group / name).exists() for name in QUOTA):
                return True
        finally:
            group.rmdir()
    return False


def need_quota() -> None:
    """Skip the test where it cannot."""
    if not has_quota():
        pytest.skip("no cgroup with a CPU quota can be made here by this user")
