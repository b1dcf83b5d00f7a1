"""The laws: pure array functions, (n,) in and (n,) out, float32 all through.

The simulator strings them together; nothing here knows of a board file, a profile or a seed.
Sources of the laws and of their parameters: the board files, and DESIGN section 4.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F = NDArray[np.float32]

LOGISTIC = np.float32(1.702)  # logistic(1.702 x) is the normal distribution function within 0.0095
ONE = np.float32(1.0)
HALF = np.float32(0.5)
ZERO = np.float32(0.0)
TINY = np.float32(1e-6)


@lru_cache(maxsize=64)
def _filled(value: float, n: int) -> F:
    array = np.full(n, value, np.float32)
    array.setflags(write=False)
    return array


def at_least(x: F, low: float) -> F:
    """`max(x, low)`, (n,); against an array of its own, since NumPy's maximum is slow against a scalar."""
    return np.asarray(np.maximum(x, _filled(low, x.size)))


def at_most(x: F, high: float) -> F:
    """`min(x, high)`, (n,)."""
    return np.asarray(np.minimum(x, _filled(high, x.size)))


class Share(NamedTuple):
    """What background work leaves to the network; all (n,)."""

    share: F  # of its slowest core, 0..1
    excess: F  # background demand on the network's busiest core, 0..1


def core_share(cores: F, unit_cores: F, busy: F, min_share: np.float32) -> Share:
    """Fair sharing (CFS) of a unit's cores with `busy` cores of background work.

    Background work takes free cores first. What does not fit lands on the network's cores, one core first, and a
    parallel region waits for its slowest core; an equal-weight thread keeps at least `min_share` of a core.
    """
    excess = at_most(at_least(busy - unit_cores + cores, 0.0), 1.0)
    return Share(at_least(ONE - excess, float(min_share)), excess)


def service_time(compute_s: F, stall_s: F, share: F, mem_load: F, stretch: np.float32) -> F:
    """Time of one frame (s): the compute part over the share of a core, the memory-bound part stretched by traffic.

    `mem_load` is background traffic over the unit's memory ceiling.
    """
    return compute_s / share + stall_s * (ONE + stretch * mem_load)


def _mix(which: F, one: F, zero: F) -> F:
    """`one` where `which` is 1, `zero` where it is 0."""
    return zero + which * (one - zero)


def _bounded(x: F) -> F:
    """Within what `exp` in single precision bears."""
    return at_most(at_least(x, -60.0), 60.0)


class Queue(NamedTuple):
    """What an interval did to the frames that arrived in it; all (n,)."""

    arrived: F  # whole frames
    dropped: F  # expected, not whole
    missed: F  # expected, dropped ones included
    latency_mean_s: F  # of the served frames, NaN where none
    latency_p95_s: F
    busy_s: F  # time the network ran
    backlog_s: F  # work left at the end, in seconds of service
    phase: F  # of the next arrival, in periods after the end of the interval


def serve(
    backlog_s: F, phase: F, service_s: F, cv: F, rate_hz: F, deadline_s: F, interval_s: np.float32
) -> Queue:
    """Frames at a steady rate into one server, first in first out, for one interval.

    The waiting time of successive frames follows Lindley's recursion. With a steady rate and a service time of mean
    `service_s` and coefficient of variation `cv` it moves by `service_s - period` a frame until it meets its
    resting value: the heavy-traffic wait `cv^2 s^2 / (2 (period - s))` below saturation, a walk just under
    the deadline above it, where every served frame is late and the surplus is dropped. A frame that cannot start
    before its deadline is dropped. A frame is late with the probability that its wait plus a service time drawn
    from the distribution exceeds the deadline; along the moving part this is integrated in closed form.
    Agrees with an event-by-event queue (in the tests) within 2 points of miss rate and 5 % of mean latency.
    """
    period = ONE / rate_hz
    first = phase * period
    arrived = at_least(np.ceil((interval_s - first) * rate_hz), 0.0)
    drift = service_s - period
    saturated = (drift > ZERO).astype(np.float32)  # 0 or 1: mixing by arithmetic is faster than by np.where

    # frames that find a backlog beyond their deadline never start
    start = at_least(backlog_s - first, 0.0)
    doomed = np.minimum(at_least((start - deadline_s) * rate_hz, 0.0), arrived)
    start = np.minimum(start, deadline_s)
    queued = arrived - doomed

    spread = cv * service_s
    idle_wait = np.minimum(spread * spread * HALF / at_least(-drift, 1e-6), deadline_s)
    rest = _mix(saturated, at_least(deadline_s + HALF * service_s - period, 0.0), idle_wait)
    rest_served = _mix(saturated, at_least(deadline_s - HALF * period, 0.0), idle_wait)

    distance = rest - start
    reach = np.abs(distance)
    slope = np.abs(drift) + np.float32(0.05) * spread + TINY
    moving = np.minimum(queued, reach / slope)
    steps = at_least(moving - ONE, 0.0) * slope
    sign = np.sign(distance)
    travelled = sign * steps
    resting = queued - moving
    started = resting * at_most(period / service_s, 1.0)
    dropped = doomed + resting - started

    # late with probability Phi((wait + service - deadline) / spread), Phi by the logistic
    per_spread = LOGISTIC / at_least(spread, 1e-6)
    x0 = _bounded((start + service_s - deadline_s) * per_spread)
    dx = travelled * per_spread
    dx += np.copysign(np.float32(0.1), dx)  # a frame's own width, and no division by zero
    x1 = at_most(x0 + dx, 80.0)
    late_moving = (np.log(ONE + np.exp(x1)) - np.log(ONE + np.exp(x0))) / (x1 - x0)
    late_resting = ONE / (
        ONE + np.exp(_bounded((deadline_s - rest_served - service_s) * per_spread))
    )
    missed = np.minimum(dropped + moving * late_moving + started * late_resting, arrived)

    served = at_least(moving + started, 1e-6)
    waits = moving * (start + HALF * travelled) + started * rest_served
    mean = waits / served + service_s
    # the wait that 95 % of the frames do not exceed: near the start of a falling wait, near the end of a rising one
    course = queued * slope
    falling = np.maximum(start - np.float32(0.05) * course, rest_served)
    rising = start + np.minimum(np.float32(0.95) * course, reach)
    p95 = _mix((distance < ZERO).astype(np.float32), falling, rising) + service_s + np.float32(1.645) * spread

    # the last frame's wait decides what is left over
    next_arrival = first + arrived * period - interval_s
    last = start + sign * np.minimum(reach, at_least(queued - ONE, 0.0) * slope)
    backlog = at_least(_mix(at_most(arrived, 1.0), last + drift + next_arrival, backlog_s - interval_s), 0.0)
    busy = at_most(at_least(backlog_s + (moving + started) * service_s - backlog, 0.0), float(interval_s))
    return Queue(arrived, dropped, missed, mean, p95, busy, backlog, next_arrival * rate_hz)


def dynamic_power(capacitance_f: F | np.float32, v2f: F) -> F:
    """`C V^2 f` (W)."""
    return capacitance_f * v2f


def powered_share(busy_background: F, busy_network: F, naps: F) -> F:
    """Share of the interval (0..1) in which a cluster is powered.

    It is up while the network or any background core runs, and for `naps` (the powering-down delay times the
    number of gaps, as a share of the interval) besides.
    """
    idle = (ONE - at_most(busy_background, 1.0)) * (ONE - busy_network)
    return ONE - at_least(idle - naps, 0.0)


def leakage_exponential(temp_c: F, per_k: np.float32) -> F:
    """Leakage over its value at 50 C, `exp(k (T - 50))`."""
    return np.exp(per_k * (temp_c - np.float32(50.0)))


def leakage_arrhenius(temp_c: F, activation_k: np.float32) -> F:
    """Leakage over its value at 50 C, `(T/T0)^2 exp(-C2 (1/T - 1/T0))` with T0 = 323.15 K."""
    inverse = np.float32(323.15) / (temp_c + np.float32(273.15))
    return np.exp((activation_k / np.float32(323.15)) * (ONE - inverse)) / (inverse * inverse)


def relax(state_k: F, target_k: F, decay: F) -> F:
    """One interval of a first-order thermal stage: the exact step towards a constant target."""
    return target_k + (state_k - target_k) * decay


def hysteresis(level: NDArray[np.intp], temp_c: F, trips_c: F, hysteresis_k: F) -> NDArray[np.intp]:
    """The level after this temperature: up at a trip, down only when cooled by the hysteresis below it."""
    up = np.zeros(level.shape, np.uint8)
    stay = np.zeros(level.shape, np.uint8)
    for trip, hyst in zip(trips_c, hysteresis_k, strict=True):
        up += temp_c >= trip
        stay += temp_c >= trip - hyst
    return np.maximum(up, np.minimum(level.astype(np.uint8), stay)).astype(np.intp)
