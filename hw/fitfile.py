"""What was fitted from a board's measurements: `hw/boards/<board>.fit.toml`, written by `experiments/fit_board.py`.

One section per part of the board, each with its parameters and where they come from: command, data and its SHA-256,
whose data it is, and the errors on workloads that the fit had not seen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar, cast

from hw.boardfile import BOARDS
from hw.errors import InputError
from hw.files import read_toml
from hw.latency import LatencyLaw
from hw.simulated.fit_a57 import SupplyModel
from hw.simulated.fit_contention import ContentionModel
from hw.simulated.fit_gpu import GpuModel
from hw.simulated.fit_heat import HeatModel
from hw.simulated.fit_power import PowerModel
from hw.simulated.fit_rest import IdleModel, MemoryModel, VoltageModel
from hw.simulated.fit_unit import UnitPower

SUFFIX = ".fit.toml"
Model = (
    PowerModel
    | VoltageModel
    | MemoryModel
    | IdleModel
    | ContentionModel
    | HeatModel
    | SupplyModel
    | GpuModel
    | LatencyLaw
    | UnitPower  # in board files alone
)
SECTIONS: dict[str, dict[str, type[Model]]] = {
    "xu3": {
        "a15": PowerModel,
        "volts": VoltageModel,
        "mem": MemoryModel,
        "idle_gpu": IdleModel,
        "contention": ContentionModel,
        "heat": HeatModel,
        "latency_a7": LatencyLaw,
    },
    "jetson_nano": {"a57": SupplyModel, "gpu": GpuModel, "latency_a57": LatencyLaw, "latency_gpu": LatencyLaw},
    "raspberry_pi_5": {"latency_a76": LatencyLaw},
}
ERRORS = (
    "power_mape",
    "power_mape_worst",
    "class_power_mape",
    "class_power_mape_worst",
    "power_p95_ape",
    "temp_rmse_k",
    "temp_rmse_k_worst",
    "latency_mape",
    "latency_mape_worst",
    "volts_mape",
    "volts_mape_worst",
    "mem_mape",
    "mem_mape_worst",
    "idle_gpu_mape",
    "idle_gpu_mape_worst",
    "contention_mape",
    "contention_mape_worst",
)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a section's parameters come from."""

    command: str
    data: str
    source: str
    sha256: str
    rows: int
    split: str  # how workloads were held back
    held_back: dict[str, float]  # errors on them: `ERRORS`


@dataclass(frozen=True, kw_only=True)
class Section:
    """Parameters and their origin."""

    model: Model
    origin: Origin


def fit_boards() -> list[str]:
    """Names of the boards whose fits ship."""
    return sorted(p.name.removesuffix(SUFFIX) for p in BOARDS.glob(f"*{SUFFIX}"))


def load_fit(name_or_path: str | Path) -> tuple[str, dict[str, Section]]:
    """The board's name and its sections; InputError with file, key and value where it is wrong."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = BOARDS / f"{name_or_path}{SUFFIX}"
        if str(name_or_path) not in fit_boards():
            known = ", ".join(fit_boards())
            want = f"known: {known}, or the path of a {SUFFIX} file"
            raise InputError(f"no fit of board {str(name_or_path)!r} ships; {want}")
    raw: dict[str, object] = read_toml(path)
    board = raw.pop("board", None)
    if not isinstance(board, str) or board not in SECTIONS:
        want = f"board = one of {', '.join(SECTIONS)}"
        raise InputError.at(path, "names no board that is known", column="board", value=board, want=want)
    known_sections = SECTIONS[board]
    sections: dict[str, Section] = {}
    for key, table in raw.items():
        if key not in known_sections:
            raise InputError.at(path, "unknown key", column=key, want=f"sections are {', '.join(known_sections)}")
        values = dict(_table(path, key, table))
        origin = _build(Origin, path, f"{key}.origin", values.pop("origin", None))
        sections[key] = Section(model=_build(known_sections[key], path, key, values), origin=origin)
    return board, sections


def fit_text(board: str, sections: Mapping[str, Section]) -> str:
    """The text of a fit file; `load_fit` reads the same back."""
    lines = [
        f"# Fitted to measurements of a real board; see docs/FIDELITY.md. {SUFFIX} files are written by the command",
        "# that stands in each section; the laws are in hw/simulated/fit_*.py and hw/latency.py.",
        f"board = {json.dumps(board)}",
    ]
    for name, section in sections.items():
        lines += ["", f"[{name}]"]
        lines += [f"{f.name} = {_toml(getattr(section.model, f.name))}" for f in fields(section.model)]
        lines += ["", f"[{name}.origin]"]
        for field in fields(Origin):
            value = getattr(section.origin, field.name)
            if field.name != "held_back":
                lines.append(f"{field.name} = {json.dumps(value, ensure_ascii=False)}")
        lines += ["", f"[{name}.origin.held_back]"]
        lines += [f"{key} = {value:.4g}" for key, value in section.origin.held_back.items()]
    return "\n".join(lines) + "\n"


def _toml(value: float | tuple[float, ...]) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(f'{x:.6g}' for x in value)}]"
    return f"{float(value):.6g}"


T = TypeVar("T")


def _build(kind: type[T], path: Path, where: str, table: object) -> T:
    """A dataclass from a TOML table, all its keys and no others, each of its type."""
    values = _table(path, where, table)
    types = {f.name: str(f.type) for f in fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in types:
            want = f"keys are {', '.join(types)}"
            raise InputError.at(path, f"unknown key in [{where}]", column=key, value=values[key], want=want)
    for key in types:
        if key not in values:
            raise InputError.at(path, f"missing key in [{where}]", column=key)
    found = {key: _value(path, where, key, values[key], types[key]) for key in types}
    try:
        return kind(**found)
    except InputError as error:
        raise InputError.at(path, f"[{where}], {error}") from None


def _value(path: Path, where: str, key: str, value: object, kind: str) -> object:
    if kind == "str":
        if not isinstance(value, str) or not value:
            raise InputError.at(path, f"not a text in [{where}]", column=key, value=value, want="a text in quotes")
        return value
    if kind.startswith("dict"):
        table = _table(path, f"{where}.{key}", value)
        for name in table:
            if name not in ERRORS:
                want = f"keys are {', '.join(ERRORS)}"
                raise InputError.at(path, f"unknown key in [{where}.{key}]", column=name, value=table[name], want=want)
        return {name: _number(path, f"{where}.{key}", name, table[name]) for name in table}
    if kind.startswith("tuple"):
        if not isinstance(value, list) or not value:
            raise InputError.at(path, f"not a list in [{where}]", column=key, value=value, want="numbers in brackets")
        return tuple(_number(path, where, key, x) for x in value)
    if kind == "int":
        if isinstance(value, bool) or not isinstance(value, int):
            raise InputError.at(
                path, f"not a whole number in [{where}]", column=key, value=value, want="a whole number"
            )
        return value
    return _number(path, where, key, value)


def _number(path: Path, where: str, key: str, value: object) -> float:
    # TOML integers may be longer than a float can hold
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300 or math.isnan(value):
        raise InputError.at(path, f"not a number in [{where}]", column=key, value=value, want="a finite number")
    return float(value)


def _table(path: Path, where: str, table: object) -> dict[str, object]:
    if not isinstance(table, dict):
        raise InputError.at(path, f"[{where}] is missing or not a table")
    return cast(dict[str, object], table)
