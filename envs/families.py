"""Generated scenarios, in three families; demands follow the profile at hand.

| | train | shifted | held_out |
|---|---|---|---|
| for | learning | another world | the same world, other days |
| load of a unit | idle half of the time, else 0..all cores | idle 15 %, else 40..100 % of them | as train |
| load changes | every 2..10 s, independent draws | every 2..5 s | ramp, periodic or app sessions (below) |
| memory traffic | 0 half of the time, else 0..2 GB/s | 1..3 GB/s | as train |
| ambient | 15..35 C, constant | 30..45 C, constant | drifts within 15..35 C |
| demand changes | every 10..30 s | the same | 10..30 s, but demands come back |
| frame rate | constant between demand changes | bursts, 1.5..3 times, a quarter of the rows | as train |

Held-out patterns, one per scenario: `ramp` (load climbs or falls steadily), `periodic` (two loads alternate,
two demands take turns), `sessions` (a few apps that come back: a heavy launch, a steady phase, a quiet end).

A demand: the floor is a rung of the ladder less a small margin, or 0 in 15 %. The deadline is 2..8 times the
fastest latency of the smallest rung that meets the floor, and at least 1.5 times that latency under the
heaviest load of the demand's rows. The frame rate keeps that fastest point 5..50 % busy under that load. The
energy budget is 0.7..2.5 times the own-rail energy of the median point of that rung that keeps up, with what
all rails draw at rest in a frame's period (all three log-uniform). The goal is `min_energy` with probability 0.7.

At most 24 rows; times are multiples of the control interval; beyond 60 s the gaps stretch with the duration.
"""

from __future__ import annotations

import numpy as np

from envs.scenario import Floats, Scenario, max_load
from envs.timelines import PLANS, Clockwork, Ints, Timeline
from hw.errors import InputError
from hw.types import GOALS, BoardSpec, Profile

FAMILIES = tuple(PLANS)  # in this order: a family's place is part of its seed
MAX_ROWS = 24  # the row that ends the scenario included

_P_NO_FLOOR = 0.15
_P_MIN_ENERGY = 0.7
_DEADLINE_SLACK = 1.5  # at least this much above the fastest latency under load: jitter and queueing
_MAX_BUSY = 0.8  # of the fastest point in a burst of frames


def generate(
    family: str,
    spec: BoardSpec,
    profile: Profile,
    rng: np.random.Generator,
    *,
    name: str = "",
    duration_s: float = 60.0,
) -> Scenario:
    """One scenario of a family, for this board and this ladder.

    Raises InputError for an unknown family, a profile of another board, and less than one control interval.
    """
    if family not in PLANS:
        raise InputError(f"unknown scenario family {family!r}; one of {', '.join(FAMILIES)}")
    if profile.board != spec.name:
        raise InputError(f"profile {profile.name!r} is of board {profile.board!r}, not {spec.name!r}")
    if not duration_s >= spec.interval_s:
        raise InputError(f"scenario of {duration_s!r} s: shorter than one interval of {spec.interval_s:g} s")
    clockwork = Clockwork(duration_s=round(duration_s / spec.interval_s) * spec.interval_s, interval_s=spec.interval_s)
    plan = PLANS[family](rng, clockwork, len(spec.units))
    t_s = _row_times(rng, plan)
    at_load = np.searchsorted(plan.load_t_s, t_s, side="right") - 1
    at_demand = np.searchsorted(plan.demand_t_s, t_s, side="right") - 1
    room = np.array([max_load(unit) for unit in spec.units])
    load = np.round(plan.busy[at_load] * room, 2)
    ambient_c = np.round(np.interp(t_s, (0.0, clockwork.duration_s), plan.ambient_c), 1)
    demand = _demands(rng, spec, profile, load, plan.demand[at_demand], plan.p_burst)
    table = {
        **demand,
        "load": load,
        "mem_gbps": np.round(plan.mem_gbps[at_load], 2),
        "ambient_c": ambient_c,
    }
    # the last row only ends the scenario: it repeats the one before
    ended = {column: np.concatenate([values, values[-1:]]) for column, values in table.items()}
    return Scenario(name=name or family, family=family, t_s=np.append(t_s, clockwork.duration_s), **ended)


def scenario_set(
    family: str, spec: BoardSpec, profile: Profile, count: int, seed: int = 0, *, duration_s: float = 60.0
) -> list[Scenario]:
    """`count` scenarios named `<family>-00` and on; the same arguments give the same scenarios.

    Each has a generator of its own, so number 3 is the same in a set of 4 and in a set of 40.
    Raises InputError for an unknown family or a negative seed.
    """
    if family not in PLANS:
        raise InputError(f"unknown scenario family {family!r}; one of {', '.join(FAMILIES)}")
    if seed < 0:
        raise InputError(f"scenario seed {seed}: must be 0 or more")
    which = FAMILIES.index(family)
    return [
        generate(
            family,
            spec,
            profile,
            np.random.default_rng([seed, which, i]),
            name=f"{family}-{i:02d}",
            duration_s=duration_s,
        )
        for i in range(count)
    ]


def _row_times(rng: np.random.Generator, plan: Timeline) -> Floats:
    """Start of every row (m,): both kinds of change; where there are too many, load changes less often."""
    keep = plan.demand_t_s[: MAX_ROWS - 1]
    extra = np.setdiff1d(plan.load_t_s, keep)
    room = MAX_ROWS - 1 - len(keep)
    if len(extra) > room:
        extra = rng.choice(extra, room, replace=False)
    return np.union1d(keep, extra)


def _slowdown(cores: Floats, used: Floats, busy: Floats) -> Floats:
    """By how much background work slows a frame, at most 2: the worse of two ways to place it.

    Spread over all cores each core has `busy / cores` of it and fair scheduling gives the frame
    1 / (1 + that); packed on as few cores as possible, a parallel region waits for its slowest core.
    Shapes broadcast: cores of the unit, cores used by the network, busy cores.
    """
    packed = np.clip(busy - (cores - used), 0.0, 1.0)
    return np.asarray(1.0 + np.maximum(busy / cores, packed))


def _demands(
    rng: np.random.Generator, spec: BoardSpec, profile: Profile, load: Floats, number: Ints, p_burst: float
) -> dict[str, Floats]:
    """The demand columns (m,) for rows with this load (m, units); rows of one `number` share a demand."""
    names = [unit.name for unit in spec.units]
    rung = np.array([p.rung for p in profile.points])
    unit = np.array([names.index(p.unit) for p in profile.points])
    latency_s = np.array([p.latency_mean_s for p in profile.points])
    energy_j = np.array([p.energy_j for p in profile.points])
    rest_w = profile.rest_w  # a meter counts it, so a budget must
    used = np.array([float(p.cores) for p in profile.points])
    room = np.array([max_load(u) for u in spec.units])[unit]
    loaded_s = latency_s * _slowdown(room, used, load[:, unit])  # (m, points)

    out = {
        column: np.empty(len(number)) for column in ("rate_hz", "deadline_s", "accuracy_min", "energy_budget_j", "goal")
    }
    for which in np.unique(number):
        rows = number == which
        floor = _floor(rng, profile)
        smallest = next(r.index for r in profile.rungs if r.accuracy >= floor)
        of_rung = rung == smallest
        fast_s = latency_s[of_rung].min()
        row_fast_s = loaded_s[np.ix_(rows, of_rung)].min(axis=1)
        worst_s = row_fast_s.max()
        deadline_s = _log_uniform(rng, max(2.0 * fast_s, _DEADLINE_SLACK * worst_s), 8.0 * fast_s)
        rate_hz = _log_uniform(rng, 0.05, 0.5) / worst_s
        keeps_up = of_rung & (latency_s <= min(deadline_s, 1 / rate_hz))
        burst = np.where(rng.random(rows.sum()) < p_burst, rng.uniform(1.5, 3.0, rows.sum()), 1.0)
        rates_hz = np.minimum(rate_hz * burst, _MAX_BUSY / row_fast_s)
        out["rate_hz"][rows] = [_short(r) for r in rates_hz]
        out["deadline_s"][rows] = _short(deadline_s)
        out["accuracy_min"][rows] = floor
        frame_j = float(np.median(energy_j[keeps_up])) + rest_w / rate_hz
        out["energy_budget_j"][rows] = _short(_log_uniform(rng, 0.7, 2.5) * frame_j)
        out["goal"][rows] = GOALS.index("min_energy" if rng.random() < _P_MIN_ENERGY else "max_accuracy")
    return out


def _floor(rng: np.random.Generator, profile: Profile) -> float:
    """An accuracy floor: a rung's accuracy less a margin that stays above the next lower one, or 0."""
    accuracies = sorted({0.0, *(r.accuracy for r in profile.rungs)})
    rung = profile.rungs[rng.integers(len(profile.rungs))]
    below = accuracies[max(0, accuracies.index(rung.accuracy) - 1)]
    margin = min(rng.uniform(0.002, 0.01), (rung.accuracy - below) / 2)
    if rng.random() < _P_NO_FLOOR:
        return 0.0
    # six digits, rounded down: never above the rung
    return max(0.0, float(np.floor((rung.accuracy - margin) * 1e6)) / 1e6)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _short(x: float) -> float:
    """Four digits: what a person would write in the file."""
    return float(f"{x:.4g}")
