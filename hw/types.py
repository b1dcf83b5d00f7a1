"""The vocabulary: what a board is, what a controller sets, what it is asked for and what it sees.

Frozen, keyword-only dataclasses in SI units; a derived number is a property.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

Goal = Literal["min_energy", "max_accuracy"]
GOALS: tuple[Goal, ...] = ("min_energy", "max_accuracy")
Kind = Literal["measured", "modelled"]
# From least to most: far beyond what anybody asks of a board, and what the simulator's single precision can hold
RATE_HZ, DEADLINE_S, BUDGET_J, MEM_GBPS = (1e-6, 1e6), (1e-6, 1e6), (1e-9, 1e9), (0.0, 100.0)
AMBIENT_C = (-40.0, 85.0)  # the industrial range of embedded boards: beyond it, a typing error
LATENCY_S, POWER_W = (1e-6, 1e4), (0.0, 1e3)  # of a frame; of a rail


@dataclass(frozen=True, kw_only=True)
class Clock:
    """A DVFS domain: the frequencies it can run at, ascending, with the voltage of its rail at each."""

    name: str
    freqs_hz: tuple[float, ...]
    volts: tuple[float, ...]  # rail voltage in the power model, one per frequency

    @property
    def max_hz(self) -> float:
        """The highest frequency."""
        return self.freqs_hz[-1]

    def nearest(self, freq_hz: float) -> int:
        """Index of the frequency nearest to `freq_hz` (a tie goes to the lower one)."""
        return min(range(len(self.freqs_hz)), key=lambda i: abs(self.freqs_hz[i] - freq_hz))

    def at_least(self, freq_hz: float) -> int:
        """Index of the lowest frequency that is not below `freq_hz`; the top one where none is (RELATION_L)."""
        for i, f in enumerate(self.freqs_hz):
            if f >= freq_hz * (1 - 1e-9):
                return i
        return len(self.freqs_hz) - 1


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What can run the network: a CPU cluster with 1..`cores` cores, or a GPU (one core)."""

    name: str
    clock: str
    cores: int
    kind: Literal["cpu", "gpu"] = "cpu"
    big: bool = False  # where the kernel places a busy process


@dataclass(frozen=True, kw_only=True)
class BoardSpec:
    """What anybody may know of a board without touching it."""

    name: str
    clocks: tuple[Clock, ...]
    units: tuple[Unit, ...]
    rails: tuple[str, ...]  # power rails, in the order of telemetry: every unit is one, with or without a meter
    thermal_nodes: tuple[str, ...]
    interval_s: float = 0.5  # one control interval
    hash: str = ""  # of name, clocks, units, rails and interval: a policy refuses a board with another one

    def clock(self, name: str) -> Clock:
        """The clock of that name; KeyError where there is none."""
        for c in self.clocks:
            if c.name == name:
                return c
        raise KeyError(name)

    def unit(self, name: str) -> Unit:
        """The unit of that name; KeyError where there is none."""
        for u in self.units:
            if u.name == name:
                return u
        raise KeyError(name)

    @property
    def big_unit(self) -> Unit:
        """Where the kernel places a busy process: the CPU unit marked big, else the last CPU unit."""
        cpus = [u for u in self.units if u.kind == "cpu"]
        return next((u for u in cpus if u.big), cpus[-1])

    @property
    def gpu(self) -> Unit | None:
        """The unit that is a GPU; None where there is none."""
        return next((u for u in self.units if u.kind == "gpu"), None)

    @property
    def placements(self) -> tuple[tuple[str, int], ...]:
        """Every (unit, cores) choice, in the fixed order of the action space."""
        return tuple((u.name, n) for u in self.units for n in range(1, u.cores + 1))


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One configuration of a dynamic network; rung 1 is the smallest."""

    index: int
    name: str
    accuracy: float  # top-1, 0..1
    macs: float = 0.0  # multiply-accumulates per frame; 0 where unknown
    bytes: float = 0.0  # weights plus activations moved per frame; 0 where unknown


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """What a controller sets: rung (1 is the smallest), where to run, one frequency per clock (Hz)."""

    rung: int
    unit: str
    cores: int
    freqs_hz: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What the application asks of one interval."""

    rate_hz: float  # frames per second
    deadline_s: float  # from arrival to result
    accuracy_min: float  # floor, 0..1
    energy_budget_j: float  # per frame
    goal: Goal


@dataclass(frozen=True, kw_only=True)
class Load:
    """Background work: busy cores per CPU unit (0..1 for a GPU), memory traffic, ambient temperature."""

    busy: Mapping[str, float]
    mem_gbps: float = 0.0
    ambient_c: float = 25.0


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """What one interval measured. `None` is missing, never zero.

    Latencies and misses belong to the interval in which a frame arrives (simulated) or is resolved (real).
    """

    interval_s: float
    asked: Knobs
    granted: Knobs  # the kernel rounds, caps and throttles
    frames: int  # arrived
    served: int
    missed: int  # late or dropped
    dropped: int  # never started
    latency_mean_s: float | None  # of the served frames
    latency_p95_s: float | None
    accuracy: float | None  # measured on `labelled` frames
    labelled: int
    confidence: float | None  # mean top-1 probability of the network, where its worker tells
    energy_j: Mapping[str, float] | None  # per rail, as its meter reports it
    temp_c: Mapping[str, float]  # per thermal node
    utilisation: Mapping[str, float]  # per unit: mean busy share of all its cores, 0..1, background included
    peak_utilisation: Mapping[str, float]  # per unit: busy share of its busiest core, what governors look at
    throttled: bool
    switched: bool  # the granted knobs differ from those of the interval before
    sensor_age_s: float | None  # how old the energy reading is at the end of the interval
    profile_accuracy: float | None = None  # what the profile says of the granted rung: expected, not measured
    energy_error_j: float | None = None  # standard error of the energy over all rails: window, step and gain

    @property
    def total_energy_j(self) -> float | None:
        """Energy over all metered rails."""
        return None if self.energy_j is None else float(sum(self.energy_j.values()))


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """One row of a profile: the network on this rung, there, at this speed; the other clocks at their lowest."""

    rung: int
    unit: str
    cores: int
    freq_hz: float
    latency_mean_s: float
    latency_std_s: float
    latency_p95_s: float
    power_w: float  # the unit's own rail while it serves frames back to back; NaN where the board has no meter
    rail_power_w: Mapping[str, float]
    samples: int  # 0 where modelled

    @property
    def energy_j(self) -> float:
        """Energy of one frame on the unit's own rail."""
        return self.latency_mean_s * self.power_w


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Board x ladder: every operating point, with where it came from.

    `points` are in canonical order: rung, then placement (the board's order of units, then cores), then frequency.
    """

    name: str
    board: str
    kind: Kind
    rungs: tuple[Rung, ...]
    points: tuple[OperatingPoint, ...]
    provenance: Mapping[str, object] = field(default_factory=dict)
    checksum: str = ""  # SHA-256 of the CSV

    def rung(self, index: int) -> Rung:
        """Rung `index`, 1 the smallest."""
        return self.rungs[index - 1]

    @property
    def rest_w(self) -> float:
        """What the board's rails draw beside a frame (W): the least of each rail at any operating point."""
        return sum(min(p.rail_power_w[rail] for p in self.points) for rail in self.points[0].rail_power_w)


class Board(Protocol):
    """A board: simulated, emulated or real; the clock is the board's."""

    spec: BoardSpec

    def reset(self, *, seed: int | None = None) -> Telemetry:
        """Bring the board to its start: lowest clocks, smallest rung on the big unit; one idle interval is measured."""
        ...

    def inject(self, load: Load) -> None:
        """Background work from now on; a deployed controller never calls it."""
        ...

    def step(self, knobs: Knobs, demand: Demand) -> Telemetry:
        """Set the knobs, serve one interval, read."""
        ...

    def close(self) -> None:
        """Restore the machine; twice is fine."""
        ...
