"""What a learner sees and says: telemetry and demand to an observation, an action to knobs.

Frozen once made, saved inside every policy, and the same formula for one board and for thousands (`encode`).
Leans on numpy alone: it flies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from envs.actions import ActionSpace, ActionView, Floats
from envs.reward import BREACH_TOLERANCE
from hw.clip import HALF, ONE, at_least, at_most, constant, within
from hw.errors import InputError
from hw.profile import need_power
from hw.types import GOALS, BoardSpec, Demand, Profile, Telemetry

_PER_50_K, _THREE = constant(0.02), constant(3.0)
_LOW, _HIGH = constant(-4.0), constant(4.0)  # of an observation
_LEAST_W, _MOST_W = constant(0.01), constant(2980.0)  # half a logarithm of the most is 4
_PERIOD = 6.0  # frame times from one frame to the next: generated demands keep a board 5 to 50 % busy


class Seen(NamedTuple):
    """An interval of n boards and the demand of the next one; (n,) float32 unless said otherwise."""

    granted: npt.NDArray[np.integer[Any]]  # (2 + clocks, n): rung, placement, a frequency index per clock, all from 0
    frames: Floats
    missed: Floats
    dropped: Floats
    latency_mean_s: Floats  # NaN where nothing was served
    latency_p95_s: Floats
    energy_j: Floats  # (rails, n); NaN where there is no meter
    temp_c: Floats  # the hottest node
    utilisation: Floats  # (units, n)
    peak_utilisation: Floats  # (units, n)
    throttled: npt.NDArray[np.bool_]
    rate_hz: Floats
    deadline_s: Floats
    accuracy_min: Floats
    energy_budget_j: Floats
    goal: Floats  # index into GOALS
    alone_s: Floats | None = None  # profile latency of what was granted (`Codec.alone_s` where None)


class Codec(ActionSpace):
    """The observation and action spaces of a board with a ladder."""

    def __init__(self, spec: BoardSpec, profile: Profile, action_view: ActionView = "multi") -> None:
        """Read what is needed of the profile: accuracies, latencies and typical time and energy of a frame.

        Raises Missing for a profile without power.
        """
        need_power(profile)
        latency = np.array([p.latency_mean_s for p in profile.points])
        # as a budget has it: with what the rails draw at rest until the next frame
        energy = np.array([p.energy_j for p in profile.points]) + profile.rest_w * _PERIOD * latency
        self._build(
            spec,
            action_view,
            accuracy=[r.accuracy for r in profile.rungs],
            latency_s=latency.tolist(),
            frame_s=float(np.exp(np.log(latency).mean())),
            frame_j=float(np.exp(np.log(np.maximum(energy, 1e-9)).mean())),
        )

    def _build(
        self,
        spec: BoardSpec,
        action_view: ActionView,
        *,
        accuracy: list[float],
        latency_s: list[float],
        frame_s: float,
        frame_j: float,
    ) -> None:
        super().__init__(spec, accuracy, action_view)
        self.latency_s, self.frame_s, self.frame_j = latency_s, frame_s, frame_j
        self._frame_s, self._frame_j = constant(frame_s), constant(frame_j)
        self._interval_s = constant(spec.interval_s)
        self._latency = self._latency_grid()
        units = [u.name for u in spec.units]
        self._place_unit = np.array([units.index(name) for name, _ in self._placements], np.intp)
        clock_names = [c.name for c in spec.clocks]
        self._unit_clock = np.array([clock_names.index(u.clock) for u in spec.units], np.intp)
        self._place_features = np.array(
            [[float(name == u) for u in units] + [n / spec.unit(name).cores] for name, n in self._placements],
            np.float32,
        ).T.copy()
        self._rungs = np.arange(len(accuracy), dtype=np.int32)[:, None]
        self._meets = self._accuracy[:, None] + np.float32(BREACH_TOLERANCE)
        self._per_step = np.array([[1 / max(steps - 1, 1)] for steps in self._steps], np.float32)
        self.observation_size = (
            5 + 2 * len(accuracy) + len(units) + 1 + len(self._steps) + 9 + len(spec.rails) + 2 * len(units)
        )

    def _latency_grid(self) -> Floats:
        """(rungs * placements * longest clock,) profile latencies, by canonical order of the points."""
        longest = max(self._steps)
        grid = np.ones((len(self.accuracy), len(self._placements), longest), np.float32)
        source = iter(self.latency_s)
        for rung in range(len(self.accuracy)):
            for place, (unit, _) in enumerate(self._placements):
                for step in range(len(self.spec.clock(self.spec.unit(unit).clock).freqs_hz)):
                    grid[rung, place, step] = next(source)
        return grid.reshape(-1)

    def alone_s(self, granted: npt.NDArray[np.integer[Any]]) -> Floats:
        """Profile latencies (s) of n boards' granted knobs, (n,)."""
        rung, place = granted[0], granted[1]
        unit = self._place_unit.take(place)
        step = granted[2 + self._unit_clock[0]]
        for u in range(1, len(self._unit_clock)):
            step = step + (unit == u) * (granted[2 + self._unit_clock[u]] - step)
        latency_s: Floats = self._latency.take((rung * len(self._placements) + place) * max(self._steps) + step)
        return latency_s

    def encode(self, seen: Seen) -> Floats:
        """Observations of n boards, (n, observation_size) float32, every entry within [-4, 4].

        Times and energies are logarithms relative to the profile's typical frame, so one network's numbers look
        like another's. Missing latency (no frame) is 0 beside the share of frames missed and served.
        """
        n = seen.frames.shape[0]
        out = np.empty((self.observation_size, n), np.float32)
        rung, place = seen.granted[0], seen.granted[1]
        alone = self.alone_s(seen.granted) if seen.alone_s is None else seen.alone_s
        served = seen.frames - seen.dropped > HALF
        mean, p95 = seen.latency_mean_s, seen.latency_p95_s
        idle = (~served).nonzero()[0]
        if idle.size:
            mean, p95 = mean.copy(), p95.copy()
            mean[idle] = p95[idle] = alone.take(idle)
        per_frame = ONE / at_least(seen.frames, ONE)

        # logarithms first, to be taken and clipped together
        np.multiply(seen.rate_hz, self._frame_s, out=out[0])
        np.divide(seen.deadline_s, self._frame_s, out=out[1])
        np.divide(seen.energy_budget_j, self._frame_j, out=out[3])
        np.divide(mean, alone, out=out[4])  # how much slower than alone
        np.divide(p95, seen.deadline_s, out=out[5])
        np.log(out[:2], out=out[:2])
        np.add(out[0], out[1], out=out[2])  # frames that fit into a deadline
        np.log(out[3:6], out=out[3:6])
        within(out[:6], _LOW, _HIGH, out=out[:6])
        np.multiply(alone, seen.rate_hz, out=out[6])
        np.divide(mean, seen.deadline_s, out=out[7])
        at_most(out[6:8], _THREE, out=out[6:8])
        rails = 8 + len(self.spec.rails)
        watts = out[8:rails]
        np.divide(seen.energy_j, self._interval_s, out=watts)
        within(watts, _LEAST_W, _MOST_W, out=watts)
        np.log(watts, out=watts)
        watts *= HALF
        if any(map(math.isnan, watts[:, 0].tolist())):  # a missing meter is missing on every board of a model
            np.nan_to_num(watts, copy=False)

        out[rails] = seen.goal
        np.multiply(seen.missed, per_frame, out=out[rails + 1])
        np.multiply(seen.dropped, per_frame, out=out[rails + 2])
        out[rails + 3] = served
        np.multiply(seen.temp_c, _PER_50_K, out=out[rails + 4])
        out[rails + 4] -= ONE
        if not self.spec.thermal_nodes:  # missing, so it says nothing
            out[rails + 4] = 0.0
        out[rails + 5] = seen.throttled
        row = rails + 6
        after = row + 2 * len(self._rungs)
        out[row:after:2] = seen.accuracy_min <= self._meets
        out[row + 1 : after : 2] = rung == self._rungs
        row, after = after, after + len(self._place_features)
        self._place_features.take(place, axis=1, mode="clip", out=out[row:after])
        row, after = after, after + len(self._steps)
        out[row:after] = seen.granted[2:]
        out[row:after] *= self._per_step
        out[after::2] = seen.utilisation
        out[after + 1 :: 2] = seen.peak_utilisation
        return out.T

    def see(self, telemetry: Telemetry, demand: Demand) -> Seen:
        """One board's telemetry and demand as arrays of one lane."""
        f32 = np.float32

        def one(value: float | None) -> Floats:
            return np.array([np.nan if value is None else value], f32)

        energy = telemetry.energy_j
        return Seen(
            granted=self.knob_indices(telemetry.granted),
            frames=one(telemetry.frames),
            missed=one(telemetry.missed),
            dropped=one(telemetry.dropped),
            latency_mean_s=one(telemetry.latency_mean_s),
            latency_p95_s=one(telemetry.latency_p95_s),
            energy_j=np.array([[np.nan if energy is None else energy[r]] for r in self.spec.rails], f32),
            temp_c=one(max(telemetry.temp_c.values(), default=None)),
            utilisation=np.array([[telemetry.utilisation[u.name]] for u in self.spec.units], f32),
            peak_utilisation=np.array([[telemetry.peak_utilisation[u.name]] for u in self.spec.units], f32),
            throttled=np.array([telemetry.throttled]),
            rate_hz=one(demand.rate_hz),
            deadline_s=one(demand.deadline_s),
            accuracy_min=one(demand.accuracy_min),
            energy_budget_j=one(demand.energy_budget_j),
            goal=one(GOALS.index(demand.goal)),
        )

    def observe(self, telemetry: Telemetry, demand: Demand) -> Floats:
        """The observation of one board, (observation_size,) float32."""
        return np.ascontiguousarray(self.encode(self.see(telemetry, demand))[0])

    def to_json(self) -> dict[str, Any]:
        """Everything needed to observe and act again, as plain JSON values."""
        return {
            "action_view": self.action_view,
            "board": self.spec.name,
            "board_hash": self.spec.hash,
            "accuracy": self.accuracy,
            "latency_s": self.latency_s,
            "frame_s": self.frame_s,
            "frame_j": self.frame_j,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], spec: BoardSpec) -> Codec:
        """The codec of a saved policy on this board; InputError where it is not one or is another board's."""
        wanted = ("action_view", "board", "board_hash", "accuracy", "latency_s", "frame_s", "frame_j")
        if not isinstance(data, Mapping) or set(data) != set(wanted):
            raise InputError(f"codec: needs exactly the keys {', '.join(wanted)}")
        if data["board_hash"] != spec.hash:
            raise InputError(f"codec: made for board {data['board']!r} of another layout, not for {spec.name!r}")
        numbers = [data["frame_s"], data["frame_j"]]
        for key in ("accuracy", "latency_s"):
            if not isinstance(data[key], list) or not data[key]:
                raise InputError(f"codec: {key} must be a list of numbers")
            numbers += data[key]
        if not all(isinstance(x, int | float) and math.isfinite(x) and x >= 0 for x in numbers):
            raise InputError("codec: every number must be finite and not negative")
        if data["action_view"] not in get_args(ActionView):
            raise InputError(f"codec: action_view {data['action_view']!r}; known: {', '.join(get_args(ActionView))}")
        points = len(data["accuracy"]) * sum(len(spec.clock(spec.unit(u).clock).freqs_hz) for u, _ in spec.placements)
        if min(numbers[:2]) <= 0:
            raise InputError("codec: frame_s and frame_j must be above 0")
        if len(data["latency_s"]) != points or min(data["latency_s"]) <= 0:
            raise InputError(f"codec: needs {points} positive latencies, one for each operating point")
        codec = cls.__new__(cls)
        codec._build(
            spec,
            data["action_view"],
            accuracy=[float(x) for x in data["accuracy"]],
            latency_s=[float(x) for x in data["latency_s"]],
            frame_s=float(data["frame_s"]),
            frame_j=float(data["frame_j"]),
        )
        return codec
