"""The simulator: n boards at once from a board file and a profile; the only simulated physics there is.

`SimBoard` is its n = 1 view and the batched environment its n = many view, so the same seed gives the same trace
through each. What a controller may see is the measured part of an `Interval`; the exact part is for the bounds, which
look ahead, and for tests.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.boardmodel import BoardModel
from hw.clip import HALF, ONE, ZERO, at_least, at_most, constant, within
from hw.simulated import noise, physics
from hw.simulated.heat import Heat
from hw.simulated.interval import Interval
from hw.simulated.power import Power
from hw.simulated.queue import serve
from hw.simulated.sensor import read_energy, read_temperature
from hw.simulated.tables import K, build_tables
from hw.simulated.variation import Factors, drawn, nominal
from hw.types import Profile

F = NDArray[np.float32]
I = NDArray[np.intp]  # noqa: E741
AMBIENT_C = constant(25.0)  # until somebody says otherwise
_LABELS = np.array(0x85EBCA6B, np.uint32)  # sets the noise of the labels apart from that of the rest


class Simulator:
    """n boards of one model with one profile, stepped together in float32.

    A seed makes a generator, which draws the key of a board's noise; the noise itself is counted off
    that key (a Weyl sequence through an integer hash), so it costs no memory and a fork hears the same.
    """

    def __init__(self, model: BoardModel, profile: Profile, n: int, *, vary: bool = False) -> None:
        """Boards at their start; `reset` seeds them, and where `vary` makes each another one of its model.

        Raises nothing: model and profile are validated already.
        """
        self.model, self.profile, self.n = model, profile, n
        self.tables = tables = build_tables(model, profile)
        spec = model.spec
        self._interval_s = constant(spec.interval_s)
        self._per_s = constant(1 / spec.interval_s)
        self._varies = vary
        self._units = len(spec.units)
        self._rails = len(spec.rails)
        self._clocks = len(spec.clocks)
        big = spec.placements.index((spec.big_unit.name, spec.big_unit.cores))
        self.initial_knobs = np.array([0, big] + [0] * self._clocks, tables.caps.dtype)
        stalls_s = [s + model.switching.control_path_s for s in model.stall_s]
        changes_s = [model.switching.rung_s, model.switching.migration_s, *stalls_s]
        self._change_s = np.array(changes_s, np.float32)[:, None]
        self._change_w = constant(model.switching.energy_j / spec.interval_s)
        self._min_share = constant(model.contention.min_share)
        self._power, self._heat = Power(model, tables), Heat(model, tables, n)
        # what a board just reset shows: temperature (deg C) and, (rails,), power (W)
        warmth_k = self._heat.at_rest(AMBIENT_C[None])[1].sum()
        self.start_temp_c = float(read_temperature(AMBIENT_C + warmth_k, model.sensor.temp_step_c))
        rest_w = model.rest_rail_w({c.name: c.freqs_hz[0] for c in spec.clocks}, self.start_temp_c)
        self.start_w = np.array([rest_w[r] for r in spec.rails], np.float32)
        clocks = tables.unit_clock
        in_order = clocks == tuple(range(self._clocks))
        self._unit_rows: slice | list[int] = slice(2, None) if in_order else [2 + c for c in clocks]

        self._noise = np.zeros(n, np.uint32)  # a board's count, from a key that its generator drew
        self.granted = np.repeat(self.initial_knobs[:, None], n, axis=1)
        self._queued = np.zeros(n, np.float32)  # backlog in frames
        self._phase = np.zeros(n, np.float32)
        self._before_w = np.zeros((self._rails, n), np.float32)
        self._differs = nominal(model, n)
        self.busy = np.zeros((self._units, n), np.float32)
        self.mem_gbps = np.zeros(n, np.float32)
        self.ambient_c = np.full(n, AMBIENT_C)
        self.reset(range(n), seeds=range(n))

    def reset(
        self, lanes: Sequence[int] | NDArray[np.integer[Any]], *, seeds: Sequence[int | None] | None = None
    ) -> None:
        """Bring these boards to their start: lowest clocks, smallest rung, and nothing done for long.

        A seed gives a board another key of its noise; None goes on with what it has.
        """
        index = np.asarray(lanes, np.intp)
        if index.size == 0:
            return
        # what was handed out or in keeps what it holds
        for name in ("granted", "_before_w", "_noise", "busy", "mem_gbps", "ambient_c"):
            setattr(self, name, getattr(self, name).copy())
        for k, lane in enumerate(index if seeds is not None else ()):
            if seeds is not None and seeds[k] is not None:
                self._noise[lane] = np.random.default_rng(seeds[k]).integers(2**32, dtype=np.uint32)
        self.granted[:, index] = self.initial_knobs[:, None]
        self._queued[index] = 0
        self._phase[index] = 0
        if self._varies:
            for row, factors in zip(self._differs, drawn(self.model, self._noise.take(index)), strict=True):
                row[..., index] = factors
        self._heat.reset(index)
        self._before_w[:, index] = self.start_w[:, None]
        self.busy[:, index] = 0
        self.mem_gbps[index] = 0
        self.ambient_c[index] = AMBIENT_C

    def fork(self, lanes: I) -> Simulator:
        """Boards in exactly the state of these lanes, (n,), with their coming noise: for whoever may look ahead."""
        twin = copy.copy(self)
        twin.n, twin._heat = len(lanes), self._heat.fork(lanes)
        twin._differs = Factors(*(row.take(lanes, axis=-1) for row in self._differs))
        for name in ("_noise", "_queued", "_phase", "_before_w", "granted", "busy", "mem_gbps", "ambient_c"):
            setattr(twin, name, getattr(self, name).take(lanes, axis=-1))
        return twin

    @property
    def flat_points(self) -> I:
        """The profile's operating points as knob indices, (2 + clocks, points)."""
        return self.tables.flat_points

    def inject(self, busy: F, mem_gbps: F, ambient_c: F) -> None:
        """Background work and surroundings from now on: busy cores (units, n), GB/s (n,), deg C (n,).

        The arrays are kept, not copied: what is written to them later counts from the next step on.
        """
        self.busy, self.mem_gbps, self.ambient_c = busy, mem_gbps, ambient_c

    def accuracy(self, interval: Interval) -> F:
        """Share of an interval's served frames that were right, (n,), each by the rung's accuracy; NaN where none was.

        Frame by frame, (frames, n) draws: for the few lanes whose telemetry somebody reads.
        """
        served, rung = interval.served, interval.granted[0]
        frames = np.arange(int(served.max()), dtype=np.uint32)[:, None]
        bits = noise.mixed(noise.mixed(interval.noise ^ _LABELS) + frames * noise.STEP)
        right = (noise.uniform(bits) < self.tables.accuracy.take(rung)) & (frames < served)
        return np.where(served > 0, right.sum(axis=0, dtype=np.float32) / at_least(served, ONE), np.float32(np.nan))

    def unmetered_w(self, interval: Interval) -> F:
        """What the rest of the board and the fan drew in an interval (W), (n,); it is on no meter."""
        return self.tables.unmetered_w.take(interval.fan)

    def step(self, knobs: NDArray[np.integer[Any]], rate_hz: F, deadline_s: F) -> Interval:
        """Set (2 + clocks, n) knob indices, serve one interval of the demanded rate (Hz) and deadline (s)."""
        tables, interval_s, units = self.tables, self._interval_s, self._units
        self._noise = self._noise + noise.STEP
        bits = noise.mixed(self._noise)
        jitter, coin = noise.normal(bits), noise.uniform(bits)

        # what the kernel grants, and what the change costs
        self._heat.start(self.ambient_c, self._differs.heat)
        granted: K = np.array(knobs, self.granted.dtype, order="C")
        throttled = self._heat.cap(granted[2:])
        changed = (granted != self.granted).astype(np.float32)
        self.granted = granted
        stall_s = np.add.reduce(changed * self._change_s, axis=0)
        for row in changed[3:]:
            np.maximum(changed[2], row, out=changed[2])
        switched = changed[:3]

        # service time under contention
        rung, place = granted[0], granted[1]
        steps = granted[self._unit_rows]
        here: F = np.empty((units, self.n), np.float32)
        here[0] = ONE
        step = steps[0]
        for u, (last_before, first) in enumerate(tables.unit_starts, 1):
            reached = within(place, last_before, first)
            reached -= last_before  # 1 from this unit's placements on
            here[u] = reached
            here[u - 1] -= here[u]
            reached *= steps[u] - step
            reached += step
            step = reached
        placements = tables.placement.shape[1]
        point = rung * placements
        point += place
        point *= tables.point_steps
        point += step
        # "clip" only spares a check
        cores, free_cores, streams_per_gbps = tables.placement.take(place, axis=1, mode="clip")
        alone_s, crowded_s, cv, own_w, memory_w = tables.point.take(point, axis=1, mode="clip")
        busy = reduce(np.add, here * self.busy)
        share = physics.core_share(free_cores, busy, self._min_share)
        crowd = physics.crowd(busy, share.shared, self.mem_gbps * streams_per_gbps)
        service_s = physics.service_time(alone_s, crowded_s, share.share, crowd)
        own_s = alone_s
        if self._varies:
            own_s = alone_s * self._differs.pace
            service_s *= self._differs.pace
        # of the frames' spread, so much is the interval's: that of their mean; what is left is among them
        per_frame = rate_hz * interval_s
        np.divide(ONE, at_least(per_frame, ONE, out=per_frame), out=per_frame)
        jitter *= cv
        jitter *= np.sqrt(per_frame)
        jitter += ONE
        service_s *= at_least(jitter, HALF, out=jitter)
        np.subtract(ONE, per_frame, out=per_frame)
        cv *= np.sqrt(per_frame, out=per_frame)

        # the queue
        backlog_s = self._queued * service_s
        backlog_s += stall_s
        queue = serve(backlog_s, self._phase, service_s, cv, rate_hz, deadline_s, interval_s)
        self._queued = queue.backlog_s / service_s
        self._phase = queue.phase
        dropped, missed = queue.dropped, queue.missed
        for expected in (dropped, missed):  # rounded to whole frames without bias
            expected += coin
            np.floor(expected, out=expected)
            # at the highest rates single precision has no room for the coin beside the frames
            np.minimum(expected, queue.arrived, out=expected)
        served = queue.arrived - dropped
        nothing = (served < HALF).nonzero()[0]
        queue.latency_mean_s[nothing] = queue.latency_p95_s[nothing] = np.nan

        # what runs where: the network, background work
        on = queue.busy_s * self._per_s
        on_here = here * on
        load = at_most(self.busy, ONE)
        powered = self._power.powered(load, on_here, here, served)
        background = on_here * physics.gives_way(share.shared, self._min_share)
        np.subtract(self.busy, background, out=background)
        # its cores are busy while the network runs, whoever has them
        utilisation = on_here
        utilisation *= cores - share.shared
        utilisation += self.busy
        utilisation *= tables.per_core
        at_most(utilisation, ONE, out=utilisation)
        busiest = ONE - on
        busiest *= share.excess
        busiest += on
        peak: F = np.multiply(here, busiest)
        np.maximum(peak, load, out=peak)

        # power and heat
        working = own_s / service_s
        working *= on
        memory_w *= working
        v2f, leak_w = self._power.clocks(steps)
        if self._varies:
            v2f *= self._differs.power[0]
            leak_w *= self._differs.power[1:]
            own_w *= self._differs.power[0]
        own_w *= working
        own_w += (stall_s > ZERO) * self._change_w
        watts = self._power.draw(
            v2f,
            leak_w,
            self._heat.temperature(self.ambient_c),
            powered=powered,
            background=background,
            network_w=here * own_w,
            peak=peak,
            mem_gbps=self.mem_gbps,
            network_mem_w=memory_w,
        )
        fan = self._heat.fan
        exact_temp_c = self._heat.warm(watts, v2f, self.ambient_c, self._differs.heat)

        # what the meters make of it
        sensor = self.model.sensor
        temp_c = read_temperature(exact_temp_c, sensor.temp_step_c)
        if not self.model.spec.thermal_nodes:
            temp_c = np.full(self.n, -np.inf, np.float32)
        energy_j = read_energy(
            watts,
            self._before_w,
            self._differs.gain if self._varies else None,
            window_s=sensor.window_s,
            step_w=sensor.step_w,
            interval_s=self.model.spec.interval_s,
        )
        self._before_w = watts
        return Interval(
            granted=granted,
            frames=queue.arrived,
            served=served,
            missed=missed,
            dropped=dropped,
            latency_mean_s=queue.latency_mean_s,
            latency_p95_s=queue.latency_p95_s,
            energy_j=energy_j,
            temp_c=temp_c,
            utilisation=utilisation,
            peak_utilisation=peak,
            throttled=throttled,
            switched=switched,
            exact_power_w=watts,
            exact_temp_c=exact_temp_c,
            fan=fan,
            alone_s=alone_s,
            noise=self._noise,
        )
