"""Power of a unit's rail by the simulator's own law: the fit for any board, from what its governor could know.

`V^2 f (C_cluster + C_busy u) + leakage(V, T)`, u busy cores (of a GPU: the share of time it is busy). How leakage grows
with voltage and temperature is given, by the unit in the board file; so are the volts, where none were measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hw.boardmodel import BoardModel, UnitModel, leak_growth, leak_scale
from hw.errors import InputError
from hw.measured import CELSIUS, CORES, MHZ, VOLT, WATT, Measurements, read_measurements
from hw.simulated.fit import B, F, fit_relative

TEXTS = ("unit", "workload")
QUANTITIES = {"mhz": MHZ, "temp_c": CELSIUS, "busy": CORES, "watts": WATT, "volts": VOLT}
SEVERAL = {  # what must change in a file, and what nothing could be said about else
    "mhz": "how power follows the clock",
    "busy": "what a busy core draws beside the cluster's clock",
}


@dataclass(frozen=True, kw_only=True)
class UnitPower:
    """Parameters of a unit's rail, as a board file has them."""

    cluster_nf: float
    background_nf: float  # a busy core
    leak_a: float


def read_units(path: Path, board: BoardModel) -> Measurements:
    """Measurements of one or more units: columns `TEXTS` and `QUANTITIES` (MHz, deg C, cores, W, V), volts optional.

    InputError where a unit is not of this board, a clock is beyond its own, or nothing changes that must.
    """
    data = read_measurements(path, TEXTS, QUANTITIES, optional=("volts",))
    units = {unit.name: unit for unit in board.units}
    volts = np.zeros(len(data))
    for i, (name, mhz, busy) in enumerate(zip(data.texts["unit"], data["mhz"], data["busy"], strict=True)):
        line = int(data.lines[i])
        if str(name) not in units:
            want = f"one of {', '.join(units)}, as in {board.path.name}"
            raise InputError.at(path, "no such unit", line=line, column="unit", value=str(name), want=want)
        unit = units[str(name)]
        clock = board.spec.clock(unit.clock)
        low, high = clock.freqs_hz[0] / 1e6, clock.freqs_hz[-1] / 1e6
        if not 0.99 * low <= mhz <= 1.01 * high:
            want = f"MHz from {low:g} to {high:g}, the clocks of {unit.name}"
            raise InputError.at(path, "beyond this clock", line=line, column="mhz", value=f"{mhz:g}", want=want)
        if busy > unit.cores * 1.05:
            want = f"at most {unit.cores}, the cores of {unit.name}"
            raise InputError.at(path, "too many cores", line=line, column="busy", value=f"{busy:g}", want=want)
        volts[i] = np.interp(mhz * 1e6, clock.freqs_hz, clock.volts)
    for name in np.unique(data.texts["unit"]):
        rows = data.rows(data.texts["unit"] == name)
        for column, use in SEVERAL.items():
            if len(np.unique(rows[column])) < 2:
                want = f"at least two of {name}, or nothing can be said about {use}"
                raise InputError.at(
                    path, "holds a single value", column=column, value=f"{rows[column][0]:g}", want=want
                )
    return replace(data, numbers={"volts": volts} | data.numbers)


def of_board(unit: UnitModel) -> UnitPower:
    """What the board file says of a unit."""
    return UnitPower(cluster_nf=unit.cluster_nf, background_nf=unit.background_nf, leak_a=unit.leak_a)


def fit_unit(data: Measurements, unit: UnitModel, seen: B) -> UnitPower:
    """The model for the `seen` rows, (rows,), all of this unit."""
    cluster_nf, background_nf, leak_a = fit_relative(_terms(data, unit)[seen], data["watts"][seen])
    return UnitPower(cluster_nf=float(cluster_nf), background_nf=float(background_nf), leak_a=float(leak_a))


def unit_w(data: Measurements, unit: UnitModel, model: UnitPower) -> F:
    """Power (W) of the unit's rail, (rows,)."""
    watts: F = _terms(data, unit) @ np.array([model.cluster_nf, model.background_nf, model.leak_a])
    return watts


def _terms(data: Measurements, unit: UnitModel) -> F:
    """V^2 f, the same times busy cores, and the leakage (W) of 1 A at 1 V and 50 C: (rows, 3)."""
    clock = data["volts"] ** 2 * data["mhz"] / 1e3
    one = replace(unit, leak_a=1.0)
    leak = [leak_scale(one, v) * leak_growth(one, t) for v, t in zip(data["volts"], data["temp_c"], strict=True)]
    return np.column_stack([clock, clock * data["busy"], leak])
