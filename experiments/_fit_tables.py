"""Errors of a fit as a person reads them, and as a CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rich import box
from rich.table import Table

from experiments._console import console
from experiments._fit_result import Result

ERRORS = (
    "power_mape",
    "class_power_mape",
    "temp_rmse_k",
    "latency_mape",
    "volts_mape",
    "mem_mape",
    "idle_gpu_mape",
    "contention_mape",
)


def print_result(result: Result) -> None:
    """The errors as a table, by what tells rows apart, and a sentence."""
    table = Table(box=box.SIMPLE, pad_edge=False, title=f"{result.title}: errors", title_justify="left")
    table.add_column("by")
    table.add_column("", overflow="fold")
    for heading in ("rows", *(f"{heading}\n{unit(error)}" for error, heading in result.headings.items())):
        table.add_column(heading, justify="right")
    last = ""
    for group in result.groups:
        if group.by != last and last:
            table.add_section()
        cells = (shown(error, value) for error, value in group.errors.items())
        table.add_row(group.by if group.by != last else "", group.value, str(group.rows), *cells)
        last = group.by
    out = console()
    out.print(table)
    out.print(result.sentence)


def unit(error: str) -> str:
    """The unit in which an error is shown."""
    return "K" if error.endswith("_k") else "%"


def shown(error: str, value: float) -> str:
    """An error as a table shows it: kelvins, or per cent of a fraction."""
    return f"{value:.2f}" if unit(error) == "K" else f"{100 * value:.1f}"


def table_text(results: Sequence[Result]) -> str:
    """All lines of the tables as CSV; errors are fractions, those of temperature kelvins."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ("what", "by", "value", "rows", *ERRORS), restval="", lineterminator="\n")
    writer.writeheader()
    for result in results:
        for group in result.groups:
            told = {error: f"{value:.6g}" for error, value in group.errors.items()}
            row = {"what": result.section, "by": group.by, "value": group.value, "rows": group.rows}
            writer.writerow(row | told)
    return stream.getvalue()
