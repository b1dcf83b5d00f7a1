"""One page about a fit: measured against predicted power, residuals, a temperature trace; needs nothing beside it."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments._fit_heat import HeatResult
from experiments._fit_latency import LatencyResult
from experiments._fit_rail import RailResult
from experiments._fit_result import Result
from experiments._page import INK, document, image

RUNS_SHOWN = 3


def page(board: str, command: str, results: Sequence[Result], *, held_back: bool) -> str:
    """The page as HTML; `held_back`: whether each prediction is by a fit that had not seen its workload."""
    how = (
        "Every prediction shown is by a fit that had not seen its workload."
        if held_back
        else "Predictions are those of the parameters that ship; nothing was fitted."
    )
    parts = [f"<h1>{html.escape(board)}: measured and predicted</h1>", f"<p>{how}</p>"]
    parts.append(f"<p><code>{html.escape(command)}</code></p>")
    for result in results:
        match result:
            case RailResult():
                parts += _rail(result)
            case HeatResult():
                parts += _heat(result)
            case LatencyResult():
                parts += _latency(result)
    return document(f"{board}: fit", parts)


def _rail(result: RailResult) -> list[str]:
    summary, (first, second) = result.summary, result.rail.models
    told = (
        f"{summary['rows']} rows. Mean absolute error of the {first} {100 * summary['power_mape']:.1f} % "
        f"(95 % of the rows within {100 * summary['power_p95_ape']:.1f} %), "
        f"of the {second} {100 * summary['class_power_mape']:.1f} %."
    )
    rows = [
        f"<tr><td>{html.escape(g.by)}</td><td>{html.escape(g.value)}</td><td>{g.rows}</td>"
        f"<td>{100 * g.power_mape:.1f}</td><td>{100 * g.class_power_mape:.1f}</td></tr>"
        for g in result.groups
        if g.by != "workload"
    ]
    names = (f"{html.escape(name)}, %" for name in result.rail.models)
    header = "<tr><th>by</th><th></th><th>rows</th>" + "".join(f"<th>{name}</th>" for name in names) + "</tr>"
    return [
        f"<h2>{html.escape(result.rail.title)}</h2><p>{html.escape(told)}</p>",
        image(_scatter(result), "Measured against predicted power, coloured by frequency"),
        f"<table>{header}{''.join(rows)}</table>",
        image(_residuals(result), "Residuals by workload"),
    ]


def _latency(result: LatencyResult) -> list[str]:
    rows = [
        f"<tr><td>{html.escape(by)}</td><td>{html.escape(value)}</td><td>{count}</td><td>{100 * error:.1f}</td></tr>"
        for by, value, count, error in result.groups
    ]
    header = "<tr><th>by</th><th></th><th>rows</th><th>error, %</th></tr>"
    error, names = result.summary["latency_mape"], np.array([t.network for t in result.timings])
    return [
        f"<h2>Latency on {html.escape(result.timed.unit)}</h2>",
        f"<p>{len(names)} rows. Mean absolute error {100 * error:.1f} %.</p>",
        image(_by_name(names, 100 * result.off, "predicted over measured, % (bar: mean)"), "Residuals by network"),
        f"<table>{header}{''.join(rows)}</table>",
    ]


def _heat(result: HeatResult) -> list[str]:
    order = np.argsort(result.per_run_k)
    picked = sorted({int(order[0]), int(order[len(order) // 2]), int(order[-1])})[:RUNS_SHOWN]
    told = (
        f"{len(result.runs)} runs, {result.summary['rows']} samples, "
        f"{result.summary['temp_rmse_k']:.2f} K rms over all. "
        f"Shown are the best, the middle and the worst run."
    )
    return [
        f"<h2>Hottest CPU sensor, fan full on</h2><p>{told}</p>",
        image(_traces(result, picked), "Measured and predicted temperature"),
    ]


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


def _residuals(result: RailResult) -> Figure:
    off: NDArray[np.float64] = 100 * (result.predicted_w / result.measured_w - 1)
    label = f"predicted over measured, % ({result.rail.models[0]}; bar: mean)"
    return _by_name(result.data.texts[result.rail.name], off, label)


def _by_name(names: NDArray[np.str_], off: NDArray[np.float64], label: str) -> Figure:
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
