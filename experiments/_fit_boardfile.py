"""A board file from a fit: the one that ships, with the fitted values in place of those it had."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from hw.boardfile import BOARDS, load_board
from hw.errors import InputError
from hw.files import read_text
from hw.fitfile import Section
from hw.simulated.fit_heat import HeatModel
from hw.simulated.fit_power import PowerModel

BIG = "a15"  # the unit whose rail `--powmon` fits and whose cores stand beside the hottest sensor


def board_file(board: str, sections: Mapping[str, Section]) -> tuple[str | None, str]:
    """The text of the board's file with these sections in it, or None and why there is none.

    There is none where no section tells of the simulated board, and where what was fitted cannot be a board (a
    negative thermal resistance, for one).
    """
    path = BOARDS / f"{board}.toml"
    told = {name: section for name, section in sections.items() if isinstance(section.model, PowerModel | HeatModel)}
    if not told:
        return None, "nothing in a board file follows from these data"
    lines = read_text(path).splitlines()
    for section in told.values():
        _put(path, lines, section)
    text = "\n".join(lines) + "\n"
    with TemporaryDirectory() as folder:
        trial = Path(folder) / path.name
        trial.write_text(text, encoding="utf-8")
        try:
            load_board(trial)
        except InputError as error:
            return None, str(error).replace(str(trial), path.name)
    return text, ""


def _put(path: Path, lines: list[str], section: Section) -> None:
    """Replace the lines that a section tells better, and the comments on them."""
    model = section.model
    if isinstance(model, PowerModel):
        start, end = _table(path, lines, "[[unit]]", BIG)
        values = {
            "cluster_nf": _number(model.cluster_nf),
            "background_nf": _number(model.class_integer_nf),
            "leak_a": _number(model.leak_a),
            "leak_per_v": _number(model.leak_per_v),
            "leak_activation_k": f"{_number(model.leak_activation_k)}  # given, not fitted",
        }
        what, errors = "clock, busy cores (class integer) and leakage of this rail", "class_"
    else:
        assert isinstance(model, HeatModel)
        start, end = _table(path, lines, "[thermal]")
        regime = {
            "r_k_per_w": f"[{_number(model.fast_k_per_w)}, {_number(model.slow_k_per_w)}]",
            "tau_s": f"[{_number(model.fast_s)}, {_number(model.slow_s)}]",
            "offset_k": "0.0",
            "spot_k_per_w": _number(model.core_k_per_w),
        }
        full = ", ".join(f"{key} = {value}" for key, value in regime.items())
        values = {
            "fan_full": f"{{ {full} }}",
            "spot_unit": f'"{BIG}"',
            "spot_nf": _number(model.core_nf),
        }
        what, errors = "power to the hottest sensor, fan full on; ambients were inferred, so no offset", ""
    origin = section.origin
    held_back = [f"{key} {value:.4g}" for key, value in origin.held_back.items() if key.startswith(errors)]
    note = [
        f"{what}; fitted:",
        origin.command,
        f"data: {origin.data}, {origin.rows} rows, SHA-256 {origin.sha256}; whose: {origin.source}",
        f"errors on what was held back: {', '.join(held_back)}",
    ]
    table = lines[start:end]
    at = min(_replace(table, key, value) for key, value in values.items())
    table[at:at] = ["# " + "".join(c if c.isprintable() else "?" for c in line) for line in note]
    lines[start:end] = table


def _table(path: Path, lines: list[str], heading: str, name: str = "") -> tuple[int, int]:
    """First line after the heading of a table, and the line after its last key."""
    for start in (i + 1 for i, line in enumerate(lines) if line.split("#")[0].strip() == heading):
        end = next((i for i in range(start, len(lines)) if lines[i].startswith("[")), len(lines))
        if not name or any(re.match(rf'name\s*=\s*"{name}"', line) for line in lines[start:end]):
            keys = [i for i in range(start, end) if re.match(r"\w+\s*=", lines[i])]
            return start, keys[-1] + 1
    raise InputError.at(path, "has no such table", value=f"{heading} {name}".strip(), want="the board file that ships")


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
