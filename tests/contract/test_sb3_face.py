"""What Stable-Baselines3 is shown is what Gymnasium's vector environment shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from envs.actions import ActionView
from envs.sb3 import BoardVecEnv
from envs.task import open_task
from envs.vector import BoardVectorEnv

LANES = 3
SEED = 5


@pytest.mark.parametrize(
    ("board", "action_view"),
    [("xu3", "multi"), ("xu3", "flat"), ("jetson_nano", "multi")],
)
def test_both_faces_show_the_same(board: str, action_view: ActionView) -> None:
    """Step by step over the ends of episodes, which come lane after lane."""
    task = open_task(board, family="held_out", vary=True)
    face = BoardVecEnv(task, LANES, seed=SEED, action_view=action_view)
    vector = BoardVectorEnv(task, LANES, action_view=action_view)
    rows, _ = vector.reset(seed=SEED)
    np.testing.assert_array_equal(face.reset(), rows)
    for batch in (face.batch, vector.batch):
        batch._ends_at[:] = 10 + 5 * np.arange(LANES)
    vector.action_space.seed(SEED)
    ends = 0
    for _ in range(30):
        actions = vector.action_space.sample()
        seen, reward, done, infos = face.step(actions)
        rows, rewards, _, truncated, info = vector.step(actions)
        np.testing.assert_array_equal(seen, rows)
        np.testing.assert_array_equal(reward, rewards)
        np.testing.assert_array_equal(done, truncated)
        np.testing.assert_array_equal(face.action_masks(), vector.action_masks())
        for lane, told in enumerate(infos):
            assert ("terminal_observation" in told) == truncated[lane]
            if truncated[lane]:
                ends += 1
                np.testing.assert_array_equal(told["terminal_observation"], info["final_obs"][lane])
    assert ends == LANES


def test_every_lane_has_a_seed_of_its_own() -> None:
    """In one scenario and on one model it is the noise that differs; another seed is other noise."""
    task = open_task("xu3", family="held_out", vary=False)
    task = replace(task, scenarios=task.scenarios[:1])
    seen: list[npt.NDArray[np.float32]] = []
    for seed in (SEED, SEED + LANES):
        face = BoardVecEnv(task, LANES, seed=seed)
        face.reset()
        for _ in range(5):
            rows, *_ = face.step(np.zeros((LANES, 4), np.int64))
        assert isinstance(rows, np.ndarray)
        seen.extend(rows)
    assert len(np.unique(seen, axis=0)) == 2 * LANES
