"""Background load: as much as was asked, where it was asked, and none afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from hw.errors import Flaky, Refused
from hw.real import loadgen
from hw.real.burner import COPY_BYTES, TURN_S, _Copier, turn
from hw.real.guard import end, start_guarded
from hw.real.loadgen import STRESS_NG, ProcessLoad
from hw.types import Load
from tests.processes import descendants, gone, until, worked_s, works

ROOT = Path(__file__).resolve().parents[2]
CPUS = tuple(sorted(os.sched_getaffinity(0)))
HAVE_STRESS_NG = shutil.which(STRESS_NG) is not None
BOTH = [False, pytest.param(True, marks=pytest.mark.skipif(not HAVE_STRESS_NG, reason="stress-ng is not installed"))]


def stressed(pids: Iterable[int]) -> bool:
    """Whether one of these processes is stress-ng itself, not only the one that starts it."""
    found = False
    for pid in pids:
        with contextlib.suppress(OSError):  # it has just ended
            program = Path(f"/proc/{pid}/cmdline").read_text().partition("\0")[0]
            found |= Path(program).name.startswith(STRESS_NG)
    return found


class Told:
    """A burner that only remembers what it is told."""

    def __init__(self, cpus: tuple[int, ...]) -> None:
        self.cpus, self.told = cpus, ""

    def tell(self, told: str) -> None:
        self.told = told


@pytest.fixture
def burners(monkeypatch: pytest.MonkeyPatch) -> list[Told]:
    """Those that a load starts from now on, which are no processes."""
    started: list[Told] = []

    def start(cpus: tuple[int, ...]) -> Told:
        started.append(Told(cpus))
        return started[-1]

    monkeypatch.setattr(loadgen, "_on_cpus", start)
    return started


def test_a_load_is_shared_out_among_burners(burners: list[Told]) -> None:
    load = ProcessLoad({"big": (2, 3, 4), "little": (0, 1)}, stress_ng=False)
    for busy, mem_gbps, big, little in (
        ({}, 0.1, ["0.0000 0.1000"], []),
        ({"big": 2.3}, 0.5, ["1.0000 0.5000", "1.0000 0.0000", "0.3000 0.0000"], []),
        ({"big": 0.25, "little": 1.0}, 0.0, ["0.2500 0.0000", "0.0000 0.0000", "0.0000 0.0000"], ["1.0000 0.0000"]),
        ({"little": 0.4}, 0.2, ["0.0000 0.2000", "0.0000 0.0000", "0.0000 0.0000"], ["0.4000 0.0000"]),
        ({}, 0.0, ["0.0000 0.0000"] * 3, ["0.0000 0.0000"]),
    ):
        load.set(Load(busy=busy, mem_gbps=mem_gbps))
        assert [b.told for b in burners if b.cpus == (2, 3, 4)] == big
        assert [b.told for b in burners if b.cpus == (0, 1)] == little


def test_whole_cores_that_move_no_memory_are_stress_ng_s(burners: list[Told], monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def start(command: list[str]) -> SimpleNamespace:
        started.append(" ".join(command))
        return SimpleNamespace(poll=lambda: None, stdin=BytesIO())

    monkeypatch.setattr(shutil, "which", lambda _: "/bin/stress-ng")
    monkeypatch.setattr(loadgen, "start_guarded", start)
    load = ProcessLoad({"cpu": (0, 1, 2)})
    load.set(Load(busy={"cpu": 2.3}, mem_gbps=0.5))
    one = "/bin/stress-ng --cpu 1 --cpu-method int64 --taskset 0,1,2 --quiet --timeout 0"
    assert started == [one] and [b.told for b in burners] == ["1.0000 0.5000", "0.3000 0.0000"]
    load.set(Load(busy={"cpu": 2.3}))
    assert started == [one] * 2 and [b.told for b in burners] == ["0.3000 0.0000", "0.0000 0.0000"]
    load.set(Load(busy={"cpu": 1.0}))
    assert len(started) == 2 and len(load._stress) == 1 and [b.told for b in burners] == ["0.0000 0.0000"] * 2


@pytest.mark.parametrize("stress_ng", BOTH)
def test_load_comes_and_goes(stress_ng: bool) -> None:
    before = descendants()
    load = ProcessLoad({"cpu": CPUS}, stress_ng=stress_ng)
    try:
        # a core that moves memory is always a burner's
        load.set(Load(busy={"cpu": 1.0}, mem_gbps=0.0 if stress_ng else 0.2))
        works(before, 0.2)
        assert stressed(descendants() - before) == stress_ng
        load.set(Load(busy={"cpu": 0.0}))
        time.sleep(0.4)
        pids = descendants() - before
        start_s = worked_s(pids)
        time.sleep(0.3)
        assert worked_s(pids) - start_s < 0.05
    finally:
        load.close()
    load.close()
    gone(pids)
    assert not descendants() - before
    with pytest.raises(Refused, match="closed"):
        load.set(Load(busy={}))


@pytest.mark.skipif(len(CPUS) < 2, reason="a process may run on this machine's one core only")
@pytest.mark.parametrize("stress_ng", BOTH)
def test_load_stays_on_the_cores_of_its_unit(stress_ng: bool) -> None:
    before = descendants()
    load = ProcessLoad({"cpu": CPUS[-1:]}, stress_ng=stress_ng)
    try:
        load.set(Load(busy={"cpu": 1.0}))
        # more than it takes to start a process
        until(lambda: any(worked_s([pid]) > 0.5 for pid in descendants() - before))
        at_work = [pid for pid in descendants() - before if worked_s([pid]) > 0.4]
        assert all(os.sched_getaffinity(pid) == {CPUS[-1]} for pid in at_work)
    finally:
        load.close()


def test_a_share_of_a_core() -> None:
    before = descendants()
    load = ProcessLoad({"cpu": CPUS})
    shares: list[float] = []
    try:
        load.set(Load(busy={"cpu": 0.3}))
        works(before, 0.1)
        pids = descendants() - before
        assert len(pids) == 1  # whatever is installed
        while len(shares) < 60 and not (shares and 0.2 < shares[-1] < 0.4):  # until others left it its share
            start_s, begun_s = worked_s(pids), time.monotonic()
            time.sleep(1.0)
            shares.append((worked_s(pids) - start_s) / (time.monotonic() - begun_s))
    finally:
        load.close()
    assert 0.2 < shares[-1] < 0.4, shares
    assert max(shares) < 0.4, "never more than was asked"


def test_a_turn_of_a_burner() -> None:
    copier = _Copier()
    start_s = time.process_time()
    for _ in range(10):
        turn(0.5, 0.0, copier, 0.0)
    assert 0.01 < time.process_time() - start_s < 0.2  # ten turns of 20 ms, half of each or what a busy machine left
    assert turn(0.0, 1e-4, copier, 0.0) < 0  # a piece more than was owed
    assert turn(0.0, 1e6, copier, 0.0) <= 1e9  # what cannot be had is forgotten


def test_as_much_memory_is_moved_as_was_asked() -> None:
    class Counted(_Copier):
        moved = 0

        def copy(self) -> int:
            there = self._place
            done = super().copy()
            assert self._to[there : self._place or None] == self._from[there : self._place or None]
            self.moved += done
            return done

    copier, owed = Counted(), 0.0
    for _ in range(50):
        owed = turn(0.0, 0.1, copier, owed)
    wanted = 0.1e9 * 50 * TURN_S
    assert copier.moved + owed == pytest.approx(wanted)
    assert -2 * COPY_BYTES <= owed <= 0.1 * wanted  # a busy machine may owe a little


@pytest.mark.parametrize("stress_ng", BOTH)
def test_nothing_is_left_after_a_kill(stress_ng: bool) -> None:
    code = (
        "import time\nfrom hw.real.loadgen import ProcessLoad\nfrom hw.types import Load\n"
        f"load = ProcessLoad({{'cpu': {CPUS}}}, stress_ng={stress_ng})\n"
        f"load.set(Load(busy={{'cpu': 1.2}}, mem_gbps={0.0 if stress_ng else 0.1}))\nprint('on', flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"on\n"
        works(set(), 0.4, process.pid)
        until(lambda: stressed(descendants(process.pid)) == stress_ng)
        pids = descendants(process.pid)
        assert len(pids) >= 2
        os.kill(process.pid, signal.SIGKILL)
        gone(pids)


@pytest.mark.parametrize(
    ("program", "processes", "killed"),
    [
        ("trap '' TERM; sleep 60 & sleep 60", 3, False),
        ("(trap '' TERM; exec sleep 60) & wait", 2, False),
        ("trap 'kill $!; exit' TERM; sleep 60 & wait", 2, True),
    ],
)
def test_a_program_ends_with_its_guard(program: str, processes: int, killed: bool) -> None:
    """With all its children, whatever they ignore; where the guard is killed, it is asked to end them itself."""
    guard, pids = start_guarded(["sh", "-c", program]), set[int]()
    try:
        until(lambda: len(descendants(guard.pid)) == processes, process=guard)
        pids = descendants(guard.pid)
        if killed:
            guard.kill()
        elif guard.stdin is not None:
            guard.stdin.close()
        gone(pids, 20.0)
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        end(guard)


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
