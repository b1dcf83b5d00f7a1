"""What a controller is measured against: a floor that needs no thought, and bounds that know what no one can.

`static_best` and `oracle` are privileged (`agents.policy.Privileged`): they try every operating point on
copies of the simulated board, which carry its complete state, the true load and the very noise that will
come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from envs.reward import RewardWeights, ladder_ends, lane_terms
from hw.errors import InputError
from hw.simulated.board import knobs_of
from hw.types import GOALS, BoardSpec, Demand, Knobs, Profile, Telemetry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from envs.scenario import Scenario
    from hw.simulated.board import SimBoard
    from hw.simulated.interval import Interval
    from hw.simulated.simulator import Simulator

TIE = 1e-6  # rewards closer than this are equal: below the rounding of float32 sums


class StaticSafe:
    """The smallest rung where it runs fastest, that clock at its highest and the others at their lowest."""

    def reset(self, spec: BoardSpec, profile: Profile) -> None:
        """Start a flight."""
        fastest = min((p for p in profile.points if p.rung == 1), key=lambda p: p.latency_mean_s)
        clock = spec.clock(spec.unit(fastest.unit).clock)
        freqs = {c.name: c.freqs_hz[0] for c in spec.clocks} | {clock.name: clock.max_hz}
        self._knobs = Knobs(rung=1, unit=fastest.unit, cores=fastest.cores, freqs_hz=freqs)

    def act(self, telemetry: Telemetry, demand: Demand) -> Knobs:
        """Always the same."""
        return self._knobs


class _Bound:
    """What the privileged bounds share: the board, the scenario and how points are judged."""

    privileged: ClassVar[bool] = True
    _board: SimBoard | None = None

    def bind(self, board: SimBoard, scenario: Scenario, weights: RewardWeights) -> None:
        """The board that will be flown, the whole scenario and how it is judged; before `control()`."""
        self._board, self._scenario, self._weights = board, scenario, weights

    def reset(self, spec: BoardSpec, profile: Profile) -> None:
        """Start a flight.

        Raises:
            InputError: `bind` was not called: this is a bound for comparisons, not something that flies.
        """
        if self._board is None:
            raise InputError.at(
                "controller",
                "a clairvoyant bound needs a simulated board and the scenario",
                value=type(self).__name__,
                want="use it in compare.py; it cannot be flown",
            )
        self._spec, self._profile = spec, profile
        self._accuracy = np.array([r.accuracy for r in profile.rungs])

    def _simulator(self) -> Simulator:
        assert self._board is not None  # reset has seen to it
        return self._board.simulator

    def _reward(self, interval: Interval, demand: Demand) -> NDArray[np.floating[Any]]:
        """Total reward per lane, shape (n,)."""
        terms = lane_terms(
            interval,
            accuracy=self._accuracy[interval.granted[0]],
            energy_budget_j=demand.energy_budget_j,
            accuracy_min=demand.accuracy_min,
            goal=GOALS.index(demand.goal),
            ends=ladder_ends(self._profile),
            weights=self._weights,
        )
        total: NDArray[np.floating[Any]] = np.sum(list(terms.values()), axis=0)
        return total


class StaticBest(_Bound):
    """The one operating point with the highest total reward over the scenario, chosen with hindsight."""

    def reset(self, spec: BoardSpec, profile: Profile) -> None:
        """Start a flight; raises as `_Bound.reset`."""
        super().reset(spec, profile)
        self._knobs: Knobs | None = None

    def act(self, telemetry: Telemetry, demand: Demand) -> Knobs:
        """Always the same; the first call tries every point from the state in which the board is then."""
        if self._knobs is None:
            self._knobs = self._best()
        return self._knobs

    def _best(self) -> Knobs:
        simulator = self._simulator()
        points = simulator.flat_points
        n = points.shape[1]
        lanes = simulator.fork(0, n)
        reward, power = np.zeros(n), np.zeros(n)
        scenario = self._scenario
        changes = scenario.changes(self._spec.interval_s)
        for k in range(scenario.n_intervals(self._spec.interval_s)):
            if k in changes:
                row, demand = changes[k], scenario.demand(changes[k])
                busy = np.repeat(scenario.load[row][:, None], n, axis=1).astype(np.float32)
                lanes.inject(busy, _full(n, scenario.mem_gbps[row]), _full(n, scenario.ambient_c[row]))
            interval = lanes.step(points, _full(n, demand.rate_hz), _full(n, demand.deadline_s))
            reward += self._reward(interval, demand)
            power += interval.exact_power_w.sum(axis=0)
        return knobs_of(simulator, points[:, _first(reward, power)])


class Oracle(_Bound):
    """In each interval the point with the highest reward of that interval, known by trying all of them.

    Candidates are the profile's operating points and the knobs granted now. It is clairvoyant (load, arrivals
    and service times of the coming interval) but looks no further: a backlog or heat left for later costs it
    nothing now. Ties go to the lower energy. `control()` injects the load before it asks, so a copy of the
    board has it.
    """

    def act(self, telemetry: Telemetry, demand: Demand) -> Knobs:
        """The best knobs for this interval."""
        simulator = self._simulator()
        points = np.concatenate([simulator.flat_points, simulator.granted[:, :1]], axis=1)
        n = points.shape[1]
        interval = simulator.fork(0, n).step(points, _full(n, demand.rate_hz), _full(n, demand.deadline_s))
        best = _first(self._reward(interval, demand), interval.exact_power_w.sum(axis=0))
        return knobs_of(simulator, points[:, best])


def _full(n: int, value: float) -> NDArray[np.float32]:
    return np.full(n, value, np.float32)


def _first(reward: NDArray[Any], power_w: NDArray[Any]) -> int:
    """Index of the highest reward; of those within `TIE` of it the one that burns least."""
    return int(np.argmin(np.where(reward >= reward.max() - TIE, power_w, np.inf)))
