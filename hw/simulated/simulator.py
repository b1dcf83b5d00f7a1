"""The simulator: n boards at once from a board file and a profile; the only simulated physics there is.

`SimBoard` is its n = 1 view and the batched environment its n = many view, so the same seed gives the same trace
through each. What a controller may see is the measured part of an `Interval`; the exact part is for reports.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from hw.boardfile import BoardModel
from hw.simulated import physics
from hw.simulated.sensor import read_power, read_temperature
from hw.simulated.tables import build_tables
from hw.types import Profile

F = NDArray[np.float32]
I = NDArray[np.intp]  # noqa: E741
_BITS = 12
# the normal distribution in 4096 equally likely steps, from -3.7 to 3.7: a look-up a draw
_NORMALS = np.array(
    [NormalDist().inv_cdf((k + 0.5) / 2**_BITS) for k in range(2**_BITS)], dtype=np.float32
)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """One control interval of n boards. Counts are whole numbers in float32; NaN is missing."""

    asked: I  # (2 + clocks, n): rung, placement, a frequency index per clock, all from 0
    granted: I  # (2 + clocks, n)
    frames: F  # (n,) arrived
    served: F
    missed: F
    dropped: F
    latency_mean_s: F  # NaN where nothing was served
    latency_p95_s: F
    accuracy: F  # of the served frames; NaN where none
    energy_j: F  # (rails, n) as the meters report it
    temp_c: F  # (n,) as the sensor reports it
    utilisation: F  # (units, n) mean over the unit's cores
    peak_utilisation: F  # (units, n) of the busiest core
    throttled: NDArray[np.bool_]
    switched: F  # (3, n) 0 or 1: rung, placement, any frequency
    exact_power_w: F  # (rails, n) mean over the interval; no controller sees it
    exact_temp_c: F  # (n,) at the end
    unmetered_w: F  # (n,) rest of the board and fan, on no meter


class Simulator:
    """n boards of one model with one profile, stepped together in float32.

    A seed makes a generator, which draws a board's meters and the key of its noise; the noise itself is counted off
    that key (SplitMix64), so it costs no memory and a fork hears the same.
    """

    def __init__(self, model: BoardModel, profile: Profile, n: int) -> None:
        """Boards at their start; `reset` seeds them. Raises nothing: model and profile are validated already."""
        self.model, self.profile, self.n = model, profile, n
        self.tables = tables = build_tables(model, profile)
        spec = model.spec
        self._interval_s = np.float32(spec.interval_s)
        self._units = len(spec.units)
        self._rails = len(spec.rails)
        self._clocks = len(spec.clocks)
        big = spec.placements.index((spec.big_unit.name, spec.big_unit.cores))
        self.initial_knobs = np.array([0, big] + [0] * self._clocks, np.intp)
        self._stall_s = [np.float32(s + model.switching.control_path_s) for s in model.stall_s]
        self._min_share = np.float32(model.contention.min_share)
        self._stretch = np.float32(model.contention.stall_stretch)
        self._fan_trips = np.array(model.thermal.fan_trips_c, np.float32)
        self._fan_hysteresis = np.full(len(self._fan_trips), model.thermal.fan_hysteresis_k, np.float32)
        self._trips = np.array([t.trip_c for t in model.throttle], np.float32)
        self._trip_hysteresis = np.array([t.hysteresis_k for t in model.throttle], np.float32)
        self._duty_w = np.array(model.thermal.fan_duty, np.float32) * np.float32(model.fan_w)
        self._farads = [(np.float32(u.cluster_nf * 1e-9), np.float32(u.background_nf * 1e-9)) for u in model.units]
        idle = sum(model.idle_rail_w({c.name: c.freqs_hz[0] for c in spec.clocks}, 45.0).values())
        self._idle_w = np.float32(idle)
        self._variance = tables.accuracy * (1 - tables.accuracy)

        self._key = np.zeros(n, np.uint64)  # of a board's noise, drawn from its generator
        self._tick = np.zeros(n, np.uint64)
        self.granted = np.repeat(self.initial_knobs[:, None], n, axis=1)
        self._queued = np.zeros(n, np.float32)  # backlog in frames
        self._phase = np.zeros(n, np.float32)
        self._heat = np.zeros((2, n), np.float32)
        self._fan = np.zeros(n, np.intp)
        self._trip = np.zeros(n, np.intp)
        self._before_w = np.zeros((self._rails, n), np.float32)
        self._gain = np.ones((self._rails, n), np.float32)
        self.busy = np.zeros((self._units, n), np.float32)
        self.mem_gbps = np.zeros(n, np.float32)
        self.ambient_c = np.full(n, 25.0, np.float32)
        self.reset(range(n), seeds=range(n))

    def reset(self, lanes: Sequence[int], *, seeds: Sequence[int | None] | None = None) -> None:
        """Bring these boards to their start: lowest clocks, smallest rung, idle and cool.

        A seed gives a board a new generator and with it the gains of its meters; None goes on with what it has.
        """
        index = np.asarray(lanes, np.intp)
        if index.size == 0:
            return
        spread = np.float32(self.model.sensor.gain_std)
        for k, lane in enumerate(index if seeds is not None else ()):
            if seeds is not None and seeds[k] is not None:
                rng = np.random.default_rng(seeds[k])
                self._gain[:, lane] = 1 + spread * rng.standard_normal(self._rails, dtype=np.float32)
                self._key[lane] = rng.integers(2**64, dtype=np.uint64)
                self._tick[lane] = 0
        self.granted[:, index] = self.initial_knobs[:, None]
        self._queued[index] = 0
        self._phase[index] = 0
        self._fan[index] = 0
        self._trip[index] = 0
        _, r1, _, r2, offset = self.tables.thermal[:, 0]
        self._heat[0, index] = r1 * self._idle_w
        self._heat[1, index] = r2 * self._idle_w + offset
        self._before_w[:, index] = self._idle_w / self._rails
        self.busy[:, index] = 0
        self.mem_gbps[index] = 0
        self.ambient_c[index] = 25.0

    def fork(self, lane: int, n: int) -> Simulator:
        """n boards in exactly the state of this lane, with its coming noise: for whoever may look ahead."""
        twin = copy.copy(self)
        twin.n = n
        for name in ("_key", "_tick", "_queued", "_phase", "_fan", "_trip", "mem_gbps", "ambient_c"):
            setattr(twin, name, np.repeat(getattr(self, name)[lane : lane + 1], n, axis=0))
        for name in ("granted", "_heat", "_before_w", "_gain", "busy"):
            setattr(twin, name, np.repeat(getattr(self, name)[:, lane : lane + 1], n, axis=1))
        return twin

    @property
    def start_temp_c(self) -> float:
        """Temperature of a board just reset (deg C), as its sensor shows it."""
        _, r1, _, r2, offset = self.tables.thermal[:, 0]
        exact = np.float32(25.0) + (r1 + r2) * self._idle_w + offset
        return float(read_temperature(exact, self.model.sensor.temp_step_c))

    @property
    def flat_points(self) -> I:
        """The profile's operating points as knob indices, (2 + clocks, points)."""
        return self.tables.flat_points

    def inject(self, busy: F, mem_gbps: F, ambient_c: F) -> None:
        """Background work and surroundings from now on: busy cores (units, n), GB/s (n,), deg C (n,)."""
        self.busy[:] = busy
        self.mem_gbps[:] = mem_gbps
        self.ambient_c[:] = ambient_c

    def _coming_noise(self) -> tuple[F, F, F]:
        """Two normals and a uniform number for each board, (n,): SplitMix64 of its key and how far it has come."""
        self._tick += np.uint64(1)
        x = self._key + self._tick * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        words = (x ^ (x >> np.uint64(31))).view(np.uint32)
        low, high = words[::2], words[1::2]
        last = np.uint32(2**_BITS - 1)
        uniform = (high >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
        return _NORMALS.take(low & last), _NORMALS.take(low >> np.uint32(32 - _BITS)), uniform

    def step(self, knobs: I, rate_hz: F, deadline_s: F) -> Interval:
        """Set (2 + clocks, n) knob indices, serve one interval of the demanded rate (Hz) and deadline (s)."""
        tables, interval_s = self.tables, self._interval_s
        jitter, label_noise, coin = self._coming_noise()

        # what the kernel grants, and what the change costs
        granted = knobs.copy()
        for c in range(self._clocks):
            np.minimum(granted[2 + c], tables.caps[c].take(self._trip), out=granted[2 + c])
        throttled = (granted != knobs).any(axis=0)
        changed = granted != self.granted
        self.granted = granted
        switched = np.empty((3, self.n), np.float32)
        switched[:2] = changed[:2]
        switched[2] = changed[2:].any(axis=0)
        costs = self.model.switching
        stall_s = switched[0] * np.float32(costs.rung_s) + switched[1] * np.float32(costs.migration_s)
        for c in range(self._clocks):
            stall_s += changed[2 + c] * self._stall_s[c]

        # service time under contention
        rung, place = granted[0], granted[1]
        unit = tables.placement_unit.take(place)
        cores = tables.placement_cores.take(place)
        here = np.stack([(unit == u) for u in range(self._units)]).astype(np.float32)
        step = granted[2 + tables.unit_clock[0]]
        for u in range(1, self._units):
            step = step + (unit == u) * (granted[2 + tables.unit_clock[u]] - step)
        point = (rung * len(tables.placement_unit) + place) * tables.point_steps + step
        compute_s, memory_s, cv, own_w, memory_w = (row.take(point) for row in tables.point)
        busy = (here * self.busy).sum(axis=0)
        mem_load = self.mem_gbps * tables.mem_per_gbps.take(unit)
        share = physics.core_share(cores, tables.unit_cores.take(unit), busy, self._min_share)
        service_s = physics.service_time(compute_s, memory_s, share.share, mem_load, self._stretch)
        spread = cv / np.sqrt(physics.at_least(rate_hz * interval_s, 1.0))  # of the mean over the interval's frames
        service_s *= physics.at_least(physics.ONE + jitter * spread, 0.5)

        # the queue
        backlog_s = self._queued * service_s + stall_s
        queue = physics.serve(backlog_s, self._phase, service_s, cv, rate_hz, deadline_s, interval_s)
        self._queued = queue.backlog_s / service_s
        self._phase = queue.phase
        dropped = np.floor(queue.dropped + coin)  # expected counts rounded to whole frames without bias
        missed = np.minimum(np.floor(queue.missed + coin), queue.arrived)
        served = physics.at_least(queue.arrived - dropped, 0.0)
        nothing = served < physics.HALF
        some = physics.at_least(served, 1.0)
        hits = served * tables.accuracy.take(rung) + label_noise * np.sqrt(served * self._variance.take(rung))
        accuracy = np.minimum(physics.at_least(np.rint(hits), 0.0), served) / some
        latency_mean_s, latency_p95_s = queue.latency_mean_s, queue.latency_p95_s
        if nothing.any():
            missing = np.where(nothing, np.float32(np.nan), physics.ZERO)
            latency_mean_s, latency_p95_s, accuracy = latency_mean_s + missing, latency_p95_s + missing, accuracy + missing

        # power
        on = queue.busy_s * (physics.ONE / interval_s)
        working = on * ((compute_s + memory_s) / service_s)
        temp_c = self.ambient_c + self._heat[0] + self._heat[1]
        watts = np.empty((self._rails, self.n), np.float32)
        utilisation = np.empty((self._units, self.n), np.float32)
        peak = np.empty((self._units, self.n), np.float32)
        naps = served * (physics.ONE / interval_s)
        for u, law in enumerate(self.model.units):
            f = granted[2 + tables.unit_clock[u]]
            v2f, leak_w = tables.v2f[u].take(f), tables.leak_w[u].take(f)
            on_here = on * here[u]
            yielded = on_here * physics.at_least(share.excess - physics.HALF, 0.0)
            background = self.busy[u] - yielded
            leak = (
                physics.leakage_arrhenius(temp_c, np.float32(law.leak_activation_k))
                if law.leak_activation_k
                else physics.leakage_exponential(temp_c, np.float32(law.leak_per_k))
            )
            delay = np.float32(min(law.off_after_s, 1e3))
            powered = physics.powered_share(self.busy[u], on_here, naps * delay * here[u])
            cluster, per_core = self._farads[u]
            watts[u] = (
                (physics.dynamic_power(cluster, v2f) + leak_w * leak - np.float32(law.off_w)) * powered
                + np.float32(law.off_w)
                + physics.dynamic_power(per_core, v2f) * background
                + own_w * working * here[u]
            )
            utilisation[u] = physics.at_most((background + cores * on_here) / tables.unit_cores[u], 1.0)
            alone = physics.at_most(self.busy[u], 1.0)
            peak[u] = np.maximum(on_here + (physics.ONE - on_here) * share.excess * here[u], alone)
        for r, rail in enumerate(self.model.rails):
            w = np.float32(rail.base_w) + np.float32(rail.w_per_gbps) * self.mem_gbps
            if rail.per_k:
                w = w * physics.leakage_exponential(temp_c, np.float32(rail.per_k))
            if rail.w_per_gbps:
                w = w + memory_w * working
            watts[self._units + r] = w
        watts[: self._units] += here * ((stall_s > 0) * np.float32(costs.energy_j / interval_s))

        # heat
        decay1, r1, decay2, r2, offset = (row.take(self._fan) for row in tables.thermal)
        total_w = watts.sum(axis=0)
        self._heat[0] = physics.relax(self._heat[0], r1 * total_w, decay1)
        self._heat[1] = physics.relax(self._heat[1], r2 * total_w + offset, decay2)
        unmetered_w = np.float32(self.model.board_base_w) + self._duty_w.take(self._fan)
        exact_temp_c = self.ambient_c + self._heat[0] + self._heat[1]
        self._fan = physics.hysteresis(self._fan, exact_temp_c, self._fan_trips, self._fan_hysteresis)
        if len(self._trips) and (exact_temp_c.max() >= self._trips[0] or self._trip.any()):
            self._trip = physics.hysteresis(self._trip, exact_temp_c, self._trips, self._trip_hysteresis)

        # what the meters make of it
        sensor = self.model.sensor
        reading_w = read_power(
            watts,
            self._before_w,
            self._gain,
            window_s=sensor.window_s,
            step_w=sensor.step_w,
            interval_s=float(interval_s),
        )
        self._before_w = watts
        return Interval(
            asked=knobs,
            granted=granted,
            frames=queue.arrived,
            served=served,
            missed=missed,
            dropped=dropped,
            latency_mean_s=latency_mean_s,
            latency_p95_s=latency_p95_s,
            accuracy=accuracy,
            energy_j=reading_w * interval_s,
            temp_c=read_temperature(exact_temp_c, sensor.temp_step_c),
            utilisation=utilisation,
            peak_utilisation=peak,
            throttled=throttled,
            switched=switched,
            exact_power_w=watts,
            exact_temp_c=exact_temp_c,
            unmetered_w=unmetered_w,
        )
