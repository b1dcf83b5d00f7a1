"""A board is a text file: reads `hw/boards/*.toml` into a `BoardModel` and refuses what cannot be a board.

Parameters and their sources stand in the files themselves, with a certainty beside each.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from hw.errors import InputError
from hw.types import BoardSpec, Clock, Unit

BOARDS = Path(__file__).parent / "boards"
REFERENCE_K = 323.15  # 50 C: where every leakage constant of a board file holds


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
    leak_a: float  # leakage current at 1 V and 50 C
    leak_per_v: float
    leak_per_k: float = 0.0  # exponential temperature law, or
    leak_activation_k: float = 0.0  # the (T/T0)^2 exp(-C2 (1/T - 1/T0)) law
    off_w: float = 0.0
    off_after_s: float = math.inf  # idle time before the cluster powers down
    mem_ceiling_gbps: float = 10.0


@dataclass(frozen=True, kw_only=True)
class RailModel:
    """A rail that is no unit's: base at 50 C, its temperature slope, and what memory traffic adds."""

    name: str
    base_w: float
    per_k: float = 0.0
    w_per_gbps: float = 0.0


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
    """Two-time-constant path from total rail power to the hottest sensor; `offset_k` over ambient at 0 W."""

    r_k_per_w: list[float]
    tau_s: list[float]
    offset_k: float


@dataclass(frozen=True, kw_only=True)
class Thermal:
    """The two regimes, and the fan states between them."""

    fan_full: Regime
    fan_off: Regime
    fan_trips_c: list[float]
    fan_duty: list[float]
    fan_hysteresis_k: float

    def regime(self, level: int) -> Regime:
        """The path at a fan level, linear in duty between off and full."""
        duty = self.fan_duty[level]

        def mix(off: float, full: float) -> float:
            return off + duty * (full - off)

        return Regime(
            r_k_per_w=[mix(a, b) for a, b in zip(self.fan_off.r_k_per_w, self.fan_full.r_k_per_w, strict=True)],
            tau_s=[mix(a, b) for a, b in zip(self.fan_off.tau_s, self.fan_full.tau_s, strict=True)],
            offset_k=mix(self.fan_off.offset_k, self.fan_full.offset_k),
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
    reference_temp_c: float
    board_base_w: float
    fan_w: float
    path: Path = field(compare=False)

    def idle_rail_w(self, freqs_hz: Mapping[str, float], temp_c: float) -> dict[str, float]:
        """Power of every rail (W) of an idle board whose clusters are on, at these clocks and temperature."""
        watts: dict[str, float] = {}
        for unit in self.units:
            clock = self.spec.clock(unit.clock)
            volts = clock.volts[clock.nearest(freqs_hz[unit.clock])]
            dynamic = unit.cluster_nf * 1e-9 * volts**2 * freqs_hz[unit.clock]
            watts[unit.name] = dynamic + leak_scale(unit, volts) * leak_growth(unit, temp_c)
        for rail in self.rails:
            watts[rail.name] = rail.base_w * math.exp(rail.per_k * (temp_c - 50.0))
        return watts


def leak_scale(unit: UnitModel, volts: float) -> float:
    """Leakage of a unit at 50 C (W): `V A exp(k (V - 1))`."""
    return volts * unit.leak_a * math.exp(unit.leak_per_v * (volts - 1.0))


def leak_growth(unit: UnitModel, temp_c: float) -> float:
    """Factor on the leakage at 50 C: exponential, or `(T/T0)^2 exp(-C2 (1/T - 1/T0))`."""
    if unit.leak_activation_k:
        kelvin = temp_c + 273.15
        return (kelvin / REFERENCE_K) ** 2 * math.exp(-unit.leak_activation_k * (1 / kelvin - 1 / REFERENCE_K))
    return math.exp(unit.leak_per_k * (temp_c - 50.0))


def board_names() -> list[str]:
    """Names of the boards that ship."""
    return sorted(p.stem for p in BOARDS.glob("*.toml") if "." not in p.stem)  # xu3.fit.toml is no board


def load_board(name_or_path: str | Path) -> BoardModel:
    """Read a board by name or from a file of its own; InputError with file, key and value where it is wrong."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = BOARDS / f"{name_or_path}.toml"
        if str(name_or_path) not in board_names():
            known = ", ".join(board_names())
            raise InputError(f"unknown board {str(name_or_path)!r}; known: {known}, or the path of a .toml file")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError.at(path, f"cannot read this board file: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError.at(path, f"not a TOML file: {error}") from error
    return _parse(path, raw)


T = TypeVar("T")


def _build(kind: type[T], path: Path, where: str, table: object) -> T:
    """A dataclass from a TOML table: unknown and missing keys, and values that are not numbers, are refused."""
    if not isinstance(table, dict):
        raise InputError.at(path, f"[{where}] is missing or not a table")
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key, value in table.items():
        if key not in known:
            raise InputError.at(path, f"unknown key in [{where}]", value=key, want=f"known keys: {', '.join(known)}")
        numbers = value if isinstance(value, list) else [value]
        for number in numbers:
            if isinstance(number, float | int) and not math.isfinite(number):
                raise InputError.at(path, f"[{where}] {key} is not finite", value=number)
    try:
        return kind(**table)
    except TypeError as error:
        raise InputError.at(path, f"[{where}] is incomplete: {str(error).split('__init__() ')[-1]}") from error


_TOP = {
    "name",
    "title",
    "default_profile",
    "interval_s",
    "thermal_nodes",
    "reference_temp_c",
    "board_base_w",
    "fan_w",
    "clock",
    "unit",
    "rail",
    "contention",
    "switching",
    "thermal",
    "throttle",
    "sensor",
}


def _parse(path: Path, raw: dict[str, Any]) -> BoardModel:
    for key in raw:
        if key not in _TOP:
            raise InputError.at(path, "unknown key", value=key, want=f"known keys: {', '.join(sorted(_TOP))}")
    for key in sorted(_TOP - {"rail", "throttle", "title"}):
        if key not in raw:
            raise InputError.at(path, f"the key {key!r} is missing")
    clocks, stalls = [], []
    for table in raw["clock"]:
        table = dict(table)
        stalls.append(float(table.pop("stall_s", 0.0)))
        table["freqs_hz"], table["volts"] = tuple(table.get("freqs_hz", ())), tuple(table.get("volts", ()))
        clocks.append(_build(Clock, path, "clock", table))
        _check_clock(path, clocks[-1])
    units = tuple(_build(UnitModel, path, "unit", t) for t in raw["unit"])
    names = [c.name for c in clocks]
    for unit in units:
        if unit.clock not in names:
            raise InputError.at(path, f"unit {unit.name!r} names no clock of this board", value=unit.clock)
        if unit.cores < 1:
            raise InputError.at(path, f"unit {unit.name!r} has no cores", value=unit.cores, want="at least 1")
    for name in names:
        if name not in [u.clock for u in units]:
            raise InputError.at(path, f"the clock {name!r} drives no unit", want="name it in a [[unit]]")
    rails = tuple(_build(RailModel, path, "rail", t) for t in raw.get("rail", []))
    thermal = dict(raw["thermal"])
    for key in ("fan_full", "fan_off"):
        thermal[key] = _build(Regime, path, f"thermal.{key}", thermal.get(key))
    throttle = tuple(_build(Throttle, path, "throttle", t) for t in raw.get("throttle", []))
    spec = BoardSpec(
        name=raw["name"],
        clocks=tuple(clocks),
        units=tuple(Unit(name=u.name, clock=u.clock, cores=u.cores, kind=u.kind, big=u.big) for u in units),  # type: ignore[arg-type]
        rails=tuple([u.name for u in units] + [r.name for r in rails]),
        thermal_nodes=tuple(raw["thermal_nodes"]),
        interval_s=float(raw["interval_s"]),
    )
    return BoardModel(
        spec=_hashed(spec),
        default_profile=raw["default_profile"],
        units=units,
        rails=rails,
        stall_s=tuple(stalls),
        contention=_build(Contention, path, "contention", raw["contention"]),
        switching=_build(Switching, path, "switching", raw["switching"]),
        thermal=_build(Thermal, path, "thermal", thermal),
        throttle=tuple(sorted(throttle, key=lambda t: t.trip_c)),
        sensor=_build(Sensor, path, "sensor", raw["sensor"]),
        reference_temp_c=float(raw["reference_temp_c"]),
        board_base_w=float(raw["board_base_w"]),
        fan_w=float(raw["fan_w"]),
        path=path,
    )


def _check_clock(path: Path, clock: Clock) -> None:
    where = f"clock {clock.name!r}"
    if not clock.freqs_hz or len(clock.freqs_hz) != len(clock.volts):
        raise InputError.at(path, f"{where}: {len(clock.freqs_hz)} frequencies but {len(clock.volts)} voltages")
    for low, high in zip(clock.freqs_hz, clock.freqs_hz[1:], strict=False):
        if high <= low:
            raise InputError.at(path, f"{where}: freqs_hz must rise", value=high)
    if clock.freqs_hz[0] < 1e6:
        raise InputError.at(path, f"{where}: freqs_hz", value=clock.freqs_hz[0], want="Hz, so at least 1e6")
    if not all(0.3 < v < 2.5 for v in clock.volts):
        raise InputError.at(path, f"{where}: volts", value=min(clock.volts), want="volts between 0.3 and 2.5")


def _hashed(spec: BoardSpec) -> BoardSpec:
    """The same spec with the hash of what a policy depends on: clocks' frequencies, units, rails, interval."""
    content = {
        "name": spec.name,
        "clocks": [[c.name, list(c.freqs_hz)] for c in spec.clocks],
        "units": [[u.name, u.clock, u.cores, u.kind] for u in spec.units],
        "rails": list(spec.rails),
        "interval_s": spec.interval_s,
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return replace(spec, hash=digest)
