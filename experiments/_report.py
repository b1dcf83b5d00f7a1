"""The comparison as a page: what was run, the table, and energy against misses; `report.html` of a run folder."""

from __future__ import annotations

import html
import math
from collections.abc import Collection, Sequence
from pathlib import Path

from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from experiments._evaluate import CAREFUL, Comparison
from experiments._page import INK, document, image
from experiments._run import command_line
from experiments._stats import Interval
from experiments._summary import Summary, summarise
from experiments._table import HEADINGS, cells, sentences
from hw.files import atomic_write_text
from hw.types import Profile

MARKED_INK = "#c03d2e"
FEW_BREACHES = 0.005  # of all intervals with frames


def write_report(
    path: Path, comparison: Comparison, profile: Profile, marked: Collection[str], backend: str = "sim"
) -> None:
    """The page of a comparison, all or nothing; `marked` ones stand out. InputError where it cannot be written."""
    summaries = summarise(comparison)
    parts = [
        f"<h1>{html.escape(profile.board)}: controllers compared</h1>",
        f"<p><code>{html.escape(command_line())}</code></p>",
        *(f"<p>{html.escape(line)}</p>" for line in sentences(comparison, profile, marked, backend)),
        image(_front(summaries, marked), "Energy per frame against missed frames, a dot per controller"),
        f"<p>Hollow: {FEW_BREACHES:.1%} or more of its intervals below the accuracy floor. Lines: 95 % intervals.</p>",
        _table(summaries, marked),
    ]
    atomic_write_text(path, document(f"{profile.board}: controllers", parts))


def _table(summaries: Sequence[Summary], marked: Collection[str]) -> str:
    head = "".join(f"<th>{html.escape(word)}</th>" for word in ("controller", *HEADINGS))
    rows = [
        f"<tr{' class=marked' * (s.controller in marked)}>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in (s.controller, *cells(s, wide=True)))
        + "</tr>"
        for s in summaries
    ]
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _front(summaries: Sequence[Summary], marked: Collection[str]) -> Figure:
    """Energy against misses; named are marked ones, who is beaten by nobody in both, and the careful person."""
    figure = Figure(figsize=(9.0, 4.8), layout="constrained")
    ax = figure.subplots()
    names: list[tuple[str, tuple[float, float], str]] = []
    short = _short([s.controller for s in summaries])
    for s in sorted(summaries, key=lambda s: s.controller not in marked):
        energy_mj, misses = 1e3 * s.energy_per_frame_j, 100 * s.miss_rate
        ours = s.controller in marked
        ink = MARKED_INK if ours else INK
        filled = ink if s.breach_rate < FEW_BREACHES else "white"
        across, along = _bar(energy_mj, s.energy_interval_j, 1e3), _bar(misses, s.miss_interval, 100)
        ax.errorbar(energy_mj, misses, along, across, fmt="none", ecolor=ink, elinewidth=0.8, alpha=0.35, zorder=1)
        ax.scatter(energy_mj, misses, s=45 if ours else 18, color=filled, edgecolors=ink, zorder=3 if ours else 2)
        if ours or s.controller == CAREFUL or not any(_beats(other, s) for other in summaries):
            names.append((short[s.controller], (energy_mj, misses), ink if ours else "black"))
    ax.set_xscale("log")
    ax.set_yscale("symlog", linthresh=1.0)
    ax.set_ylim(-0.1, 130.0)
    ax.set(xlabel="energy per frame, mJ", ylabel="missed frames, %")
    ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(ticker.NullFormatter())
    ax.grid(color="#dddddd", linewidth=0.5)
    _write_names(figure, ax, names)
    return figure


def _short(names: Sequence[str]) -> dict[str, str]:
    """Per name as much of a path's end as no other name ends in."""
    found = {}
    for name in names:
        parts = Path(name).parts
        ends = [str(Path(*parts[-n:])) for n in range(1, len(parts) + 1)]
        others = [Path(other).parts for other in names if other != name]
        alone = (end for n, end in enumerate(ends, 1) if all(other[-n:] != parts[-n:] for other in others))
        found[name] = next(alone, name)
    return found


def _write_names(figure: Figure, ax: Axes, names: Sequence[tuple[str, tuple[float, float], str]]) -> None:
    """(text, where, colour) beside the dots, each at the first corner where it covers no other and no edge."""
    figure.draw_without_rendering()  # what is where is known only then
    frame, taken = ax.get_window_extent(), list[Bbox]()
    for text, where, ink in names:
        note = ax.annotate(text, where, (5, 4), textcoords="offset points", color=ink, fontsize=9)
        for right, above in ((True, True), (True, False), (False, True), (False, False)):
            note.set_position((5 if right else -5, 4 if above else -4))
            note.set(ha="left" if right else "right", va="bottom" if above else "top")
            box = note.get_window_extent()
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)


def _bar(value: float, interval: Interval, scale: float) -> list[list[float]] | None:
    """How far an interval reaches below and above a figure, (2, 1); None where there is no interval."""
    low, high = interval
    return None if math.isnan(low) else [[max(value - scale * low, 0.0)], [max(scale * high - value, 0.0)]]


def _beats(other: Summary, s: Summary) -> bool:
    """Whether `other` needs less energy and misses no more, or the other way round."""
    less, fewer = other.energy_per_frame_j - s.energy_per_frame_j, other.miss_rate - s.miss_rate
    return less <= 0 and fewer <= 0 and (less < 0 or fewer < 0)
