"""Errors of a fit as a person reads them, and as a CSV."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from experiments._fit_heat import HeatResult
from experiments._fit_latency import LatencyResult
from experiments._fit_rail import RailResult
from experiments._fit_result import Result

PLAIN_WIDTH = 100
COLUMNS = ("what", "by", "value", "rows", "power_mape", "class_power_mape", "temp_rmse_k", "latency_mape")


def print_result(result: Result) -> None:
    """The errors as a table: mean absolute relative ones by frequency, cores, class and workload, kelvins by run."""
    match result:
        case RailResult():
            rows = [(g.by, g.value, g.rows, g.power_mape, g.class_power_mape) for g in result.groups]
            table = _by_group(f"{result.rail.title}: error of power", result.rail.models, rows)
            p95 = 100 * result.summary["power_p95_ape"]
            _print(table, f"95 % of the rows are within {p95:.1f} % ({result.rail.models[0]}).")
        case LatencyResult():
            table = _by_group(f"{result.timed.unit}: error of latency", ("error",), result.groups)
            worst = int(np.abs(result.off).argmax())
            timing, off = result.timings[worst], 100 * result.off[worst]
            _print(table, f"Off most: {timing.network} on {timing.source.title}, {timing.cores} cores, {off:+.0f} %.")
        case HeatResult():
            _print_heat(result)


def _by_group(title: str, models: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Table:
    """A table of `by`, value, rows and an error for each of `models`."""
    table = Table(box=box.SIMPLE, pad_edge=False, title=title, title_justify="left")
    table.add_column("by")
    table.add_column("", overflow="fold")
    for heading in ("rows", *(f"{name}\n%" for name in models)):
        table.add_column(heading, justify="right")
    last = ""
    for by, value, count, *errors in rows:
        if by != last and last:
            table.add_section()
        table.add_row(by if by != last else "", value, str(count), *(f"{100 * error:.1f}" for error in errors))
        last = by
    return table


def _print_heat(result: HeatResult) -> None:
    """Errors of the hottest sensor's temperature, by run."""
    table = Table(box=box.SIMPLE, pad_edge=False, title="Hottest CPU sensor, fan full on", title_justify="left")
    table.add_column("run", overflow="fold")
    for heading in ("samples", "measured\ndeg C", "rms error\nK"):
        table.add_column(heading, justify="right")
    for run, off in zip(result.runs, result.per_run_k, strict=True):
        span = f"{run.hottest_c.min():.0f}-{run.hottest_c.max():.0f}"
        table.add_row(run.name, str(len(run.t_s)), span, f"{off:.2f}")
    aside = f" Left aside: {len(result.aside)} runs whose fan switches on its own." if result.aside else ""
    _print(table, f"All samples: {result.summary['temp_rmse_k']:.2f} K rms.{aside}")


def table_text(results: Sequence[Result]) -> str:
    """All lines of the tables as CSV; errors of power and latency as fractions."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for what, by, value, rows, errors in (line for result in results for line in _lines(result)):
        told = {name: f"{error:.6g}" for name, error in errors.items()}
        writer.writerow({"what": what, "by": by, "value": value, "rows": rows, **told})
    return stream.getvalue()


def _lines(result: Result) -> Iterator[tuple[str, str, str, int, dict[str, float]]]:
    """What, by what, its value, rows, errors."""
    match result:
        case RailResult():
            for g in result.groups:
                errors = {"power_mape": g.power_mape, "class_power_mape": g.class_power_mape}
                yield result.rail.section, g.by, g.value, g.rows, errors
        case LatencyResult():
            for by, value, rows, error in result.groups:
                yield result.timed.section, by, value, rows, {"latency_mape": error}
        case HeatResult():
            summary = result.summary
            yield "heat", "all", "", int(summary["rows"]), {"temp_rmse_k": summary["temp_rmse_k"]}
            for run, off in zip(result.runs, result.per_run_k, strict=True):
                yield "heat", "run", run.name, len(run.t_s), {"temp_rmse_k": off}


def _print(table: Table, sentence: str) -> None:
    console = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH, no_color=True)
    console.print(table, markup=False)
    console.print(sentence, markup=False, highlight=False)
