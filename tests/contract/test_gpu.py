"""A board with a GPU: its worker moves there, its load burns there, a sweep measures there."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from experiments._journal import Journal, Sample
from experiments._sweep import Effort, Sweep
from hw.boardfile import load_board
from hw.errors import Flaky, InputError, Refused
from hw.ladderfile import ZOO
from hw.profile import open_profile
from hw.real import gpuburner
from hw.real.board import LinuxBoard
from hw.real.emulation import Emulation
from hw.real.loadgen import ProcessLoad
from hw.real.machine import WallTime, open_machine
from hw.real.sysfs import Sysfs
from hw.real.worker import ProcessWorker
from hw.real.workplan import WorkPlan, busy_loop, network
from hw.types import Demand, Load
from tests.processes import descendants, gone, worked_s, works
from tests.vulkan import NO_DEVICE, NO_DRIVER, need_vulkan

ROOT = Path(__file__).resolve().parents[2]
CPU = min(os.sched_getaffinity(0))
STEADY = Demand(rate_hz=40.0, deadline_s=math.inf, accuracy_min=0.0, energy_budget_j=1.0, goal="min_energy")


# -- the worker -----------------------------------------------------------------------------------------------------


@pytest.fixture
def worker() -> Iterator[ProcessWorker]:
    need_vulkan()
    worker = network(ZOO / "digits", 4, (1, 8, 8), gpu=True)
    yield worker
    worker.close()


def test_it_moves_to_the_gpu_and_back(worker: ProcessWorker) -> None:
    pids = worker.pids
    assert worker.gpu and worker.told.endswith(f"GPU {worker.gpu}")
    answers = []
    for cpus in ((CPU,), (), (CPU,)):
        worker.set(4, cpus, 1)
        assert os.sched_getaffinity(pids[0]) == (set(cpus) or os.sched_getaffinity(0))
        worker.serve(STEADY, 0.3)
        assert worker.serve(STEADY, 0.3).served > 0
        answers.append({frame["confidence"] for frame in worker.frames})
        assert {frame["rung"] for frame in worker.frames} == {"100%"}
    assert worker.pids == pids
    assert max(map(max, answers)) <= 1.0


def test_it_starts_again_where_it_was(worker: ProcessWorker) -> None:
    worker.set(2, (), 1)
    os.kill(worker.pids[0], signal.SIGKILL)
    with pytest.raises(Flaky, match="the worker died"):
        worker.serve(STEADY, 2.0)
    worker.serve(STEADY, 0.1)  # which it starts in
    assert worker.serve(STEADY, 0.5).served > 0
    assert worker._sent["gpu"] == "on" and worker.frames[0]["rung"] == "50%"


def test_a_busy_loop_runs_on_cpus_alone() -> None:
    with pytest.raises(InputError, match="runs on CPUs alone; install ncnn and profile the board with a network"):
        WorkPlan(ladder="digits", rounds=(100, 200)).start(gpu=True)
    busy = busy_loop(rounds=(100,))
    try:
        with pytest.raises(
            Refused, match=r"on a GPU: this worker runs on CPUs alone \(busy loop in place of a network"
        ):
            busy.set(1, (), 1)
    finally:
        busy.close()


def test_a_worker_without_a_device_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES"):
        monkeypatch.setenv(name, NO_DRIVER[name])
    with pytest.raises(Flaky, match=rf"^the worker died \(exit status 2\): error: GPU: {NO_DEVICE}"):
        WorkPlan(ladder="digits").start(gpu=True)
    assert not list(tmp_path.iterdir())  # its noise has gone with it


# -- load -----------------------------------------------------------------------------------------------------------


def test_load_comes_and_goes() -> None:
    need_vulkan()
    before = descendants()
    load = ProcessLoad({"cpu": (CPU,)}, gpu="gpu")
    try:
        load.set(Load(busy={"gpu": 0.0}))
        assert not descendants() - before  # nobody asked for it
        load.set(Load(busy={"gpu": 0.5}))
        (pid,) = pids = descendants() - before
        works(before, worked_s(pids) + 0.2)
        load.set(Load(busy={"cpu": 0.0}))
        time.sleep(0.5)
        start_s = worked_s(pids)
        time.sleep(0.5)
        assert worked_s(pids) - start_s < 0.05
        load.set(Load(busy={"gpu": 0.2}))
        assert descendants() - before == {pid}
        os.kill(pid, signal.SIGKILL)
        end_s = time.monotonic() + 60.0
        with pytest.raises(Flaky, match="a load process died"):
            while time.monotonic() < end_s:  # it has threads, and is dead when the last of them is
                load.set(Load(busy={"gpu": 0.3}))
                time.sleep(0.02)
        load.set(Load(busy={"gpu": 0.3}))
    finally:
        load.close()
    assert not descendants() - before


def test_nobody_waits_for_a_load_that_was_prepared() -> None:
    need_vulkan()
    before = descendants()
    load = ProcessLoad({"cpu": (CPU,)}, gpu="gpu")
    try:
        load.prepare([Load(busy={"gpu": 0.0}), Load(busy={"cpu": 1.0})])
        assert not descendants() - before  # nobody will ask for it
        load.prepare([Load(busy={"gpu": 0.0}), Load(busy={"gpu": 0.5})])
        (pid,) = descendants() - before
        start_s = worked_s({pid})
        load.set(Load(busy={"gpu": 0.0}))
        time.sleep(0.3)
        assert worked_s({pid}) - start_s < 0.05
        load.set(Load(busy={"gpu": 0.5}))
        assert descendants() - before == {pid}
        works(before, worked_s({pid}) + 0.2)
    finally:
        load.close()
    assert not descendants() - before


def test_a_share_is_held() -> None:
    """By what the CPU works for it where Vulkan computes there; a third of the time is a third of the work."""
    need_vulkan()
    before = descendants()
    load = ProcessLoad({}, gpu="gpu")
    ratios = []
    try:
        for _ in range(20):  # in turns, until one was not disturbed: the machine is not equally busy all the time
            worked = [0.0, 0.0]
            for k in (0, 1, 0, 1):
                load.set(Load(busy={"gpu": (1.0, 0.3)[k]}))
                time.sleep(0.1)
                pids = descendants() - before
                start_s = worked_s(pids)
                time.sleep(0.5)
                worked[k] += worked_s(pids) - start_s
            ratios.append(worked[1] / worked[0])
            if 0.15 < ratios[-1] < 0.5:
                break
    finally:
        load.close()
    assert 0.15 < ratios[-1] < 0.5, ratios


def test_pieces_are_short_and_keep_time() -> None:
    assert gpuburner.layers_for(gpuburner.PIECE_S / 3) == 3
    assert gpuburner.layers_for(1.0) == 1
    assert gpuburner.layers_for(1e-9) == gpuburner.LAYERS
    due_s = now_s = worked_s = 0.0
    for _ in range(1000):  # each begins half a millisecond late
        now_s = max(now_s, due_s) + 0.0005 + 0.004
        worked_s += 0.004
        due_s = gpuburner.next_start(due_s, now_s, 0.004, 0.4)
    assert worked_s / now_s == pytest.approx(0.4, rel=0.01)
    assert gpuburner.next_start(0.0, 10.0, 0.004, 0.4) == pytest.approx(9.986, abs=1e-6)  # little is made up for


def test_nothing_is_left_after_a_kill() -> None:
    need_vulkan()
    code = (
        "import time\nfrom hw.real.loadgen import ProcessLoad\nfrom hw.types import Load\n"
        "ProcessLoad({}, gpu='gpu').set(Load(busy={'gpu': 0.5}))\nprint('on', flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"on\n"
        pids = descendants(process.pid)
        assert len(pids) == 1
        os.kill(process.pid, signal.SIGKILL)
        gone(pids)


def test_load_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES"):
        monkeypatch.setenv(name, NO_DRIVER[name])
    before = descendants()
    load = ProcessLoad({"cpu": (CPU,)}, gpu="gpu")
    for asked, problem in (
        ({"gpu": 0.5}, f"^load on 'gpu': {NO_DEVICE}; install the Vulkan driver of this board's GPU$"),
        ({"gpu": 1.5}, "which has 1"),
        ({"cpu": 0.5, "gpu": 0.5}, NO_DEVICE),
    ):
        with pytest.raises(Refused, match=problem):
            load.set(Load(busy=asked))
        assert not descendants() - before
    load.close()


# -- the board ------------------------------------------------------------------------------------------------------


class LookingTime(WallTime):
    """Time on the wall; an emulated kernel has seen what was written when a driver has waited."""

    def __init__(self, emulation: Emulation) -> None:
        self._emulation = emulation

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self._emulation.ask("look")


def test_a_sweep_measures_the_gpu(tmp_path: Path, worker: ProcessWorker) -> None:
    """The driver of real boards on an emulated Nano's files, with a network that is served."""
    model = load_board("jetson_nano")
    assert model.real is not None
    profile = open_profile(model, None)
    emulation = Emulation.start(model, profile)
    asked: list[tuple[int, tuple[int, ...], int]] = []
    place = worker.set

    def told(rung: int, cpus: Sequence[int], threads: int) -> None:
        asked.append((rung, tuple(cpus), threads))
        place(rung, cpus, threads)

    worker.set = told  # type: ignore[method-assign]
    samples: list[Sample] = []
    fast = replace(model, spec=replace(model.spec, interval_s=0.1))
    load, sysfs = ProcessLoad(model.real.cpus, gpu="gpu"), Sysfs(emulation.root)
    board = LinuxBoard(fast, profile, worker=worker, load=load, time=LookingTime(emulation), sysfs=sysfs)
    try:
        board.reset()
        keys = [(2, "gpu", 1, 921.6e6), (1, "a57", 1, 1479e6), (1, "gpu", 1, 76.8e6)]
        journal = Journal(tmp_path / "samples.jsonl", {})
        Sweep(board, worker, Effort(frames=2, least_s=0.0, most_s=5.0)).run(
            [(k, 0) for k in keys], journal, samples.append
        )
        journal.close()
    finally:
        board.close()
        emulation.close()
    assert [sample.key for sample in samples] == keys
    assert all(len(sample.service_s) >= 2 for sample in samples)
    assert [(rung, cpus) for rung, cpus, _ in asked if (rung, cpus) != (1, (0, 1, 2, 3))][:2] == [(1, ()), (2, ())]


def test_a_board_has_one_gpu() -> None:
    model = load_board("jetson_nano")
    units = (*model.spec.units, replace(model.spec.units[-1], name="gpu2"))
    two = replace(model, spec=replace(model.spec, units=units))
    worker = busy_loop(rounds=(100,))
    with pytest.raises(InputError, match="'gpu, gpu2': more than one GPU; one: "):
        open_machine(two, open_profile(model, None), worker)
    assert not worker.pids
