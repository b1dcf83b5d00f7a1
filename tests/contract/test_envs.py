"""The environment's faces: Gymnasium's single and vector API, SB3's VecEnv, and their checkers."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics
from stable_baselines3.common.env_checker import check_env as sb3_check

from envs.actions import ActionView
from envs.codec import Codec
from envs.control import ControlEnv
from envs.families import scenario_set
from envs.reward import BREACH_TOLERANCE, interval_terms
from envs.sb3 import BoardVecEnv
from envs.scenario import Scenario
from envs.task import open_task
from envs.vector import BoardVectorEnv, make_sb3_env
from hw.boardfile import board_names, load_board
from hw.errors import InputError
from hw.simulated.board import SimBoard
from hw.types import Demand, Rung

ID = "powerband/XU3-v0"
N_POINTS = 512

FRESH = """
import sys
import gymnasium
assert not any(m.split(".")[0] in ("envs", "hw", "agents") and m != "envs.plugin" and m != "envs"
               for m in sys.modules), sorted(sys.modules)
env = gymnasium.make("powerband/XU3-v0", family="held_out")
assert env.action_space == gymnasium.spaces.MultiDiscrete([4, 8, 13, 19]), env.action_space
env.reset(seed=1)
env.step(env.action_space.sample())
flat = gymnasium.make("powerband/XU3-v0", family="held_out", action_view="flat")
assert flat.action_space == gymnasium.spaces.Discrete(512), flat.action_space
many = gymnasium.make_vec("powerband/XU3-v0", num_envs=3, family="held_out")
rows, _ = many.reset(seed=1)
assert rows.shape == (3, *env.observation_space.shape)
many.step(many.action_space.sample())
assert not {"torch", "stable_baselines3"} & set(sys.modules)
print("fine")
"""


def make(action_view: ActionView = "multi") -> ControlEnv:
    env = gymnasium.make(ID, family="held_out", action_view=action_view).unwrapped
    assert isinstance(env, ControlEnv)
    return env


def make_many(n: int, action_view: ActionView = "multi") -> BoardVectorEnv:
    env = gymnasium.make_vec(ID, num_envs=n, family="held_out", action_view=action_view)
    assert isinstance(env, BoardVectorEnv)
    return env


def test_a_fresh_interpreter_knows_the_names(tmp_path: object) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", FRESH], capture_output=True, text=True, cwd=str(tmp_path)
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "fine"


@pytest.mark.parametrize("action_view", ("multi", "flat"))
def test_checkers_are_content(action_view: ActionView) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gymnasium_check(gymnasium.make(ID, family="held_out", action_view=action_view).unwrapped)
        sb3_check(make(action_view), warn=True)


@pytest.mark.parametrize("action_view", ("multi", "flat"))
def test_masks_bar_the_rungs_below_the_floor(action_view: ActionView) -> None:
    env = make(action_view)
    rungs = len(env.profile.rungs)
    size = N_POINTS if action_view == "flat" else rungs + 8 + 13 + 19
    accuracies = [r.accuracy for r in env.profile.rungs]
    for floor in (0.0, *accuracies, *(a - 1e-3 for a in accuracies), *(a + 1e-3 for a in accuracies), 1.0):
        demand = Demand(rate_hz=1.0, deadline_s=1.0, accuracy_min=floor, energy_budget_j=1.0, goal="min_energy")
        mask = env.codec.action_masks(demand)
        assert mask.shape == (size,)
        assert mask.dtype == np.bool_
        expected = [a + 1e-6 >= floor for a in accuracies]
        if not any(expected):
            expected[int(np.argmax(accuracies))] = True
        if action_view == "flat":
            assert mask.tolist() == [expected[p.rung - 1] for p in env.profile.points]
        else:
            assert mask[:rungs].tolist() == expected
            assert mask[rungs:].all()
    row, info = env.reset(seed=0)
    assert info["action_mask"].tolist() == env.action_masks().tolist()
    assert row in env.observation_space


def test_a_ladder_of_many_rungs_shows_which_one_it_stands_on() -> None:
    env, count = make(), 300
    first = [p for p in env.profile.points if p.rung == 1]
    rungs = tuple(Rung(index=k, name=f"r{k}", accuracy=0.5 + k / 1000) for k in range(1, count + 1))
    points = tuple(replace(p, rung=rung.index) for rung in rungs for p in first)
    board = SimBoard(load_board("xu3"), replace(env.profile, rungs=rungs, points=points))
    codec = Codec(board.spec, board.profile)
    telemetry = board.reset(seed=0)
    demand = Demand(rate_hz=1.0, deadline_s=1.0, accuracy_min=0.0, energy_budget_j=1.0, goal="min_energy")
    for rung in (1, 256, 257, count):
        stands = replace(telemetry, granted=replace(telemetry.granted, rung=rung))
        row = codec.observe(stands, demand) - codec.observe(telemetry, demand)
        assert np.flatnonzero(row).size == (0 if rung == 1 else 2)  # where it stands, and where it stood


def test_flat_actions_mean_the_points_of_the_profile() -> None:
    env = make("flat")
    lowest = {c.name: c.freqs_hz[0] for c in env.board.spec.clocks}
    for index, point in enumerate(env.profile.points):
        knobs = env.codec.knobs(index)
        clock = env.board.spec.unit(point.unit).clock
        assert (knobs.rung, knobs.unit, knobs.cores) == (point.rung, point.unit, point.cores)
        assert dict(knobs.freqs_hz) == {**lowest, clock: point.freq_hz}


@pytest.mark.parametrize("action_view", ("multi", "flat"))
def test_vector_env_resets_in_the_same_step(action_view: ActionView) -> None:
    env = make_many(3, action_view)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    rows, _ = env.reset(seed=5)
    env.action_space.seed(5)
    assert rows in env.observation_space
    assert env.action_masks().shape == (3, sum(env.codec.nvec))
    intervals = [s.n_intervals(0.5) for s in env.batch.bank.scenarios]
    ends = 0
    for _ in range(max(intervals) + 1):
        rows, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert rows in env.observation_space
        assert np.isfinite(reward).all()
        assert not terminated.any()
        assert env.action_masks().any(axis=1).all()
        assert ("final_obs" in info) == truncated.any()
        for lane in np.flatnonzero(truncated):
            ends += 1
            assert info["_final_obs"][lane]
            assert info["final_obs"][lane] in env.single_observation_space
            assert not np.array_equal(info["final_obs"][lane], rows[lane])
    assert ends == 3


def staggered(n: int) -> BoardVectorEnv:
    """Lanes whose episodes end one after the other."""
    env = make_many(n)
    env.reset(seed=5)
    env.batch._ends_at[:] = 3 + np.arange(n)
    return env


def test_infos_lie_as_gymnasium_lays_them() -> None:
    """Only the lanes that ended have a last observation and a last interval, and every array says whose it is."""
    listed = DictInfoToList(staggered(3))
    for k in range(6):
        *_, truncated, infos = listed.step(np.zeros((3, 4), np.int64))
        assert truncated.tolist() == [k == 2, k == 3, k == 4]
        for lane, info in enumerate(infos):
            last = info["final_info"] if truncated[lane] else info
            assert {"frames", "missed", "reward/energy"} <= last.keys()
            assert ("final_obs" in info) == ("final_info" in info) == truncated[lane]
            assert truncated[lane] == ("frames" not in info)
    env = staggered(3)
    for _ in range(3):
        *_, info = env.step(np.zeros((3, 4), np.int64))
    assert info["final_obs"][1] is None and info["final_obs"][0] in env.single_observation_space


@pytest.mark.parametrize("action_view", ("multi", "flat"))
def test_an_action_outside_the_space_is_refused(action_view: ActionView) -> None:
    env, one = make_many(3, action_view), make(action_view)
    env.reset(seed=0)
    one.reset(seed=0)
    for column, size in enumerate(env.codec.nvec):
        for wrong in (-1, size, 2**40):
            actions = np.zeros((3, len(env.codec.nvec)), np.int64)
            actions[1, column] = wrong
            for refused in (lambda a=actions: env.step(a), lambda a=actions: one.step(a[1])):
                with pytest.raises(InputError, match="is outside the action space") as caught:
                    refused()
                assert str(wrong) in str(caught.value)
    with pytest.raises(InputError, match="outside the action space"):
        env.step(np.zeros((3, 2), np.int64))
    env.step(env.action_space.sample())


def test_a_step_needs_a_reset_and_every_lane_its_seed() -> None:
    env, one = make_many(3), make()
    for early in (lambda: env.step(env.action_space.sample()), lambda: one.step([0, 0, 0, 0]), lambda: one.demand):
        with pytest.raises(gymnasium.error.ResetNeeded, match=r"call reset\(\) first"):
            early()
    for seeds in ([1, 2], [1, 2, 3, 4], []):
        with pytest.raises(InputError, match=f"{len(seeds)} seeds; a seed for each of 3 lanes"):
            env.reset(seed=seeds)
    env.reset(seed=[1, 2, 3])
    assert np.isfinite(env.step(env.action_space.sample())[1]).all()


def test_a_floor_that_the_mask_takes_for_met_breaches_nothing() -> None:
    """Just above a rung's accuracy as well: rounding, which neither minds, or a breach to both."""
    env = make()
    env.reset(seed=1)
    asked = env.codec.knobs([1, 0, 0, 0])
    before, after = (env.board.step(asked, env.demand) for _ in range(2))
    for above, met in ((0.5 * BREACH_TOLERANCE, True), (3 * BREACH_TOLERANCE, False)):
        demand = replace(env.demand, accuracy_min=env.profile.rungs[1].accuracy + above, goal="min_energy")
        terms = interval_terms(before, after, demand, env.profile, env.weights)
        assert env.codec.action_masks(demand)[1] == (terms["accuracy"] == 0.0) == met


def test_gymnasium_records_episode_statistics() -> None:
    env = RecordEpisodeStatistics(make_many(2))
    env.reset(seed=5)
    returns = np.zeros(2)
    for _ in range(300):
        _, reward, _, truncated, info = env.step(np.zeros((2, 4), np.int64))
        returns += reward
        if truncated.any():
            break
    assert truncated.all()
    np.testing.assert_allclose(info["episode"]["r"], returns, rtol=1e-4)
    lanes = env.unwrapped
    assert isinstance(lanes, BoardVectorEnv)
    assert (info["episode"]["l"] == lanes.batch.bank.intervals[0]).all()


@pytest.mark.parametrize("action_view", ("multi", "flat"))
def test_sb3_face(action_view: ActionView) -> None:
    env = make_sb3_env("xu3", n_envs=3, seed=2, action_view=action_view, family="held_out")
    rows = env.reset()
    assert isinstance(rows, np.ndarray) and rows.shape == (3, env.codec.observation_size)
    assert rows.dtype == np.float32
    assert env.pop_statistics() == {}
    masks = env.env_method("action_masks")
    assert [m.shape for m in masks] == [(sum(env.codec.nvec),)] * 3
    assert all(m.any() for m in masks)
    assert len(env.env_method("action_masks", indices=[1])) == 1
    assert env.has_attr("action_masks")
    intervals = int(env.batch.bank.intervals[0])
    returns = np.zeros(3)
    for k in range(intervals):
        rows, reward, done, infos = env.step(np.array([env.action_space.sample() for _ in range(3)]))
        returns += reward
        assert all(row in env.observation_space for row in rows)
        assert done.tolist() == [k == intervals - 1] * 3
    for lane, info in enumerate(infos):
        assert info["TimeLimit.truncated"] is True
        assert info["terminal_observation"] in env.observation_space
        assert not np.array_equal(info["terminal_observation"], rows[lane])
        assert info["episode"]["r"] == pytest.approx(returns[lane], rel=1e-4)
        assert info["episode"]["l"] == intervals
    statistics = env.pop_statistics()
    assert np.isfinite(list(statistics.values())).all()
    assert 0 <= statistics["task/miss_rate"] <= 1
    assert 0 <= statistics["task/breach_rate"] <= 1
    assert statistics["task/energy_per_frame_j"] > 0
    terms = sum(v for k, v in statistics.items() if k.startswith("reward/") and k != "reward/total")
    assert statistics["reward/total"] == pytest.approx(terms)
    assert statistics["reward/total"] == pytest.approx(returns.sum() / (3 * intervals), rel=1e-4)
    assert env.pop_statistics() == {}


MADE: dict[str, list[Any]] = {
    "t_s": [0, 5, 9],
    "rate_hz": [8, 8, 8],
    "deadline_s": [0.2, 0.2, 0.2],
    "accuracy_min": [0, 0.5, 0.5],
    "energy_budget_j": [0.3, 0.3, 0.3],
    "goal": [0, 1, 0],
    "load": [[0, 0], [1, 2], [0, 0]],
    "mem_gbps": [0, 1, 0],
    "ambient_c": [25, 25, 25],
}


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("rate_hz", [8, 0, 8], "scenario 'mine':3, column 'rate_hz', value '0.0': too low; a number from 1e-06 to"),
        ("rate_hz", [8, math.nan, 8], "column 'rate_hz', value 'nan': not a finite number"),
        ("load", [[0, 0], [0, -3], [0, 0]], "column 'load_a15', value '-3.0': too low; a number from 0 to 4"),
        ("load", [[40, 0], [0, 0], [0, 0]], "scenario 'mine':2, column 'load_a7', value '40.0': too high"),
        ("load", [[0], [0], [0]], "scenario 'mine': load for 1 units; xu3 has 2"),
        ("load", [[0, 0, 0]] * 3, "scenario 'mine': load for 3 units; xu3 has 2"),
        ("goal", [0, 7, 0], r"scenario 'mine': unknown goal among [0, 7]; one of 0 (min_energy), 1 (max_accuracy)"),
        ("goal", [0, -1, 0], "unknown goal among [-1, 0]"),
        ("goal", [0, 256, 0], "unknown goal among [0, 256]"),
        ("accuracy_min", [0, math.nan, 0], "column 'accuracy_min', value 'nan': not a finite number"),
        ("t_s", [0, 5, 2], "scenario 'mine':4, column 't_s', value '2.0': unsorted time; later than the row before"),
        ("t_s", [0, math.nan, 9], "column 't_s', value 'nan': not a finite number"),
        ("t_s", [0, 5, math.inf], "column 't_s', value 'inf': not a finite number"),
        ("ambient_c", [25, math.nan, 25], "column 'ambient_c', value 'nan': not a finite number"),
        ("ambient_c", [25, 1e4, 25], "column 'ambient_c', value '10000.0': too high; a number from -40 to 85"),
    ],
)  # fmt: skip
def test_a_scenario_made_in_python_is_checked_as_a_file_is(column: str, values: list[Any], told: str) -> None:
    def scenario(**changes: Any) -> Scenario:
        return Scenario(name="mine", family="mine", **{**MADE, **changes})

    env = gymnasium.make_vec(ID, num_envs=2, scenarios=[scenario()])
    env.reset(seed=0)
    assert np.isfinite(env.step(env.action_space.sample())[1]).all()
    for make_one in (gymnasium.make, gymnasium.make_vec):
        with pytest.raises(InputError) as caught:
            make_one(ID, scenarios=[scenario(**{column: values})])
        assert told in str(caught.value) and "\n" not in str(caught.value)


def test_breaches_are_of_intervals_with_frames(tmp_path: Path) -> None:
    """As results.csv has it: 5 s below a floor that no rung meets, then 15 s with 8 frames in 30 intervals."""
    (tmp_path / "s.csv").write_text(
        "t_s,rate_hz,deadline_s,accuracy_min,energy_budget_j,goal,load_a7,load_a15,mem_gbps,ambient_c\n"
        "0,8,0.2,1,0.3,min_energy,0,0,0,25\n5,0.5,0.2,0,0.3,min_energy,0,0,0,25\n20,0.5,0.2,0,0.3,min_energy,0,0,0,25\n"
    )
    env = BoardVecEnv(open_task("xu3", scenarios=[tmp_path / "s.csv"]), 1)
    env.reset()
    for _ in range(40):
        env.step(np.array([env.action_space.sample()]))
    assert env.pop_statistics()["task/breach_rate"] == pytest.approx(10 / 18, abs=0.03)


@pytest.mark.parametrize("board", board_names())
def test_no_generated_budget_is_out_of_sight(board: str) -> None:
    """A policy sees the logarithm of a budget over a frame's typical energy, up to 4 either way."""
    task = open_task(board, family="train")
    typical_j = Codec(task.model.spec, task.profile).frame_j
    for scenario in scenario_set("train", task.model.spec, task.profile, 60):
        assert np.abs(np.log(scenario.energy_budget_j / typical_j)).max() < 3.5, scenario.name
