"""The quota of a cgroup as a clock: on trees made here, and on this machine's own where that is allowed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hw.errors import Flaky, Missing, Refused
from hw.real import cgroup, guard, quota
from hw.real.cgroup import CGROUP, remove_left
from hw.real.quota import PERIOD_S, QuotaClock
from hw.real.sysfs import Sysfs
from tests.here import need_quota
from tests.processes import until, worked_s

ROOT = Path(__file__).resolve().parents[2]
V1_FILES = {"cgroup.procs": "", "cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "-1", "cpu.shares": "1024"}
V2_FILES = {"cgroup.procs": "", "cpu.max": "max 100000", "cpu.weight": "100"}
DEAD = 2**22 + 1  # no process has a number above 2**22


@pytest.fixture(params=["v1", "v2"])
def tree(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel's cgroup folder, whose groups come with their files and go with them."""
    root = tmp_path / CGROUP
    files = V1_FILES if request.param == "v1" else V2_FILES
    parent = root / "cpu" if request.param == "v1" else root
    parent.mkdir(parents=True)
    (parent / "cgroup.procs").write_text("1\n")
    if request.param == "v2":
        (root / "cgroup.controllers").write_text("cpuset cpu io memory\n")
        (root / "cgroup.subtree_control").write_text("cpu memory\n")

    def make(path: Path) -> None:
        path.mkdir()
        for name, text in files.items():
            (path / name).write_text(text + "\n")

    def remove(path: Path) -> None:
        if not path.exists():
            raise OSError(errno.ENOENT, "gone")
        for name in files:
            (path / name).unlink()
        path.rmdir()

    monkeypatch.setattr(quota, "make_folder", make)
    monkeypatch.setattr(cgroup, "remove_folder", remove)
    monkeypatch.setattr(quota, "start_remover", lambda sysfs, group: guard.start_python(["-c", "input()"]))
    return tmp_path


def shown(tree: Path, clock: QuotaClock) -> tuple[int | None, int]:
    """Quota (None: no limit) and period, microseconds."""
    folder = tree / clock.record()["path"]
    if clock.kind == "v2":
        limit, period = (folder / "cpu.max").read_text().split()
        return (None if limit == "max" else int(limit)), int(period)
    limit = (folder / "cpu.cfs_quota_us").read_text().strip()
    return (None if limit == "-1" else int(limit)), int((folder / "cpu.cfs_period_us").read_text())


def test_steps_of_a_nominal_frequency(tree: Path) -> None:
    clock = QuotaClock(Sysfs(tree), 2e9)
    assert clock.freqs_hz == pytest.approx((0.4e9, 0.8e9, 1.2e9, 1.6e9, 2.0e9)) and clock.limit_hz == 2e9
    assert clock.kind in clock.record()["driver"] and clock.state() == {}
    with pytest.raises(Refused, match="not taken yet"):
        clock.set(4e8)
    clock.take(clock.freqs_hz[0], clock.limit_hz)
    try:
        period = round(1e6 * PERIOD_S)
        assert clock.granted_hz() == 2e9 and shown(tree, clock) == (None, period)
        for share, freq_hz in zip((0.2, 0.4, 0.6, 0.8), clock.freqs_hz, strict=False):
            assert clock.set(freq_hz) == pytest.approx(freq_hz)
            assert shown(tree, clock) == (round(share * period), period)
        clock.spread(3)  # the same share of each of three cores
        assert clock.granted_hz() == pytest.approx(1.6e9) and shown(tree, clock) == (round(2.4 * period), period)
        assert clock.set(2.1e9) == 2e9 and shown(tree, clock) == (None, period)
    finally:
        clock.close()


def test_a_process_is_put_there_and_the_group_goes(tree: Path) -> None:
    clock = QuotaClock(Sysfs(tree), 1e9)
    folder = tree / clock.record()["path"]
    clock.adopt(os.getpid())  # before the clock is taken: remembered
    clock.take(0.0, 1e9)
    assert (folder / "cgroup.procs").read_text().strip() == str(os.getpid())
    clock.close()
    clock.close()
    assert not folder.exists()
    assert (folder.parent / "cgroup.procs").read_text().strip() == str(os.getpid())


def test_somebody_else_changed_it(tree: Path) -> None:
    clock = QuotaClock(Sysfs(tree), 1e9)
    clock.take(0.0, 1e9)
    try:
        name, text = ("cpu.max", "1234 5000") if clock.kind == "v2" else ("cpu.cfs_quota_us", "1234")
        (tree / clock.record()["path"] / name).write_text(text)
        with pytest.raises(Flaky, match=r"0\.247 of a core, which is no step"):
            clock.granted_hz()
    finally:
        clock.close()


def test_groups_of_the_dead_are_removed(tree: Path) -> None:
    clock = QuotaClock(Sysfs(tree), 1e9)
    parent = (tree / clock.record()["path"]).parent
    for name in (f"powerband-{DEAD}", "powerband-mine", f"powerband-{os.getppid()}", "somebody"):
        quota.make_folder(parent / name)  # type: ignore[attr-defined]  # as the tree's kernel does
    assert remove_left(Sysfs(tree)) == [f"{parent.relative_to(tree)}/powerband-{DEAD}"]
    assert sorted(p.name for p in parent.iterdir() if p.is_dir()) == sorted(
        ["powerband-mine", f"powerband-{os.getppid()}", "somebody"]
    )


def test_no_permission(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(quota, "make_folder", refuse)
    clock = QuotaClock(Sysfs(tree), 1e9)
    with pytest.raises(Refused, match=r"no cgroup can be made there: Permission denied; run as root"):
        clock.take(0.0, 1e9)
    clock.close()


def test_a_kernel_without_bandwidth_control(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "make_folder", lambda path: path.mkdir())
    monkeypatch.setattr(cgroup, "remove_folder", lambda path: path.rmdir())
    clock = QuotaClock(Sysfs(tree), 1e9)
    with pytest.raises(Missing, match=r"a group has no CPU quota here"):
        clock.take(0.0, 1e9)
    assert not (tree / clock.record()["path"]).exists()


def test_a_machine_without_cgroups(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="no cgroup of this machine limits CPU time"):
        QuotaClock(Sysfs(tmp_path), 1e9)


# -- on this machine ---------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> QuotaClock:
    """This machine's, taken."""
    need_quota()
    found = QuotaClock(Sysfs("/"), 1e9)
    found.take(0.0, 1e9)
    return found


SPIN = "import time\nprint(flush=True)\nwhile True: time.process_time()"


def test_each_core_counts_as_a_task(tree: Path) -> None:
    clock = QuotaClock(Sysfs(tree), 1e9)
    clock.take(0.0, 1e9)
    file, task = ("cpu.weight", 100) if clock.kind == "v2" else ("cpu.shares", 1024)
    weight = tree / clock.record()["path"] / file
    for cores in (1, 4, 2):
        clock.spread(cores)
        assert weight.read_text().strip() == str(task * cores)
    clock.close()


def test_it_slows_a_process_here(clock: QuotaClock) -> None:
    with subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            clock.adopt(process.pid)
            assert clock.set(clock.freqs_hz[0]) == pytest.approx(2e8)
            start_s, begun_s = worked_s([process.pid]), time.monotonic()
            time.sleep(1.0)
            share = (worked_s([process.pid]) - start_s) / (time.monotonic() - begun_s)
            assert 0.05 < share < 0.35  # a fifth of a core
            group = Path("/") / clock.record()["path"]
            clock.close()
            assert not group.exists() and process.poll() is None  # it runs on without a limit
        finally:
            clock.close()
            process.kill()


def test_the_group_goes_after_a_kill(clock: QuotaClock) -> None:
    clock.close()
    code = (
        "import time\nfrom hw.real.quota import QuotaClock\nfrom hw.real.sysfs import Sysfs\n"
        "clock = QuotaClock(Sysfs('/'), 1e9)\nclock.take(0.0, 1e9)\nprint(clock.record()['path'], flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        group = Path("/") / process.stdout.readline().strip()
        assert group.exists()
        os.kill(process.pid, signal.SIGKILL)
    until(lambda: not group.exists(), 10.0)
