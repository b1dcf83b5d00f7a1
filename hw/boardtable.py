"""A board file's tables, one by one: the keys each may have, and what a value of each must be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from hw.errors import InputError

HERTZ = (1e7, 1e10)
SLIPS = {"kHz": 1e3, "MHz": 1e6, "GHz": 1e9}
STD = "standard deviation, a share of 1"


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
    **dict.fromkeys(("tau_s", "window_s"), "seconds"),
    **dict.fromkeys(("mem_ceiling_gbps", "weights_gbps"), "GB/s"),
    "mac_cycles": "cycles",
}
NOT_BELOW_0 = {
    **dict.fromkeys(("cluster_nf", "background_nf", "conv_nf", "spot_nf"), "nF"),
    **dict.fromkeys(("r_k_per_w", "spot_k_per_w"), "K/W"),
    **dict.fromkeys(("board_base_w", "fan_w", "off_w", "base_w", "active_w", "step_w"), "W"),
    **dict.fromkeys(("stall_s", "off_after_s", "control_path_s", "migration_s", "rung_s", "layer_s"), "seconds"),
    **dict.fromkeys(("gain_std", "leak_std", "heat_std", "latency_std"), STD),
    **dict.fromkeys(("fan_hysteresis_k", "hysteresis_k", "temp_step_c"), "kelvins"),
    **dict.fromkeys(("activation_cycles", "layer_cycles"), "cycles"),
    "leak_a": "A at 1 V and 50 C",
    "w_per_gbps": "W per GB/s",
    "stall_stretch": "share of 1",
    "energy_j": "J",
}
# beyond that, none of a board that one can hold
MOST = {"nF": 100.0, "K/W": 1e3, "W": 1e3, STD: 1.0, "A at 1 V and 50 C": 20.0}
RANGES = {
    **{key: (1e-9, 1e6, f"{unit} above 0") for key, unit in ABOVE_0.items()},
    **{
        key: (0.0, MOST[unit], f"{unit}, 0 to {MOST[unit]:g}") if unit in MOST else (0.0, 1e6, f"{unit}, 0 or more")
        for key, unit in NOT_BELOW_0.items()
    },
    "interval_s": (1e-3, 60.0, "seconds from 0.001 to 60"),
    **dict.fromkeys(("reference_temp_c", "trip_c", "fan_trips_c"), (-50.0, 200.0, "deg C from -50 to 200")),
    **dict.fromkeys(("fan_duty", "parallel"), (0.0, 1.0, "a share from 0 to 1")),
    **dict.fromkeys(("volts_low", "volts_high"), (0.5, 1.5, "a factor from 0.5 to 1.5")),
    "leak_per_v": (0.0, 50.0, "per volt, from 0 to 50"),
    "leak_per_k": (0.0, 0.5, "per kelvin, from 0 to 0.5"),
    "per_k": (-0.5, 0.5, "per kelvin, from -0.5 to 0.5"),
    "leak_activation_k": (0.0, 1e4, "kelvins, from 0 to 1e4"),
    "min_share": (1e-3, 1.0, "a share above 0, at most 1"),
    "cores": (1, 1024, "1 or more"),
    "volts": (0.3, 2.5, "V from 0.3 to 2.5"),
}
# key -> what it may have been given in, and how many of those are one of ours
SLIPPED = {
    **{key: ("pF", 1e3) for key, unit in NOT_BELOW_0.items() if unit == "nF"},
    **{key: ("mW", 1e3) for key, unit in NOT_BELOW_0.items() if unit == "W"},
    **{key: ("per cent", 1e2) for key, unit in NOT_BELOW_0.items() if unit == STD},
    "leak_a": ("mA", 1e3),
    "interval_s": ("ms", 1e3),
    "volts": ("mV", 1e3),
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
            unit, factor = SLIPPED.get(key, ("", 1.0))
            slip = f"looks like {unit}" if low <= number / factor <= high else "is out of range"
            raise InputError.at(path, f"{inside}: {key} {slip}", value=number, want=want)


def _check_hertz(path: Path, inside: str, key: str, hertz: float) -> None:
    if HERTZ[0] <= hertz <= HERTZ[1]:
        return
    for unit, factor in SLIPS.items():
        if HERTZ[0] <= hertz * factor <= HERTZ[1]:
            want = f"Hz: {hertz * factor:g} here"
            raise InputError.at(path, f"{inside}: {key} looks like {unit}", value=hertz, want=want)
    raise InputError.at(path, f"{inside}: {key} is out of range", value=hertz, want="Hz from 1e7 to 1e10")
