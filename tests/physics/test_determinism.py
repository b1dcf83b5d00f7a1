"""Same seed, same trace: one board, the batch of any size, and a fork that looks ahead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from envs.control import ControlEnv
from envs.families import scenario_set
from envs.task import Task, open_task
from envs.vector import BoardVectorEnv
from hw.simulated.board import SimBoard
from hw.simulated.interval import Interval
from hw.simulated.simulator import Simulator

SEED = 40


@pytest.fixture(scope="module", params=["the nominal board", "boards that differ", "a board without thermal sensors"])
def task(request: pytest.FixtureRequest) -> Task:
    base = open_task("xu3", family="held_out")
    model = base.model
    short = scenario_set("train", model.spec, base.profile, 5)
    if request.param == "a board without thermal sensors":
        warm = [replace(s, ambient_c=s.ambient_c + 15) for s in short]  # where heat costs, if it is seen
        bare = replace(model, spec=replace(model.spec, thermal_nodes=()), real=None)
        return Task(model=bare, profile=base.profile, scenarios=tuple(warm), vary=False)
    vary = request.param == "boards that differ"
    return Task(model=model, profile=base.profile, scenarios=tuple(short), vary=vary)


def actions(task: Task, steps: int) -> npt.NDArray[np.int64]:
    sizes = [len(task.profile.rungs), len(task.model.spec.placements)]
    sizes += [len(c.freqs_hz) for c in task.model.spec.clocks]
    return np.random.default_rng(3).integers(0, sizes, (steps, len(sizes)))


@pytest.mark.parametrize("lanes", (3, 7))
def test_single_env_and_batch_agree_over_three_episodes(task: Task, lanes: int) -> None:
    intervals = task.scenarios[0].n_intervals(task.model.spec.interval_s)
    steps = 2 * intervals + intervals // 2
    assert steps > 256  # past two redraws of the noise
    chosen = actions(task, steps)
    vector = BoardVectorEnv(task, lanes)
    rows, _ = vector.reset(seed=SEED)
    batch_obs, batch_reward = [rows.copy()], list[Any]()
    finals: dict[int, Any] = {}
    for k, action in enumerate(chosen):
        rows, reward, _, truncated, info = vector.step(np.tile(action, (lanes, 1)))
        batch_obs.append(rows.copy())
        batch_reward.append(reward.copy())
        if truncated.any():
            finals[k] = info["final_obs"]
    assert len(finals) == 2
    for lane in range(min(lanes, 3)):
        env = ControlEnv(SimBoard(task.model, task.profile, vary=task.vary), task.profile, task.scenarios)
        row, _ = env.reset(seed=SEED + lane)
        np.testing.assert_allclose(row, batch_obs[0][lane], atol=1e-6)
        for k, action in enumerate(chosen):
            row, own_reward, terminated, ended, _ = env.step(action)
            assert not terminated
            assert ended == (k in finals)
            assert own_reward == pytest.approx(batch_reward[k][lane], abs=2e-6), f"lane {lane}, step {k}"
            if ended:
                np.testing.assert_allclose(row, finals[k][lane], atol=2e-6, err_msg=f"lane {lane}, step {k}")
                row, _ = env.reset()
            np.testing.assert_allclose(row, batch_obs[k + 1][lane], atol=2e-6, err_msg=f"lane {lane}, step {k}")


LAST_ROW_DIFFERS = (
    "t_s,rate_hz,deadline_s,accuracy_min,energy_budget_j,goal,load_a7,load_a15,mem_gbps,ambient_c\n"
    "0,5,0.2,0.6,0.3,min_energy,0,1.5,0.5,25\n"
    "2,8,0.15,0.5,0.3,max_accuracy,1,0,0,25\n"
    "2.2,9,0.15,0.5,0.3,max_accuracy,1,0,0,25\n"
    "2.4,7,0.15,0.5,0.3,max_accuracy,1,0,0,25\n"
    "4,20,0.5,0.7,0.9,min_energy,0,0,0,25\n"
)


def test_the_last_row_of_a_file_only_ends_it(tmp_path: Path) -> None:
    """And of rows within one interval the last one counts; in the batch as in the single environment."""
    file = tmp_path / "short.csv"
    file.write_text(LAST_ROW_DIFFERS)
    task = open_task("xu3", scenarios=[file])
    chosen = actions(task, task.scenarios[0].n_intervals(task.model.spec.interval_s))
    vector = BoardVectorEnv(task, 1)
    env = ControlEnv(SimBoard(task.model, task.profile), task.profile, task.scenarios)
    vector.reset(seed=SEED)
    env.reset(seed=SEED)
    for action in chosen:
        rows, _, _, ended, info = vector.step(action[None])
        row, _, _, truncated, _ = env.step(action)
        assert truncated == ended[0]
        np.testing.assert_allclose(info["final_obs"][0] if truncated else rows[0], row, atol=2e-6)
    assert truncated


def test_same_seed_again_and_another_seed(task: Task) -> None:
    chosen = actions(task, 40)

    def trace(seed: int) -> npt.NDArray[np.float64]:
        env = ControlEnv(SimBoard(task.model, task.profile, vary=task.vary), task.profile, task.scenarios)
        env.reset(seed=seed)
        return np.array([env.step(a)[1] for a in chosen])

    np.testing.assert_array_equal(trace(1), trace(1))
    assert not np.array_equal(trace(1), trace(2))


def test_environments_without_a_seed_differ(task: Task) -> None:
    """As lanes of the batch do: neither the same board nor the same noise."""
    seen = []
    for _ in range(2):
        env = ControlEnv(SimBoard(task.model, task.profile, vary=task.vary), task.profile, task.scenarios[:1])
        env.reset()
        seen.append(np.array([env.step(action)[0] for action in actions(task, 5)]))
    assert not np.array_equal(seen[0], seen[1])


def test_lanes_without_a_seed_differ(task: Task) -> None:
    """Whether none or one of them has a seed; from the second reset on None goes on with what there is."""
    one_scenario = replace(task, scenarios=task.scenarios[:1])
    for seeds in (None, (None, None, None), (SEED, None, None)):
        seen = []
        for _ in range(2):
            vector = BoardVectorEnv(one_scenario, 3)
            vector.reset(seed=seeds)
            seen.append(np.array([vector.step(np.repeat(a[None], 3, axis=0))[0] for a in actions(task, 5)]))
        same = [np.array_equal(seen[0][:, lane], seen[1][:, lane]) for lane in range(3)]
        assert same == [seeds is not None and seeds[0] == SEED, False, False]
    before = vector.batch.simulator._noise.copy()
    vector.reset(seed=[None, None, 7])
    assert (vector.batch.simulator._noise == before).tolist() == [True, True, False]


FIELDS = (
    *("granted", "frames", "served", "missed", "dropped", "latency_mean_s", "latency_p95_s", "noise"),
    *("energy_j", "temp_c", "utilisation", "peak_utilisation", "throttled", "switched"),
    *("exact_power_w", "exact_temp_c", "fan"),
)


def assert_same_lane(one: Interval, lane: int, other: Interval, other_lane: int) -> None:
    for name in FIELDS:
        a, b = getattr(one, name)[..., lane], getattr(other, name)[..., other_lane]
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("before", (0, 1, 40))
def test_a_fork_sees_what_will_come(task: Task, before: int) -> None:
    """Every lane of a fork gets the original's next intervals."""
    n, lane, copies = 4, 2, 5
    simulator = Simulator(task.model, task.profile, n)
    simulator.reset(range(n), seeds=[9, 8, 7, 6])
    rng = np.random.default_rng(before)
    chosen = actions(task, before + 6)
    rate = np.full(n, 9.0, np.float32)
    deadline = np.full(n, 0.2, np.float32)

    def load(simulator: Simulator, busy: float) -> None:
        lanes = simulator.n
        ambient = np.full(lanes, 25.0, np.float32)
        simulator.inject(np.full((2, lanes), busy, np.float32), np.full(lanes, 1.0, np.float32), ambient)

    for action in chosen[:before]:
        load(simulator, float(rng.uniform(0, 4)))
        simulator.step(np.tile(action[:, None], n), rate, deadline)
    fork = simulator.fork(np.full(copies, lane))
    load(fork, 1.5)
    ahead = [
        fork.step(np.tile(a[:, None], copies), rate[:1].repeat(copies), deadline[:1].repeat(copies))
        for a in chosen[before:]
    ]
    load(simulator, 1.5)
    for step, action in enumerate(chosen[before:]):
        real = simulator.step(np.tile(action[:, None], n), rate, deadline)
        for copy in range(copies):
            assert_same_lane(real, lane, ahead[step], copy)
