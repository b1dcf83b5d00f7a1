"""ControlEnv: the task on any Board, simulated, emulated or real, as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from envs.actions import ActionView
from envs.batch import first_scenario
from envs.codec import Codec
from envs.reward import RewardWeights, interval_terms
from envs.scenario import Scenario
from hw.types import Board, Demand, Profile, Telemetry

Floats = npt.NDArray[np.float32]


def observation_space(codec: Codec) -> gym.spaces.Box:
    """Every entry of an observation lies within [-4, 4]."""
    return gym.spaces.Box(-4.0, 4.0, (codec.observation_size,), np.float32)


def action_space(codec: Codec) -> gym.spaces.Discrete[Any] | gym.spaces.MultiDiscrete:
    """MultiDiscrete [rungs, placements, steps of each clock], or Discrete over the operating points."""
    if codec.action_view == "flat":
        return gym.spaces.Discrete(codec.nvec[0])
    return gym.spaces.MultiDiscrete(codec.nvec)


class ControlEnv(gym.Env[Floats, Any]):
    """One step is one control interval; an episode is a scenario and ends by truncation, never by termination.

    Scenarios are taken in turn from a start drawn from the seed. `info` holds the reward's terms by name, the
    legal actions of the coming interval (`action_mask`) and what was measured.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        board: Board,
        profile: Profile,
        scenarios: Sequence[Scenario],
        *,
        action_view: ActionView = "multi",
        weights: RewardWeights | None = None,
    ) -> None:
        """The board stays the caller's until `close`. ValueError where there is no scenario."""
        if not scenarios:
            raise ValueError("an environment needs at least one scenario")
        self.board, self.profile, self.scenarios = board, profile, tuple(scenarios)
        self.codec = Codec(board.spec, profile, action_view)
        self.weights = weights or RewardWeights()
        self.observation_space = observation_space(self.codec)  # type: ignore[assignment]
        self.action_space = action_space(self.codec)
        self._next = -1  # the scenario of the coming episode, once a seed has chosen the first
        self._telemetry: Telemetry | None = None
        self._interval = 0
        self._row = -1

    @property
    def demand(self) -> Demand:
        """What is demanded of the coming interval; ResetNeeded before the first `reset`."""
        if self._row < 0:
            raise gym.error.ResetNeeded("call reset() first: a demand is of an episode")
        return self.scenario.demand(self._row)

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Legal actions of the coming interval, (sum(nvec),): rungs below the accuracy floor are barred."""
        return self.codec.action_masks(self.demand)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
        """Start the next scenario; a seed gives the board a new generator and chooses where to start.

        The first episode without one draws it.
        """
        super().reset(seed=seed)
        if seed is None and self._next < 0:
            seed = int(self.np_random.integers(2**32))  # else every environment would have the same board and noise
        if seed is not None:
            self._next = first_scenario(seed, len(self.scenarios))
        self.scenario = self.scenarios[self._next]
        self._next = (self._next + 1) % len(self.scenarios)
        self._telemetry = self.board.reset(seed=seed)
        self._interval, self._changes = 0, self.scenario.changes(self.board.spec.interval_s)
        self._move()
        return self._observe(), {"scenario": self.scenario.name, "action_mask": self._mask()}

    def step(self, action: Any) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Set the knobs an action means, serve one interval, read; ResetNeeded before the first `reset`."""
        if self._telemetry is None:
            raise gym.error.ResetNeeded("call reset() first: a step is of an episode")
        before, demand = self._telemetry, self.demand
        self._telemetry = telemetry = self.board.step(self.codec.knobs(action), demand)
        terms = interval_terms(before, telemetry, demand, self.profile, self.weights)
        self._interval += 1
        truncated = self._interval >= self.scenario.n_intervals(self.board.spec.interval_s)
        self._move()
        info = {
            **{f"reward/{name}": value for name, value in terms.items()},
            "frames": telemetry.frames,
            "missed": telemetry.missed,
            "energy_j": telemetry.total_energy_j,
            "action_mask": self._mask(),
        }
        return self._observe(), float(sum(terms.values())), False, truncated, info

    def close(self) -> None:
        """Give the board back."""
        self.board.close()

    def _move(self) -> None:
        """Bring the row of the coming interval into force."""
        if self._interval in self._changes:
            self._row = self._changes[self._interval]
            self.board.inject(self.scenario.background(self._row, self.board.spec))

    def _observe(self) -> Floats:
        assert self._telemetry is not None
        return self.codec.observe(self._telemetry, self.demand)

    def _mask(self) -> npt.NDArray[np.int8]:
        return self.action_masks().astype(np.int8)
