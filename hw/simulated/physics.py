"""The laws: pure array functions, (n,) in and (n,) out, float32 all through.

The simulator strings them together; nothing here knows of a board file, a profile or a seed.
Arithmetic is in place wherever a number is of no more use: memory that was just read is written a sixth faster.
Sources of the laws and of their parameters: the board files, and docs/FIDELITY.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw.clip import ONE, ZERO, at_least, at_most, constant

F = NDArray[np.float32]

STALL_POWER = 0.685  # see `crowded_time`
ZERO_CELSIUS_K = constant(273.15)
REFERENCE_C = constant(50.0)
REFERENCE_K = constant(323.15)


class Share(NamedTuple):
    """What background work leaves to the network; all (n,)."""

    share: F  # of its slowest core, 0..1
    excess: F  # background demand on the network's busiest core, 0..1
    shared: F  # on all of its cores, 0..their number


def core_share(free_cores: F, busy: F, min_share: F) -> Share:
    """Fair sharing (CFS) of a unit with `busy` cores of background work; `free_cores` are those without the network.

    Background work takes free cores first. What does not fit lands on the network's cores, one core first, and a
    parallel region waits for its slowest core; an equal-weight thread keeps at least `min_share` of a core.
    """
    shared: F = at_least(busy - free_cores, ZERO)
    excess: F = at_most(shared, ONE)
    return Share(at_least(ONE - excess, min_share), excess, shared)


def gives_way(shared: F, min_share: F) -> F:
    """Of background work on the network's cores (`shared`), how many cores' worth waits while the network runs, (n,).

    On a core that is full the network has its `min_share`; on the one that is full in part, what background leaves.
    """
    full = np.floor(shared)
    waits = shared - full
    waits -= ONE - min_share
    at_least(waits, ZERO, out=waits)
    full *= min_share
    waits += full
    return waits


def crowd(busy: F, shared: F, streams: F) -> F:
    """How many programs press on the unit's caches and memory path beside the network, (n,).

    Background work on cores beside the network's, whatever it does; what shares a core (`shared` of it) runs when the
    network does not. Or, where that is more, memory traffic from anywhere, counted in streaming programs (`streams`).
    """
    beside: F = np.maximum(busy - shared, streams)
    return beside


def crowded_time(alone_s: F, memory_s: F, stretch: float) -> F:
    """What a frame of `alone_s`, `memory_s` of them memory-bound, takes longer for every program that crowds it (s).

    A share m of stalls costs stretch x m ** 0.685: less than in proportion, because a small m, seen as the part that
    no clock shortens, knows nothing of what is lost in the cache that a cluster's cores share on their own clock.
    Stretch and power are those of `fit_contention`, which tells the rule. Against 1 to 4 copies of a program on an
    XU3's A15 cores at 1.8 GHz: 6 % on average over the ten programs of the rule, 20 % at worst (in the tests).
    """
    longer: F = stretch * alone_s ** (1 - STALL_POWER) * memory_s**STALL_POWER
    return longer


def service_time(alone_s: F, crowded_s: F, share: F, others: F) -> F:
    """Time of one frame (s) of `alone_s`, and `crowded_s` more for each of `others`, the programs that crowd it.

    All of it over the share of a core: a thread that waits for memory has its core, and waits no further in the time
    slices of another.
    """
    time_s = crowded_s * others
    time_s += alone_s
    time_s /= share
    return time_s


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
