"""What a board file says of a board: its nouns, and the laws of power at rest and leakage that follow from them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hw.errors import InputError
from hw.latency import LatencyLaw
from hw.types import BoardSpec

REFERENCE_C, REFERENCE_K = 50.0, 323.15  # where every leakage constant of a board file holds


@dataclass(frozen=True, kw_only=True)
class UnitModel:
    """Power and memory parameters of a unit; its rail carries its name."""

    name: str
    clock: str
    cores: int
    kind: str = "cpu"
    big: bool = False
    cluster_nf: float  # switched by the cluster's clock while it is on
    background_nf: float  # per busy core of background work
    conv_nf: float = 0.0  # per busy core of a convolutional network; 0: as background work
    leak_a: float  # leakage current at 1 V and 50 C
    leak_per_v: float
    leak_per_k: float = 0.0  # exponential temperature law, or
    leak_activation_k: float = 0.0  # the (T/T0)^2 exp(-C2 (1/T - 1/T0)) law
    off_w: float = 0.0
    off_after_s: float = math.inf  # idle time before the cluster powers down
    mem_ceiling_gbps: float = 10.0
    latency: LatencyLaw | None = None  # of a network that nobody has run there

    @property
    def powers_down(self) -> bool:
        """Whether it draws `off_w` once it has been idle for `off_after_s`; else it always stays on."""
        return math.isfinite(self.off_after_s)


@dataclass(frozen=True, kw_only=True)
class RailModel:
    """A rail that is no unit's: base at 50 C, its temperature slope, and what work and memory traffic add."""

    name: str
    base_w: float
    per_k: float = 0.0
    w_per_gbps: float = 0.0
    active_w: float = 0.0  # while any unit is busy: the memory's clock goes up


@dataclass(frozen=True, kw_only=True)
class Contention:
    """How background work slows the network."""

    min_share: float
    stall_stretch: float


@dataclass(frozen=True, kw_only=True)
class Switching:
    """What a change of knobs costs."""

    control_path_s: float
    migration_s: float
    rung_s: float
    energy_j: float


@dataclass(frozen=True, kw_only=True)
class Regime:
    """Two-time-constant path from total rail power to the hottest sensor; `offset_k` over ambient at 0 W.

    `spot_k_per_w`: what the busy core beside that sensor adds, with the first time constant (see `Thermal`).
    """

    r_k_per_w: list[float]
    tau_s: list[float]
    offset_k: float
    spot_k_per_w: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Thermal:
    """The two regimes, and the fan states between them.

    The hottest sensor sits by a core of `spot_unit`, whose rail's power heats it besides, up to what one core can
    draw, `spot_nf V^2 f`; a second busy core warms the chip, not that spot.
    """

    fan_full: Regime
    fan_off: Regime
    fan_trips_c: list[float]
    fan_duty: list[float]
    fan_hysteresis_k: float
    spot_unit: str = ""
    spot_nf: float = 0.0

    def regime(self, level: int) -> Regime:
        """The path at a fan level, linear in duty between off and full."""
        duty = self.fan_duty[level]

        def mix(off: float, full: float) -> float:
            return off + duty * (full - off)

        return Regime(
            r_k_per_w=[mix(a, b) for a, b in zip(self.fan_off.r_k_per_w, self.fan_full.r_k_per_w, strict=True)],
            tau_s=[mix(a, b) for a, b in zip(self.fan_off.tau_s, self.fan_full.tau_s, strict=True)],
            offset_k=mix(self.fan_off.offset_k, self.fan_full.offset_k),
            spot_k_per_w=mix(self.fan_off.spot_k_per_w, self.fan_full.spot_k_per_w),
        )


@dataclass(frozen=True, kw_only=True)
class Throttle:
    """A trip point: at or above `trip_c` the clocks are capped until the node has cooled by the hysteresis."""

    trip_c: float
    hysteresis_k: float
    caps_hz: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """How the meters lie."""

    window_s: float
    step_w: float
    gain_std: float
    temp_step_c: float


@dataclass(frozen=True, kw_only=True)
class Variation:
    """How boards of one model differ. Voltage is uniform between its bounds, the rest log-normal."""

    volts_low: float = 1.0  # on the voltage, so its square is on dynamic power
    volts_high: float = 1.0
    leak_std: float = 0.0
    heat_std: float = 0.0  # of the thermal resistances
    latency_std: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RealModel:
    """Where a board's things are in Linux: names to look for, none of them a path with a number that may change."""

    kernel: str  # whose file names: "mainline" or "vendor"; drivers probe, an emulated board has to choose
    cpus: dict[str, list[int]]  # per CPU unit, the kernel's numbers of its cores; more than it has: the first are its
    devfreq: dict[str, list[str]] = field(default_factory=dict)  # per clock that is no CPU's, names of its device
    gpu_load: dict[str, list[str]] = field(default_factory=dict)  # per GPU, files with its load in per mille
    zones: dict[str, list[str]]  # per thermal node, types of thermal zones; the hottest counts
    meter: str = "none"  # "ina231", "ina3221" or "rapl"
    rails: dict[str, str] = field(default_factory=dict)  # per rail, its meter's bus address or name
    clock: str = "auto"  # of a host: what it is set by, "cpufreq", "quota" or "fixed"; "auto": the first that is there
    total_rail: str = ""  # the rail whose meter counts all the others too


@dataclass(frozen=True, kw_only=True)
class BoardModel:
    """A board file: what anybody may know (`spec`) and what only the physics may."""

    spec: BoardSpec
    default_profile: str
    units: tuple[UnitModel, ...]
    rails: tuple[RailModel, ...]
    stall_s: tuple[float, ...]  # per clock
    contention: Contention
    switching: Switching
    thermal: Thermal
    throttle: tuple[Throttle, ...]
    sensor: Sensor
    variation: Variation
    reference_temp_c: float
    board_base_w: float
    fan_w: float
    real: RealModel | None = None  # None: nobody said how to drive it
    path: Path = field(compare=False)

    @property
    def checksum(self) -> str:
        """SHA-256 of all of it but where it stood: where this is the same, so is the physics."""
        return hashlib.sha256(repr(replace(self, path=Path())).encode()).hexdigest()

    @property
    def cpus(self) -> dict[str, list[int]]:
        """Per CPU unit, the kernel's numbers of its cores; none where nobody said how to drive the board."""
        known = {} if self.real is None else self.real.cpus
        return {unit.name: known[unit.name][: unit.cores] for unit in self.spec.units if unit.name in known}

    def need_real(self) -> RealModel:
        """How to drive it. Raises InputError where nobody said."""
        if self.real is None:
            want = "a table [real], as in xu3.toml"
            raise InputError.at(self.path, "nobody said how to drive this board", want=want)
        return self.real

    def idle_rail_w(self, freqs_hz: Mapping[str, float], temp_c: float) -> dict[str, float]:
        """Power of every rail (W) of an idle board whose clusters are on, at these clocks and temperature."""
        watts: dict[str, float] = {}
        for unit in self.units:
            clock = self.spec.clock(unit.clock)
            volts = clock.volts[clock.nearest(freqs_hz[unit.clock])]
            dynamic = unit.cluster_nf * 1e-9 * volts**2 * freqs_hz[unit.clock]
            watts[unit.name] = dynamic + leak_scale(unit, volts) * leak_growth(unit, temp_c)
        for rail in self.rails:
            watts[rail.name] = rail.base_w * math.exp(rail.per_k * (temp_c - REFERENCE_C))
        return watts

    def rest_rail_w(self, freqs_hz: Mapping[str, float], temp_c: float) -> dict[str, float]:
        """The same of a board that has had nothing to do for long: clusters that power down have done so."""
        return self.idle_rail_w(freqs_hz, temp_c) | {u.name: u.off_w for u in self.units if u.powers_down}


def leak_scale(unit: UnitModel, volts: float) -> float:
    """Leakage of a unit at 50 C (W): `V A exp(k (V - 1))`."""
    return volts * unit.leak_a * math.exp(unit.leak_per_v * (volts - 1.0))


def leak_growth(unit: UnitModel, temp_c: float) -> float:
    """Factor on the leakage at 50 C: exponential, or `(T/T0)^2 exp(-C2 (1/T - 1/T0))`."""
    if unit.leak_activation_k:
        kelvin = temp_c + 273.15
        return (kelvin / REFERENCE_K) ** 2 * math.exp(-unit.leak_activation_k * (1 / kelvin - 1 / REFERENCE_K))
    return math.exp(unit.leak_per_k * (temp_c - REFERENCE_C))
