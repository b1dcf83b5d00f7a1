"""The laws: pure array functions, (n,) in and (n,) out, float32 all through.

The simulator strings them together; nothing here knows of a board file, a profile or a seed.
Arithmetic is in place wherever a number is of no more use: memory that was just read is written a sixth faster.
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
SIGN_BIT = np.array(0x80000000, np.uint32)
TINY = constant(1e-6)
THOUSANDTH = constant(1e-3)
EARLIEST, LATEST = constant(-1e6), constant(1e6)  # beyond, single precision would lose a frame's width
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
    time_s = compute_s / share
    time_s += memory_s
    time_s += crowded_s * others
    return time_s


def _mix(which: F, one: F, zero: F) -> F:
    """`one` where `which` is 1, `zero` where it is 0; in the place of `one`."""
    one -= zero
    one *= which
    one += zero
    return one


def _signed(size: F, sign: NDArray[np.uint32]) -> F:
    """`size`, which has no sign, with this one, in its place: `np.copysign` takes four times as long."""
    bits = size.view(np.uint32)
    bits |= sign
    return size


def _one_more(x: F) -> F:
    """`1 + x`, in the place of x."""
    x += ONE
    return x


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
    expected = interval_s * rate_hz
    expected -= phase
    arrived = np.ceil(expected)
    at_least(arrived, ZERO, out=arrived)
    next_phase = arrived - expected
    spare = period - service_s
    saturated = (spare < ZERO).astype(np.float32)  # 0 or 1: mixing by arithmetic is faster than by np.where
    stable = ONE - saturated

    # frames that find a backlog beyond their deadline never start
    start = backlog_s - phase * period
    at_least(start, ZERO, out=start)
    beyond = start - deadline_s
    beyond *= rate_hz
    at_least(beyond, ZERO, out=beyond)
    whole: F = np.ceil(beyond)
    # whole frames; above saturation, where the wait stands for its mean, half a one more on average
    beyond += HALF * at_most(beyond, ONE)
    doomed = _mix(saturated, beyond, whole)
    np.minimum(doomed, arrived, out=doomed)
    start -= doomed * period
    queued = arrived - doomed

    spread = at_least(cv, THOUSANDTH)
    spread *= service_s
    per_sd = ONE / spread
    x = spare * per_sd
    within(x, THOUSANDTH, TEN, out=x)
    twice_x = x + x
    idle_wait: F = WALK * x
    np.exp(idle_wait, out=idle_wait)
    idle_wait *= spread
    idle_wait /= twice_x
    np.minimum(idle_wait, deadline_s, out=idle_wait)
    idle_wait *= stable
    np.maximum(start, idle_wait, out=start)
    ceiling = deadline_s - HALF * period
    at_least(ceiling, ZERO, out=ceiling)
    ceiling *= saturated
    rest_served = ceiling + idle_wait

    # above saturation frames also find the wait of those that are dropped: half a drift more
    distance = rest_served - HALF * at_most(spare, ZERO)
    distance -= start
    slope = np.abs(spare)
    np.maximum(slope, TWENTIETH * spread, out=slope)
    farthest = queued * slope
    sign, far = distance.view(np.uint32) & SIGN_BIT, np.abs(distance)
    way = np.minimum(far, farthest)
    moving = way / slope
    middle = moving - ONE  # of their waits, the mean
    at_least(middle, ZERO, out=middle)
    middle *= HALF
    middle *= slope
    middle = _signed(middle, sign)
    middle += start
    resting = queued - moving
    started = period / service_s
    at_most(started, ONE, out=started)
    started *= resting
    dropped = resting
    dropped += doomed
    dropped -= started

    # late with probability Phi((wait + service - deadline) / spread), Phi by the logistic
    per_spread = LOGISTIC * per_sd
    slack = deadline_s - service_s
    centre = middle - slack
    centre *= per_spread
    within(centre, EARLIEST, LATEST, out=centre)
    # each frame stands for half a step on either side; a twentieth: no division by zero
    reaches = way
    reaches *= HALF
    reaches *= per_spread
    reaches += TWENTIETH
    low, high = centre - reaches, centre + reaches
    # mean of Phi between the two
    from_, to = at_most(low, SURE), at_most(high, SURE)
    early = to - from_
    early -= np.log(_one_more(np.exp(to, out=to)) / _one_more(np.exp(from_, out=from_)))
    high -= low
    early /= high
    late_moving = np.subtract(ONE, early, out=early)
    # a wait at rest below saturation is 0 or, with probability exp(-1.5 x), exponential: normal plus exponential
    tail: F = TAIL * x
    np.exp(tail, out=tail)
    tail *= twice_x
    margin = slack * per_sd
    waits_too: F = HALF * tail
    waits_too -= margin
    waits_too *= tail
    waits_too -= THREE_HALVES * x
    at_most(waits_too, ZERO, out=waits_too)
    np.exp(waits_too, out=waits_too)
    waits_too *= stable
    tail -= margin
    tail *= LOGISTIC
    waits_too /= _one_more(np.exp(at_most(tail, SURE, out=tail), out=tail))
    slack -= ceiling
    slack *= per_spread
    late_resting: F = ONE / _one_more(np.exp(at_most(slack, SURE, out=slack), out=slack))
    late_resting += waits_too
    late_moving *= moving
    late_resting *= started
    missed = dropped + late_moving
    missed += late_resting
    np.minimum(missed, arrived, out=missed)

    served = moving + started
    mean = moving * middle
    mean += started * rest_served
    mean /= at_least(served, TINY)
    mean += service_s
    # the wait that 95 % of the frames do not exceed: near the start of a falling wait, near the end of a rising one
    p95 = np.maximum(distance, FALLEN * farthest)
    np.minimum(p95, P95 * farthest, out=p95)
    p95 += start
    p95 += service_s
    p95 += NORMAL_P95 * spread

    # the last frame's wait and how it moves on decide what is left over; above saturation it stays where it
    # rests: it does not grow by the frames that never start
    farthest = queued - stable
    at_least(farthest, ZERO, out=farthest)
    farthest *= slope
    coming = _signed(np.minimum(far, farthest, out=far), sign)
    coming += start
    coming -= at_least(spare, ZERO) * at_most(queued, ONE)
    coming += next_phase * period
    backlog = _mix(at_most(arrived, ONE), coming, backlog_s - interval_s)
    at_least(backlog, ZERO, out=backlog)
    busy = served * service_s
    busy += backlog_s
    busy -= backlog
    within(busy, ZERO, interval_s, out=busy)
    return Queue(arrived, dropped, missed, mean, p95, busy, backlog, next_phase)


def powered_share(busy_background: F, busy_network: F, naps: F) -> F:
    """Share of the interval (0..1) in which a cluster is powered; the background's at most 1.

    It is up while the network or any background core runs, and for `naps` (the powering-down delay times the
    number of gaps, as a share of the interval) besides.
    """
    busy = busy_background + busy_network
    busy -= busy_background * busy_network
    busy += naps
    return at_most(busy, ONE, out=busy)


def leakage_exponential(temp_c: F, per_k: np.float32 | F) -> F:
    """Leakage over its value at 50 C, `exp(k (T - 50))`."""
    growth: F = temp_c - REFERENCE_C
    growth *= per_k
    return np.exp(growth, out=growth)


def leakage_arrhenius(temp_c: F, activation_k: np.float32 | F) -> F:
    """Leakage over its value at 50 C, `(T/T0)^2 exp(-C2 (1/T - 1/T0))` with T0 = 323.15 K."""
    inverse = temp_c + ZERO_CELSIUS_K
    np.divide(REFERENCE_K, inverse, out=inverse)
    growth: F = ONE - inverse
    growth *= activation_k / REFERENCE_K
    np.exp(growth, out=growth)
    growth /= inverse * inverse
    return growth


def relax(state_k: F, gained_k: F, decay: F) -> F:
    """One interval of a first-order thermal stage: the exact step towards a constant target.

    Of the state `decay` is left, of the target it has gained the rest: `gained_k` is `(1 - decay)` target.
    """
    left_k = state_k * decay
    left_k += gained_k
    return left_k


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
