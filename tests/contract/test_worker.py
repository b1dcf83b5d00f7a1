"""The worker from outside: who is served, dropped and late, what it survives, and that nothing of it is left behind."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dyndnn.arrivals import Arrivals as NetworkArrivals
from dyndnn.network import Network
from hw.errors import Flaky, InputError, Refused
from hw.ladderfile import ZOO
from hw.real import busyloop
from hw.real import worker as worker_module
from hw.real.interfaces import Served
from hw.real.tally import tally
from hw.real.worker import ProcessWorker
from hw.real.workplan import WorkPlan, busy_loop, input_shape, load_plan, network, save_plan, work_seconds
from hw.types import Demand
from tests.processes import gone, until

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ZOO / "digits"
CPU = min(os.sched_getaffinity(0))


def demand(rate_hz: float, deadline_s: float = math.inf) -> Demand:
    return Demand(rate_hz=rate_hz, deadline_s=deadline_s, accuracy_min=0.0, energy_budget_j=1.0, goal="min_energy")


def test_latencies_of_an_interval_are_told_by_their_mean_and_95th_percentile() -> None:
    lines = [{"latency_s": k / 1000, "missed": k > 90} for k in range(100, 0, -1)] + [{"missed": True}] * 3
    counted, _ = tally(lines, 0.0)
    assert (counted.frames, counted.served, counted.dropped, counted.missed) == (103, 100, 3, 13)
    assert counted.latency_mean_s == pytest.approx(0.0505) and counted.latency_p95_s == pytest.approx(0.09505)
    counted, _ = tally([{"missed": True}], 0.0)
    assert counted.latency_mean_s is None and counted.latency_p95_s is None


@pytest.fixture
def busy() -> Iterator[ProcessWorker]:
    worker = busy_loop((0.002, 0.02))
    yield worker
    worker.close()


def test_frames_arrive_on_the_demands_clock(busy: ProcessWorker) -> None:
    busy.set(1, (CPU,), 1)
    counts, arrived = list[Served](), list[float]()
    while len(arrived) < 40 and len(counts) < 100:  # a busy machine serves them late
        counts.append(busy.serve(demand(40.0), 0.3))
        arrived += [frame["arrived_s"] for frame in busy.frames]
    assert len(arrived) == sum(c.frames for c in counts) >= 40
    assert np.diff(arrived) == pytest.approx(0.025, abs=1e-5)
    assert all(c.labelled == c.right == 0 and c.confidence is None for c in counts)
    best = min(c.latency_mean_s for c in counts if c.latency_mean_s is not None)
    assert 0.0005 < best < 0.1


def test_frames_of_before_a_pause_count_nowhere(busy: ProcessWorker) -> None:
    busy.set(2, (CPU,), 1)
    until(lambda: busy.serve(demand(200.0), 0.2).served > 0)  # 20 ms a frame: a queue grows
    busy.pause()
    time.sleep(0.1)
    began_s = time.monotonic()
    counts = [busy.serve(demand(5.0, 10.0), 0.3)]
    frames = busy.frames
    while len(counts) < 40 and not frames:
        counts.append(busy.serve(demand(5.0, 10.0), 0.3))
        frames = busy.frames
    assert frames and all(f["arrived_s"] >= began_s for f in frames)
    assert sum(c.frames for c in counts) <= 5.0 * (time.monotonic() - began_s) + 1
    first, again = busy.serve(demand(200.0, 1.0), 0.1), busy.serve(demand(200.0, 1.0), 0.4)
    assert first.frames + again.frames > 0, "without a pause nothing is left out"


def test_the_rung_changes_without_a_restart(busy: ProcessWorker) -> None:
    pids = busy.pids
    means = []
    for rung in (1, 2):
        busy.set(rung, (CPU,), 1)
        busy.serve(demand(math.inf), 0.2)
        until(lambda: busy.serve(demand(math.inf), 0.5).served > 0)
        means.append(np.median([f["service_s"] for f in busy.frames]))
        assert {f["rung"] for f in busy.frames} == {rung}
    assert busy.pids == pids
    assert means[1] > 2.5 * means[0]  # ten times the work


def test_it_moves_between_cores(busy: ProcessWorker) -> None:
    busy.set(1, (CPU,), 1)
    assert os.sched_getaffinity(busy.pids[0]) == {CPU}
    everywhere = sorted(os.sched_getaffinity(0))
    busy.set(1, everywhere, len(everywhere))
    assert os.sched_getaffinity(busy.pids[0]) == set(everywhere)
    assert busy.serve(demand(50.0), 0.3).served > 0


def test_drops_and_misses_are_those_of_the_queue(busy: ProcessWorker) -> None:
    """What the worker says of each frame is what a queue makes of the times at which it was free."""
    deadline_s = 0.03
    busy.set(2, (CPU,), 1)
    served = [busy.serve(demand(100.0, deadline_s), 0.4) for _ in range(2)]
    assert sum(s.dropped for s in served) > 20  # 100 a second of which 50 at most can be served
    assert all(s.served + s.dropped == s.frames and s.dropped <= s.missed <= s.frames for s in served)
    free_s = 0.0
    for frame in busy.frames:
        start_s = frame["arrived_s"] + frame["wait_s"]
        assert start_s >= max(frame["arrived_s"], free_s) - 1e-6  # one after the other
        assert start_s < frame["arrived_s"] + deadline_s + 1e-6  # or it would have been dropped
        free_s = start_s + frame["service_s"]
        assert frame["latency_s"] == pytest.approx(free_s - frame["arrived_s"], abs=1e-6)
        assert frame["missed"] is (frame["latency_s"] > deadline_s)


def test_a_backlog_carries_over(busy: ProcessWorker) -> None:
    busy.set(2, (CPU,), 1)
    first = busy.serve(demand(100.0), 0.3)
    later = [busy.serve(demand(0.0), 0.3)]  # no more arrive; those that wait are served
    while sum(s.served for s in later) <= 2 and len(later) < 100:  # on a busy machine it takes longer
        later.append(busy.serve(demand(0.0), 0.3))
    assert first.dropped == 0 and all(s.dropped == 0 and s.frames == s.served for s in later)
    assert max(s.latency_mean_s or 0.0 for s in later) > (first.latency_mean_s or 0.0)


def test_it_can_be_killed_and_starts_again(busy: ProcessWorker) -> None:
    busy.set(2, (CPU,), 1)
    rounds = busy.rounds
    old = busy.pids[0]
    os.kill(old, signal.SIGKILL)
    with pytest.raises(Flaky, match=r"^the worker died \(signal 9\)$"):
        busy.serve(demand(20.0), 1.0)
    until(lambda: busy.serve(demand(50.0), 0.4).frames > 0)
    assert busy.pids[0] != old and busy.rounds == rounds
    assert os.sched_getaffinity(busy.pids[0]) == {CPU} and busy.frames[0]["rung"] == 2


def test_one_that_hangs_is_ended(busy: ProcessWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "SILENCE_S", 0.3)
    busy.set(1, (CPU,), 1)
    busy.serve(demand(50.0), 0.2)
    old = busy.pids[0]
    os.kill(old, signal.SIGSTOP)
    busy.serve(demand(50.0), 0.1)
    with pytest.raises(Flaky, match="has said nothing"):
        busy.serve(demand(50.0), 0.6)
    gone([old])
    until(lambda: busy.serve(demand(50.0), 0.4).served > 0)


def test_what_cannot_be(busy: ProcessWorker) -> None:
    for rung in (0, 3):
        with pytest.raises(Refused, match="this worker has rungs 1 to 2"):
            busy.set(rung, (CPU,), 1)
    with pytest.raises(Refused, match="0 threads"):
        busy.set(1, (CPU,), 0)
    with pytest.raises(Refused, match="the worker may not run there"):
        busy.set(1, (3000,), 1)
    for work in ((), (0.0,), (math.nan,), (-1.0, 1.0)):
        with pytest.raises(InputError, match="no work"):
            busy_loop(work)
    busy.close()
    busy.close()
    with pytest.raises(Refused, match="closed"):
        busy.serve(demand(1.0), 0.1)


def test_one_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(Flaky, match=r"^the worker died \(exit status 2\): error: .*no such file"):
        network(DIGITS, 4, (1, 8, 8), frames=tmp_path / "none.npy")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures; the largest rung is right about three of four."""
    path = tmp_path_factory.mktemp("pictures") / "pictures.npz"
    pictures = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), np.uint8)
    served = Network.load(DIGITS)
    labels = np.array([int(served.infer(picture, 4).argmax()) for picture in pictures])
    labels[::4] = (labels[::4] + 1) % 10
    np.savez(path, frames=pictures, labels=labels)
    return path


def test_a_network_with_labels(labelled: Path) -> None:
    worker = network(DIGITS, 4, input_shape(DIGITS / "ladder.json"), frames=labelled)
    try:
        worker.set(4, (CPU,), 1)
        served = [worker.serve(demand(200.0, 1.0), 0.4) for _ in range(2)]
    finally:
        worker.close()
    count, right = sum(s.labelled for s in served), sum(s.right for s in served)
    assert count == sum(s.served for s in served) > 40
    assert abs(right / count - 0.75) < 0.1
    assert all(s.confidence is not None and 0.1 < s.confidence <= 1.0 for s in served)


def test_a_frame_of_many_pictures(labelled: Path) -> None:
    worker = network(DIGITS, 4, (1, 8, 8), frames=labelled, images=80, threads=2)
    try:
        worker.set(4, tuple(os.sched_getaffinity(0)), 2)
        assert len(worker.pids) == 2  # a helper shares the pictures
        served = [worker.serve(demand(math.inf), 0.4) for _ in range(2)]
        while sum(s.served for s in served) <= 4 and len(served) < 100:  # on a busy machine it takes longer
            served.append(worker.serve(demand(math.inf), 0.4))
        assert all(f["images"] == f["labelled"] == 80 and f["right"] == 60 for f in worker.frames)
        frames = sum(s.served for s in served)
        assert frames == sum(s.labelled for s in served) > 4
        # three of four in every frame: whole frames are told, the rest with the next ones
        assert abs(sum(s.right for s in served) - 0.75 * frames) < 1
        pids = worker.pids
        os.kill(pids[1], signal.SIGKILL)
        died = worker.serve(demand(math.inf), 0.4)
        assert died.missed >= 1 and died.served >= 0
        until(lambda: worker.serve(demand(math.inf), 0.3).missed == 0)  # with a new helper
        worker.set(4, (CPU,), 1)
        until(lambda: worker.serve(demand(math.inf), 0.3).served > 0)
        pids = worker.pids
    finally:
        worker.close()
    gone(pids)


def test_nothing_is_left_after_a_kill() -> None:
    code = (
        "import os, signal, time\n"
        "from hw.real.workplan import busy_loop, network\n"
        f"workers = [busy_loop((0.01,)), network({str(DIGITS)!r}, 4, (1, 8, 8), images=8, threads=2)]\n"
        "print(*[pid for w in workers for pid in w.pids], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 3, done.stderr
    gone(pids)


def test_a_plan_starts_the_same_again(tmp_path: Path) -> None:
    plan = WorkPlan(ladder="digits", rounds=(100, 200))
    save_plan(plan, tmp_path)
    assert load_plan(tmp_path) == plan
    worker = load_plan(tmp_path).start()
    worker.close()
    assert worker.rungs == 2 and worker.rounds == (100, 200)
    good = {"ladder": "x", "images": 1, "frames": "", "rounds": []}
    wrong: list[dict[str, object]] = [{"images": 0}, {"images": 1.5}, {"images": True}, {"ladder": 5}]
    wrong += [{"ladder": "a\0b"}, {"frames": 5}, {"more": 1}]
    wrong += [{"rounds": "12"}, {"rounds": [1.5]}, {"rounds": [0]}, {"rounds": 5}]
    for text in ("{}", "nothing", "[1]", *(json.dumps(good | change) for change in wrong)):
        (tmp_path / "worker.json").write_text(text)
        with pytest.raises(InputError, match="does not say what serves the frames"):
            load_plan(tmp_path)
    with pytest.raises(InputError, match="unknown ladder"):
        WorkPlan(ladder="nobody's").start()
    assert work_seconds((10.0, 20.0, 45.0), 0.02) == pytest.approx((0.02, 0.04, 0.09))


# -- when frames arrive: two programs that must agree ------------------------------------------------------------


def taken(arrivals: Any, count: int, now_s: float) -> list[float]:
    return [round(arrivals.take(now_s), 6) for _ in range(count)]


def network_clock(rate_hz: float) -> tuple[Any, Callable[[float, float], None]]:
    clock = NetworkArrivals(0.0, rate_hz)
    return clock, lambda now_s, rate: clock.turn(now_s, None if math.isinf(rate) else rate or 1.0, hold=not rate)


def busy_clock(rate_hz: float) -> tuple[Any, Callable[[float, float], None]]:
    clock = busyloop.Arrivals()
    clock.turn(0.0, rate_hz)
    return clock, clock.turn


@pytest.mark.parametrize("make", [network_clock, busy_clock])
def test_arrivals(make: Callable[[float], tuple[Any, Callable[[float, float], None]]]) -> None:
    clock, turn = make(10.0)
    assert clock.next_s == 0.0
    assert taken(clock, 3, 0.25) == [0.0, 0.1, 0.2]
    turn(0.25, 20.0)  # half a period is left of the new one as well
    assert taken(clock, 2, 0.5) == [0.275, 0.325]
    turn(0.5, 5.0)  # 0.375 to 0.475 wait already
    assert taken(clock, 3, 0.5) == [0.375, 0.425, 0.475]
    assert clock.next_s == pytest.approx(0.6)
    turn(0.55, 0.0)
    assert clock.next_s == math.inf
    turn(3.0, 4.0)
    assert taken(clock, 2, 9.0) == [3.0, 3.25]
    turn(9.0, math.inf)  # 3.5 to 9.0 wait
    assert len(taken(clock, 23, 9.0)) == 23 and clock.next_s <= 9.5
    assert taken(clock, 2, 9.5) == [9.5, 9.5]
