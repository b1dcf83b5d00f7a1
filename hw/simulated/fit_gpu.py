"""A GPU rail's power from its busy share and a class of work: the shape of the Jetson Nano's GPU, from the TX1's.

Still part: `s V + V^2 f C_on` while its clocks are on. Added are, with f in GHz and capacitances in nF,

- class model: `V^2 f C_class b + V^2 m b`, b the busy share (what a governor reads), m for the work whose pace the
  memory sets and not the clock;
- counter model: `V^2 f C'_class a + V^2 e q`, a the share of cycles in which the multiprocessors hold work, q the
  level 2 traffic in the file's unit (10^3 per sample's unit), e in nF per such.

Class of a program: a `class` column says it; else `arithmetic` for the single-precision programs in `ARITHMETIC` (no
counter of such a file tells full arithmetic pipes from stalled ones); else `streaming` or `local` by the program's
level 2 traffic per active cycle.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hw.errors import InputError
from hw.measured import MHZ, PERCENT, VOLT, WATT, Measurements, Quantity, check_several, read_measurements
from hw.simulated.fit import F, fit_relative

ACTIVE = Quantity(unit="% summed over two multiprocessors", low=0.0, high=201.0, slips={})
TRAFFIC = Quantity(unit="a rate in the profiler's unit", low=0.0, high=1e6, slips={})
TEXTS = ("benchmark",)
QUANTITIES = {
    "f_mhz": MHZ,
    "V": VOLT,
    "P_w": WATT,
    "gpu_busy_pct": PERCENT,
    "sm_active_cycles": ACTIVE,
    "l2_read_bytes": TRAFFIC,
    "l2_write_bytes": TRAFFIC,
}
CLASSES = ("arithmetic", "streaming", "local")
ARITHMETIC = ("nbody", "montecarlo", "montecarlomultigpu", "binomialoptions", "mandelbrot")
# coefficients of the two models, in the order of their terms
CLASS_TERMS = (
    "static_w_per_v",
    "clocks_on_nf",
    *(f"class_{kind}_nf" for kind in CLASSES),
    "busy_w_per_v2",
)
COUNTER_TERMS = (
    "counter_static_w_per_v",
    "counter_clocks_on_nf",
    *(f"active_{kind}_nf" for kind in CLASSES),
    "traffic_nf",
)


@dataclass(frozen=True, kw_only=True)
class GpuModel:
    """Parameters of a GPU rail."""

    static_w_per_v: float
    clocks_on_nf: float
    class_arithmetic_nf: float  # of a busy GPU
    class_streaming_nf: float
    class_local_nf: float
    busy_w_per_v2: float
    counter_static_w_per_v: float
    counter_clocks_on_nf: float
    active_arithmetic_nf: float  # of active multiprocessors
    active_streaming_nf: float
    active_local_nf: float
    traffic_nf: float
    local_below_traffic: float = 4.0  # level 2 traffic (10^3) per active share and GHz


def read_gpu(path: Path) -> Measurements:
    """Measurements of a GPU rail: columns `TEXTS` and `QUANTITIES`, and `class` where the file has one."""
    data = read_measurements(path, (*TEXTS, "class"), QUANTITIES, optional=("class",))
    check_several(data, "f_mhz")
    named = data.texts.get("class")
    for i, kind in enumerate(named if named is not None else ()):
        if kind not in CLASSES:
            want = f"one of {', '.join(CLASSES)}"
            raise InputError.at(
                path, "no such class", line=int(data.lines[i]), column="class", value=str(kind), want=want
            )
    return data


def classes(data: Measurements, model: GpuModel | None = None) -> NDArray[np.str_]:
    """The class of every row, (rows,): that of its program."""
    if "class" in data.texts:
        return data.texts["class"]
    rule = model or GpuModel
    programs = data.texts["benchmark"]
    kinds = np.empty(len(data), "<U10")
    work = _active(data) * data["f_mhz"] / 1e3
    for program in np.unique(programs):
        rows = programs == program
        if str(program).lower() in ARITHMETIC:
            kinds[rows] = "arithmetic"
        else:
            few = _traffic(data)[rows].sum() < rule.local_below_traffic * work[rows].sum()
            kinds[rows] = "local" if few else "streaming"
    return kinds


def fit_gpu(data: Measurements, seen: NDArray[np.bool_]) -> GpuModel:
    """The model that fits the `seen` rows, (rows,), best, every program alike; InputError for an empty class."""
    kinds = classes(data)
    for kind in CLASSES:
        if not (kinds[seen] == kind).any():
            want = "a fit needs arithmetic, streaming and local programs (say which in a column 'class')"
            raise InputError.at(data.path, "holds no workload of a class", value=kind, want=want)
    watts = data["P_w"][seen]
    _, program, count = np.unique(data.texts["benchmark"][seen], return_inverse=True, return_counts=True)
    alike = 1.0 / np.sqrt(count[program])
    c = [float(x) for x in fit_relative(_class_terms(data, kinds)[seen], watts, alike)]
    d = [float(x) for x in fit_relative(_counter_terms(data, kinds)[seen], watts, alike)]
    return GpuModel(**dict(zip(CLASS_TERMS, c, strict=True)), **dict(zip(COUNTER_TERMS, d, strict=True)))


def by_class(data: Measurements, model: GpuModel) -> F:
    """Rail power (W) by busy share and class, (rows,)."""
    c = [getattr(model, name) for name in CLASS_TERMS]
    power: F = _class_terms(data, classes(data, model)) @ np.array(c)
    return power


def by_counters(data: Measurements, model: GpuModel) -> F:
    """Rail power (W) by the counter model, (rows,)."""
    c = [getattr(model, name) for name in COUNTER_TERMS]
    power: F = _counter_terms(data, classes(data, model)) @ np.array(c)
    return power


def _active(data: Measurements) -> F:
    return data["sm_active_cycles"] / 200.0


def _traffic(data: Measurements) -> F:
    return (data["l2_read_bytes"] + data["l2_write_bytes"]) / 1e3


def _class_terms(data: Measurements, kinds: NDArray[np.str_]) -> F:
    """V, V^2 f, V^2 f b of each class, V^2 b: (rows, 6)."""
    busy = data["gpu_busy_pct"] / 100.0
    return np.column_stack([_terms(data, kinds, busy), data["V"] ** 2 * busy])


def _counter_terms(data: Measurements, kinds: NDArray[np.str_]) -> F:
    """V, V^2 f, V^2 f a of each class, V^2 q: (rows, 6)."""
    return np.column_stack([_terms(data, kinds, _active(data)), data["V"] ** 2 * _traffic(data)])


def _terms(data: Measurements, kinds: NDArray[np.str_], share: F) -> F:
    clock = data["V"] ** 2 * data["f_mhz"] / 1e3
    return np.column_stack([data["V"], clock, *(np.where(kinds == kind, clock * share, 0.0) for kind in CLASSES)])
