"""What goes wrong in flight, on an emulated board: clocks, meters, heat, the worker."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hw.errors import Flaky
from hw.real.emulated import EmulatedLoad, EmulatedWorker, Emulation
from tests.emulated import DEMAND, POLICY4, fly_on, full_speed, settings


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


def test_heat_is_told(xu3: Emulation) -> None:
    board = fly_on(xu3)
    board.reset(seed=0)
    xu3.fault("hot")
    assert board.step(full_speed(board.spec), DEMAND).temp_c == {"soc": 120.0}
    board.close()


def test_a_dead_worker_is_flaky_and_the_board_can_be_closed(xu3: Emulation) -> None:
    before = settings(xu3.root)
    board = fly_on(xu3)
    board.reset(seed=0)
    xu3.fault("worker_dead")
    with pytest.raises(Flaky, match="the worker died"):
        board.step(full_speed(board.spec), DEMAND)
    board.close()
    xu3.ask("look")
    limits = [k for k in before if k.endswith(("governor", "max_freq", "min_freq"))]
    assert {k: settings(xu3.root)[k] for k in limits} == {k: before[k] for k in limits}


def test_an_emulator_that_dies_is_flaky(xu3: Emulation) -> None:
    worker, load = EmulatedWorker(xu3), EmulatedLoad(xu3)
    xu3.close()
    with pytest.raises(Flaky, match="is gone"):
        worker.serve(DEMAND, 0.5)
    worker.close()
    load.close()
