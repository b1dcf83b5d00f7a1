"""A board is a text file: reads `hw/boards/*.toml` into a `BoardModel` and refuses what cannot be a board.

Parameters and their sources stand in the files themselves, with a certainty beside each.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from hw.boardcheck import check_model
from hw.boardmodel import (
    BoardModel,
    Contention,
    RailModel,
    RealModel,
    Regime,
    Sensor,
    Switching,
    Thermal,
    Throttle,
    UnitModel,
    Variation,
)
from hw.boardtable import ClockTable, Top, check_table
from hw.errors import InputError
from hw.files import read_toml
from hw.latency import LatencyLaw
from hw.types import BoardSpec, Clock, Unit

BOARDS = Path(__file__).parent / "boards"
T = TypeVar("T")


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
    return _parse(path, read_toml(path))


def _build(kind: type[T], path: Path, where: str, table: object) -> T:
    """A dataclass from a TOML table; InputError for whatever `check_table` refuses."""
    return kind(**check_table(path, where, kind, table))


def _parse(path: Path, raw: dict[str, Any]) -> BoardModel:
    check_table(path, "", Top, raw)
    tables = [check_table(path, "clock", ClockTable, table) for table in raw["clock"]]
    clocks = tuple(
        Clock(name=t["name"], freqs_hz=tuple(map(float, t["freqs_hz"])), volts=tuple(map(float, t["volts"])))
        for t in tables
    )
    units = tuple(_unit(path, table) for table in raw["unit"])
    rails = tuple(_build(RailModel, path, "rail", table) for table in raw.get("rail", []))
    thermal = dict(raw["thermal"])
    for key in ("fan_full", "fan_off"):
        thermal[key] = _build(Regime, path, f"thermal.{key}", thermal.get(key))
    throttle = tuple(_build(Throttle, path, "throttle", table) for table in raw.get("throttle", []))
    spec = BoardSpec(
        name=raw["name"],
        clocks=clocks,
        units=tuple(Unit(name=u.name, clock=u.clock, cores=u.cores, kind=u.kind, big=u.big) for u in units),  # type: ignore[arg-type]
        rails=tuple([u.name for u in units] + [r.name for r in rails]),
        thermal_nodes=tuple(raw["thermal_nodes"]),
        interval_s=float(raw["interval_s"]),
    )
    model = BoardModel(
        spec=_hashed(spec),
        default_profile=raw["default_profile"],
        units=units,
        rails=rails,
        stall_s=tuple(float(t.get("stall_s", 0.0)) for t in tables),
        contention=_build(Contention, path, "contention", raw["contention"]),
        switching=_build(Switching, path, "switching", raw["switching"]),
        thermal=_build(Thermal, path, "thermal", thermal),
        throttle=throttle,
        sensor=_build(Sensor, path, "sensor", raw["sensor"]),
        variation=_build(Variation, path, "variation", raw.get("variation", {})),
        reference_temp_c=float(raw["reference_temp_c"]),
        board_base_w=float(raw["board_base_w"]),
        fan_w=float(raw["fan_w"]),
        real=_build(RealModel, path, "real", raw["real"]) if "real" in raw else None,
        path=path,
    )
    check_model(path, model)
    return model


def _unit(path: Path, table: object) -> UnitModel:
    if isinstance(table, dict) and "latency" in table:
        table = {**table, "latency": _build(LatencyLaw, path, "unit.latency", table["latency"])}
    return _build(UnitModel, path, "unit", table)


def _hashed(spec: BoardSpec) -> BoardSpec:
    """The same spec with the hash of what a policy depends on: name, clocks' frequencies, units, rails, interval."""
    content = {
        "name": spec.name,
        "clocks": [[c.name, list(c.freqs_hz)] for c in spec.clocks],
        "units": [[u.name, u.clock, u.cores, u.kind] for u in spec.units],
        "rails": list(spec.rails),
        "interval_s": spec.interval_s,
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return replace(spec, hash=digest)
