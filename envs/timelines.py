"""How load and demand move over time in each family; `envs.families` has the table of them.

A plan is a function of (generator, clockwork, number of units) that returns a `Timeline`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from envs.scenario import Floats

NOMINAL_S = 60.0  # the duration for which the gaps between changes hold

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """What a family decides: the load over time, and which demand holds when.

    Shapes: (k,) per change of load, `busy` (k, units) as a share of what fits; (d,) per change of demand,
    `demand` numbers the demands (an equal number is the same demand again).
    """

    load_t_s: Floats
    busy: Floats
    mem_gbps: Floats
    ambient_c: tuple[float, float]  # at the start and at the end
    demand_t_s: Floats
    demand: Ints
    p_burst: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Clockwork:
    """The grid of a scenario: duration and interval (s), and by how much gaps are stretched."""

    duration_s: float
    interval_s: float

    def changes(self, rng: np.random.Generator, low_s: float, high_s: float) -> Floats:
        """Times from 0, with uniform gaps of `low_s`..`high_s` on the grid."""
        stretch = max(1.0, self.duration_s / NOMINAL_S)
        times, t_s = [0.0], 0.0
        while True:
            t_s += self.snap(stretch * rng.uniform(low_s, high_s))
            if t_s >= self.duration_s - self.interval_s / 2:
                return np.array(times)
            times.append(t_s)

    def snap(self, t_s: float) -> float:
        """The nearest multiple of the interval, at least one."""
        return max(1, round(t_s / self.interval_s)) * self.interval_s


def _train(rng: np.random.Generator, clockwork: Clockwork, units: int) -> Timeline:
    load_t = clockwork.changes(rng, 2.0, 10.0)
    demand_t = clockwork.changes(rng, 10.0, 30.0)
    on = rng.random((len(load_t), units)) < 0.5
    mem_on = rng.random(len(load_t)) < 0.5
    ambient_c = rng.uniform(15.0, 35.0)
    return Timeline(
        load_t_s=load_t,
        busy=on * rng.random((len(load_t), units)),
        mem_gbps=mem_on * rng.uniform(0.0, 2.0, len(load_t)),
        ambient_c=(ambient_c, ambient_c),
        demand_t_s=demand_t,
        demand=np.arange(len(demand_t)),
    )


def _shifted(rng: np.random.Generator, clockwork: Clockwork, units: int) -> Timeline:
    load_t = clockwork.changes(rng, 2.0, 5.0)
    demand_t = clockwork.changes(rng, 10.0, 30.0)
    on = rng.random((len(load_t), units)) < 0.85
    ambient_c = rng.uniform(30.0, 45.0)
    return Timeline(
        load_t_s=load_t,
        busy=on * rng.uniform(0.4, 1.0, (len(load_t), units)),
        mem_gbps=rng.uniform(1.0, 3.0, len(load_t)),
        ambient_c=(ambient_c, ambient_c),
        demand_t_s=demand_t,
        demand=np.arange(len(demand_t)),
        p_burst=0.25,
    )


def _held_out(rng: np.random.Generator, clockwork: Clockwork, units: int) -> Timeline:
    pattern = _PATTERNS[rng.integers(len(_PATTERNS))]
    return pattern(rng, clockwork, units)


def _drift(rng: np.random.Generator) -> tuple[float, float]:
    """Ambient temperature (C) at the start and at the end."""
    return rng.uniform(15.0, 35.0), rng.uniform(15.0, 35.0)


def _ramp(rng: np.random.Generator, clockwork: Clockwork, units: int) -> Timeline:
    """Load climbs or falls steadily, together on the units that take part."""
    load_t = clockwork.changes(rng, 3.0, 6.0)
    demand_t = clockwork.changes(rng, 10.0, 30.0)
    low, high = rng.uniform(0.0, 0.3), rng.uniform(0.7, 1.0)
    level = np.linspace(low, high, len(load_t))
    if rng.random() < 0.5:
        level = level[::-1]
    takes_part = rng.random(units) < 0.5
    takes_part[rng.integers(units)] = True
    return Timeline(
        load_t_s=load_t,
        busy=level[:, None] * takes_part,
        mem_gbps=level * rng.uniform(0.0, 2.0),
        ambient_c=_drift(rng),
        demand_t_s=demand_t,
        demand=np.arange(len(demand_t)),
    )


def _periodic(rng: np.random.Generator, clockwork: Clockwork, units: int) -> Timeline:
    """Two loads alternate with a fixed period, and two demands take turns."""
    load_t = clockwork.changes(rng, *[rng.uniform(3.0, 10.0)] * 2)
    demand_t = clockwork.changes(rng, *[rng.uniform(10.0, 30.0)] * 2)
    phases = (rng.random((2, units)) < 0.5) * rng.random((2, units))
    phases[rng.integers(2), rng.integers(units)] = rng.uniform(0.5, 1.0)
    mem_gbps = rng.uniform(0.0, 2.0, 2) * (rng.random(2) < 0.5)
    turn = np.arange(len(load_t)) % 2
    return Timeline(
        load_t_s=load_t,
        busy=phases[turn],
        mem_gbps=mem_gbps[turn],
        ambient_c=_drift(rng),
        demand_t_s=demand_t,
        demand=np.arange(len(demand_t)) % 2,
    )


def _sessions(rng: np.random.Generator, clockwork: Clockwork, units: int) -> Timeline:
    """A person using two or three apps: each session is a heavy launch, a steady phase and a quiet end."""
    demand_t = clockwork.changes(rng, 10.0, 30.0)
    ends = np.append(demand_t[1:], clockwork.duration_s)
    apps = int(rng.integers(2, 4))
    steady = (rng.random((apps, units)) < 0.5) * rng.random((apps, units))
    mem_gbps = rng.uniform(0.0, 2.0, apps)
    opened = rng.integers(apps, size=len(demand_t))
    times: list[float] = []
    busy: list[Floats] = []
    mem: list[float] = []
    for start, end, app in zip(demand_t, ends, opened, strict=True):
        launched = start + clockwork.snap(rng.uniform(2.0, 4.0))
        quiet = end - clockwork.snap(rng.uniform(2.0, 6.0))
        phases = (
            (start, rng.uniform(0.6, 1.0, units), 2.0),
            (launched, steady[app], mem_gbps[app]),
            (quiet, np.zeros(units), 0.0),
        )
        for t_s, shares, traffic in phases:
            # the last session may be cut short before its later phases
            if (not times or t_s > times[-1]) and t_s < end - clockwork.interval_s / 2:
                times.append(float(t_s))
                busy.append(shares)
                mem.append(float(traffic))
    return Timeline(
        load_t_s=np.array(times),
        busy=np.array(busy),
        mem_gbps=np.array(mem),
        ambient_c=_drift(rng),
        demand_t_s=demand_t,
        demand=opened,
    )


_PATTERNS = (_ramp, _periodic, _sessions)
Plan = Callable[[np.random.Generator, Clockwork, int], Timeline]
PLANS: dict[str, Plan] = {"train": _train, "shifted": _shifted, "held_out": _held_out}
