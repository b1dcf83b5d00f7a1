"""The batched environment's Gymnasium face: n boards in one process, same-step autoreset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from envs.actions import ActionView
from envs.batch import Batch
from envs.codec import Codec
from envs.control import action_space, observation_space
from envs.reward import RewardWeights
from envs.task import Task, open_task

if TYPE_CHECKING:
    from envs.sb3 import BoardVecEnv

Floats = npt.NDArray[np.float32]


class BoardVectorEnv(VectorEnv[Floats, Any, npt.NDArray[Any]]):
    """n lanes of one task; lane i of `reset(seed=s)` shows what `ControlEnv.reset(seed=s + i)` shows.

    `info` holds arrays over lanes: the reward's terms, frames and misses. Where an episode ended there are `final_obs`
    and `final_info` besides, and for every array a mask, named with a `_` before it, of the lanes that it is of.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        task: Task,
        num_envs: int = 1,
        *,
        action_view: ActionView = "multi",
        weights: RewardWeights | None = None,
    ) -> None:
        """`num_envs` boards of the task's model."""
        self.num_envs = num_envs
        self.codec = Codec(task.model.spec, task.profile, action_view)
        self.batch = Batch(
            task.model,
            task.profile,
            self.codec,
            task.scenarios,
            num_envs,
            weights or RewardWeights(),
            vary=task.vary,
        )
        self.single_observation_space = observation_space(self.codec)
        self.single_action_space = action_space(self.codec)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._no_termination = np.zeros(num_envs, np.bool_)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Start an episode in every lane; InputError for a list of seeds that is not one for each."""
        super().reset(seed=seed if isinstance(seed, int) else None)
        return np.ascontiguousarray(self.batch.reset(seed)), {}

    def step(
        self, actions: Any
    ) -> tuple[Floats, npt.NDArray[Any], npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Any]]:
        """One control interval of every lane; InputError for an action outside the action space.

        ResetNeeded before the first `reset`.
        """
        step = self.batch.step(np.asarray(actions))
        info: dict[str, Any] = {f"reward/{name}": value for name, value in step.terms.items()}
        info["frames"], info["missed"] = step.interval.frames, step.interval.missed
        if step.ended.size:
            # Gymnasium's layout: of a lane that ended, its last interval stands in `final_info`
            told, going = tuple(info.items()), ~step.truncated
            info |= {f"_{name}": going for name, _ in told}
            info["final_info"] = dict(told) | {f"_{name}": step.truncated for name, _ in told}
            info["final_obs"] = np.full(self.num_envs, None, dtype=object)
            info["final_obs"][step.ended] = np.fromiter(step.final, dtype=object, count=step.ended.size)
            info["_final_obs"] = info["_final_info"] = step.truncated
        return step.observation, step.reward, self._no_termination.copy(), step.truncated, info

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """(n, sum(nvec)) legal actions of the coming interval."""
        return self.batch.action_masks()


def make_sb3_env(
    board: str,
    profile: str | None = None,
    *,
    n_envs: int,
    seed: int,
    action_view: ActionView = "multi",
    family: str = "train",
    vary: bool | None = None,
) -> BoardVecEnv:
    """A stable-baselines3 VecEnv over n simulated boards of a family's scenarios; `vary` as in `open_task`."""
    from envs.sb3 import BoardVecEnv

    task = open_task(board, profile=profile, family=family, vary=vary)
    return BoardVecEnv(task, n_envs, seed=seed, action_view=action_view)
