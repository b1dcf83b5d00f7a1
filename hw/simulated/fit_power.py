"""A CPU rail's power from counters, and from a class of work: the fit behind the XU3's A15 parameters.

Both models share their still part, one fit gives it: what the cluster's clock and its leakage draw,
`V^2 f C0 + V A exp(k (V - 1)) (T/T0)^2 exp(-C2 (1/T - 1/T0))` with T0 = 323.15 K (the law of a board file; k and
C2 are given). Added are

- counter model: `V^2 sum_i c_i r_i`, r_i the cluster's event rates in 10^9 per second, c_i >= 0 in nF. The events are
  those of Walker et al., "Accurate and Stable Run-Time Power Modeling for Mobile and Embedded CPUs", TCAD 2017;
- class model: `V^2 f C_class u`, u busy cores (cycles over clock). This is what the simulator reckons with.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hw.boardmodel import REFERENCE_K
from hw.errors import InputError
from hw.measured import CELSIUS, MHZ, RATE, REST_WATT, VOLT, WATT, Measurements, check_several, read_measurements
from hw.simulated.fit import F, fit_relative

CORES = 4  # a rate column is the mean of the cluster's cores
CYCLES = "Average A15 CycleCount"
SPECULATED = "Average A15 Event 0x1b"  # instructions
INTEGER = "Average A15 Event 0x73"
FETCHES = "Average A15 Event 0x14"
LEVEL2 = "Average A15 Event 0x50"
UNALIGNED = "Average A15 Event 0x6a"
BUS = "Average A15 Event 0x19"
TEXTS = ("Workload Name", "Core Mask")
QUANTITIES = {
    "Frequency A15": MHZ,
    "Voltage A15": VOLT,
    "Power A15": WATT,
    "Average Temperature A15": CELSIUS,
    **dict.fromkeys((CYCLES, SPECULATED, INTEGER, FETCHES, LEVEL2, UNALIGNED, BUS), RATE),
}
REST = dict.fromkeys(("Power Memory", "Power GPU"), REST_WATT)  # rails beside, for `fit_rest.py`, where a file has them
CLASSES = ("integer", "fp", "memory")
# of the counter model, in the order of its terms
EVENT_TERMS = ("cycle_nf", "integer_nf", "other_nf", "fetch_nf", "level2_nf", "unaligned_nf", "bus_nf")
# Both from steady points of another XU3, one busy core at 2.0 GHz and 67-94 C (MaiaBlanco/RL-DVFS 045831e). In a file
# of this kind temperature rises with power, and voltage ends with 1.8 GHz: left to itself the fit says 3000 K, a
# quarter too much power at 94 C, or with 2118 K 4.25 /V. k was chosen by hand: the five points alone are met best with
# 4.0 (2.1 % on average, 2.3 % with 4.25, 3.5 % with 3.85), but only up to 3.85 does a floating-point core at 2.0 GHz
# and 95 C stay in the 3.1 to 3.3 W that were published for it.
LEAK_PER_V = 3.85
LEAK_ACTIVATION_K = 2118.0


@dataclass(frozen=True, kw_only=True)
class PowerModel:
    """Parameters of a CPU rail. nF of an event: what one event switches, in nC per volt."""

    cluster_nf: float
    leak_a: float  # at 1 V and 50 C
    leak_per_v: float
    leak_activation_k: float
    cycle_nf: float  # a cycle of a busy core
    integer_nf: float  # an integer instruction besides
    other_nf: float  # any other speculated instruction
    fetch_nf: float  # an access of the instruction cache
    level2_nf: float  # a level 2 access (event 0x50)
    unaligned_nf: float  # an unaligned access (event 0x6a)
    bus_nf: float  # a bus access
    class_integer_nf: float  # a busy core of that class
    class_fp_nf: float
    class_memory_nf: float
    memory_below_ipc: float = 0.6  # fewer speculated instructions per cycle: it waits for memory
    fp_below_integer_share: float = 0.4  # a smaller share of integer instructions: floating point or NEON


def read_power(path: Path) -> Measurements:
    """Measurements of an A15 rail: columns `TEXTS` and `QUANTITIES` (MHz, V, W, deg C, events per second), maybe
    those of `REST`.
    """
    data = read_measurements(path, TEXTS, QUANTITIES | REST, optional=tuple(REST))
    check_several(data, "Frequency A15")
    return data


def classes(data: Measurements, model: PowerModel | None = None) -> NDArray[np.str_]:
    """The class of every row, (rows,): memory, where few instructions are speculated per cycle; fp, where few of
    them are integer; else integer."""
    rule = model or PowerModel
    per_cycle = data[SPECULATED] / np.maximum(data[CYCLES], 1.0)
    integer_share = data[INTEGER] / np.maximum(data[SPECULATED], 1.0)
    busy = np.where(integer_share < rule.fp_below_integer_share, "fp", "integer")
    return np.where(per_cycle < rule.memory_below_ipc, "memory", busy)


def fit_power(data: Measurements, seen: NDArray[np.bool_]) -> PowerModel:
    """The model that fits the `seen` rows, (rows,), best; InputError where a class has none of them."""
    kinds = classes(data)
    for kind in CLASSES:
        if not (kinds[seen] == kind).any():
            want = "a fit needs integer, fp and memory-bound work (the class follows from the counters)"
            raise InputError.at(data.path, "holds no workload of a class", value=kind, want=want)
    watts = data["Power A15"]
    dynamic = np.column_stack([_clock(data), *_events(data)])
    leak = _leak(data, LEAK_PER_V, LEAK_ACTIVATION_K)
    c = fit_relative(np.column_stack([dynamic, leak])[seen], watts[seen])
    still = c[0] * _clock(data) + c[-1] * leak
    busy = np.column_stack([np.where(kinds == kind, _busy(data), 0.0) for kind in CLASSES])
    # the still part is given: what is left over is fitted, relative to the whole
    rest = np.maximum(watts - still, 1e-6)
    by_class = fit_relative(busy[seen], rest[seen], (rest / watts)[seen])
    names = ("cluster_nf", *EVENT_TERMS, "leak_a", *(f"class_{kind}_nf" for kind in CLASSES))
    found = zip(names, (float(x) for x in (*c, *by_class)), strict=True)
    return PowerModel(leak_per_v=LEAK_PER_V, leak_activation_k=LEAK_ACTIVATION_K, **dict(found))


def by_counters(data: Measurements, model: PowerModel) -> F:
    """Rail power (W) by the counter model, (rows,)."""
    c = [getattr(model, name) for name in EVENT_TERMS]
    power: F = _still(data, model) + np.column_stack(_events(data)) @ np.array(c)
    return power


def by_class(data: Measurements, model: PowerModel) -> F:
    """Rail power (W) by the class model, (rows,)."""
    kinds = classes(data, model)
    nf = np.select(
        [kinds == "memory", kinds == "fp"], [model.class_memory_nf, model.class_fp_nf], model.class_integer_nf
    )
    power: F = _still(data, model) + nf * _busy(data)
    return power


def copies(data: Measurements) -> NDArray[np.str_]:
    """How many copies ran, (rows,), as text: the core masks are set apart by colons."""
    return np.array([str(mask.count(":") + 1) for mask in data.texts["Core Mask"]])


def _clock(data: Measurements) -> F:
    """V^2 f, f in GHz."""
    return data["Voltage A15"] ** 2 * data["Frequency A15"] / 1e3


def _busy(data: Measurements) -> F:
    """V^2 f u: f in GHz times busy cores is what the cluster's cores cycle."""
    return data["Voltage A15"] ** 2 * data[CYCLES] * (CORES / 1e9)


def _events(data: Measurements) -> list[F]:
    """V^2 times each rate of the cluster, 10^9 per second, in the order of the model's parameters."""
    integer = data[INTEGER]
    other = np.maximum(data[SPECULATED] - integer, 0.0)
    rates = (data[CYCLES], integer, other, data[FETCHES], data[LEVEL2], data[UNALIGNED], data[BUS])
    return [data["Voltage A15"] ** 2 * rate * (CORES / 1e9) for rate in rates]


def _leak(data: Measurements, per_v: float, activation_k: float) -> F:
    """Leakage (W) of 1 A at 1 V and 50 C."""
    volts, kelvin = data["Voltage A15"], data["Average Temperature A15"] + 273.15
    growth = (kelvin / REFERENCE_K) ** 2 * np.exp(-activation_k * (1 / kelvin - 1 / REFERENCE_K))
    scaled: F = volts * np.exp(per_v * (volts - 1.0)) * growth
    return scaled


def _still(data: Measurements, model: PowerModel) -> F:
    leak = _leak(data, model.leak_per_v, model.leak_activation_k)
    still: F = model.cluster_nf * _clock(data) + model.leak_a * leak
    return still
