"""Board files from a fit: those that ship, with the fitted values in place of those they had."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from hw.boardfile import load_board
from hw.boardmodel import BoardModel
from hw.errors import InputError
from hw.files import read_text
from hw.fitfile import Origin, Section
from hw.latency import LatencyLaw
from hw.simulated.fit_a57 import LEAK_PER_K, SupplyModel
from hw.simulated.fit_contention import ContentionModel
from hw.simulated.fit_gpu import GpuModel
from hw.simulated.fit_heat import ROOM_C, HeatModel
from hw.simulated.fit_power import PowerModel
from hw.simulated.fit_rest import IdleModel, MemoryModel, VoltageModel, volts_at
from hw.simulated.fit_unit import UnitPower
from hw.types import Clock

# The Nano's GPU is half the TX1's, which the data are of: one multiprocessor, not two. Those were at 27 C on average.
GPU_SHARE = 0.5
GPU_STILL_C = 27.0


@dataclass(frozen=True, kw_only=True)
class Told:
    """What one section tells of a board: lines of one table, of which unit or rail, and what is to be said of them."""

    heading: str
    owner: str = ""
    values: Mapping[str, float | str]  # a text stands as it is
    what: str
    errors: str  # of the errors held back, those that begin so


def board_files(files: Mapping[str, Path], sections: Mapping[str, Section]) -> dict[str, tuple[str | None, str]]:
    """The texts of these board files with these sections in them, by name; None and why where there is none.

    There is none where what was fitted cannot be a board (a negative thermal resistance, for one).
    """
    return {name: _board_file(path, sections) for name, path in files.items()}


def _board_file(path: Path, sections: Mapping[str, Section]) -> tuple[str | None, str]:
    lines = read_text(path).splitlines()
    for name, section in sections.items():
        _put(path, lines, name, section)
    text = "\n".join(lines) + "\n"
    with TemporaryDirectory() as folder:
        trial = Path(folder) / path.name
        trial.write_text(text, encoding="utf-8")
        try:
            load_board(trial)
        except InputError as error:
            return None, str(error).replace(str(trial), path.name)
    return text, ""


def _told(name: str, section: Section, shipped: BoardModel) -> list[Told]:
    """What a section tells of its board, in the words of a board file."""
    match section.model:
        case PowerModel() as m:
            values: dict[str, float | str] = {"cluster_nf": m.cluster_nf, "background_nf": m.class_integer_nf}
            values |= {"leak_a": m.leak_a, "leak_per_v": _given(m.leak_per_v)}
            values |= {"leak_activation_k": _given(m.leak_activation_k)}
            return [_unit("a15", "clock, busy cores (class integer) and leakage of this rail", values)]
        case SupplyModel() as m:
            values = {"leak_a": m.leak_a, "leak_per_v": _given(m.leak_per_v), "leak_per_k": _given(m.leak_per_k)}
            return [_unit("a57", "leakage of this rail", values)]
        case UnitPower() as m:
            what = "clock, busy cores and leakage of this rail"
            return [_unit(name.removeprefix("power_"), what, asdict(m), "power_")]
        case GpuModel() as m:
            warmer = math.exp(LEAK_PER_K * (50.0 - GPU_STILL_C))
            whole = {"cluster_nf": m.clocks_on_nf, "background_nf": m.class_streaming_nf}
            whole |= {"leak_a": m.static_w_per_v * warmer}
            what = "clocks, streaming programs and leakage, each half of a TX1's, whose the errors are"
            return [_unit("gpu", what, {key: GPU_SHARE * value for key, value in whole.items()})]
        case VoltageModel() as m:
            what = f"mean of the rail to {m.mhz[-1]:g} MHz, rising above as before (M)"
            values = {"volts": _volts(shipped.spec.clock("a15"), m)}
            return [Told(heading="[[clock]]", owner="a15", values=values, what=what, errors="volts_")]
        case MemoryModel() as m:
            what = "bus accesses of the A15 cores, 16 bytes each"
            return [Told(heading="[[rail]]", owner="mem", values=asdict(m), what=what, errors="mem_")]
        case IdleModel() as m:
            what = "idle, by the A15's temperature"
            return [Told(heading="[[rail]]", owner="gpu", values=asdict(m), what=what, errors="idle_gpu_")]
        case ContentionModel() as m:
            law = f"x (memory-bound share) ** {m.stall_power:g}, per busy core beside, or per half ceiling of traffic"
            most = "traffic of copies together, at most; errors are those of their slow-downs"
            stretch = {"stall_stretch": m.stall_stretch}
            return [
                Told(heading="[contention]", values=stretch, what=law, errors="contention_"),
                _unit("a15", most, {"mem_ceiling_gbps": m.ceiling_gbps}, "contention_"),
            ]
        case HeatModel() as m:
            regime = {
                "r_k_per_w": f"[{_number(m.fast_k_per_w)}, {_number(m.slow_k_per_w)}]",
                "tau_s": f"[{_number(m.fast_s)}, {_number(m.slow_s)}]",
                "offset_k": _number(m.offset_k),
                "spot_k_per_w": _number(m.core_k_per_w),
            }
            full = ", ".join(f"{key} = {value}" for key, value in regime.items())
            values = {"fan_full": f"{{ {full} }}", "spot_unit": '"a15"', "spot_nf": m.core_nf}
            offset = f"offset: mean ambient, inferred, over a room taken for {ROOM_C:g} C"
            what = f"power to the hottest sensor, fan full on; {offset}"
            return [Told(heading="[thermal]", values=values, what=what, errors="temp_")]
        case LatencyLaw() as m:
            values = {"mac_cycles": m.mac_cycles, "activation_cycles": m.activation_cycles}
            values |= {"parallel": m.parallel} if m.layer_cycles else {"layer_s": m.layer_s}  # of a CPU, of a GPU
            values |= {"weights_gbps": m.weights_gbps}
            unit = name.removeprefix("latency_")
            what = "ncnn on single precision models, docs/LATENCY.md"
            return [Told(heading="[unit.latency]", owner=unit, values=values, what=what, errors="latency_")]


def _volts(clock: Clock, model: VoltageModel) -> str:
    """Volts of a clock's frequencies to a millivolt: beyond those measured, the clock's own in proportion."""
    mhz = np.array(clock.freqs_hz) / 1e6
    within = np.clip(mhz, model.mhz[0], model.mhz[-1])
    growth = np.array(clock.volts) / np.interp(within, mhz, np.array(clock.volts))
    volts = np.round(volts_at(mhz, model), 3) * np.where(within == mhz, 1.0, growth)
    return f"[{', '.join(f'{v:.3f}' for v in volts)}]"


def _unit(unit: str, what: str, values: Mapping[str, float | str], errors: str = "class_") -> Told:
    """What the power of a rail tells of its unit."""
    return Told(heading="[[unit]]", owner=unit, values=values, what=what, errors=errors)


def _put(path: Path, lines: list[str], name: str, section: Section) -> None:
    """Replace the lines that a section tells better, and the comments on them."""
    for told in _told(name, section, load_board(path)):
        _put_table(path, lines, told, section.origin)


def _put_table(path: Path, lines: list[str], told: Told, origin: Origin) -> None:
    start, end = _table(path, lines, told)
    held_back = [f"{key} {value:.4g}" for key, value in origin.held_back.items() if key.startswith(told.errors)]
    note = [
        f"{told.what}; fitted:",
        origin.command,
        f"data: {origin.data}, {origin.rows} rows, SHA-256 {origin.sha256}; whose: {origin.source}",
        f"errors on what was held back: {', '.join(held_back)}",
    ]
    table = lines[start:end]
    texts = {key: v if isinstance(v, str) else _number(v) for key, v in told.values.items()}
    at = min(_replace(table, key, text) for key, text in texts.items())
    table[at:at] = ["# " + "".join(c if c.isprintable() else "?" for c in line) for line in note]
    lines[start:end] = table


def _table(path: Path, lines: Sequence[str], told: Told) -> tuple[int, int]:
    """First line after the heading of a table, and the line after its last key."""
    for start in (i + 1 for i, line in enumerate(lines) if line.split("#")[0].strip() == told.heading):
        end = next((i for i in range(start, len(lines)) if lines[i].lstrip().startswith("[")), len(lines))
        if not told.owner or _owner(lines[:end]) == told.owner:
            keys = [i for i in range(start, end) if re.match(r"\w+\s*=", lines[i])]
            return start, keys[-1] + 1
    table = f"{told.heading} {told.owner}".strip()
    raise InputError.at(path, "has no such table", value=table, want="a board file with all that the data tell of")


def _owner(lines: Sequence[str]) -> str:
    """The name in the last table in double brackets: one within a unit follows the unit's own lines."""
    last = max(i for i, line in enumerate(lines) if line.lstrip().startswith("[["))
    ((table,),) = tomllib.loads("\n".join(lines[last:])).values()
    return str(table["name"])


def _replace(table: list[str], key: str, value: str) -> int:
    """Put a line in place of that of the same key and the comments above it, or at the end; where it stands now."""
    found = [i for i, line in enumerate(table) if re.match(rf"{key}\s*=", line)]
    end = found[0] + 1 if found else len(table)
    start = found[0] if found else end
    while found and start > 0 and table[start - 1].startswith("#"):
        start -= 1
    table[start:end] = [f"{key} = {value}"]
    return start


def _number(value: float) -> str:
    """A float of TOML, to six digits as in the fit file."""
    text = f"{value:.6g}"
    return text if re.search(r"[.en]", text) else f"{text}.0"


def _given(value: float) -> str:
    return f"{_number(value)}  # given, not fitted"
