"""What a controller is measured against: a floor that needs no thought, and bounds that know what no one can.

`static_best` and `oracle` are privileged (`agents.policy.Privileged`): they try every operating point on
copies of the simulated board, which carry its complete state, the true load and the very noise that will
come.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.reward import RewardWeights, ladder_ends, lane_terms
from hw.errors import InputError
from hw.simulated.board import knobs_of
from hw.types import GOALS, BoardSpec, Demand, Knobs, Profile, Telemetry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from envs.scenario import Scenario
    from hw.simulated.board import SimBoard
    from hw.simulated.simulator import Simulator

    Floats = NDArray[np.floating[Any]]

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

    def _rows(self) -> Iterator[tuple[Demand, int]]:
        """The demand and the row of the scenario in every interval."""
        changes = self._scenario.changes(self._spec.interval_s)
        row = 0
        for k in range(self._scenario.n_intervals(self._spec.interval_s)):
            row = changes.get(k, row)
            yield self._scenario.demand(row), row

    def _try(self, lanes: Simulator, knobs: NDArray[np.intp], demand: Demand, row: int) -> tuple[Floats, Floats]:
        """Reward and power (W) of an interval of these boards in a row of the scenario, each (n,)."""
        scenario, n = self._scenario, lanes.n
        busy = np.repeat(scenario.load[row][:, None], n, axis=1).astype(np.float32)
        lanes.inject(busy, _full(n, scenario.mem_gbps[row]), _full(n, scenario.ambient_c[row]))
        interval = lanes.step(knobs, _full(n, demand.rate_hz), _full(n, demand.deadline_s))
        terms = lane_terms(
            interval,
            accuracy=self._accuracy[interval.granted[0]],
            energy_budget_j=demand.energy_budget_j,
            accuracy_min=demand.accuracy_min,
            goal=GOALS.index(demand.goal),
            ends=ladder_ends(self._profile),
            weights=self._weights,
        )
        return np.sum(list(terms.values()), axis=0), interval.exact_power_w.sum(axis=0)


class StaticBest(_Bound):
    """The one operating point with the highest total reward over the scenario, chosen with hindsight."""

    def reset(self, spec: BoardSpec, profile: Profile) -> None:
        """Start a flight; raises as `_Bound.reset`."""
        super().reset(spec, profile)
        self._knobs: Knobs | None = None

    def act(self, telemetry: Telemetry, demand: Demand) -> Knobs:
        """Always the same; the first call tries every point from the state in which the board is then."""
        if self._knobs is None:
            simulator = self._simulator()
            points = simulator.flat_points
            lanes = simulator.fork(np.zeros(points.shape[1], np.intp))
            reward, power = np.zeros(lanes.n), np.zeros(lanes.n)
            for demanded, row in self._rows():
                gained, burnt = self._try(lanes, points, demanded, row)
                reward += gained
                power += burnt
            self._knobs = knobs_of(simulator, points[:, _first(reward, power)])
        return self._knobs


class Oracle(_Bound):
    """The way through the whole scenario with the highest total reward, found by trying: dynamic programming.

    In each interval every operating point is tried after the best way so far to each placement (unit and cores),
    on copies of the board in the state in which that way left it; of all that now stand on a placement the best goes
    on. So a switch is made where what it costs comes back later, and backlog and heat are what they would be. Ways to
    one placement that differ in backlog or heat are not told apart, so a controller may now and then be a trifle
    better. Ties go to the lower energy.
    """

    def reset(self, spec: BoardSpec, profile: Profile) -> None:
        """Start a flight; raises as `_Bound.reset`."""
        super().reset(spec, profile)
        self._way: Iterator[Knobs] | None = None

    def act(self, telemetry: Telemetry, demand: Demand) -> Knobs:
        """The next knobs of the way; the first call finds it from the state in which the board is then."""
        if self._way is None:
            self._way = iter(self._best())
        return next(self._way)

    def _best(self) -> list[Knobs]:
        simulator = self._simulator()
        points = simulator.flat_points
        count = points.shape[1]
        on_place = [(points[1] == place).nonzero()[0] for place in np.unique(points[1])]
        lanes, reward, power = simulator.fork(np.zeros(1, np.intp)), np.zeros(1), np.zeros(1)
        # per interval, each (ways,): the way that went before, and the point it went on with
        steps: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
        for demanded, row in self._rows():
            ways = len(reward)
            tried = lanes.fork(np.repeat(np.arange(ways), count))
            gained, burnt = self._try(tried, np.tile(points, ways), demanded, row)
            reward = (reward[:, None] + gained.reshape(ways, count)).ravel()
            power = (power[:, None] + burnt.reshape(ways, count)).ravel()
            starts = np.arange(ways)[:, None] * count
            ends = [(starts + here).ravel() for here in on_place]
            kept = np.array([end[_first(reward[end], power[end])] for end in ends])
            steps.append((kept // count, kept % count))
            lanes, reward, power = tried.fork(kept), reward[kept], power[kept]
        way, back = _first(reward, power), list[Knobs]()
        for origin, point in reversed(steps):
            back.append(knobs_of(simulator, points[:, point[way]]))
            way = int(origin[way])
        return back[::-1]


def _full(n: int, value: float) -> NDArray[np.float32]:
    return np.full(n, value, np.float32)


def _first(reward: NDArray[Any], power_w: NDArray[Any]) -> int:
    """Index of the highest reward; of those within `TIE` of it the one that burns least."""
    return int(np.argmin(np.where(reward >= reward.max() - TIE, power_w, np.inf)))
