"""How far the simulator is from the machine: the same flights on both, figure by figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table

from experiments._console import console
from experiments._metrics import Row, write_rows
from experiments._stats import Floats, interval, ratio, resamples

# column of a Row -> whether its gap is a share of the simulated figure (else a difference), and how a person reads it
METRICS = {
    "latency_mean_s": (True, "mean latency", "ms", 1e3),
    "latency_p95_s": (True, "95th percentile of latency", "ms", 1e3),
    "miss_rate": (False, "misses", "%", 100.0),
    "accuracy_mean": (False, "accuracy", "%", 100.0),
    "energy_per_frame_j": (True, "energy per frame", "mJ", 1e3),
    "temp_max_c": (False, "highest temperature", "C", 1.0),
    "reward_mean": (False, "reward", "", 1.0),
}


@dataclass(frozen=True, kw_only=True)
class Gap:
    """One figure of one controller, mean over its flights; NaN is missing. Low and high: see `_stats`."""

    controller: str
    metric: str
    flights: int
    simulated: float
    machine: float
    gap: float  # machine over simulated less 1, or machine less simulated
    low: float
    high: float


def gaps(simulated: Sequence[Row], machine: Sequence[Row]) -> list[Gap]:
    """A row per controller and metric; the two must hold the same flights in the same order."""
    found = []
    for controller in dict.fromkeys(row.controller for row in simulated):
        pairs = [(s, m) for s, m in zip(simulated, machine, strict=True) if s.controller == controller]
        for metric, (relative, *_) in METRICS.items():
            both = np.array([[getattr(s, metric), getattr(m, metric)] for s, m in pairs], np.float64)
            told = ~np.isnan(both).any(axis=1)
            known = both[told]
            if not len(known):
                continue
            means = known.mean(axis=0)
            counts = resamples(np.array([s.scenario for s, _ in pairs])[told].tolist())
            drawn = counts @ known / counts.sum(axis=1, keepdims=True)
            low, high = interval(_gap(drawn[:, 0], drawn[:, 1], relative))
            found.append(
                Gap(
                    controller=controller,
                    metric=metric,
                    flights=len(known),
                    simulated=float(means[0]),
                    machine=float(means[1]),
                    gap=float(_gap(means[:1], means[1:], relative)[0]),
                    low=low,
                    high=high,
                )
            )
    return found


def _gap(simulated: Floats, machine: Floats, relative: bool) -> Floats:
    return ratio(machine, simulated) - 1 if relative else machine - simulated


def write_gaps(found: Sequence[Gap], path: Path) -> None:
    """gap.csv, all or nothing; a missing number is an empty cell."""
    write_rows(found, [f.name for f in fields(Gap)], path)


def print_gaps(found: Sequence[Gap]) -> None:
    """The table on stdout."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    for heading in ("controller", "figure"):
        table.add_column(heading, overflow="fold")
    for heading in ("simulated", "machine", "gap", "95 % of resamples"):
        table.add_column(heading, justify="right")
    for gap in found:
        relative, name, unit, scale = METRICS[gap.metric]
        times, suffix = (100.0, " %") if relative else (scale, f" {'points' if unit == '%' else unit}".rstrip())
        figures = (f"{scale * x:.4g}" for x in (gap.simulated, gap.machine))
        between = "-" if math.isnan(gap.low) else f"{times * gap.low:+.1f} to {times * gap.high:+.1f}{suffix}"
        table.add_row(gap.controller, f"{name} {unit}".strip(), *figures, f"{times * gap.gap:+.1f}{suffix}", between)
    console().print(table)
