"""The simulated Jetson Nano meets what was measured on real ones, flown through the board as a controller flies it.

The figures are published measurements; where one comes with a temperature, the board is brought to that temperature.
Background work stands for the programs that ran; no frame of a network falls due in a check.
"""

from __future__ import annotations

import pytest

from hw.catalog import open_board
from hw.simulated.board import SimBoard
from hw.types import Demand, Knobs, Load, Telemetry

NOTHING = Demand(rate_hz=1e-6, deadline_s=1.0, accuracy_min=0.0, energy_budget_j=1.0, goal="min_energy")
TOP = {"a57": 1.479e9, "gpu": 9.216e8}
LOWEST = {"a57": 1.02e8, "gpu": 7.68e7}
LONG_S = 2000.0  # many times the slowest time constant


@pytest.fixture
def board() -> SimBoard:
    board = open_board("jetson_nano")
    board.reset(seed=0)
    board.step(Knobs(rung=1, unit="a57", cores=1, freqs_hz=LOWEST), NOTHING)  # the one frame, due at once
    return board


def fly(
    board: SimBoard,
    seconds: float,
    *,
    freqs_hz: dict[str, float] = TOP,
    until_c: float | None = None,
    a57: float = 0.0,
    gpu: float = 0.0,
    mem_gbps: float = 0.0,
    ambient_c: float = 24.0,
) -> Telemetry:
    """The last interval of a stretch under a steady load, which ends early at a temperature."""
    board.inject(Load(busy={"a57": a57, "gpu": gpu}, mem_gbps=mem_gbps, ambient_c=ambient_c))
    knobs = Knobs(rung=1, unit="a57", cores=1, freqs_hz=freqs_hz)
    for _ in range(round(seconds / board.spec.interval_s)):
        telemetry = board.step(knobs, NOTHING)
        assert telemetry.frames == 0
        if until_c is not None and telemetry.temp_c["cpu"] >= until_c:
            break
    return telemetry


def exact_w(board: SimBoard) -> dict[str, float]:
    """Exact mean power of every rail in the last interval (W); the meter's 40 mW steps would hide half of a check."""
    return {rail: joules / board.spec.interval_s for rail, joules in board.exact_energy_j.items()}


def test_one_busy_core(board: SimBoard) -> None:
    """vips on one core at 1479 MHz and 34.5-35.5 C: 1.57-1.65 W on the CPU's rail."""
    telemetry = fly(board, LONG_S, a57=1.0, until_c=34.5)
    assert 34.5 <= telemetry.temp_c["cpu"] <= 35.5
    watts = exact_w(board)
    assert 1.57 <= watts["a57"] <= 1.65
    assert watts["gpu"] == 0.0


def test_stress_on_everything(board: SimBoard) -> None:
    """Four cores and matrixMul on the GPU, 48 C: 8.6-9.0 W in, CPU 3.11-3.15 W, GPU 2.96-3.23 W.

    matrixMul streams: 10 GB/s is what takes the rest of the module to the 2.5 W that were left there.
    """
    telemetry = fly(board, LONG_S, a57=4.0, gpu=0.99, mem_gbps=10.0, ambient_c=20.0, until_c=48.0)
    assert telemetry.temp_c["cpu"] == 48.0
    watts = exact_w(board)
    assert 3.05 <= watts["a57"] <= 3.2
    assert 3.0 <= watts["gpu"] <= 3.2
    assert 8.6 <= sum(watts.values()) <= 9.0


@pytest.mark.parametrize("freqs_hz", [LOWEST, TOP], ids=["lowest", "top"])
def test_idle(board: SimBoard, freqs_hz: dict[str, float]) -> None:
    """Idle: 943-1003 mW in, 123-166 mW of it the CPU's, nothing the GPU's, whatever the clocks stand at."""
    fly(board, 60.0, freqs_hz=freqs_hz)
    watts = exact_w(board)
    assert 0.94 <= sum(watts.values()) <= 1.0
    assert 0.123 <= watts["a57"] <= 0.166
    assert watts["gpu"] == 0.0


@pytest.mark.parametrize("cores", [3.33, 4.0], ids=["as its speed-up says", "all of four"])
def test_four_minutes_of_7zip(board: SimBoard, cores: float) -> None:
    """From rest, 4 minutes of 7-zip on four cores: +8 to +11 K. It gets 3.33 times the speed of one core."""
    rest = fly(board, LONG_S, freqs_hz=LOWEST).temp_c["cpu"]
    after = fly(board, 240.0, a57=cores).temp_c["cpu"]
    assert 8.0 <= after - rest <= 11.0


def test_the_meters_say_the_same(board: SimBoard) -> None:
    """What telemetry shows under load is the exact power within the meter's step and its 1 % of gain."""
    telemetry = fly(board, 60.0, a57=4.0, gpu=0.99)
    assert telemetry.energy_j is not None
    for rail, watts in exact_w(board).items():
        measured_w = telemetry.energy_j[rail] / telemetry.interval_s
        assert measured_w == pytest.approx(watts, rel=0.04, abs=0.04)
