"""The Jetson Nano's A57 rail (5 V side) from whole program runs.

Such a file names neither core voltage nor busy cores, and its counters follow one of the processes only: programs
of the same clock and counts differ by half in power. What tells them apart is the board's supply: it droops by the
current drawn. Hence two models:

- with the supply: `a + b f + d (r + s f)`, clock f (GHz) and droop d = max(V0 - V, 0) of the 5 V supply. The supply's
  voltage is a sign of current, not a cause of power;
- class model (one class: a program of this kind): `v^2 f C + v A exp(k (v - 1)) exp(kT (T - 50))`, v the core's
  voltage by the board file, T its temperature (deg C). It knows what a governor knows. The second term is the leakage
  of a board file, k and kT are given; C is the cluster's clock and as much of its cores as such programs keep busy.

The first clock term is linear in f: whatever the core's voltage does below 1.2 GHz, the droop has it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hw.boardmodel import REFERENCE_K
from hw.measured import CELSIUS, MHZ, SUPPLY, WATT, Measurements, check_several, read_measurements
from hw.simulated.fit import F, fit_relative
from hw.types import Clock

TEXTS = ("Benchmark",)
QUANTITIES = {
    "CPU Frequency (MHz)": MHZ,
    "CPU Temperature(C)": CELSIUS,
    "Voltage[V]": SUPPLY,
    "Power[W]": WATT,
}
CORE_V = "core voltage by the board file"
LEAK_PER_V = 1.1  # a guess (L): between the two ends of the voltage table it is worth 24 %
LEAK_PER_K = 0.016  # own fit to a TX1 (M)
# coefficients of the two models, in the order of their terms
SUPPLY_TERMS = ("base_w", "clock_w_per_ghz", "droop_w_per_v", "droop_clock_w_per_v_ghz")
CLASS_TERMS = ("class_nf", "leak_a")


@dataclass(frozen=True, kw_only=True)
class SupplyModel:
    """Parameters of the rail's 5 V side."""

    supply_v: float  # of the board at rest
    base_w: float
    clock_w_per_ghz: float
    droop_w_per_v: float
    droop_clock_w_per_v_ghz: float
    class_nf: float  # cluster and busy share of its cores together
    leak_a: float  # at 1 V and 50 C
    leak_per_v: float
    leak_per_k: float


def read_a57(path: Path, clock: Clock) -> Measurements:
    """Measurements of the rail: columns `TEXTS` and `QUANTITIES` (MHz, deg C, V and W of the 5 V side).

    `clock` gives the core's volts, in a straight line between its frequencies.
    """
    data = read_measurements(path, TEXTS, QUANTITIES)
    check_several(data, "CPU Frequency (MHz)")
    volts = np.interp(data["CPU Frequency (MHz)"] * 1e6, clock.freqs_hz, clock.volts)
    return replace(data, numbers=data.numbers | {CORE_V: volts})


def fit_a57(data: Measurements, seen: NDArray[np.bool_]) -> SupplyModel:
    """The model that fits the `seen` rows, (rows,), best."""
    watts, supply_v = data["Power[W]"][seen], float(data["Voltage[V]"][seen].max())
    by_droop = fit_relative(_supply_terms(data, supply_v)[seen], watts)
    by_law = fit_relative(_class_terms(data, LEAK_PER_V, LEAK_PER_K)[seen], watts)
    found = zip((*SUPPLY_TERMS, *CLASS_TERMS), (float(x) for x in (*by_droop, *by_law)), strict=True)
    return SupplyModel(supply_v=supply_v, leak_per_v=LEAK_PER_V, leak_per_k=LEAK_PER_K, **dict(found))


def by_supply(data: Measurements, model: SupplyModel) -> F:
    """Rail power (W) by clock and supply voltage, (rows,)."""
    power: F = _supply_terms(data, model.supply_v) @ np.array([getattr(model, name) for name in SUPPLY_TERMS])
    return power


def by_clock(data: Measurements, model: SupplyModel) -> F:
    """Rail power (W) by clock and temperature alone, (rows,)."""
    terms = _class_terms(data, model.leak_per_v, model.leak_per_k)
    power: F = terms @ np.array([getattr(model, name) for name in CLASS_TERMS])
    return power


def _supply_terms(data: Measurements, supply_v: float) -> F:
    """1, f, d, d f: (rows, 4)."""
    ghz = data["CPU Frequency (MHz)"] / 1e3
    droop = np.maximum(supply_v - data["Voltage[V]"], 0.0)
    return np.column_stack([np.ones_like(ghz), ghz, droop, droop * ghz])


def _class_terms(data: Measurements, per_v: float, per_k: float) -> F:
    """v^2 f and the leakage (W) of 1 A at 1 V and 50 C: (rows, 2)."""
    volts, over_k = data[CORE_V], data["CPU Temperature(C)"] + 273.15 - REFERENCE_K
    leak = volts * np.exp(per_v * (volts - 1.0) + per_k * over_k)
    return np.column_stack([volts**2 * data["CPU Frequency (MHz)"] / 1e3, leak])
