"""Measurement files of real boards: CSV in, checked arrays out, for the fits in `hw.simulated.fit_*`.

A file holds at least the columns of its kind; further ones are ignored. Every refusal is one line with file, line,
column and value, and names the unit that is wanted where a value looks like another one (kHz, mW, mV, K).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hw.errors import InputError
from hw.files import number, read_table

F = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """What a column holds: its unit, the range it must lie in, and the factors of usual slips."""

    unit: str
    low: float
    high: float
    slips: Mapping[str, float]  # other unit -> how many of it are one of ours


MHZ = Quantity(unit="MHz", low=20.0, high=5e3, slips={"Hz": 1e6, "kHz": 1e3, "GHz": 1e-3})
VOLT = Quantity(unit="V", low=0.3, high=2.5, slips={"mV": 1e3, "uV": 1e6})
SUPPLY = Quantity(unit="V", low=2.6, high=30.0, slips={"mV": 1e3, "uV": 1e6})
WATT = Quantity(unit="W", low=1e-3, high=25.0, slips={"mW": 1e3, "uW": 1e6})
REST_WATT = Quantity(unit="W", low=0.0, high=25.0, slips={"mW": 1e3, "uW": 1e6})
CELSIUS = Quantity(unit="degC", low=-30.0, high=150.0, slips={"K": 1.0, "m degC": 1e3})
PERCENT = Quantity(unit="%", low=0.0, high=100.5, slips={"permille": 10.0})
CORES = Quantity(unit="cores", low=0.0, high=64.0, slips={"%": 100.0})
SECOND = Quantity(unit="s", low=0.0, high=1e7, slips={})
RATE = Quantity(unit="events per second", low=0.0, high=1e11, slips={})


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """A measurement file: one array per column, (rows,) each."""

    path: Path
    texts: dict[str, NDArray[np.str_]]
    numbers: dict[str, F]
    lines: NDArray[np.intp]  # in the file

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, column: str) -> F:
        return self.numbers[column]

    def rows(self, which: NDArray[np.bool_]) -> Measurements:
        """These rows, (rows,), alone."""
        texts = {name: column[which] for name, column in self.texts.items()}
        numbers = {name: column[which] for name, column in self.numbers.items()}
        return Measurements(path=self.path, texts=texts, numbers=numbers, lines=self.lines[which])


def read_measurements(
    path: Path, texts: Sequence[str], quantities: Mapping[str, Quantity], *, optional: Sequence[str] = ()
) -> Measurements:
    """Read a CSV with these text columns and quantities; InputError for whatever cannot be such a file.

    `optional`: columns of these that are read where they are there.
    """
    rows = read_table(path, [name for name in (*texts, *quantities) if name not in optional], others=True)
    texts = [name for name in texts if name in rows[0][1]]
    quantities = {name: kind for name, kind in quantities.items() if name in rows[0][1]}
    for line, cells in rows:
        for column in texts:
            if not cells[column]:
                raise InputError.at(path, "is empty", line=line, column=column, want="a name")
    columns = {
        name: np.array([_quantity(path, line, name, cells[name], kind) for line, cells in rows])
        for name, kind in quantities.items()
    }
    return Measurements(
        path=path,
        texts={name: np.array([cells[name] for _, cells in rows]) for name in texts},
        numbers=columns,
        lines=np.array([line for line, _ in rows]),
    )


def check_several(data: Measurements, column: str) -> None:
    """InputError where the file knows a single frequency: nothing can be said about the clock's part in power."""
    values = np.unique(data[column])
    if len(values) < 2:
        raise InputError.at(
            data.path,
            "holds a single frequency",
            column=column,
            value=f"{values[0]:g}",
            want="at least two, or nothing can be said about how power follows the clock",
        )


def _quantity(path: Path, line: int, column: str, text: str, kind: Quantity) -> float:
    """The number a cell holds; where it is out of range and another unit would explain it, that unit is named."""
    value = number(path, line, column, text)
    if kind.low <= value <= kind.high:
        return value
    for unit, factor in kind.slips.items():
        shifted = value - 273.15 if unit == "K" else value / factor
        if math.isfinite(shifted) and kind.low <= shifted <= kind.high:
            want = f"{kind.unit} from {kind.low:g} to {kind.high:g}: {shifted:g} here"
            raise InputError.at(path, f"looks like {unit}", line=line, column=column, value=text, want=want)
    want = f"{kind.unit} from {kind.low:g} to {kind.high:g}"
    raise InputError.at(path, "out of range", line=line, column=column, value=text, want=want)
