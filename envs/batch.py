"""The batched task: n boards, each in a scenario of a bank, stepped together; what both vector faces stand on.

A lane with seed s sees exactly what `ControlEnv.reset(seed=s)` sees, interval by interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded

from envs.codec import Codec, Seen
from envs.reward import BREACH_TOLERANCE, RewardWeights, ladder_ends, lane_terms
from envs.scenario import Scenario
from hw.boardmodel import BoardModel
from hw.errors import InputError
from hw.simulated.interval import Interval
from hw.simulated.simulator import Simulator
from hw.types import Profile

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]

NEVER = 2**62  # intervals; the clock may be added to it
RATE, DEADLINE, FLOOR, BUDGET, GOAL, MEM, AMBIENT, LOAD = range(8)  # columns of a bank; loads from LOAD on


def first_scenario(seed: int | None, scenarios: int) -> int:
    """Where a lane with this seed starts in the bank; the episodes after it take the scenarios in turn.

    A generator of its own keeps the choice apart from the board's noise.
    """
    return int(np.random.default_rng(None if seed is None else [seed, 1]).integers(scenarios))


def _demanded(now: Floats) -> dict[str, Floats]:
    """What these columns of a bank demand, by the names of `Seen`."""
    return {
        "rate_hz": now[RATE],
        "deadline_s": now[DEADLINE],
        "accuracy_min": now[FLOOR],
        "energy_budget_j": now[BUDGET],
        "goal": now[GOAL],
    }


class Bank:
    """Scenarios as one array, (rows, columns), and for each row the interval at which the next one starts."""

    def __init__(self, scenarios: Sequence[Scenario], interval_s: float) -> None:
        """Pad all scenarios to the longest; ValueError where there is none."""
        if not scenarios:
            raise ValueError("a bank needs at least one scenario")
        self.scenarios = tuple(scenarios)
        changes = [s.changes(interval_s) for s in scenarios]
        rows = max(len(c) for c in changes)
        columns = LOAD + scenarios[0].load.shape[1]
        values = np.zeros((columns, len(scenarios), rows), np.float32)
        self.intervals = np.array([s.n_intervals(interval_s) for s in scenarios], np.int64)
        change = np.full((len(scenarios), rows), NEVER, np.int64)
        for i, s in enumerate(scenarios):
            at, k = list(changes[i]), list(changes[i].values())
            m = len(k)
            named: list[npt.NDArray[Any]] = [
                s.rate_hz,
                s.deadline_s,
                s.accuracy_min,
                s.energy_budget_j,
                s.goal,
                s.mem_gbps,
                s.ambient_c,
            ]
            values[:LOAD, i, :m] = np.stack(named)[:, k]
            values[LOAD:, i, :m] = s.load[k].T
            change[i, : m - 1] = at[1:]
        self.rows = rows
        self.values = values.reshape(columns, -1).T.copy()  # a row lies in one piece: moving to one is one look-up
        self.change = change.reshape(-1)


class Step(NamedTuple):
    """What one step of n lanes gave; `final` holds the last observation of lanes that ended, by lane."""

    observation: Floats  # (n, d), of the next episode where one ended
    reward: Floats
    terms: dict[str, Floats]
    truncated: npt.NDArray[np.bool_]
    ended: Ints  # lanes that ended
    final: Floats  # (len(ended), d)
    interval: Interval


class Batch:
    """n lanes of one task with same-step autoreset; episodes end by truncation at the end of their scenario."""

    def __init__(
        self,
        model: BoardModel,
        profile: Profile,
        codec: Codec,
        scenarios: Sequence[Scenario],
        n: int,
        weights: RewardWeights,
        *,
        vary: bool = False,
    ) -> None:
        """Lanes are unseeded until `reset`; `vary`: every episode has another board of the model."""
        self.codec, self.weights, self.n = codec, weights, n
        self.bank = Bank(scenarios, model.spec.interval_s)
        self.simulator = Simulator(model, profile, n, vary=vary)
        self._accuracy = np.array([r.accuracy for r in profile.rungs], np.float32)
        low, high = ladder_ends(profile)
        self.ends = (np.float32(low), np.float32(high))
        self._scenario = np.zeros(n, np.intp)
        self._row = np.zeros(n, np.intp)  # into the bank
        self._clock = 0  # intervals since this was made; what follows counts by it
        self._began = np.zeros(n, np.int64)
        self._changes_at = np.zeros(n, np.int64)  # when the next row starts
        self._ends_at = np.zeros(n, np.int64)
        self._seeded = False
        self.now = np.zeros((self.bank.values.shape[1], n), np.float32)
        self._start_j = self.simulator.start_w * np.float32(model.spec.interval_s)
        self._no_final = np.zeros((0, codec.observation_size), np.float32)
        first_rows = np.arange(len(self.bank.scenarios)) * self.bank.rows
        # (scenarios, d): what the first interval of each is entered with
        self._at_start = self._observe_start(self.bank.values.take(first_rows, axis=0).T)

    def reset(self, seed: int | Sequence[int | None] | None = None) -> Floats:
        """Start an episode in every lane; lane i of an integer seed s gets s + i, None goes on (at first: draws one).

        InputError where there are not as many seeds as lanes.
        """
        seeds = [seed + i for i in range(self.n)] if isinstance(seed, int) else seed
        if seeds is not None and len(seeds) != self.n:
            want = f"a seed for each of {self.n} lanes, or one number"
            raise InputError.at("seed", f"{len(seeds)} seeds", value=list(seeds), want=want)
        lanes = np.arange(self.n)
        scenarios = len(self.bank.scenarios)
        if not self._seeded:
            fresh = np.random.SeedSequence().generate_state(self.n).tolist()
            seeds = fresh if seeds is None else [f if s is None else s for s, f in zip(seeds, fresh, strict=True)]
        self._seeded = True
        for lane, s in enumerate(seeds or ()):
            if s is not None:
                # one before the first, since starting an episode moves on by one
                self._scenario[lane] = first_scenario(s, scenarios) - 1
        self._start(lanes, seeds)
        return self._at_start.take(self._scenario, axis=0)

    def _start(self, lanes: Ints, seeds: Sequence[int | None] | None = None) -> None:
        """The next scenario of these lanes, on boards at their start."""
        scenario = (self._scenario.take(lanes) + 1) % len(self.bank.scenarios)
        self._scenario[lanes] = scenario
        self._began[lanes] = self._clock
        self._ends_at[lanes] = self._clock + self.bank.intervals.take(scenario)
        self._move_to(lanes, scenario * self.bank.rows)
        self.simulator.reset(lanes, seeds=seeds)

    def _move_to(self, lanes: Ints, rows: Ints) -> None:
        """Bring these rows of the bank into force."""
        self._row[lanes] = rows
        self._changes_at[lanes] = self._began.take(lanes) + self.bank.change.take(rows)
        self.now[:, lanes] = self.bank.values.take(rows, axis=0).T

    def _observe(self, interval: Interval) -> Floats:
        """What all lanes see: the interval behind them and the demand before them."""
        return self.codec.encode(
            Seen(
                granted=interval.granted,
                frames=interval.frames,
                missed=interval.missed,
                dropped=interval.dropped,
                latency_mean_s=interval.latency_mean_s,
                latency_p95_s=interval.latency_p95_s,
                energy_j=interval.energy_j,
                temp_c=interval.temp_c,
                utilisation=interval.utilisation,
                peak_utilisation=interval.peak_utilisation,
                throttled=interval.throttled,
                alone_s=interval.alone_s,
                **_demanded(self.now),
            )
        )

    def _observe_start(self, now: Floats) -> Floats:
        """What boards just reset show under these columns of a bank: nothing arrived, idle power."""
        n = now.shape[1]
        zero, missing = np.zeros(n, np.float32), np.full(n, np.nan, np.float32)
        still = np.zeros((len(self.codec.spec.units), n), np.float32)
        return self.codec.encode(
            Seen(
                granted=np.repeat(self.simulator.initial_knobs[:, None], n, axis=1),
                frames=zero,
                missed=zero,
                dropped=zero,
                latency_mean_s=missing,
                latency_p95_s=missing,
                energy_j=np.repeat(self._start_j[:, None], n, axis=1),
                temp_c=np.full(n, self.simulator.start_temp_c, np.float32),
                utilisation=still,
                peak_utilisation=still,
                throttled=np.zeros(n, np.bool_),
                **_demanded(now),
            )
        )

    def inject(self) -> None:
        """Put the load of the coming interval on every board; `step` does so itself."""
        now = self.now
        self.simulator.inject(now[LOAD:], now[MEM], now[AMBIENT])

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """(n, sum(nvec)) legal actions under the coming demand."""
        return self.codec.masks(self.now[FLOOR])

    def terms(self, interval: Interval, now: Floats) -> dict[str, Floats]:
        """The reward's terms of an interval, each (n,), under these columns of a bank, (columns, n) or (columns,)."""
        return lane_terms(
            interval,
            accuracy=self._accuracy.take(interval.granted[0]),
            energy_budget_j=now[BUDGET],
            accuracy_min=now[FLOOR],
            goal=now[GOAL],
            ends=self.ends,
            weights=self.weights,
        )

    def breached(self, interval: Interval, accuracy_min: Floats) -> npt.NDArray[np.bool_]:
        """Lanes, (n,), whose rung was less accurate in the profile than this floor, (n,)."""
        return np.asarray(accuracy_min - self._accuracy.take(interval.granted[0]) > BREACH_TOLERANCE)

    def step(self, actions: npt.NDArray[np.integer[Any]]) -> Step:
        """One interval of every lane under (n, len(nvec)) actions; ResetNeeded before the first `reset`."""
        if not self._seeded:
            raise ResetNeeded("call reset() first: a step is of an episode")
        now = self.now
        self.inject()
        interval = self.simulator.step(self.codec.indices(actions), now[RATE], now[DEADLINE])
        terms = self.terms(interval, now)
        first, second, *others = terms.values()
        reward = first + second
        for term in others:
            reward += term
        self._clock += 1
        moved = (self._clock >= self._changes_at).nonzero()[0]
        if moved.size:
            self._move_to(moved, self._row.take(moved) + 1)
        truncated = self._clock >= self._ends_at
        ended = truncated.nonzero()[0]
        observation = self._observe(interval)
        final = self._no_final
        if ended.size:
            final = observation.T.take(ended, axis=1).T  # it lies feature by feature
            self._start(ended)
            begun = self._scenario.take(ended)
            # feature by feature, as they lie: four times as fast as lane by lane
            for feature, at_start in zip(observation.T, self._at_start.T, strict=True):
                feature[ended] = at_start.take(begun)
        return Step(
            observation=observation,
            reward=np.asarray(reward, np.float32),
            terms=terms,
            truncated=truncated,
            ended=ended,
            final=final,
            interval=interval,
        )
