"""The batched environment's stable-baselines3 face: SB3 takes no Gymnasium VectorEnv, so this is one of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env.base_vec_env import VecEnv

from envs.actions import ActionView
from envs.batch import BUDGET, FLOOR, Batch
from envs.codec import Codec
from envs.control import action_space, observation_space
from envs.reward import TERMS, RewardWeights
from envs.task import Task

Floats = npt.NDArray[np.float32]


class BoardVecEnv(VecEnv):
    """n lanes of one task; truncation is reported as SB3 wants it, with the last observation of the episode."""

    def __init__(
        self,
        task: Task,
        n_envs: int,
        *,
        seed: int = 0,
        action_view: ActionView = "multi",
        weights: RewardWeights | None = None,
    ) -> None:
        """`n_envs` boards of the task's model, lane i seeded with seed + i."""
        self.task, self.weights = task, weights or RewardWeights()
        self.codec = Codec(task.model.spec, task.profile, action_view)
        self.batch = Batch(task.model, task.profile, self.codec, task.scenarios, n_envs, self.weights, vary=task.vary)
        self.render_mode = None
        super().__init__(n_envs, observation_space(self.codec), action_space(self.codec))
        self.seed(seed)
        self._actions: npt.NDArray[Any] = np.zeros(0)
        self._sums: dict[str, float] = {}
        self._steps = 0
        self._returns = np.zeros(n_envs, np.float64)
        self._lengths = np.zeros(n_envs, np.intp)

    def twin(self, n_envs: int, *, seed: int) -> BoardVecEnv:
        """Another batch of the same task, of another size."""
        return BoardVecEnv(self.task, n_envs, seed=seed, action_view=self.codec.action_view, weights=self.weights)

    def reset(self) -> Any:
        """Start an episode in every lane; the first one after construction is seeded."""
        seeds = self._seeds if any(s is not None for s in self._seeds) else None
        self._reset_seeds()
        self._returns[:], self._lengths[:] = 0, 0
        return np.ascontiguousarray(self.batch.reset(seeds))

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, npt.NDArray[Any], npt.NDArray[np.bool_], list[dict[str, Any]]]:
        """One control interval of every lane."""
        budget, floor = self.batch.now[[BUDGET, FLOOR]]  # a copy: the step moves lanes on
        step = self.batch.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        self._returns += step.reward
        self._lengths += 1
        for lane, last in zip(step.ended, step.final, strict=True):
            infos[lane] = {
                "terminal_observation": last,
                "TimeLimit.truncated": True,
                "episode": {"r": float(self._returns[lane]), "l": int(self._lengths[lane]), "t": 0.0},
            }
        self._returns[step.ended], self._lengths[step.ended] = 0, 0
        told = step.interval
        self._count(step.terms, told.energy_j.sum(axis=0), told.missed, told.frames, budget)
        with_frames = told.frames > 0
        breached = self.batch.breached(told, floor) & with_frames
        for name, lanes in (("breaches", breached), ("with_frames", with_frames)):
            self._sums[name] = self._sums.get(name, 0.0) + float(lanes.sum())
        return np.ascontiguousarray(step.observation), step.reward, step.truncated, infos

    def _count(
        self, terms: dict[str, Floats], energy_j: Floats, missed: Floats, frames: Floats, budget: Floats
    ) -> None:
        sums = self._sums
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.sum())
        for name, total in (
            ("missed", missed.sum()),
            ("frames", frames.sum()),
            ("energy", energy_j.sum()),
            ("relative", (energy_j / budget).sum()),
        ):
            sums[f"total_{name}"] = sums.get(f"total_{name}", 0.0) + float(total)
        self._steps += self.num_envs

    def pop_statistics(self) -> dict[str, float]:
        """Means since the last call, for a training log: each reward term, misses, energy a frame, breaches
        (of the intervals with frames)."""
        sums, steps = self._sums, max(self._steps, 1)
        self._sums, self._steps = {}, 0
        if not sums:
            return {}
        frames = max(sums["total_frames"], 1.0)
        return {
            **{f"reward/{name}": sums[name] / steps for name in TERMS},
            "reward/total": sum(sums[name] for name in TERMS) / steps,
            "task/miss_rate": sums["total_missed"] / frames,
            "task/energy_per_frame_j": sums["total_energy"] / frames,
            "task/energy_over_budget": sums["total_relative"] / frames,
            "task/breach_rate": sums["breaches"] / max(sums["with_frames"], 1.0),
        }

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """(n, sum(nvec)) legal actions of the coming interval."""
        return self.batch.action_masks()

    def close(self) -> None:
        """Nothing to give back."""

    def has_attr(self, attr_name: str) -> bool:
        """sb3-contrib asks this for `action_masks`."""
        return hasattr(self, attr_name)

    def get_attr(self, attr_name: str, indices: int | Iterable[int] | None = None) -> list[Any]:
        """The same attribute for every lane asked."""
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: int | Iterable[int] | None = None) -> None:
        """Lanes share one object: set for all."""
        setattr(self, attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: int | Iterable[int] | None = None, **kwargs: Any
    ) -> list[Any]:
        """`action_masks` lane by lane; nothing else is per lane."""
        if method_name != "action_masks":
            raise AttributeError(f"a lane has no method {method_name!r}")
        masks = self.action_masks()
        return [masks[i] for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: int | Iterable[int] | None = None) -> list[bool]:
        """Lanes wear no wrappers."""
        return [False] * len(list(self._get_indices(indices)))

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Lane i gets seed + i at the next reset."""
        self._seeds = [None if seed is None else seed + i for i in range(self.num_envs)]
        return self._seeds
