"""What goes wrong in flight, on an emulated board: clocks, meters, heat, the worker."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agents.watch import HOT_C, Watch
from hw.errors import Flaky, Refused
from hw.real.emulated import EmulatedLoad, EmulatedWorker
from hw.real.emulation import Emulation
from hw.real.meters import Meter
from hw.real.state import state_file
from tests.emulated import DEMAND, POLICY4, fly_on, full_speed, limits


def test_a_kernel_without_userspace_is_driven_by_its_limits(xu3: Emulation) -> None:
    for policy in (POLICY4, POLICY4.replace("4", "0")):
        (xu3.root / policy / "scaling_available_governors").write_text("ondemand performance\n")
    board = fly_on(xu3)
    board.reset(seed=0)
    for ghz in (0.2, 2.0, 1.1, 1.4, 0.3):
        knobs = replace(full_speed(board.spec), freqs_hz={"a7": 6e8, "a15": ghz * 1e9})
        assert board.step(knobs, DEMAND).granted == knobs
    board.close()
    assert (xu3.root / POLICY4 / "scaling_max_freq").read_text() == "2000000\n"


def test_a_hot_board_keeps_its_limits(xu3: Emulation) -> None:
    """Two flights, the second of a board that is capped from the start: its limit is as found once it is cool."""
    limit = xu3.root / POLICY4 / "scaling_max_freq"
    first = fly_on(xu3)
    first.reset(seed=0)
    knobs = replace(full_speed(first.spec), rung=4, cores=4)
    assert any(first.step(knobs, replace(DEMAND, rate_hz=1000.0)).throttled for _ in range(100))
    first.close()
    xu3.ask("look")
    assert limit.read_text() == "1800000\n", "the kernel's cap"
    assert not state_file(xu3.root).exists()
    second = fly_on(xu3)
    second._take()  # a reset would begin with a cool board
    xu3.ask("reset", seed=0)
    second.close()
    xu3.ask("look")
    assert limit.read_text() == "2000000\n"


@pytest.mark.parametrize("fault", ["clock_stuck", "clock_snapped"])
def test_a_clock_that_is_not_as_asked_shows(xu3: Emulation, fault: str) -> None:
    board = fly_on(xu3)
    board.reset(seed=0)
    xu3.fault(fault)
    t = board.step(full_speed(board.spec), DEMAND)
    table = board.spec.clock("a15").freqs_hz
    assert t.granted.freqs_hz["a15"] == (table[0] if fault == "clock_stuck" else table[-2])
    assert t.throttled
    xu3.fault(fault, False)
    assert board.step(full_speed(board.spec), DEMAND).granted == full_speed(board.spec)
    board.close()


@pytest.mark.parametrize("fault", ["sensor_gone", "sensor_garbage", "sensor_nan", "sensor_frozen"])
def test_a_broken_meter_is_missing_and_not_zero(xu3: Emulation, fault: str) -> None:
    board = fly_on(xu3)
    board.reset(seed=0)
    xu3.fault(fault)
    first = board.step(full_speed(board.spec), DEMAND)
    trace = [board.step(full_speed(board.spec), DEMAND) for _ in range(11)]
    assert (first.energy_j is None) == (fault != "sensor_frozen"), "stillness shows after a while"
    assert trace[-1].energy_j is None
    assert trace[-1].sensor_age_s is not None
    assert trace[-1].sensor_age_s > 5.0
    assert board.record["meter_trouble"]
    xu3.fault(fault, False)
    board.step(full_speed(board.spec), DEMAND)
    assert board.step(full_speed(board.spec), DEMAND).energy_j is not None
    board.close()


@pytest.mark.parametrize("fault", ["sensor_gone", "sensor_garbage", "sensor_nan"])
def test_a_meter_that_was_broken_before_the_flight_is_noticed(xu3: Emulation, fault: str) -> None:
    board, watch = fly_on(xu3), Watch(HOT_C)
    xu3.fault(fault)
    assert watch.look(board.reset(seed=0)) is None
    assert "meter is dead" in str(watch.look(board.step(full_speed(board.spec), DEMAND)))
    board.close()


def test_heat_is_told(xu3: Emulation) -> None:
    board = fly_on(xu3)
    board.reset(seed=0)
    xu3.fault("hot")
    assert board.step(full_speed(board.spec), DEMAND).temp_c == {"soc": 120.0}
    board.close()


def test_a_dead_worker_is_flaky_and_the_board_can_be_closed(xu3: Emulation) -> None:
    before = limits(xu3.root)
    board = fly_on(xu3)
    board.reset(seed=0)
    xu3.fault("worker_dead")
    with pytest.raises(Flaky, match="the worker died"):
        board.step(full_speed(board.spec), DEMAND)
    board.close()
    xu3.ask("look")
    assert limits(xu3.root) == before


def test_a_setting_that_does_not_go_back_keeps_nothing_running(xu3: Emulation, monkeypatch: pytest.MonkeyPatch) -> None:
    board, closed, threads = fly_on(xu3), list[str](), threading.active_count()
    monkeypatch.setattr(EmulatedWorker, "close", lambda _: closed.append("worker"))
    monkeypatch.setattr(EmulatedLoad, "close", lambda _: closed.append("load"))
    board.reset(seed=0)
    assert threading.active_count() > threads, "the meter's"
    (xu3.root / POLICY4 / "scaling_governor").unlink()
    with pytest.raises(Flaky, match=r"xu3: not put back: .*scaling_governor: there is no such file"):
        board.close()
    assert sorted(closed) == ["load", "worker"]
    assert threading.active_count() == threads
    assert not guards_of(xu3.root)
    (xu3.root / POLICY4 / "scaling_governor").write_text("userspace\n")
    board.close()
    assert not state_file(xu3.root).exists()


def test_a_board_that_cannot_be_taken_is_given_back(xu3: Emulation, monkeypatch: pytest.MonkeyPatch) -> None:
    board, before = fly_on(xu3), limits(xu3.root)
    at_the_last: list[bool] = []

    def fails(meter: Meter) -> None:
        at_the_last.append(limits(xu3.root) != before and state_file(xu3.root).exists())
        raise Refused("no meter")

    with monkeypatch.context() as patched:
        patched.setattr(Meter, "start", fails)
        with pytest.raises(Refused, match="no meter"):
            board.reset(seed=0)
    assert at_the_last == [True]
    assert limits(xu3.root) == before
    assert not state_file(xu3.root).exists() and not guards_of(xu3.root)
    board.reset(seed=0)  # it can be tried again
    board.close()


def test_an_emulator_that_dies_is_flaky(xu3: Emulation) -> None:
    worker, load = EmulatedWorker(xu3), EmulatedLoad(xu3)
    xu3.close()
    with pytest.raises(Flaky, match="is gone"):
        worker.serve(DEMAND, 0.5)
    worker.close()
    load.close()


CONTROLLER = """
import sys, time
from agents.supervisor import Supervisor
from hw.real.emulated import EmulatedBoard
from hw.real.emulation import Emulation
from tests.emulated import DEMAND, full_speed, model_of
model, profile = model_of("xu3")
supervisor = Supervisor(sys.argv[1]) if sys.argv[2:] else None
board = EmulatedBoard(model, profile, Emulation.attach(sys.argv[1], model))
board.reset(seed=0)
board.step(full_speed(board.spec), DEMAND)
print("flies", flush=True)
time.sleep(60)
"""


def guards_of(root: Path) -> list[int]:
    """The guards of the board with these files."""
    lines = {entry: b"" for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    for entry in lines:
        try:
            lines[entry] = (entry / "cmdline").read_bytes()
        except OSError:
            continue
    return [int(e.name) for e, line in lines.items() if b"hw.real.guard" in line and os.fsencode(root) in line]


@pytest.mark.parametrize("who", ["guard", "supervisor"])
def test_a_killed_controller_s_board_is_put_back(xu3: Emulation, who: str) -> None:
    """By a guard where nobody supervises; else the supervisor is first, and the guard says nothing."""
    before = limits(xu3.root)
    words = [sys.executable, "-c", CONTROLLER, str(xu3.root), *(["supervised"] if who == "supervisor" else [])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as flying:
        assert flying.stdout is not None
        assert flying.stdout.readline() == "flies\n"
        assert limits(xu3.root) != before
        assert len(guards_of(xu3.root)) == 1
        flying.kill()
        began_s = time.monotonic()
        while limits(xu3.root) != before or state_file(xu3.root).exists():
            assert time.monotonic() < began_s + 1.0
            time.sleep(0.01)
        _, said = flying.communicate(timeout=20)
    assert said.startswith(f"{who}: the controller (process {flying.pid}) is gone; xu3 was put back")
    assert said.count("\n") == 1


def test_a_guard_ends_with_a_board_that_was_closed(xu3: Emulation) -> None:
    board = fly_on(xu3)
    assert not guards_of(xu3.root)
    board.reset(seed=0)
    assert len(guards_of(xu3.root)) == 1
    board.close()
    assert not guards_of(xu3.root)
