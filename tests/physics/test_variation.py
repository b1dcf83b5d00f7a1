"""Boards of one model differ as their file says, from episode to episode, and only where that is asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from envs.families import scenario_set
from envs.task import open_task
from experiments._evaluate import evaluate
from hw.boardfile import load_board
from hw.boardmodel import BoardModel, Variation
from hw.profile import open_profile
from hw.simulated.interval import Interval
from hw.simulated.simulator import Simulator

MODEL = load_board("xu3")
PROFILE = open_profile(MODEL, None)
N = 4000
KNOBS = np.array([[0], [MODEL.spec.placements.index(("a7", 1))], [10], [16]], np.intp)  # A7 1.2, A15 1.8 GHz


def big_cores(busy: float) -> npt.NDArray[np.float32]:
    """So many busy cores of the A15s, none of the A7s, (units, N)."""
    return np.repeat(np.array([[0.0], [busy]], np.float32), N, axis=1)


def fly(*, vary: bool, busy: float = 0.0, seconds: float = 0.5, seed: int = 0) -> tuple[Simulator, Interval]:
    """The last interval of boards whose A15 has `busy` cores of background work, the network on the A7."""
    simulator = Simulator(MODEL, PROFILE, N, vary=vary)
    simulator.reset(range(N), seeds=range(seed, seed + N))
    simulator.inject(big_cores(busy), np.zeros(N, np.float32), np.full(N, 25.0, np.float32))
    rate, deadline_s = np.full(N, 2.0, np.float32), np.full(N, 1.0, np.float32)
    for _ in range(round(seconds / MODEL.spec.interval_s)):
        interval = simulator.step(np.repeat(KNOBS, N, axis=1), rate, deadline_s)
    return simulator, interval


def spread(values: npt.NDArray[np.float32]) -> float:
    """Standard deviation of the logarithm."""
    return float(np.log(values).std())


def test_the_nominal_board_is_always_the_same() -> None:
    _, interval = fly(vary=False, busy=3.0, seconds=5.0)
    assert max(spread(watts) for watts in interval.exact_power_w) < 0.02
    assert spread(interval.latency_mean_s) < 0.025  # one frame, 2 % of jitter


def test_dynamic_power_goes_with_the_square_of_the_voltage() -> None:
    """What three busy cores add, on the same boards: uniform in voltage, so the extremes tell."""
    _, idle = fly(vary=True)
    _, loaded = fly(vary=True, busy=3.0)
    nominal_w = 3 * MODEL.units[1].background_nf * 1e-9 * MODEL.spec.clock("a15").volts[16] ** 2 * 1.8e9
    added_w = loaded.exact_power_w[1] - idle.exact_power_w[1]
    clock_w = MODEL.units[1].cluster_nf * 1e-9 * MODEL.spec.clock("a15").volts[16] ** 2 * 1.8e9
    low, high = MODEL.variation.volts_low, MODEL.variation.volts_high
    assert added_w.min() >= low**2 * nominal_w * 0.99
    assert added_w.max() <= high**2 * (nominal_w + clock_w) + 1.0  # the cluster wakes up, with its leakage
    assert np.percentile(added_w, 95) / np.percentile(added_w, 5) == pytest.approx(
        (high - 0.05 * (high - low)) ** 2 / (low + 0.05 * (high - low)) ** 2, rel=0.1
    )


def test_another_voltage_is_another_boards_file() -> None:
    """A board drawn at 1.04 times the voltage draws what a board file with these volts says: clocks, work, leakage."""
    busy, rate, deadline_s = np.array([[0], [2]], np.float32), np.ones(1, np.float32), np.ones(1, np.float32)
    knobs = np.array([[0], [MODEL.spec.placements.index(("a7", 1))], [12], [18]], np.intp)  # at their highest

    def drawn_w(model: BoardModel, vary: bool) -> npt.NDArray[np.float32]:
        simulator = Simulator(model, PROFILE, 1, vary=vary)
        simulator.inject(busy, np.zeros(1, np.float32), np.full(1, 25.0, np.float32))
        watts: npt.NDArray[np.float32] = simulator.step(knobs, rate, deadline_s).exact_power_w[1]
        return watts

    higher = [replace(c, volts=tuple(1.04 * v for v in c.volts)) for c in MODEL.spec.clocks]
    filed = replace(MODEL, spec=replace(MODEL.spec, clocks=tuple(higher)))
    drawn = replace(MODEL, variation=Variation(volts_low=1.04, volts_high=1.04))
    np.testing.assert_allclose(drawn_w(drawn, True), drawn_w(filed, False), rtol=1e-4)


def test_latency_and_heat_spread_as_the_file_says() -> None:
    _, interval = fly(vary=True, seconds=1.0)  # the first interval's frame also waits for the switch
    assert spread(interval.latency_mean_s) == pytest.approx(MODEL.variation.latency_std, rel=0.3)
    _, interval = fly(vary=True, busy=2.0, seconds=60.0)
    rise_per_w = (interval.exact_temp_c - 25.0) / interval.exact_power_w.sum(axis=0)
    cool = interval.fan == np.bincount(interval.fan).argmax()  # of one fan state
    assert 0.5 * MODEL.variation.heat_std < spread(rise_per_w[cool]) < 1.5 * MODEL.variation.heat_std


def test_every_episode_has_another_board() -> None:
    simulator, first = fly(vary=True, busy=2.0)
    simulator.reset(range(N))
    simulator.inject(big_cores(2.0), np.zeros(N, np.float32), np.full(N, 25.0, np.float32))
    again = simulator.step(np.repeat(KNOBS, N, axis=1), np.full(N, 2.0, np.float32), np.full(N, 1.0, np.float32))
    other = first.exact_power_w[1] != again.exact_power_w[1]
    assert other.mean() > 0.99
    correlation = np.corrcoef(first.exact_power_w[1], again.exact_power_w[1])[0, 1]
    assert abs(correlation) < 0.1


def test_on_where_one_learns_and_off_elsewhere() -> None:
    assert open_task("xu3").vary
    assert not open_task("xu3", family="held_out").vary
    assert not open_task("xu3", vary=False).vary


def test_every_seed_of_a_comparison_may_have_a_board_of_its_own() -> None:
    """`compare.py --vary`: noise alone makes no difference to what full speed costs, another board does."""
    scenarios = scenario_set("held_out", MODEL.spec, PROFILE, 1)
    energy_j = []
    for vary in (False, True):
        rows = evaluate(["performance@4"], "xu3", PROFILE, scenarios, [0, 1], vary=vary).rows
        energy_j.append(np.array([row.energy_j for row in rows]))
    one, many = energy_j
    assert one[0] == pytest.approx(one[1], rel=1e-3)
    assert (abs(many / one - 1.0) > 5e-3).all() and many[0] != pytest.approx(many[1], rel=5e-3)
