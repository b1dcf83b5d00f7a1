"""Published heuristics: the level stepper of Dynamic-OFA."""

from __future__ import annotations

from collections import deque

from agents.baselines.governors import auto_rung
from envs.reward import BREACH_TOLERANCE
from hw.types import BoardSpec, Demand, Knobs, Profile, Telemetry

WINDOW_FRAMES = 20  # latencies that count
DROPPED = 1.5  # x deadline: what a frame that gave no result counts as (the paper's code cuts 60 ms off at 90 ms)
FORGET_INTERVALS = 20  # after which a rung that failed may be tried again


class Ladder:
    """One rung down when latency is above the limit, one up when accuracy is below the floor and latency
    fits.

    After the run-time demo of Lou et al., Dynamic-OFA, CVPRW 2021: the network at full speed on all big cores
    (the other clocks at their lowest); the limit is the deadline; the mean is over the last 20 frames.
    Telemetry comes per interval, so the window holds interval means weighted by frames, the oldest only in
    part; it starts afresh with each step, since latencies of another rung say nothing of this one. Like the demo,
    which warms up for 20 frames on every rung, it takes no step before the window is full: at 40 frames a second
    that is one interval, at 2 it is ten seconds, in which a rung that is too slow stays. A rung
    that was just too slow is not climbed to again before the demand changes or `FORGET_INTERVALS` have
    passed. With the goal `max_accuracy` any rung below the top counts as below the floor. A flight starts at
    `auto_rung`; without frames it holds.
    """

    def reset(self, spec: BoardSpec, profile: Profile) -> None:
        """Start a flight."""
        self._spec, self._profile = spec, profile
        self._rung: int | None = None
        self._window: deque[tuple[float, int]] = deque()  # (latency of an interval, its frames), latest first
        self._failed: int | None = None
        self._failed_for = 0
        self._demand: Demand | None = None

    def act(self, telemetry: Telemetry, demand: Demand) -> Knobs:
        """Step at most one rung."""
        self._failed_for += 1
        if demand != self._demand or self._failed_for >= FORGET_INTERVALS:
            self._failed = None
        measured_for, self._demand = self._demand, demand
        if self._rung is None:
            self._rung = auto_rung(self._spec, self._profile, demand)
        else:
            self._remember(telemetry, measured_for or demand)
            self._step(self._rung, demand)
        unit = self._spec.big_unit
        freqs = {c.name: c.max_hz if c.name == unit.clock else c.freqs_hz[0] for c in self._spec.clocks}
        return Knobs(rung=self._rung, unit=unit.name, cores=unit.cores, freqs_hz=freqs)

    def _step(self, rung: int, demand: Demand) -> None:
        mean = self._mean_s()
        if mean is None:
            return
        to = rung
        if mean > demand.deadline_s:
            if rung > 1:
                to, self._failed, self._failed_for = rung - 1, rung, 0
        elif rung < len(self._profile.rungs) and rung + 1 != self._failed:
            wanting = self._profile.rung(rung).accuracy < demand.accuracy_min - BREACH_TOLERANCE
            if wanting or demand.goal == "max_accuracy":
                to = rung + 1
        if to != rung:
            self._rung = to
            self._window.clear()

    def _remember(self, telemetry: Telemetry, demand: Demand) -> None:
        if telemetry.served and telemetry.latency_mean_s is not None:
            self._window.appendleft((telemetry.latency_mean_s, telemetry.served))
        if telemetry.dropped:
            self._window.appendleft((DROPPED * demand.deadline_s, telemetry.dropped))
        while sum(n for _, n in self._window) - (self._window[-1][1] if self._window else 0) >= WINDOW_FRAMES:
            self._window.pop()

    def _mean_s(self) -> float | None:
        """Mean latency of the last `WINDOW_FRAMES` frames; None where there were fewer on this rung."""
        total, frames = 0.0, 0
        for latency, count in self._window:
            used = min(count, WINDOW_FRAMES - frames)
            total += latency * used
            frames += used
        return total / frames if frames == WINDOW_FRAMES else None
