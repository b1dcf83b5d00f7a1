"""What the simulator looks up: a board file and a profile turned into dense float32 arrays, once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.boardmodel import REFERENCE_C, BoardModel, leak_scale
from hw.simulated.physics import crowded_time, level_bounds, trip_points
from hw.types import Profile

F = NDArray[np.float32]
I = NDArray[np.intp]  # noqa: E741
K = NDArray[np.signedinteger[Any]]  # knob indices, in as few bytes as the index of a point needs
# Rows of `Tables.thermal`: how much of a stage's warmth an interval leaves, all K/W, and those of the two stages
DECAYS, RESISTANCES, STAGES = slice(0, 2), slice(3, 6), slice(3, 5)

STREAMS = 2.0  # so many streaming programs fill a unit's memory path: one on an XU3's A15 takes 1.7-2.0 of 3.8 GB/s


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Arrays by rung (R), placement (P), frequency index (S, padded to the longest clock), unit (U), clock (C)."""

    # (5, R*P*S): s of a frame alone, s longer for every program that crowds it, coefficient of variation, network's
    # own W, network's memory W
    point: F
    point_steps: int  # S
    flat_points: I  # (2 + C, points): the profile's points as knob indices, other clocks at their lowest
    accuracy: F  # (R,)
    placement: F  # (3, P): cores, the unit's other cores, streaming programs per GB/s
    unit_starts: list[tuple[K, K]]  # (U - 1,): a unit's first placement after the one before it
    per_core: F  # (U, 1): 1 over the unit's cores
    unit_clock: tuple[int, ...]
    power: F  # (2, U*S), unit by unit: V^2 f (W per nF), leakage W at 50 C
    power_start: K  # (U, 1): where a unit's columns start
    caps: K  # (C, cap levels): highest frequency index at a throttle level
    trips: F  # of the fan and of the caps, see `physics.trip_points`
    # (8, fan levels * cap levels), cap by cap within a fan's: decay1, decay2; what an interval gains by the offset (K)
    # and by RESISTANCES (K/W: R1, R2, the spot's); and from where to where (deg C) both levels stay
    thermal: F
    unmetered_w: F  # (levels,): rest of the board and fan, on no meter


def build_tables(model: BoardModel, profile: Profile) -> Tables:
    """Dense look-up tables of a board and a profile.

    The memory-bound part of a latency, which says what a crowd costs, is the constant of `t = a/f + b`, fitted per rung
    and placement with both parts non-negative. The network's own power is what its profile shows above the
    board's idle law at the reference temperature, so that the profile is met exactly there. A meter also saw what any
    busy unit costs (`active_w`), which the simulator adds: a measured profile holds it, a modelled one leaves it out.
    """
    spec = model.spec
    placements = spec.placements
    steps = max(len(c.freqs_hz) for c in spec.clocks)
    shape = (len(profile.rungs), len(placements), steps)
    point = np.zeros((5, *shape), np.float32)
    point[0] = 1.0  # padding is never reached; a second keeps divisions finite
    knob_type: np.dtype[Any] = np.dtype(np.int16) if point[0].size <= np.iinfo(np.int16).max else np.dtype(np.int32)
    flat = []
    lowest = {c.name: c.freqs_hz[0] for c in spec.clocks}
    warmer_k, metered = model.reference_temp_c - REFERENCE_C, profile.kind == "measured"
    active_w = {r.name: metered * r.active_w * math.exp(r.per_k * warmer_k) for r in model.rails if r.w_per_gbps}
    clock_names = [c.name for c in spec.clocks]
    for p in profile.points:
        unit, place = spec.unit(p.unit), placements.index((p.unit, p.cores))
        step = spec.clock(unit.clock).nearest(p.freq_hz)
        idle = model.idle_rail_w({**lowest, unit.clock: p.freq_hz}, model.reference_temp_c)
        memory = sum(max(0.0, p.rail_power_w[name] - idle[name] - watts) for name, watts in active_w.items())
        own = max(0.0, p.power_w - idle[p.unit])
        cv = p.latency_std_s / p.latency_mean_s
        point[:, p.rung - 1, place, step] = (p.latency_mean_s, 0.0, cv, own, memory)
        knobs = [p.rung - 1, place] + [0] * len(clock_names)
        knobs[2 + clock_names.index(unit.clock)] = step
        flat.append(knobs)
    for place, (name, _) in enumerate(placements):
        freqs = np.array(spec.clock(spec.unit(name).clock).freqs_hz)
        for rung in range(shape[0]):
            alone_s, crowded_s = point[:2, rung, place, : len(freqs)]
            memory_s = np.full_like(alone_s, _constant_part(1.0 / freqs, alone_s.astype(float)))
            crowded_s[:] = crowded_time(alone_s, memory_s, model.contention.stall_stretch)
    power = np.zeros((2, len(model.units), steps), np.float32)
    for i, u in enumerate(model.units):
        clock = spec.clock(u.clock)
        power[0, i, : len(clock.volts)] = 1e-9 * np.array(clock.volts) ** 2 * np.array(clock.freqs_hz)
        power[1, i, : len(clock.volts)] = [leak_scale(u, v) for v in clock.volts]
    fan_trips_c = model.thermal.fan_trips_c
    trips = trip_points(
        (fan_trips_c, [model.thermal.fan_hysteresis_k] * len(fan_trips_c)),
        ([t.trip_c for t in model.throttle], [t.hysteresis_k for t in model.throttle]),
    )
    low, high = level_bounds(trips)
    thermal = []
    for fan in range(len(model.thermal.fan_duty)):
        regime = model.thermal.regime(fan)
        decays = [np.exp(-spec.interval_s / tau_s) for tau_s in regime.tau_s]
        for cap in range(len(model.throttle) + 1):
            calm = max(low[0, fan], low[1, cap]), min(high[0, fan], high[1, cap])
            gain1, gain2 = 1 - decays[0], 1 - decays[1]
            r1, r2 = regime.r_k_per_w
            gains = [gain2 * regime.offset_k, gain1 * r1, gain2 * r2, gain1 * regime.spot_k_per_w]
            thermal.append([*decays, *gains, *calm])
    caps = [
        [len(c.freqs_hz) - 1]
        + [int(np.searchsorted(c.freqs_hz, t.caps_hz.get(c.name, c.max_hz) * (1 + 1e-9))) - 1 for t in model.throttle]
        for c in spec.clocks
    ]
    accuracy = np.array([r.accuracy for r in profile.rungs], np.float32)
    unit_starts = [placements.index((u.name, 1)) for u in spec.units[1:]]
    ceilings_gbps = {u.name: u.mem_ceiling_gbps for u in model.units}
    by_place = [(n, spec.unit(name).cores - n, STREAMS / ceilings_gbps[name]) for name, n in placements]
    return Tables(
        point=point.reshape(len(point), -1),
        point_steps=steps,
        flat_points=np.array(flat, np.intp).T.copy(),
        accuracy=accuracy,
        placement=np.array(by_place, np.float32).T.copy(),
        unit_starts=[(np.array(k - 1, knob_type), np.array(k, knob_type)) for k in unit_starts],
        per_core=np.array([[1 / u.cores] for u in spec.units], np.float32),
        unit_clock=tuple(clock_names.index(u.clock) for u in spec.units),
        power=power.reshape(2, -1),
        power_start=np.arange(0, power[0].size, steps).astype(knob_type)[:, None],
        caps=np.array(caps, knob_type),
        trips=trips,
        thermal=np.array(thermal, np.float32).T.copy(),
        unmetered_w=np.array([model.board_base_w + duty * model.fan_w for duty in model.thermal.fan_duty], np.float32),
    )


def _constant_part(inverse_hz: NDArray[np.float64], seconds: NDArray[np.float64]) -> float:
    """The `b` of `t = a/f + b`: least squares on relative errors, kept between 0 and the shortest time."""
    if len(seconds) < 2:
        return 0.0
    design = np.stack([inverse_hz / seconds, 1.0 / seconds], axis=1)
    (_, b), *_ = np.linalg.lstsq(design, np.ones(len(seconds)), rcond=None)
    return float(min(max(b, 0.0), 0.95 * seconds.min()))
