"""What runs on the A15 cores tell of other things: the cores' volts, the memory rail, and the rail of an idle GPU.

`V(f)`: the mean at each clock that was measured, a line between two of them. `P_mem = base + w GB/s`.
`P_gpu = base exp(k (T - 50))`, which is leakage and what never stops; the temperature is the big cluster's, since that
is the one the simulator has.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hw.boardmodel import REFERENCE_C
from hw.errors import InputError
from hw.measured import Measurements
from hw.simulated.fit import B, F, fit_relative
from hw.simulated.fit_power import BUS, CORES

BYTES = 16  # of a bus access


@dataclass(frozen=True, kw_only=True)
class VoltageModel:
    """Volts of a clock. InputError where frequencies do not rise, or are not as many as volts."""

    mhz: tuple[float, ...]
    volts: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mhz) != len(self.volts) or any(low >= high for low, high in pairwise(self.mhz)):
            raise InputError("mhz and volts are no table; rising frequencies, and as many volts")


@dataclass(frozen=True, kw_only=True)
class MemoryModel:
    """Parameters of a memory rail."""

    base_w: float
    w_per_gbps: float


@dataclass(frozen=True, kw_only=True)
class IdleModel:
    """Parameters of the rail of a unit that does nothing."""

    base_w: float  # at 50 C
    per_k: float


def fit_volts(data: Measurements, seen: B) -> VoltageModel:
    """The model for the `seen` rows, (rows,)."""
    mhz, measured = data["Frequency A15"][seen], data["Voltage A15"][seen]
    clocks = [float(clock) for clock in np.unique(mhz)]
    return VoltageModel(mhz=tuple(clocks), volts=tuple(float(measured[mhz == clock].mean()) for clock in clocks))


def volts_at(mhz: F, model: VoltageModel) -> F:
    """Volts at these clocks, (rows,); beyond the model's ends those of the end."""
    between: F = np.interp(mhz, model.mhz, model.volts)
    return between


def volts(data: Measurements, model: VoltageModel) -> F:
    """Volts of the rail, (rows,)."""
    return volts_at(data["Frequency A15"], model)


def gbps(data: Measurements) -> F:
    """Traffic (GB/s) of the big cluster, (rows,)."""
    traffic: F = data[BUS] * (CORES * BYTES / 1e9)
    return traffic


def fit_memory(data: Measurements, seen: B) -> MemoryModel:
    """The model for the `seen` rows, (rows,), of column `Power Memory` (W)."""
    terms = np.column_stack([np.ones(len(data)), gbps(data)])
    base_w, w_per_gbps = fit_relative(terms[seen], data["Power Memory"][seen])
    return MemoryModel(base_w=float(base_w), w_per_gbps=float(w_per_gbps))


def memory_w(data: Measurements, model: MemoryModel) -> F:
    """Power (W) of the memory rail, (rows,)."""
    watts: F = model.base_w + model.w_per_gbps * gbps(data)
    return watts


def fit_idle(data: Measurements, seen: B) -> IdleModel:
    """The model for the `seen` rows, (rows,), of column `Power GPU` (W): least squares of its logarithm."""
    warmer = data["Average Temperature A15"][seen] - REFERENCE_C
    terms = np.column_stack([np.ones_like(warmer), warmer])
    log_w, per_k = np.linalg.lstsq(terms, np.log(data["Power GPU"][seen]), rcond=None)[0]
    return IdleModel(base_w=float(np.exp(log_w)), per_k=float(per_k))


def idle_w(data: Measurements, model: IdleModel) -> F:
    """Power (W) of the idle rail, (rows,)."""
    watts: F = model.base_w * np.exp(model.per_k * (data["Average Temperature A15"] - REFERENCE_C))
    return watts
