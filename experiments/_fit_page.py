"""One page about a fit: measured against predicted power, residuals, a temperature trace; needs nothing beside it."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments._fit_heat import HeatResult
from experiments._fit_law import LawResult
from experiments._fit_rail import RailResult
from experiments._fit_result import Result
from experiments._fit_tables import shown, unit
from experiments._page import INK, document, image

DRAWN = ("workload", "network")  # groups whose errors are a figure


def page(board: str, command: str, results: Sequence[tuple[Result, str]]) -> str:
    """The page as HTML; with each result goes what predicted it, in words."""
    parts = [f"<h1>{html.escape(board)}: measured and predicted</h1>"]
    parts.append(f"<p><code>{html.escape(command)}</code></p>")
    for result, how in results:
        parts += [f"<h2>{html.escape(result.title)}</h2><p>{html.escape(result.sentence)}</p>"]
        parts.append(f"<p>{html.escape(how)}</p>")
        parts += [*_figures(result), _table(result)]
    return document(f"{board}: fit", parts)


def _figures(result: Result) -> list[str]:
    """What there is to see of a result, as images."""
    match result:
        case RailResult():
            off: NDArray[np.float64] = 100 * (result.predicted_w / result.measured_w - 1)
            names = result.data.texts[result.rail.name]
            residuals = _residuals(names, off, f"predicted over measured, % ({result.rail.models[0]}; bar: mean)")
            return [
                image(_scatter(result), "Measured against predicted power, coloured by frequency"),
                image(residuals, "Residuals by workload"),
            ]
        case LawResult():
            by = next(label for label in result.labels if label in DRAWN)
            residuals = _residuals(result.labels[by], 100 * result.off, "predicted over measured, % (bar: mean)")
            return [image(residuals, f"Residuals by {by}")]
        case HeatResult():
            order = np.argsort(result.per_run_k)
            picked = sorted({int(order[0]), int(order[len(order) // 2]), int(order[-1])})
            return [image(_traces(result, picked), "Measured and predicted temperature: best, middle and worst run")]
    return []


def _table(result: Result) -> str:
    """The errors by group, without those that are in the figures."""
    titles = "".join(f"<th>{html.escape(name)}, {unit(error)}</th>" for error, name in result.headings.items())
    rows = [
        f"<tr><td>{html.escape(g.by)}</td><td>{html.escape(g.value)}</td><td>{g.rows}</td>"
        + "".join(f"<td>{shown(error, value)}</td>" for error, value in g.errors.items())
        + "</tr>"
        for g in result.groups
        if g.by not in DRAWN
    ]
    return f"<table><tr><th>by</th><th></th><th>rows</th>{titles}</tr>{''.join(rows)}</table>"


def _scatter(result: RailResult) -> Figure:
    """Both predictions against the measurement, logarithmic, coloured by frequency."""
    figure = Figure(figsize=(9.0, 4.4), layout="constrained")
    mhz = result.data[result.rail.mhz]
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    ends = [0.9 * result.measured_w.min(), 1.1 * result.measured_w.max()]
    for ax, name, watts in zip(axes, result.rail.models, (result.predicted_w, result.class_w), strict=True):
        ax.loglog(ends, ends, color="#999999", linewidth=1)
        dots = ax.scatter(result.measured_w, watts, c=mhz, s=9, cmap="viridis", linewidths=0)
        ax.set(title=name, xlabel="measured, W", xlim=ends, ylim=ends)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(ticker.NullFormatter())
    axes[0].set_ylabel("predicted, W")
    figure.colorbar(dots, ax=axes, label="MHz")
    return figure


def _residuals(names: NDArray[np.str_], off: NDArray[np.float64], label: str) -> Figure:
    """Relative error (%) of each row, by name, those off most at the top."""
    order = sorted(np.unique(names), key=lambda n: float(np.abs(off[names == n]).mean()))
    figure = Figure(figsize=(9.0, 1.2 + 0.19 * len(order)), layout="constrained")
    ax = figure.subplots()
    ax.axvline(0, color="#999999", linewidth=1)
    for i, name in enumerate(order):
        rows = off[names == name]
        ax.plot(rows, np.full(len(rows), i), ".", color=INK, alpha=0.35, markersize=4)
        ax.plot(rows.mean(), i, "|", color="black", markersize=9)
    ax.set_yticks(range(len(order)), [str(n) for n in order], fontsize=8)
    widest = float(np.quantile(np.abs(off), 0.995)) + 5
    ax.set(xlabel=label, xlim=(-widest, widest))
    ax.set_ylim(-0.7, len(order) - 0.3)
    return figure


def _traces(result: HeatResult, picked: Sequence[int]) -> Figure:
    figure = Figure(figsize=(9.0, 2.7 * len(picked)), layout="constrained")
    for ax, i in zip(figure.subplots(len(picked), 1, squeeze=False)[:, 0], picked, strict=True):
        run = result.runs[i]
        ax.plot(run.t_s, run.hottest_c, color="#999999", linewidth=1, label="measured")
        ax.plot(run.t_s, result.predicted_c[i], color=INK, linewidth=1, label="predicted")
        ax.set_title(f"{run.name}: {result.per_run_k[i]:.2f} K rms", fontsize=9)
        ax.set_ylabel("deg C")
        ax.legend(fontsize=8, loc="upper left")
    ax.set_xlabel("s")
    return figure
