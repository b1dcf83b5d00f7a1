"""Governors as controllers: the rules of the kernel's clocks, with the network at a fixed rung or at `@auto`."""

from __future__ import annotations

import math

from agents.baselines.cpufreq import Rule
from envs.reward import BREACH_TOLERANCE
from hw.errors import InputError
from hw.types import BoardSpec, Demand, Knobs, Profile, Telemetry, Unit

SATURATED = 0.99  # a busy share from here on says that there is work for more, not for how much


class Governor:
    """A governor on every CPU cluster, the network on the big cores; or one on the GPU's clock as well, and it there.

    The network gets all cores of the board's big unit: that is where the kernel's load balancer places a busy
    process with a thread per core. Each cluster's clock follows its own busiest CPU, the small cluster's too;
    clocks without a CPU stay at their lowest. With a `gpu_rule` the network runs on the board's first GPU, whose
    clock follows how busy that is.
    """

    def __init__(self, name: str, rule: type[Rule], rung: int | None, *, gpu_rule: type[Rule] | None = None) -> None:
        """`rule` for CPU clocks; `rung` fixed from 1 on, or None for `@auto` (see `auto_rung`)."""
        self._name = name
        self._rule = rule
        self._gpu_rule = gpu_rule
        self._rung = rung

    def reset(self, spec: BoardSpec, profile: Profile) -> None:
        """Start a flight.

        Raises:
            InputError: the fixed rung is beyond the ladder, or the network belongs on a GPU and there is none.
        """
        if self._rung is not None and self._rung > len(profile.rungs):
            raise InputError.at(
                "controller",
                f"the ladder of profile {profile.name!r} has no rung {self._rung}",
                value=f"{self._name}@{self._rung}",
                want=f"want @1 to @{len(profile.rungs)}, or @auto",
            )
        self._spec, self._profile = spec, profile
        governs = {u.clock: self._rule for u in spec.units if u.kind == "cpu"}
        self._unit = spec.big_unit
        if self._gpu_rule is not None:
            self._unit = _gpu(spec, self._name)
            governs[self._unit.clock] = self._gpu_rule
        self._rules = {c.name: governs[c.name](c, spec.interval_s) for c in spec.clocks if c.name in governs}

    def act(self, telemetry: Telemetry, demand: Demand) -> Knobs:
        """Each governed clock's frequency from its own load."""
        spec = self._spec
        freqs: dict[str, float] = {}
        for clock in spec.clocks:
            rule = self._rules.get(clock.name)
            index = 0
            if rule is not None:
                now = telemetry.granted.freqs_hz[clock.name]
                index = rule.settle(now, demanded_load(telemetry, spec, clock.name))
            freqs[clock.name] = clock.freqs_hz[index]
        rung = self._rung if self._rung is not None else auto_rung(spec, self._profile, demand, self._unit)
        return Knobs(rung=rung, unit=self._unit.name, cores=self._unit.cores, freqs_hz=freqs)


def _gpu(spec: BoardSpec, controller: str) -> Unit:
    if spec.gpu is None:
        raise InputError.at(
            "controller", f"board {spec.name!r} has no GPU", value=controller, want="a governor of CPU clocks"
        )
    return spec.gpu


def auto_rung(spec: BoardSpec, profile: Profile, demand: Demand, unit: Unit | None = None) -> int:
    """The rung a careful person would fix for the network on all of `unit` (the big one), from the profile alone.

    `min_energy`: the smallest rung that meets the accuracy floor, the most accurate where none does.
    `max_accuracy`: the most accurate rung whose unloaded mean latency at full speed there meets the deadline and keeps
    up with the frames, the smallest where none does.
    """

    def accuracy(rung: int) -> float:
        return profile.rung(rung).accuracy

    if demand.goal == "min_energy":
        floor = demand.accuracy_min - BREACH_TOLERANCE
        indices = [r.index for r in profile.rungs]
        return next((i for i in indices if accuracy(i) >= floor), max(indices, key=accuracy))
    unit = unit or spec.big_unit
    top = spec.clock(unit.clock).max_hz
    most_s = min(demand.deadline_s, 1 / demand.rate_hz)
    fits = [
        p.rung
        for p in profile.points
        if (p.unit, p.cores) == (unit.name, unit.cores) and p.freq_hz == top and p.latency_mean_s <= most_s
    ]
    return max(fits, key=accuracy, default=1)


def demanded_load(telemetry: Telemetry, spec: BoardSpec, clock: str) -> float:
    """The load that governors of `clock` see: of the busiest CPU (or the GPU) on it, 1 is all of its time.

    A saturated one hides how much more it was asked for. Where it runs the network and frames were dropped,
    the frames tell (load x arrived / served); else it is taken as infinite: a job that eats any speed there
    is.
    """
    units = [u.name for u in spec.units if u.clock == clock]
    load = max(telemetry.peak_utilisation[name] for name in units)
    if load < SATURATED:
        return load
    if telemetry.granted.unit in units and telemetry.served < telemetry.frames:
        return load * telemetry.frames / max(telemetry.served, 1)
    return math.inf
