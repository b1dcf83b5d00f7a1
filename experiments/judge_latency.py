"""Fits the latency laws of the boards to ncnn's benchmark tables, and states the errors per board.

python experiments/judge_latency.py --ncnn ncnn_benchmark_boards.csv
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from experiments._cli import main_guard, parse
from experiments._latency_fit import SOURCES, Source, fit_law, held_back, misses, read_timings
from hw.boardfile import board_names, load_board
from hw.latency import LatencyLaw

HELP = """Fit the latency laws of the boards to ncnn's benchmark tables, and state the errors per board.

--ncnn is a CSV with the columns board, num_threads, gpu_device (-1: the CPU), model, min_ms; others are ignored.
"seen" is the error of a fit on what it was fitted to, "held back" of each network by a fit to the others, "shipped" of
the parameters in the board file that the last column names. All are mean absolute errors relative to the measurement.
"""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The command line."""

    ncnn: Path
    """timings (.csv)"""


def main() -> None:
    """Run the command."""
    config = parse(Config, HELP)
    timings = read_timings(config.ncnn)
    present = [source for source in SOURCES if source.title in timings]
    row = "{:26} {:>7} {:>8} {:>5} {:>5}  {:>5} {:>6} {:>6} {:16} {:>7}  {}".format
    print(row("", "threads", "networks", "rows", "seen", "held:", "median", "worst", "", "shipped", "in"))
    laws = {}
    for source in present:
        rows = timings[source.title]
        laws[source.title] = law = fit_law(source, rows)
        off = np.abs(held_back(source, rows))
        shipped = shipped_law(source)
        print(
            row(
                source.title,
                "-" if source.gpu else ", ".join(str(n) for n in sorted({t.cores for t in rows})),
                len({t.network for t in rows}),
                len(rows),
                _percent(np.abs(misses(law, source, rows)).mean()),
                _percent(off.mean()),
                _percent(np.median(off)),
                _percent(off.max()),
                rows[int(off.argmax())].network,
                "-" if shipped is None else _percent(np.abs(misses(shipped, source, rows)).mean()),
                f"{source.board}, {source.unit}",
            )
        )
    for title, law in laws.items():
        print(f"\n[unit.latency]  # fitted to {title}")
        for field in fields(law):
            print(f"{field.name} = {getattr(law, field.name):.3g}")


def shipped_law(source: Source) -> LatencyLaw | None:
    """The law in the board file; None where there is no such board or it has no law."""
    if source.board not in board_names():
        return None
    return next((u.latency for u in load_board(source.board).units if u.name == source.unit), None)


def _percent(share: float | np.floating[Any]) -> str:
    return f"{100 * float(share):.0f} %"


if __name__ == "__main__":
    main_guard(main)
