"""The laws: pure array functions, (n,) in and (n,) out, float32 all through.

The simulator strings them together; nothing here knows of a board file, a profile or a seed.
Sources of the laws and of their parameters: the board files, and DESIGN section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw.clip import ONE, ZERO, at_least, at_most, constant, within

F = NDArray[np.float32]


STALL_POWER = 0.69  # see `crowded_time`
LOGISTIC = constant(1.702)  # logistic(1.702 x) is the normal distribution function within 0.0095
HALF = constant(0.5)
TINY = constant(1e-6)
THOUSANDTH = constant(1e-3)
EARLIEST = constant(-1e6)  # beyond, single precision would lose a frame's width
SURE = constant(60.0)  # where the logistic is 0 or 1; an exponential would overflow at 89
TWENTIETH = constant(0.05)
TEN = constant(10.0)
WALK = constant(-1.165)
TAIL = constant(-0.335)
THREE_HALVES = constant(1.5)
P95, FALLEN = constant(0.95), constant(-0.05)
NORMAL_P95 = constant(1.645)  # standard deviations over the mean
ZERO_CELSIUS_K = constant(273.15)
REFERENCE_C = constant(50.0)
REFERENCE_K = constant(323.15)


class Share(NamedTuple):
    """What background work leaves to the network; all (n,)."""

    share: F  # of its slowest core, 0..1
    excess: F  # background demand on the network's busiest core, 0..1


def core_share(free_cores: F, busy: F, min_share: F) -> Share:
    """Fair sharing (CFS) of a unit with `busy` cores of background work; `free_cores` are those without the network.

    Background work takes free cores first. What does not fit lands on the network's cores, one core first, and a
    parallel region waits for its slowest core; an equal-weight thread keeps at least `min_share` of a core.
    """
    excess = within(busy - free_cores, ZERO, ONE)
    return Share(at_least(ONE - excess, min_share), excess)


def crowd(busy: F, excess: F, streams: F) -> F:
    """How many programs press on the unit's caches and memory path beside the network, (n,).

    Background work on cores beside the network's, whatever it does; what shares a core runs when the network does
    not. Or, where that is more, memory traffic from anywhere, counted in streaming programs (`streams`).
    """
    beside: F = np.maximum(busy - excess, streams)
    return beside


def crowded_time(alone_s: F, memory_s: F, stretch: float) -> F:
    """What a frame of `alone_s`, `memory_s` of them memory-bound, takes longer for every program that crowds it (s).

    A share m of stalls costs stretch x m ** 0.69: less than in proportion, because a small m, seen as the part that
    no clock shortens, knows nothing of what is lost in the cache that a cluster's cores share on their own clock.
    Against 1 to 4 copies of a program on an XU3's A15 cores at 1.8 GHz, with a stretch of 0.394: 6 % on average, 20 %
    at worst (in the tests). Least squares on those ten ask for an exponent of 0.75, on all 32 programs for 0.65.
    """
    longer: F = stretch * alone_s ** (1 - STALL_POWER) * memory_s**STALL_POWER
    return longer


def service_time(compute_s: F, memory_s: F, crowded_s: F, share: F, others: F) -> F:
    """Time of one frame (s): the compute part over the share of a core, the memory-bound part, and `crowded_s` for
    each of `others`, the programs that crowd it.
    """
    return compute_s / share + memory_s + crowded_s * others


def _mix(which: F, one: F, zero: F) -> F:
    """`one` where `which` is 1, `zero` where it is 0."""
    mixed = one - zero
    mixed *= which
    mixed += zero
    return mixed


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


def serve(backlog_s: F, phase: F, service_s: F, cv: F, rate_hz: F, deadline_s: F, interval_s: F) -> Queue:
    """Frames at a steady rate into one server, first in first out, for one interval.

    The waiting time of successive frames follows Lindley's recursion. With a steady rate and a service time of mean
    `service_s` and coefficient of variation `cv` it moves by `service_s - period` a frame until it meets its
    resting value: below saturation the wait of a Gaussian walk, `sigma / (2 x) exp(-1.165 x)` with sigma = cv s and
    x = (period - s) / sigma; above it a walk just under the deadline, where every served frame is late and the
    surplus is dropped. A frame that cannot start
    before its deadline is dropped. A frame is late with the probability that its wait plus a service time drawn
    from the distribution exceeds the deadline; along the moving part this is integrated in closed form.
    Agrees with an event-by-event queue (in the tests) within 2 points of miss rate and 5 % of mean latency; within
    5 points in the interval or two in which a backlog builds up. A `cv` below 0.001 counts as that.
    """
    period = ONE / rate_hz
    before_first = phase * period
    expected = interval_s * rate_hz - phase
    arrived = at_least(np.ceil(expected), ZERO)
    next_phase = arrived - expected
    drift = service_s - period
    saturated = (drift > ZERO).astype(np.float32)  # 0 or 1: mixing by arithmetic is faster than by np.where
    stable = ONE - saturated

    # frames that find a backlog beyond their deadline never start
    start = at_least(backlog_s - before_first, ZERO)
    beyond: F = at_least((start - deadline_s) * rate_hz, ZERO)
    whole: F = np.ceil(beyond)
    # whole frames; above saturation, where the wait stands for its mean, half a one more on average
    doomed = np.minimum(_mix(saturated, beyond + HALF * at_most(beyond, ONE), whole), arrived)
    start -= doomed * period
    queued = arrived - doomed

    spread = at_least(cv, THOUSANDTH) * service_s
    per_sd = ONE / spread
    x = within(-drift * per_sd, THOUSANDTH, TEN)
    shrink: F = np.exp(WALK * x)
    idle_wait: F = np.minimum(spread * HALF / x * shrink, deadline_s) * stable
    start = np.maximum(start, idle_wait)
    ceiling = at_least(deadline_s - HALF * period, ZERO) * saturated
    rest_served = ceiling + idle_wait

    # above saturation frames also find the wait of those that are dropped: half a drift more
    distance = rest_served + HALF * at_least(drift, ZERO) - start
    slope = np.maximum(np.abs(drift), TWENTIETH * spread) + TINY
    farthest = queued * slope
    way = np.minimum(np.abs(distance), farthest)
    moving = way / slope
    middle = start + HALF * at_least(moving - ONE, ZERO) * np.copysign(slope, distance)  # of their waits, the mean
    resting = queued - moving
    started = resting * at_most(period / service_s, ONE)
    dropped = doomed + resting - started

    # late with probability Phi((wait + service - deadline) / spread), Phi by the logistic
    per_spread = LOGISTIC * per_sd
    slack = deadline_s - service_s
    centre = at_least((middle - slack) * per_spread, EARLIEST)
    # each frame stands for half a step on either side; a twentieth: no division by zero
    reaches = HALF * way * per_spread + TWENTIETH
    low, high = centre - reaches, centre + reaches
    # mean of Phi between the two
    from_, to = at_most(low, SURE), at_most(high, SURE)
    early = to - from_ - np.log((ONE + np.exp(to)) / (ONE + np.exp(from_)))
    late_moving = ONE - early / (high - low)
    # a wait at rest below saturation is 0 or, with probability exp(-1.5 x), exponential: normal plus exponential
    tail = (x + x) * np.exp(TAIL * x)
    margin = slack * per_sd
    waits_too: F = np.exp(at_most((HALF * tail - margin) * tail - THREE_HALVES * x, ZERO)) * stable
    waits_too /= ONE + np.exp(at_most((tail - margin) * LOGISTIC, SURE))
    late_resting = waits_too + ONE / (ONE + np.exp(at_most((slack - ceiling) * per_spread, SURE)))
    missed = np.minimum(dropped + moving * late_moving + started * late_resting, arrived)

    served = moving + started
    waits = moving * middle + started * rest_served
    mean = waits / at_least(served, TINY) + service_s
    # the wait that 95 % of the frames do not exceed: near the start of a falling wait, near the end of a rising one
    p95 = start + np.minimum(np.maximum(distance, FALLEN * farthest), P95 * farthest)
    p95 += service_s + NORMAL_P95 * spread

    # the last frame's wait and how it moves on decide what is left over; above saturation it stays where it
    # rests: it does not grow by the frames that never start
    farthest = at_least(queued - stable, ZERO) * slope
    last = start + np.minimum(np.maximum(distance, -farthest), farthest)
    coming = last + at_most(drift, ZERO) * at_most(queued, ONE)
    backlog = at_least(_mix(at_most(arrived, ONE), coming + next_phase * period, backlog_s - interval_s), ZERO)
    busy = within(backlog_s + served * service_s - backlog, ZERO, interval_s)
    return Queue(arrived, dropped, missed, mean, p95, busy, backlog, next_phase)


def dynamic_power(capacitance_f: F | np.float32, v2f: F) -> F:
    """`C V^2 f` (W)."""
    return capacitance_f * v2f


def powered_share(busy_background: F, busy_network: F, naps: F) -> F:
    """Share of the interval (0..1) in which a cluster is powered; the background's at most 1.

    It is up while the network or any background core runs, and for `naps` (the powering-down delay times the
    number of gaps, as a share of the interval) besides.
    """
    busy = busy_background + busy_network - busy_background * busy_network
    return at_most(busy + naps, ONE)


def leakage_exponential(temp_c: F, per_k: np.float32 | F) -> F:
    """Leakage over its value at 50 C, `exp(k (T - 50))`."""
    growth: F = np.exp(per_k * (temp_c - REFERENCE_C))
    return growth


def leakage_arrhenius(temp_c: F, activation_k: np.float32 | F) -> F:
    """Leakage over its value at 50 C, `(T/T0)^2 exp(-C2 (1/T - 1/T0))` with T0 = 323.15 K."""
    inverse = REFERENCE_K / (temp_c + ZERO_CELSIUS_K)
    growth: F = np.exp((activation_k / REFERENCE_K) * (ONE - inverse)) / (inverse * inverse)
    return growth


def relax(state_k: F, gained_k: F, decay: F) -> F:
    """One interval of a first-order thermal stage: the exact step towards a constant target.

    Of the state `decay` is left, of the target it has gained the rest: `gained_k` is `(1 - decay)` target.
    """
    return state_k * decay + gained_k


def trip_points(*actors: tuple[Sequence[float], Sequence[float]]) -> F:
    """What `hysteresis` wants, (2, actors, trips, 1): trips (deg C) and, so many kelvins below each, their releases.

    An actor, such as a fan, is its trips and a hysteresis (K) for each; where it has fewer than others, infinity.
    """
    points = np.full((2, len(actors), max(len(trips) for trips, _ in actors), 1), np.inf, np.float32)
    for i, (trips_c, hysteresis_k) in enumerate(actors):
        trips = np.array(trips_c, np.float32)
        points[:, i, : len(trips), 0] = trips, trips - np.array(hysteresis_k, np.float32)
    return points


def hysteresis(levels: NDArray[np.uint8], temp_c: F, points_c: F) -> NDArray[np.uint8]:
    """Levels (actors, n) after this temperature: up at a trip, down only when cooled below its release."""
    passed = (temp_c >= points_c).view(np.uint8)
    up, stay = np.add.reduce(passed, axis=2, dtype=np.uint8)
    after: NDArray[np.uint8] = np.maximum(up, np.minimum(levels, stay))
    return after


def level_bounds(points_c: F) -> F:
    """Where `hysteresis` leaves a level alone, (2, actors, levels): from the first to just below the second (deg C)."""
    trips, releases = np.sort(points_c[..., 0], axis=2)
    edge = np.full((len(trips), 1), np.inf, np.float32)
    return np.stack([np.hstack([-edge, releases]), np.hstack([trips, edge])])
