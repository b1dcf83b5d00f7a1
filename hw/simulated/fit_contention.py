"""How much longer a program takes beside copies of itself: the fit behind the stretch of a board file's contention.

`slower = 1 + (n - 1) stretch m^power`, n copies on as many cores; the law of `physics.crowded_time` for a program of
which a share m is memory-bound. Time is busy cycles per instruction over the clock. Alone on a core it goes with the
clock as `t = a / f + b`, and `m = b / t`: what no clock shortens.

Programs differ by more than m tells. So the stretch is the one with the least mean error of those that keep the
programs of `WANTED` within their bounds, or as near to them as any does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw.measured import Measurements
from hw.simulated import physics
from hw.simulated.fit import B, F, ape, nnls
from hw.simulated.fit_power import CORES, CYCLES, SPECULATED, copies
from hw.simulated.fit_rest import gbps

# Busy cores of a program alone, by the middle half of its clocks. With more it has threads of its own, which crowd
# each other; with less it waits for something else than its core, and its copies are not beside each other.
ONE_CORE = (0.8, 1.1)
STRETCHES = np.arange(0.0, 2.0, 0.0005)
# Relative errors at the highest clock that are wanted of ten programs (docs/FIDELITY.md): 10 % of compute, 20 % of what
# waits for memory by its counters or by its making.
WANTED: Mapping[str, float] = {
    **dict.fromkeys(("bitcount", "neon_mul", "ispell", "typeset", "gcc", "dijkstra"), 0.10),
    **dict.fromkeys(("par_mem", "cstm_bmp", "bw_mem_rd", "bw_mem_wr"), 0.20),
}


@dataclass(frozen=True, kw_only=True)
class ContentionModel:
    """Parameters of the law."""

    stall_stretch: float
    ceiling_gbps: float  # what the copies of a program draw from memory together, at most
    stall_power: float = physics.STALL_POWER  # given, not fitted


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Programs beside copies of themselves, a row per program, clock and number of copies; arrays of (rows,)."""

    names: NDArray[np.str_]
    mhz: F
    others: F  # copies beside the one
    memory_share: F  # of its time alone at this clock
    slower: F  # its time over that alone
    gbps: F  # traffic of all copies

    def __len__(self) -> int:
        return len(self.names)


def beside_copies(data: Measurements) -> Copies:
    """What a file (`fit_power.read_power`) tells of copies: of every one-core program that ran alone at two clocks.

    No rows where no such program ran beside copies as well.
    """
    names, count = data.texts["Workload Name"], copies(data).astype(float)
    mhz, cycles = data["Frequency A15"], data[CYCLES] / np.maximum(data[SPECULATED], 1.0)
    busy = data[CYCLES] * CORES / (mhz * 1e6)
    traffic = gbps(data)
    rows: list[tuple[str, float, float, float, float, float]] = []
    for name in np.unique(names):
        alone = (names == name) & (count == 1.0) & (data[CYCLES] > 0.0)
        if len(np.unique(mhz[alone])) < 2:
            continue
        least, most = np.quantile(busy[alone], (0.25, 0.75))
        if least < ONE_CORE[0] or most > ONE_CORE[1]:
            continue
        terms = np.column_stack([np.ones(alone.sum()), mhz[alone]]) / cycles[alone, None]
        flat, stalls = nnls(terms, np.ones(len(terms)))  # least squares of relative errors
        for i in np.flatnonzero((names == name) & (count > 1.0)):
            at = alone & (mhz == mhz[i])
            if at.any():
                share = stalls * mhz[i] / (flat + stalls * mhz[i])
                rows.append((str(name), mhz[i], count[i] - 1.0, share, cycles[i] / cycles[at].mean(), traffic[i]))
    columns = list(zip(*rows, strict=True)) or [()] * 6
    fields = ("mhz", "others", "memory_share", "slower", "gbps")
    numbers = {name: np.array(column, float) for name, column in zip(fields, columns[1:], strict=True)}
    return Copies(names=np.array(columns[0], str), **numbers)


def fit_contention(data: Copies, seen: B, power: float = physics.STALL_POWER) -> ContentionModel:
    """The model for the `seen` rows, (rows,), at least one."""
    names, slower = data.names[seen], data.slower[seen]
    wanted = np.array([WANTED.get(name, np.inf) for name in names])
    wanted[data.mhz[seen] < data.mhz.max()] = np.inf
    growth = data.others[seen] * data.memory_share[seen] ** power
    off = [ape(1.0 + stretch * growth, slower) for stretch in STRETCHES]
    over = np.array([(each / wanted).max() for each in off])
    mean = np.array([each.mean() for each in off])
    mean[over > max(1.0, over.min())] = np.inf
    # the most at each clock; below half the top clock it is the clock that bounds it
    clocks = [mhz for mhz in np.unique(data.mhz[seen]) if 2 * mhz >= data.mhz[seen].max()]
    most = [data.gbps[seen & (data.mhz == mhz)].max() for mhz in clocks]
    return ContentionModel(
        stall_stretch=float(STRETCHES[mean.argmin()]), ceiling_gbps=float(np.median(most)), stall_power=power
    )


def slow_down(data: Copies, model: ContentionModel) -> F:
    """How many times longer the program takes beside its copies than alone, (rows,)."""
    growth: F = data.others * data.memory_share**model.stall_power
    return 1.0 + model.stall_stretch * growth
