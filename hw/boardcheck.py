"""What cannot be a board: every refusal of a board file, one clear line each; called by `hw.boardfile`.

`check_table` looks at one table against the dataclass it becomes, `check_model` at what the tables say of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw.errors import InputError
from hw.types import Clock

if TYPE_CHECKING:
    from hw.boardfile import BoardModel, RealModel, Thermal, Throttle

HERTZ = (1e7, 1e10)
SLIPS = {"kHz": 1e3, "MHz": 1e6, "GHz": 1e9}
VOLTS = (0.3, 2.5)
KERNELS = ("mainline", "vendor")
METERS = ("none", "ina231", "ina3221", "rapl")
SAG = 0.02  # a measured rail may fall by so much below the highest voltage of the clocks below it


@dataclass(frozen=True, kw_only=True)
class Top:
    """The keys of a board file."""

    name: str
    title: str = ""
    default_profile: str
    interval_s: float
    thermal_nodes: list[str]
    reference_temp_c: float
    board_base_w: float
    fan_w: float
    clock: list[dict[str, Any]]
    unit: list[dict[str, Any]]
    rail: list[dict[str, Any]] = ()  # type: ignore[assignment]
    contention: dict[str, Any]
    switching: dict[str, Any]
    thermal: dict[str, Any]
    throttle: list[dict[str, Any]] = ()  # type: ignore[assignment]
    sensor: dict[str, Any]
    variation: dict[str, Any] = ()  # type: ignore[assignment]
    real: dict[str, Any] = ()  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True)
class ClockTable:
    """The keys of a `[[clock]]`."""

    name: str
    freqs_hz: list[float]
    volts: list[float]
    stall_s: float = 0.0


# key -> lowest, highest, what it is; a key that stands nowhere here need only be a finite number
ABOVE_0 = {
    **dict.fromkeys(("interval_s", "tau_s", "window_s"), "seconds"),
    **dict.fromkeys(("mem_ceiling_gbps", "weights_gbps"), "GB/s"),
    "mac_cycles": "cycles",
}
NOT_BELOW_0 = {
    **dict.fromkeys(("cluster_nf", "background_nf", "conv_nf", "spot_nf"), "nF"),
    **dict.fromkeys(("r_k_per_w", "spot_k_per_w"), "K/W"),
    **dict.fromkeys(("board_base_w", "fan_w", "off_w", "base_w", "active_w", "step_w"), "W"),
    **dict.fromkeys(("stall_s", "off_after_s", "control_path_s", "migration_s", "rung_s", "layer_s"), "seconds"),
    **dict.fromkeys(("gain_std", "leak_std", "heat_std", "latency_std"), "standard deviation, a share of 1"),
    **dict.fromkeys(("fan_hysteresis_k", "hysteresis_k", "temp_step_c"), "kelvins"),
    **dict.fromkeys(("activation_cycles", "layer_cycles"), "cycles"),
    "leak_a": "ampere at 1 V and 50 C",
    "w_per_gbps": "W per GB/s",
    "stall_stretch": "share of 1",
    "energy_j": "J",
}
RANGES = {
    **{key: (1e-9, 1e6, f"{unit} above 0") for key, unit in ABOVE_0.items()},
    **{key: (0.0, 1e6, f"{unit}, 0 or more") for key, unit in NOT_BELOW_0.items()},
    **dict.fromkeys(("reference_temp_c", "trip_c", "fan_trips_c"), (-50.0, 200.0, "deg C from -50 to 200")),
    **dict.fromkeys(("fan_duty", "parallel"), (0.0, 1.0, "a share from 0 to 1")),
    **dict.fromkeys(("volts_low", "volts_high"), (0.5, 1.5, "a factor from 0.5 to 1.5")),
    "leak_per_v": (0.0, 50.0, "per volt, from 0 to 50"),
    "leak_per_k": (0.0, 0.5, "per kelvin, from 0 to 0.5"),
    "per_k": (-0.5, 0.5, "per kelvin, from -0.5 to 0.5"),
    "leak_activation_k": (0.0, 1e4, "kelvins, from 0 to 1e4"),
    "min_share": (1e-3, 1.0, "a share above 0, at most 1"),
    "cores": (1, 1024, "1 or more"),
    "volts": (*VOLTS, "V from 0.3 to 2.5"),
}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list(value: object, of: Callable[[object], bool]) -> bool:
    return isinstance(value, list | tuple) and all(of(item) for item in value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _is_table_of(value: object, of: Callable[[object], bool]) -> bool:
    return isinstance(value, dict) and all(of(item) for item in value.values())


# annotation -> what a value of TOML must be, in words and as a test; other annotations are tables built already
TYPES: dict[str, tuple[str, Callable[[object], bool]]] = {
    "str": ("a text in quotes, not empty", lambda value: _is_text(value) and value != ""),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "int": ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    "float": ("a number", _is_number),
    "list[float]": ("a list of numbers: [1.0, 2.0]", lambda value: _is_list(value, _is_number)),
    "list[str]": ('a list of texts: ["one", "two"]', lambda value: _is_list(value, _is_text)),
    "dict[str, float]": ("a table of numbers: { a = 1.0 }", lambda v: _is_table_of(v, _is_number)),
    "dict[str, str]": ('a table of texts: { a = "one" }', lambda v: _is_table_of(v, _is_text)),
    "dict[str, list[str]]": (
        'a table of lists of texts: { a = ["one"] }',
        lambda v: _is_table_of(v, lambda item: _is_list(item, _is_text)),
    ),
    "dict[str, list[int]]": (
        "a table of lists of whole numbers: { a = [0, 1] }",
        lambda v: _is_table_of(v, lambda item: _is_list(item, lambda n: type(n) is int)),
    ),
    "dict[str, Any]": ("a table", _is_table),
    "list[dict[str, Any]]": ("tables, each under a heading in double brackets", lambda v: _is_list(v, _is_table)),
}


def check_table(path: Path, where: str, kind: type, table: object) -> dict[str, Any]:
    """The table, if the dataclass `kind` can be made of it; InputError for unknown and missing keys, wrong types,
    numbers that are not finite or out of range. `where` is the table's name, "" the file itself.
    """
    if not isinstance(table, dict):
        raise InputError.at(path, f"[{where}] is missing or not a table", value=table, want=f"a table [{where}]")
    inside = f"[{where}]" if where else "this file"
    if where and isinstance(table.get("name"), str):
        inside += f" {table['name']!r}"
    known = {field.name: field for field in fields(kind)}
    for key in table:
        if key not in known:
            raise InputError.at(path, f"unknown key in {inside}", value=key, want=f"known keys: {', '.join(known)}")
    for key, field in known.items():
        if key in table:
            _check_value(path, inside, key, str(field.type), table[key])
        elif field.default is MISSING and field.default_factory is MISSING:
            want = f"{key} = {TYPES[str(field.type)][0]}" if str(field.type) in TYPES else f"{key} = ..."
            raise InputError.at(path, f"{inside}: the key {key!r} is missing", want=want)
    return table


def _check_value(path: Path, inside: str, key: str, kind: str, value: Any) -> None:
    if kind not in TYPES:
        return
    want, fits = TYPES[kind]
    if not fits(value):
        raise InputError.at(path, f"{inside}: {key} is not {want.partition(':')[0]}", value=value, want=want)
    numbers = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
    low, high, want = RANGES.get(key, (-1e6, 1e6, "a number of ordinary size"))
    for number in numbers:
        if not _is_number(number):
            continue
        if not abs(number) <= 1e300:  # nan, too; a whole number of TOML may be longer than a float can hold
            raise InputError.at(path, f"{inside}: {key} is not finite", value=number, want="a finite number")
        if key.endswith("_hz"):
            _check_hertz(path, inside, key, number)
        elif not low <= number <= high:
            slip = "looks like mV" if key == "volts" and VOLTS[0] <= number / 1e3 <= VOLTS[1] else "is out of range"
            raise InputError.at(path, f"{inside}: {key} {slip}", value=number, want=want)


def _check_hertz(path: Path, inside: str, key: str, hertz: float) -> None:
    if HERTZ[0] <= hertz <= HERTZ[1]:
        return
    for unit, factor in SLIPS.items():
        if HERTZ[0] <= hertz * factor <= HERTZ[1]:
            want = f"Hz: {hertz * factor:g} here"
            raise InputError.at(path, f"{inside}: {key} looks like {unit}", value=hertz, want=want)
    raise InputError.at(path, f"{inside}: {key} is out of range", value=hertz, want="Hz from 1e7 to 1e10")


def check_model(path: Path, model: BoardModel) -> None:
    """InputError for a board whose tables do not go together."""
    spec = model.spec
    _check_names(path, "[[clock]]", [c.name for c in spec.clocks])
    _check_names(path, "[[unit]]", [u.name for u in spec.units])
    _check_names(path, "[[rail]], which must differ from the units' too", spec.rails)
    _check_names(path, "thermal_nodes", spec.thermal_nodes)
    for clock in spec.clocks:
        _check_clock(path, clock)
    _check_units(path, model)
    if model.variation.volts_low > model.variation.volts_high:
        want = f"at most volts_high, {model.variation.volts_high:g}"
        raise InputError.at(
            path, "[variation]: volts_low is above volts_high", value=model.variation.volts_low, want=want
        )
    _check_thermal(path, model.thermal, [u.name for u in model.units])
    _check_throttle(path, model.throttle, spec.clocks)
    if model.real is not None:
        _check_real(path, model, model.real)


def _check_names(path: Path, where: str, names: Sequence[str]) -> None:
    for i, name in enumerate(names):
        if not name.isprintable() or not name:
            raise InputError.at(path, f"{where}: not a name", value=name, want="letters and digits")
        if name in names[:i]:
            raise InputError.at(path, f"{where}: no name of its own", value=name, want="another name for each")


def _check_clock(path: Path, clock: Clock) -> None:
    where = f"[clock] {clock.name!r}"
    if not clock.freqs_hz or len(clock.freqs_hz) != len(clock.volts):
        counts = f"{len(clock.freqs_hz)} frequencies but {len(clock.volts)} voltages"
        raise InputError.at(path, f"{where}: {counts}", want="one voltage per frequency, one or more of them")
    _check_rise(path, f"{where}: freqs_hz", clock.freqs_hz)
    highest = 0.0
    for hertz, volts in zip(clock.freqs_hz, clock.volts, strict=True):
        if volts < highest * (1 - SAG):
            want = f"{highest:g} V or more, as below it (a measured rail may be {100 * SAG:g} % less)"
            raise InputError.at(path, f"{where}: volts fall at {hertz:g} Hz", value=volts, want=want)
        highest = max(highest, volts)


def _check_rise(path: Path, what: str, values: Iterable[float]) -> None:
    for low, high in pairwise(values):
        if high <= low:
            raise InputError.at(path, f"{what} must rise", value=high, want=f"more than {low:g}, which it follows")


def _check_units(path: Path, model: BoardModel) -> None:
    clocks = [c.name for c in model.spec.clocks]
    for unit in model.units:
        where = f"[unit] {unit.name!r}"
        if unit.clock not in clocks:
            want = f"clocks are {', '.join(clocks) or 'none'}"
            raise InputError.at(path, f"{where} names no clock of this board", value=unit.clock, want=want)
        if unit.kind not in ("cpu", "gpu"):
            raise InputError.at(path, f"{where}: no such kind", value=unit.kind, want='kind = "cpu" or "gpu"')
        if unit.kind == "gpu" and unit.cores != 1:
            raise InputError.at(path, f"{where}: cores of a GPU", value=unit.cores, want="1: it is shared as a whole")
        if unit.leak_per_k and unit.leak_activation_k:
            problem = f"{where}: leak_per_k and leak_activation_k are two laws for the same thing"
            raise InputError.at(path, problem, value=unit.leak_per_k, want="one of them")
    for name in clocks:
        if name not in [unit.clock for unit in model.units]:
            raise InputError.at(path, "a clock that drives no unit", value=name, want="name it in a [[unit]]")
    cpus = [unit for unit in model.units if unit.kind == "cpu"]
    if not cpus:
        raise InputError.at(path, "no [[unit]] is a CPU", want="one at least: it is where the kernel runs")
    big = [unit.name for unit in cpus if unit.big]
    if len(big) > 1:
        raise InputError.at(path, "[[unit]]: more than one is big", value=big[1], want="big = true once: the fastest")


def _check_thermal(path: Path, thermal: Thermal, units: Sequence[str]) -> None:
    for name, regime in (("fan_full", thermal.fan_full), ("fan_off", thermal.fan_off)):
        for key, values in (("r_k_per_w", regime.r_k_per_w), ("tau_s", regime.tau_s)):
            if len(values) != 2:
                want = "two numbers: the fast part and the slow one"
                raise InputError.at(path, f"[thermal.{name}]: {key}", value=list(values), want=want)
        if regime.spot_k_per_w and not thermal.spot_unit:
            want = "spot_unit and spot_nf in [thermal]: whose rail heats that spot"
            raise InputError.at(
                path, f"[thermal.{name}]: spot_k_per_w of no unit", value=regime.spot_k_per_w, want=want
            )
    if thermal.spot_unit and thermal.spot_unit not in units:
        want = f"units are {', '.join(units)}"
        raise InputError.at(path, "[thermal]: spot_unit is no unit of this board", value=thermal.spot_unit, want=want)
    _check_rise(path, "[thermal]: fan_trips_c", thermal.fan_trips_c)
    wanted = len(thermal.fan_trips_c) + 1
    if len(thermal.fan_duty) != wanted:
        want = f"{wanted} for {wanted - 1} fan_trips_c: one below the first and one from each trip"
        raise InputError.at(path, f"[thermal]: fan_duty has {len(thermal.fan_duty)} values", want=want)


def _check_throttle(path: Path, throttle: Sequence[Throttle], clocks: Sequence[Clock]) -> None:
    _check_rise(path, "[[throttle]]: trip_c", [trip.trip_c for trip in throttle])
    known: Mapping[str, Clock] = {clock.name: clock for clock in clocks}
    most = {clock.name: clock.max_hz for clock in clocks}
    for trip in throttle:
        where = f"[throttle] at {trip.trip_c:g} C"
        for name, cap_hz in trip.caps_hz.items():
            if name not in known:
                raise InputError.at(
                    path, f"{where}: caps no clock of this board", value=name, want=f"clocks are {', '.join(known)}"
                )
            if cap_hz < known[name].freqs_hz[0]:
                want = f"{known[name].freqs_hz[0]:g} Hz or more, its lowest frequency"
                raise InputError.at(path, f"{where}: the cap of {name!r} leaves no frequency", value=cap_hz, want=want)
        for name, cap_hz in most.items():
            now_hz = trip.caps_hz.get(name, known[name].max_hz)
            if now_hz > cap_hz:
                want = f"at most {cap_hz:g} Hz, as at the trip below"
                raise InputError.at(path, f"{where}: {name!r} may run faster again", value=now_hz, want=want)
            most[name] = now_hz


def _check_real(path: Path, model: BoardModel, real: RealModel) -> None:
    spec = model.spec
    gpus = [u.name for u in spec.units if u.kind == "gpu"]
    devices = [u.clock for u in spec.units if u.kind == "gpu"]
    for key, names, known, all_of_them in (
        ("cpus", real.cpus, [u.name for u in spec.units if u.kind == "cpu"], True),
        ("devfreq", real.devfreq, devices, True),
        ("gpu_load", real.gpu_load, gpus, True),
        ("zones", real.zones, list(spec.thermal_nodes), True),
        ("rails", real.rails, list(spec.rails), real.meter != "none"),
    ):
        wrong = [n for n in names if n not in known] or [n for n in known if all_of_them and n not in names]
        if wrong:
            want = f"one entry each for {', '.join(known) or 'nothing on this board'}"
            raise InputError.at(path, f"[real]: {key} does not fit this board", value=wrong[0], want=want)
    numbers = [n for cpus in real.cpus.values() for n in cpus]
    for unit in spec.units:
        cpus = real.cpus.get(unit.name, [])
        if unit.kind == "cpu" and (len(cpus) < unit.cores or min(cpus) < 0 or len(set(numbers)) < len(numbers)):
            want = f"{unit.cores} CPU numbers or more that no other unit has"
            raise InputError.at(path, f"[real]: cpus of {unit.name!r}", value=cpus, want=want)
    for key, value, choice in (
        ("kernel", real.kernel, KERNELS),
        ("meter", real.meter, METERS),
        ("total_rail", real.total_rail, ("", *real.rails)),
    ):
        if value not in choice:
            raise InputError.at(path, f"[real]: {key}", value=value, want=f"one of {', '.join(c for c in choice if c)}")
