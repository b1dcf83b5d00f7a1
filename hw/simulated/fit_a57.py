"""The Jetson Nano's A57 rail (5 V side) from whole program runs.

Such a file names neither core voltage nor busy cores, and its counters follow one of the processes only: programs
of the same clock and counts differ by half in power. What tells them apart is the board's supply: it droops by the
current drawn. Hence two models, of clock f (GHz) and droop d = max(V0 - V, 0) of the 5 V supply:

- with the supply: `a + b f + d (r + s f)`. The supply's voltage is a sign of current, not a cause of power;
- class model (one class: a program of this kind): `a + b f`. It knows what a governor knows, the clock.

The clock's term is linear in f: the closed-loop core voltage hardly rises below 1.2 GHz and is not in the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hw.measured import CELSIUS, MHZ, SUPPLY, WATT, Measurements, check_several, read_measurements
from hw.simulated.fit import F, fit_relative

TEXTS = ("Benchmark",)
QUANTITIES = {
    "CPU Frequency (MHz)": MHZ,
    "CPU Temperature(C)": CELSIUS,
    "Voltage[V]": SUPPLY,
    "Power[W]": WATT,
}


@dataclass(frozen=True, kw_only=True)
class SupplyModel:
    """Parameters of the rail's 5 V side."""

    supply_v: float  # of the board at rest
    base_w: float
    clock_w_per_ghz: float
    droop_w_per_v: float
    droop_clock_w_per_v_ghz: float
    class_base_w: float
    class_w_per_ghz: float


def read_a57(path: Path) -> Measurements:
    """Measurements of the rail: columns `TEXTS` and `QUANTITIES` (MHz, deg C, V and W of the 5 V side)."""
    data = read_measurements(path, TEXTS, QUANTITIES)
    check_several(data, "CPU Frequency (MHz)")
    return data


def fit_a57(data: Measurements, seen: NDArray[np.bool_]) -> SupplyModel:
    """The model that fits the `seen` rows, (rows,), best."""
    watts, supply_v = data["Power[W]"][seen], float(data["Voltage[V]"][seen].max())
    c = fit_relative(_terms(data, supply_v)[seen], watts)
    blind = fit_relative(_terms(data, supply_v)[seen, :2], watts)
    return SupplyModel(
        supply_v=supply_v,
        base_w=float(c[0]),
        clock_w_per_ghz=float(c[1]),
        droop_w_per_v=float(c[2]),
        droop_clock_w_per_v_ghz=float(c[3]),
        class_base_w=float(blind[0]),
        class_w_per_ghz=float(blind[1]),
    )


def by_supply(data: Measurements, model: SupplyModel) -> F:
    """Rail power (W) by clock and supply voltage, (rows,)."""
    c = (model.base_w, model.clock_w_per_ghz, model.droop_w_per_v, model.droop_clock_w_per_v_ghz)
    power: F = _terms(data, model.supply_v) @ np.array(c)
    return power


def by_clock(data: Measurements, model: SupplyModel) -> F:
    """Rail power (W) by the clock alone, (rows,)."""
    return model.class_base_w + model.class_w_per_ghz * data["CPU Frequency (MHz)"] / 1e3


def _terms(data: Measurements, supply_v: float) -> F:
    """1, f, d, d f: (rows, 4)."""
    ghz = data["CPU Frequency (MHz)"] / 1e3
    droop = np.maximum(supply_v - data["Voltage[V]"], 0.0)
    return np.column_stack([np.ones_like(ghz), ghz, droop, droop * ghz])
