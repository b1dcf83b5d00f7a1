"""The bounds that know what comes: nothing else does better, on the simulated XU3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.policy import Privileged, make_policy, policy_names
from agents.runtime import control
from envs.families import generate
from envs.reward import RewardWeights, reward_terms
from envs.scenario import Scenario, columns, load_scenario
from hw.catalog import open_board
from hw.errors import InputError
from hw.simulated.board import SimBoard, knob_indices
from hw.simulated.simulator import Simulator
from hw.types import GOALS, Knobs
from tests.arrays import f32

Indices = NDArray[np.intp]
SEED = 7
ROUNDING = 1e-3  # of a sum over a flight


@pytest.fixture(scope="module")
def board() -> SimBoard:
    return open_board("xu3")


@pytest.fixture(scope="module")
def scenario(board: SimBoard) -> Scenario:
    return generate("held_out", board.spec, board.profile, np.random.default_rng(1), duration_s=20.0)


def asked_by(name: str, board: SimBoard, scenario: Scenario) -> list[Knobs]:
    """What a controller asks for in every interval of a flight."""
    policy = make_policy(name)
    if isinstance(policy, Privileged):
        policy.bind(board, scenario, RewardWeights())
    return [t.asked for t in control(board, policy, scenario, board.profile, seed=SEED)]


def totals(board: SimBoard, scenario: Scenario, ways: Sequence[Indices]) -> NDArray[np.floating[Any]]:
    """Total reward of ways through a scenario, (n,), from (2 + clocks, n) knob indices per interval.

    Written apart from the bounds.
    """
    board.reset(seed=SEED)
    n = ways[0].shape[1]
    lanes, total = board.simulator.fork(np.zeros(n, np.intp)), np.zeros(n)
    changes, row = scenario.changes(board.spec.interval_s), 0
    for k, points in enumerate(ways):
        row = changes.get(k, row)
        load = np.repeat(f32(scenario.load[row][:, None]), n, axis=1)
        lanes.inject(load, np.full(n, scenario.mem_gbps[row], "f4"), np.full(n, scenario.ambient_c[row], "f4"))
        total += _rewards(lanes, points, scenario, row)
    return total


def _rewards(lanes: Simulator, points: Indices, scenario: Scenario, row: int) -> NDArray[np.floating[Any]]:
    demand, n = scenario.demand(row), points.shape[1]
    interval = lanes.step(points, np.full(n, demand.rate_hz, "f4"), np.full(n, demand.deadline_s, "f4"))
    accuracies = np.array([r.accuracy for r in lanes.profile.rungs])
    terms = reward_terms(
        frames=interval.frames,
        missed=interval.missed,
        energy_j=interval.energy_j.sum(axis=0),
        energy_budget_j=demand.energy_budget_j,
        accuracy=accuracies[interval.granted[0]],
        accuracy_min=demand.accuracy_min,
        accuracy_lo=accuracies.min(),
        accuracy_hi=accuracies.max(),
        goal=GOALS.index(demand.goal),
        switched=interval.switched,
        temp_c=interval.temp_c,
        throttled=interval.throttled,
    )
    found: NDArray[np.floating[Any]] = np.sum(list(terms.values()), axis=0)
    return found


def total_of(name: str, board: SimBoard, scenario: Scenario) -> float:
    """Total reward of a controller's flight."""
    asked = asked_by(name, board, scenario)
    return float(totals(board, scenario, [knob_indices(k, board.spec.placements, board) for k in asked])[0])


def written(folder: Path, board: SimBoard, *rows: str) -> Scenario:
    """A scenario file: these rows of time, rate, deadline, floor, budget and goal on an idle board at 25 C."""
    file = folder / "written.csv"
    file.write_text("\n".join([",".join(columns(board.spec)), *(f"{row},0,0,0,25" for row in rows)]) + "\n")
    return load_scenario(file, board.spec)


def test_a_bound_that_saw_nothing_does_not_fly(board: SimBoard) -> None:
    for name in ("static_best", "oracle"):
        policy = make_policy(name)
        assert isinstance(policy, Privileged)
        with pytest.raises(InputError, match="cannot be flown"):
            policy.reset(board.spec, board.profile)
    assert not isinstance(make_policy("ladder"), Privileged)


def test_no_other_point_beats_static_best(board: SimBoard, scenario: Scenario) -> None:
    """Points drawn at random, each flown alone over the whole scenario with the same noise."""
    most = total_of("static_best", board, scenario)
    points, count = board.simulator.flat_points, scenario.n_intervals(board.spec.interval_s)
    some = points[:, np.random.default_rng(0).choice(points.shape[1], 40, replace=False)]
    assert totals(board, scenario, [some] * count).max() <= most + ROUNDING


@pytest.mark.parametrize("name", [n for n in policy_names() if n != "oracle"])
def test_nobody_beats_the_oracle(name: str, board: SimBoard, scenario: Scenario, most: float) -> None:
    assert total_of(name, board, scenario) <= most + ROUNDING


@pytest.fixture(scope="module")
def most(board: SimBoard, scenario: Scenario) -> float:
    """What the oracle gets."""
    return total_of("oracle", board, scenario)


def test_the_oracle_pays_for_a_switch_that_comes_back_later(board: SimBoard, tmp_path: Path) -> None:
    """Moving to the little cores costs more than an interval there saves, and less than the flight does."""
    scenario = written(tmp_path, board, "0,20,0.2,0.86,0.05,min_energy", "30,20,0.2,0.86,0.05,min_energy")
    assert asked_by("oracle", board, scenario)[-1].unit == "a7"
    assert total_of("oracle", board, scenario) >= total_of("static_best", board, scenario) - ROUNDING


def test_of_all_ways_through_two_intervals_none_is_better(board: SimBoard, tmp_path: Path) -> None:
    """But for what a rung and a clock cost to change: ways to one placement are not told apart."""
    rows = ("0,20,0.2,0.86,0.05,min_energy", "0.5,5,0.4,0.84,0.02,min_energy", "1,5,0.4,0.84,0.02,min_energy")
    scenario, points = written(tmp_path, board, *rows), board.simulator.flat_points
    count, weights = points.shape[1], RewardWeights()
    every = totals(board, scenario, [np.repeat(points, count, axis=1), np.tile(points, count)])
    assert total_of("oracle", board, scenario) >= every.max() - weights.rung - weights.freq - ROUNDING
