"""The comparison as a person reads it: a table, and what a learned policy saves, in a sentence."""

from __future__ import annotations

import math
from collections.abc import Collection

from rich import box
from rich.table import Table

from agents.policy import GOVERNOR_NAMES, GPU_GOVERNOR_NAMES
from experiments._console import console
from experiments._evaluate import BOUND, CAREFUL, Comparison
from experiments._stats import Interval
from experiments._summary import Summary, saving, summarise
from hw.types import Profile

HEADINGS = (
    "energy\nmJ/frame",
    "misses\n%",
    "breaches\n%",
    "accuracy\n%",
    "latency\np95 ms",
    "\nreward",
    "normalised\nregret",
)
NEAR_MISSES = 0.005  # pairs within half a point of the fewest misses count as equally punctual
SLACK = 1e-9  # rounding of rates that are equal


def print_comparison(comparison: Comparison, profile: Profile, marked: Collection[str], backend: str = "sim") -> None:
    """The table on stdout, lowest regret first, and one sentence per marked policy (by its label)."""
    # every column counts: with a regret's interval there are PLAIN_WIDTH of them, less one
    table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("controller", overflow="fold", min_width=22)  # "> simple_ondemand@auto"
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for s in summarise(comparison):
        mark = s.controller in marked
        table.add_row(f"> {s.controller}" if mark else f"  {s.controller}", *cells(s), style="bold" if mark else None)
    out = console()
    out.print()
    out.print(table)
    out.print()
    for line in sentences(comparison, profile, marked, backend):
        out.print(line)


def cells(s: Summary, *, wide: bool = False) -> tuple[str, ...]:
    """A controller's row, beside its name; under `HEADINGS`. Where it is wide, energy and misses with intervals too."""
    energy, misses = figures(s)
    return (
        energy if wide else _number(s.energy_per_frame_j, 1e3, 1),
        misses if wide else _number(s.miss_rate, 100, 2),
        _number(s.breach_rate, 100, 2),
        _number(s.accuracy, 100, 1),
        _number(s.latency_p95_s, 1e3, 0),
        _number(s.reward_mean, 1, 3),
        _number(s.regret_normalised, 1, 1 if s.regret_interval[1] >= 9.995 else 2, s.regret_interval),
    )


def told(s: Summary) -> str:
    """Energy and misses of a controller with their intervals, for which the table has no room."""
    return "{}: energy per frame, mJ: {}; misses, %: {}.".format(s.controller, *figures(s))


def figures(s: Summary) -> tuple[str, str]:
    """Energy per frame (mJ) and misses (%) with their intervals, where there are any."""
    energy = _number(s.energy_per_frame_j, 1e3, 1, s.energy_interval_j)
    return energy, _number(s.miss_rate, 100, 2, s.miss_interval)


def sentences(comparison: Comparison, profile: Profile, marked: Collection[str], backend: str = "sim") -> list[str]:
    """What to know of the figures, and what each marked policy saves."""
    known = {s.controller: s for s in summarise(comparison)}
    episodes = sorted(comparison.bound)
    scenarios, seeds = len({s for s, _ in episodes}), len({n for _, n in episodes})
    counted = f"{scenarios} scenario{'s' * (scenarios != 1)} x {seeds} seed{'s' * (seeds != 1)}"
    return [
        f"{provenance(profile, backend)}; board {profile.board}, {counted} each.",
        f"Normalised regret: 0 is {BOUND} (knows what comes), 1 is {CAREFUL}.",
        f"In parentheses: 95 % of resamples of the {scenarios} scenarios, and of the seeds of each."
        if scenarios > 1
        else "No intervals: one scenario does not say how much scenarios differ.",
        *(line for name in marked if name in known for line in (told(known[name]), sentence(comparison, name))),
    ]


def provenance(profile: Profile, backend: str = "sim") -> str:
    """Whether the figures are measured or modelled, in words."""
    energy = ", energy modelled" if profile.provenance.get("power") == "modelled" else ""
    if backend == "real":
        return f"All figures measured on this machine{energy}; {BOUND} and {CAREFUL} simulated"
    if profile.kind == "modelled":
        return f"All figures modelled (profile {profile.name!r}, kind modelled)"
    return f"All figures simulated on a measured profile ({profile.name!r}, kind {profile.kind}{energy})"


def sentence(comparison: Comparison, name: str) -> str:
    """What a policy saves against the best governor-and-rung pair as punctual and accurate."""
    summaries = summarise(comparison)
    own = next(s for s in summaries if s.controller == name)
    pairs = [s for s in summaries if _is_pair(s.controller)]
    if not pairs:
        return f"No governor-and-rung pair was flown to compare {name} with."
    fair = [s for s in pairs if s.miss_rate <= own.miss_rate + SLACK and s.breach_rate <= own.breach_rate + SLACK]
    if fair:
        best = min(fair, key=lambda s: s.energy_per_frame_j)
        head = f"Best governor-and-rung pair with no more misses and no more breaches than {name}: {best.controller}"
    else:
        as_accurate = [s for s in pairs if s.breach_rate <= own.breach_rate + SLACK]
        of_those = "of those with no more breaches" if as_accurate else "none has as few breaches; of all"
        fewest = min(s.miss_rate for s in as_accurate or pairs)
        near = [s for s in as_accurate or pairs if s.miss_rate <= fewest + NEAR_MISSES]
        best = min(near, key=lambda s: s.energy_per_frame_j)
        head = (
            f"No governor-and-rung pair has no more misses and no more breaches than {name}; "
            f"{of_those} that miss least, the thriftiest is {best.controller} "
            f"({100 * best.miss_rate:.2f} % misses, {100 * best.breach_rate:.2f} % breaches)"
        )
    saved, (low, high) = saving(comparison, name, best.controller)
    between = "" if math.isnan(low) else f" ({_amounts(low, high)})"
    return f"{head}; {name} uses {_amount(saved)} energy per frame{between}."


def _amounts(low: float, high: float) -> str:
    if low < 0 < high:
        return f"{_amount(low)} to {_amount(high)}"
    least, most = sorted((abs(low), abs(high)))
    return f"{100 * least:.0f} to {100 * most:.0f} %"


def _amount(saved: float) -> str:
    return f"{abs(100 * saved):.0f} % {'less' if saved >= 0 else 'more'}"


def _is_pair(controller: str) -> bool:
    governor, at, _ = controller.partition("@")
    return bool(at) and governor in GOVERNOR_NAMES + GPU_GOVERNOR_NAMES


def _number(value: float, scale: float, digits: int, interval: Interval = (math.nan, math.nan)) -> str:
    """A figure, and its interval where it has one: what regret is measured by has none."""
    if math.isnan(value):
        return "-"
    low, high = interval
    between = f" ({low * scale:.{digits}f} to {high * scale:.{digits}f})" if low < high else ""
    return f"{value * scale:.{digits}f}{between}"
