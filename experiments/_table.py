"""The comparison as a person reads it: a table, and what the learned policy saves, in a sentence."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from rich import box
from rich.table import Table

from agents.policy import GOVERNOR_NAMES, GPU_GOVERNOR_NAMES
from experiments._console import console
from experiments._evaluate import BOUND, CAREFUL, Comparison, Summary, summarise
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


def print_comparison(comparison: Comparison, profile: Profile, learned: Collection[str], backend: str = "sim") -> None:
    """The table on stdout, lowest regret first, and one sentence per learned policy (by its label)."""
    table = Table(box=box.SIMPLE, pad_edge=False, title_justify="left")
    table.add_column("controller", overflow="fold", min_width=22)  # "> simple_ondemand@auto"
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for s in summarise(comparison):
        mark = s.controller in learned
        table.add_row(f"> {s.controller}" if mark else f"  {s.controller}", *cells(s), style="bold" if mark else None)
    out = console()
    out.print(table)
    for line in sentences(comparison, profile, learned, backend):
        out.print(line)


def cells(s: Summary) -> tuple[str, ...]:
    """A controller's row, beside its name; under `HEADINGS`."""
    return (
        _number(s.energy_per_frame_j, 1e3, 1),
        _number(s.miss_rate, 100, 2),
        _number(s.breach_rate, 100, 2),
        _number(s.accuracy, 100, 1),
        _number(s.latency_p95_s, 1e3, 0),
        _number(s.reward_mean, 1, 3),
        _number(s.regret_normalised, 1, 2),
    )


def sentences(comparison: Comparison, profile: Profile, learned: Collection[str], backend: str = "sim") -> list[str]:
    """What to know of the figures, and what each learned policy saves."""
    summaries = summarise(comparison)
    episodes = sorted(comparison.bound)
    scenarios, seeds = len({s for s, _ in episodes}), len({n for _, n in episodes})
    counted = f"{scenarios} scenario{'s' * (scenarios != 1)} x {seeds} seed{'s' * (seeds != 1)}"
    return [
        f"{provenance(profile, backend)}; board {profile.board}, {counted} each.",
        f"Normalised regret: 0 is {BOUND} (knows what comes), 1 is {CAREFUL}.",
        *(sentence(summaries, name) for name in learned if any(s.controller == name for s in summaries)),
    ]


def provenance(profile: Profile, backend: str = "sim") -> str:
    """Whether the figures are measured or modelled, in words."""
    energy = ", energy modelled" if profile.provenance.get("power") == "modelled" else ""
    if backend == "real":
        return f"All figures measured on this machine{energy}; {BOUND} and {CAREFUL} simulated"
    if profile.kind == "modelled":
        return f"All figures modelled (profile {profile.name!r}, kind modelled)"
    return f"All figures simulated on a measured profile ({profile.name!r}, kind {profile.kind}{energy})"


def sentence(summaries: Sequence[Summary], learned: str) -> str:
    """What the learned policy saves against the best governor-and-rung pair as punctual and accurate."""
    own = next(s for s in summaries if s.controller == learned)
    pairs = [s for s in summaries if _is_pair(s.controller)]
    if not pairs:
        return f"No governor-and-rung pair was flown to compare {learned} with."
    fair = [s for s in pairs if s.miss_rate <= own.miss_rate + SLACK and s.breach_rate <= own.breach_rate + SLACK]
    if fair:
        best = min(fair, key=lambda s: s.energy_per_frame_j)
        head = f"Best governor-and-rung pair with no more misses and no more breaches than {learned}: {best.controller}"
    else:
        as_accurate = [s for s in pairs if s.breach_rate <= own.breach_rate + SLACK] or pairs
        fewest = min(s.miss_rate for s in as_accurate)
        near = [s for s in as_accurate if s.miss_rate <= fewest + NEAR_MISSES]
        best = min(near, key=lambda s: s.energy_per_frame_j)
        head = (
            f"No governor-and-rung pair has no more misses and no more breaches than {learned}; "
            f"of those with no more breaches that miss least, the thriftiest is {best.controller} "
            f"({100 * best.miss_rate:.2f} % misses, {100 * best.breach_rate:.2f} % breaches)"
        )
    saved = 1 - own.energy_per_frame_j / best.energy_per_frame_j
    amount = f"{abs(100 * saved):.0f} % {'less' if saved >= 0 else 'more'}"
    return f"{head}; {learned} uses {amount} energy per frame."


def _is_pair(controller: str) -> bool:
    governor, at, _ = controller.partition("@")
    return bool(at) and governor in GOVERNOR_NAMES + GPU_GOVERNOR_NAMES


def _number(value: float, scale: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value * scale:.{digits}f}"
