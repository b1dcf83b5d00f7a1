"""What one episode amounts to: telemetry of every interval in, one row of results out."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agents.watch import BLIND_INTERVALS
from envs.reward import BREACH_TOLERANCE, RewardWeights, interval_terms
from hw.errors import Missing
from hw.files import atomic_write_text
from hw.types import Demand, Profile, Telemetry

Floats = npt.NDArray[np.float64]

_Z95 = 1.6448536269514722  # the normal distribution's 95th percentile, in standard deviations


@dataclass(frozen=True, kw_only=True)
class Row:
    """One controller on one scenario with one seed; the columns of results.csv, in their order, and two weights.

    NaN is missing (no frame was served). Energy is what the meters report, over all rails.
    """

    controller: str
    scenario: str
    seed: int
    intervals: int
    frames: int  # arrived
    miss_rate: float  # late or dropped, of the frames that arrived
    accuracy_mean: float  # measured, over labelled frames
    accuracy_breach_rate: float  # intervals with frames whose rung's profile accuracy is below the floor
    energy_j: float
    energy_per_frame_j: float  # over the frames that arrived, as in the reward
    latency_mean_s: float  # over served frames
    latency_p95_s: float  # over served frames; see `latency_p95_s()`
    temp_max_c: float
    throttled_share: float  # of the intervals
    switches: int  # intervals that began with a change of the granted knobs
    reward_mean: float  # per interval
    regret: float  # the bound's reward_mean minus this one
    labelled: int  # of the served frames, which accuracy is of
    intervals_with_frames: int  # which breaches are of


WEIGHTS = ("labelled", "intervals_with_frames")  # not in results.csv
COLUMNS = tuple(f.name for f in fields(Row) if f.name not in WEIGHTS)


def episode_row(
    controller: str,
    scenario: str,
    seed: int,
    first: Telemetry,
    record: Sequence[Telemetry],
    demands: Sequence[Demand],
    profile: Profile,
    weights: RewardWeights,
) -> Row:
    """The row of an episode (its regret still NaN); `first` is the telemetry `reset` gave before it.

    A reading that a busy bus lost counts as the mean of the others. Raises Missing where the board gave no energy
    reading, or none for as long as ends a flight (`agents.watch`).
    """
    frames = np.array([t.frames for t in record], np.float64)
    served, labelled = np.array([(t.served, t.labelled) for t in record], np.float64).T
    floor = np.array([d.accuracy_min for d in demands])
    granted = np.array([profile.rung(t.granted.rung).accuracy for t in record])
    breached = (frames > 0) & (floor - granted > BREACH_TOLERANCE)
    energy_j = _energy_j(record)
    rewards = interval_rewards(first, record, demands, profile, weights)
    arrived, with_frames = float(frames.sum()), int((frames > 0).sum())
    return Row(
        controller=controller,
        scenario=scenario,
        seed=seed,
        intervals=len(record),
        frames=int(arrived),
        miss_rate=sum(t.missed for t in record) / max(arrived, 1.0),
        accuracy_mean=weighted_mean(_known([t.accuracy for t in record]), labelled),
        accuracy_breach_rate=float(breached.sum() / max(with_frames, 1)),
        energy_j=float(energy_j.sum()),
        energy_per_frame_j=float(energy_j.sum()) / max(arrived, 1.0),
        latency_mean_s=weighted_mean(_known([t.latency_mean_s for t in record]), served),
        latency_p95_s=latency_p95_s(record),
        temp_max_c=max(max(t.temp_c.values(), default=math.nan) for t in record),
        throttled_share=sum(t.throttled for t in record) / len(record),
        switches=sum(t.switched for t in record),
        reward_mean=float(rewards[~np.isnan(rewards)].mean()),
        regret=math.nan,
        labelled=int(labelled.sum()),
        intervals_with_frames=with_frames,
    )


def interval_rewards(
    first: Telemetry,
    record: Sequence[Telemetry],
    demands: Sequence[Demand],
    profile: Profile,
    weights: RewardWeights,
) -> Floats:
    """The reward of each interval, (k,): the sum of `envs.reward.interval_terms`; NaN where its energy is missing.

    `first` is the telemetry before the first interval.
    """
    before = [first, *record[:-1]]
    steps = zip(before, record, demands, strict=True)
    return np.array(
        [
            math.nan if t.energy_j is None else sum(interval_terms(b, t, d, profile, weights).values())
            for b, t, d in steps
        ]
    )


def latency_p95_s(record: Sequence[Telemetry]) -> float:
    """95th percentile of the latency of all served frames (s), by each interval's mean and p95; NaN if none.

    A mean of interval percentiles would hide a bad spell and their maximum would be nothing else, so each
    interval's frames are spread as a normal distribution with its mean and its p95, and the percentile is
    that of the mixture, weighted by frames served. Exact for one interval and where latencies do not vary
    within an interval; in between off by how far latencies are from normal.
    """
    parts = [
        (t.served, t.latency_mean_s, max(t.latency_p95_s - t.latency_mean_s, 0.0) / _Z95)
        for t in record
        if t.served and t.latency_mean_s is not None and t.latency_p95_s is not None
    ]
    if not parts:
        return math.nan
    total = sum(served for served, _, _ in parts)

    def share_below(x: float) -> float:
        below = 0.0
        for served, mean, std in parts:
            if std > 0:
                below += served * 0.5 * (1 + math.erf((x - mean) / (std * math.sqrt(2))))
            elif x >= mean:
                below += served
        return below / total

    low, high = 0.0, max(mean + 4 * std for _, mean, std in parts)
    for _ in range(40):  # halving: to a millionth of a millionth of the range
        middle = (low + high) / 2
        low, high = (low, middle) if share_below(middle) >= 0.95 else (middle, high)
    return high


def write_results(rows: Sequence[Row], path: str | Path) -> None:
    """results.csv, all or nothing: exactly COLUMNS; a missing number is an empty cell."""
    write_rows(rows, COLUMNS, path)


def write_rows(rows: Sequence[object], columns: Sequence[str], path: str | Path) -> None:
    """A CSV of these fields of each row, all or nothing; NaN is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = [getattr(row, name) for name in columns]
        writer.writerow(["" if isinstance(c, float) and math.isnan(c) else c for c in cells])
    atomic_write_text(path, text.getvalue())


def _known(values: Sequence[float | None]) -> Floats:
    return np.array([math.nan if v is None else v for v in values], np.float64)


def weighted_mean(values: Floats, weights: Floats) -> float:
    """Weighted mean over what is known; NaN where nothing is."""
    use = (weights > 0) & ~np.isnan(values)
    return float(np.average(values[use], weights=weights[use])) if use.any() else math.nan


def _energy_j(record: Sequence[Telemetry]) -> Floats:
    energy_j = _known([t.total_energy_j for t in record])
    gaps = np.isnan(energy_j)
    if gaps.all():
        raise Missing("a comparison needs a power meter, and this board gave no energy reading")
    blind = max(len(list(run)) if gap else 0 for gap, run in groupby(gaps))
    if blind >= BLIND_INTERVALS:
        raise Missing(f"a comparison needs a power meter, and this board's gave no energy for {blind} intervals")
    return np.where(gaps, energy_j[~gaps].mean(), energy_j)
