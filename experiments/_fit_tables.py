"""Errors of a fit as a person reads them, and as a CSV."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from experiments._fit_tasks import HeatResult, RailResult

PLAIN_WIDTH = 100
COLUMNS = ("what", "by", "value", "rows", "power_mape", "class_power_mape", "temp_rmse_k")


def print_rail(result: RailResult) -> None:
    """Mean absolute relative errors of a rail's power, by frequency, cores, class and workload."""
    table = Table(box=box.SIMPLE, pad_edge=False, title=f"{result.task.title}: error of power", title_justify="left")
    table.add_column("by")
    table.add_column("", overflow="fold")
    for heading in ("rows", *(f"{name}\n%" for name in result.task.models)):
        table.add_column(heading, justify="right")
    last = ""
    for group in result.groups:
        if group.by != last and last:
            table.add_section()
        cells = (str(group.rows), f"{100 * group.power_mape:.1f}", f"{100 * group.class_power_mape:.1f}")
        table.add_row(group.by if group.by != last else "", group.value, *cells)
        last = group.by
    summary = result.summary
    _print(table, f"95 % of the rows are within {100 * summary['power_p95_ape']:.1f} % ({result.task.models[0]}).")


def print_heat(result: HeatResult) -> None:
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


def table_text(results: Sequence[RailResult | HeatResult]) -> str:
    """All lines of the tables as CSV; errors of power as fractions."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in results:
        if isinstance(result, HeatResult):
            writer.writerow(("heat", "all", "", result.summary["rows"], "", "", f"{result.summary['temp_rmse_k']:.6g}"))
            for run, off in zip(result.runs, result.per_run_k, strict=True):
                writer.writerow(("heat", "run", run.name, len(run.t_s), "", "", f"{off:.6g}"))
            continue
        for g in result.groups:
            errors = (f"{g.power_mape:.6g}", f"{g.class_power_mape:.6g}")
            writer.writerow((result.task.section, g.by, g.value, g.rows, *errors, ""))
    return stream.getvalue()


def _print(table: Table, sentence: str) -> None:
    console = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH, no_color=True)
    console.print(table, markup=False)
    console.print(sentence, markup=False, highlight=False)
