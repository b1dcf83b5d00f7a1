"""Background load: as much as was asked, where it was asked, and none afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hw.errors import Flaky, Refused
from hw.real.burner import _Copier, turn
from hw.real.loadgen import STRESS_NG, ProcessLoad
from hw.types import Load

ROOT = Path(__file__).resolve().parents[2]
CPUS = tuple(sorted(os.sched_getaffinity(0)))
HAVE_STRESS_NG = shutil.which(STRESS_NG) is not None
BOTH = [False, pytest.param(True, marks=pytest.mark.skipif(not HAVE_STRESS_NG, reason="stress-ng is not installed"))]


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


def worked_s(pids: set[int]) -> float:
    ticks = 0
    for pid in pids:
        try:
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(words[11]) + int(words[12])
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def works(before: set[int], seconds: float) -> bool:
    """Whether descendants come to work as long as that; on a busy machine they start, and get a core, late."""
    end_s = time.monotonic() + 60.0
    while worked_s(descendants() - before) < seconds:
        if time.monotonic() > end_s:
            return False
        time.sleep(0.05)
    return True


def gone(pids: set[int], seconds: float = 10.0) -> bool:
    end_s = time.monotonic() + seconds
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > end_s:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("stress_ng", BOTH)
def test_load_comes_and_goes(stress_ng: bool) -> None:
    before = descendants()
    load = ProcessLoad({"cpu": CPUS}, stress_ng=stress_ng)
    try:
        load.set(Load(busy={"cpu": 1.0}, mem_gbps=0.2))
        assert works(before, 0.2)
        pids = descendants() - before
        assert pids and all(os.sched_getaffinity(pid) <= set(CPUS) for pid in pids if Path(f"/proc/{pid}").exists())
        load.set(Load(busy={"cpu": 0.0}))
        time.sleep(0.4)
        pids = descendants() - before
        start_s = worked_s(pids)
        time.sleep(0.3)
        assert worked_s(pids) - start_s < 0.05
    finally:
        load.close()
    load.close()
    assert gone(pids) and not descendants() - before
    with pytest.raises(Refused, match="closed"):
        load.set(Load(busy={}))


def test_a_share_of_a_core() -> None:
    before = descendants()
    load = ProcessLoad({"cpu": CPUS})
    try:
        load.set(Load(busy={"cpu": 0.3}))
        time.sleep(0.2)
        pids = descendants() - before
        assert len(pids) == 1  # whatever is installed
        start_s, begun_s = worked_s(pids), time.monotonic()
        time.sleep(1.0)
        share = (worked_s(pids) - start_s) / (time.monotonic() - begun_s)
        assert share < 0.4
        assert works(before, 0.1)
    finally:
        load.close()


def test_a_turn_of_a_burner() -> None:
    copier = _Copier()
    start_s = time.process_time()
    for _ in range(10):
        turn(0.5, 0.0, copier, 0.0)
    assert 0.01 < time.process_time() - start_s < 0.2  # ten turns of 20 ms, half of each or what a busy machine left
    assert turn(0.0, 1e-4, copier, 0.0) < 0  # a piece more than was owed
    assert turn(0.0, 1e6, copier, 0.0) <= 1e9  # what cannot be had is forgotten


@pytest.mark.parametrize("stress_ng", BOTH)
def test_nothing_is_left_after_a_kill(stress_ng: bool) -> None:
    code = (
        "import time\nfrom hw.real.loadgen import ProcessLoad\nfrom hw.types import Load\n"
        f"load = ProcessLoad({{'cpu': {CPUS}}}, stress_ng={stress_ng})\n"
        "load.set(Load(busy={'cpu': 1.2}, mem_gbps=0.1))\ntime.sleep(0.4)\nprint('on', flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"on\n"
        pids = descendants(process.pid)
        assert len(pids) >= 2
        os.kill(process.pid, signal.SIGKILL)
        assert gone(pids)


def test_what_cannot_be() -> None:
    load = ProcessLoad({"cpu": CPUS[:1]}, stress_ng=False)
    for asked, problem in (
        (Load(busy={"gpu": 0.5}), "nothing here loads that unit; units that can be: cpu"),
        (Load(busy={"cpu": 1.5}), "which has 1"),
        (Load(busy={"cpu": -0.1}), "which has 1"),
        (Load(busy={"cpu": float("nan")}), "which has 1"),
        (Load(busy={}, mem_gbps=float("inf")), "GB/s"),
        (Load(busy={}, mem_gbps=-1.0), "GB/s"),
    ):
        with pytest.raises(Refused, match=problem):
            load.set(asked)
    load.set(Load(busy={"gpu": 0.0, "cpu": 0.0}))  # no load is no question
    load.close()
    if not HAVE_STRESS_NG:
        with pytest.raises(Refused, match="is not installed"):
            ProcessLoad({"cpu": CPUS}, stress_ng=True)


def test_a_load_that_died_is_told_and_can_be_had_again() -> None:
    before = descendants()
    load = ProcessLoad({"cpu": CPUS}, stress_ng=False)
    try:
        load.set(Load(busy={"cpu": 0.1}))
        (pid,) = descendants() - before
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
        with pytest.raises(Flaky, match="a load process died"):
            load.set(Load(busy={"cpu": 0.2}))
        load.set(Load(busy={"cpu": 0.2}))
    finally:
        load.close()
