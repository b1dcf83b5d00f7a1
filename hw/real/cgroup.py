"""Control groups of our own: where a group limits CPU time, and how groups go, also those of the dead.

Paths are below the root of a `Sysfs`.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from hw.errors import BoardError, Flaky, Missing
from hw.real.sysfs import Sysfs

CGROUP = "sys/fs/cgroup"
V1 = (f"{CGROUP}/cpu", f"{CGROUP}/cpu,cpuacct", f"{CGROUP}/cpuacct,cpu")
PREFIX = "powerband-"  # of a group's name; the process follows


def remove_group(sysfs: Sysfs, group: str) -> None:
    """Remove a group of ours; its processes move up, and where they may not they are ended.

    Nothing happens where there is no such group. Raises Flaky where it stays.
    """
    procs = f"{group}/cgroup.procs"
    for _ in range(3):
        try:
            pids = sysfs.read(procs).split()
        except BoardError:
            pids = []
        for pid in pids:
            try:
                sysfs.write(f"{group.rpartition('/')[0]}/cgroup.procs", pid)
            except BoardError:
                with contextlib.suppress(OSError, ValueError):
                    os.kill(int(pid), 9)
        try:
            remove_folder(sysfs.path(group))
            return
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            problem = error.strerror
    raise Flaky(f"{sysfs.path(group)}: this cgroup cannot be removed: {problem}")


def remove_left(sysfs: Sysfs) -> list[str]:
    """Remove the groups of controllers that are dead; their paths. Nothing else is touched, nothing is raised."""
    gone = []
    for group in [g for parent in (*V1, CGROUP, *_own(sysfs)) for g in sysfs.find(f"{parent}/{PREFIX}*")]:
        pid = group.rpartition(PREFIX)[2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            with contextlib.suppress(Flaky):
                remove_group(sysfs, group)
                gone.append(group)
    return gone


def hierarchy(sysfs: Sysfs) -> tuple[str, str]:
    """Version and the folder in which a group limits CPU time; Missing where there is none."""
    controllers = f"{CGROUP}/cgroup.controllers"
    if sysfs.exists(controllers) and "cpu" in sysfs.read(controllers).split():
        for parent in (CGROUP, *_own(sysfs)):
            handed_on = f"{parent}/cgroup.subtree_control"
            if sysfs.exists(handed_on) and "cpu" in sysfs.read(handed_on).split() and _writable(sysfs, parent):
                return "v2", parent
        return "v2", CGROUP
    for parent in V1:
        if sysfs.exists(f"{parent}/cgroup.procs"):
            return "v1", parent
    raise Missing(f"{sysfs.path(CGROUP)}: no cgroup of this machine limits CPU time")


def _own(sysfs: Sysfs) -> list[str]:
    """Where this process's own v2 group and those above it lie, innermost first, without the root."""
    try:
        lines = sysfs.read("proc/self/cgroup").splitlines()
    except BoardError:
        return []
    own = next((line.partition("::")[2].strip("/") for line in lines if line.startswith("0::")), "")
    parts = own.split("/") if own else []
    return [f"{CGROUP}/{'/'.join(parts[:n])}" for n in range(len(parts), 0, -1)]


def _writable(sysfs: Sysfs, folder: str) -> bool:
    return os.access(sysfs.path(folder), os.W_OK)


def make_folder(path: Path) -> None:
    """Make a group: the kernel fills the folder."""
    path.mkdir()


def remove_folder(path: Path) -> None:
    """Remove a group, whose files are the kernel's."""
    path.rmdir()
