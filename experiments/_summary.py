"""Each controller over all its flights, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments._evaluate import Comparison
from experiments._metrics import Row, weighted_mean
from experiments._stats import Floats, Interval, interval, ratio, resamples


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A controller over all its episodes; NaN where there is nothing to tell. Intervals are of `_stats`."""

    controller: str
    energy_per_frame_j: float  # all energy over all frames
    energy_interval_j: Interval
    miss_rate: float  # of all frames
    miss_interval: Interval
    breach_rate: float  # of all intervals with frames
    accuracy: float  # of all labelled frames
    latency_p95_s: float  # mean of the episodes'
    reward_mean: float
    regret_normalised: float  # mean regret over the mean distance from CAREFUL to BOUND
    regret_interval: Interval


def summarise(comparison: Comparison) -> list[Summary]:
    """One summary per controller, highest reward first, which is lowest regret."""
    drawn = _resamples(comparison)
    span = np.array([comparison.bound[e] - comparison.careful[e] for e in comparison.bound])
    found = []
    for name, rows in _flights(comparison).items():
        frames, energy_j, regret = (_column(rows, c) for c in ("frames", "energy_j", "regret"))
        miss_rate, reward = _column(rows, "miss_rate"), _column(rows, "reward_mean")
        missed = miss_rate * frames
        found.append(
            Summary(
                controller=name,
                energy_per_frame_j=float(energy_j.sum() / max(frames.sum(), 1)),
                energy_interval_j=interval(ratio(drawn @ energy_j, drawn @ frames)),
                miss_rate=weighted_mean(miss_rate, frames),
                miss_interval=interval(ratio(drawn @ missed, drawn @ frames)),
                breach_rate=weighted_mean(
                    _column(rows, "accuracy_breach_rate"), _column(rows, "intervals_with_frames")
                ),
                accuracy=weighted_mean(_column(rows, "accuracy_mean"), _column(rows, "labelled")),
                latency_p95_s=weighted_mean(_column(rows, "latency_p95_s"), np.ones(len(rows))),
                reward_mean=float(reward.mean()),
                regret_normalised=float(ratio(regret.sum(keepdims=True), span.sum(keepdims=True))[0]),
                regret_interval=interval(ratio(drawn @ regret, drawn @ span)),
            )
        )
    return sorted(found, key=lambda s: -s.reward_mean)


def saving(comparison: Comparison, controller: str, other: str) -> tuple[float, Interval]:
    """The share of the other's energy per frame that a controller saves, with its interval; NaN where there is none."""
    flights, drawn = _flights(comparison), _resamples(comparison)

    def saved(counts: Floats) -> Floats:
        own, others = (
            ratio(counts @ _column(flights[name], "energy_j"), counts @ _column(flights[name], "frames"))
            for name in (controller, other)
        )
        return 1 - ratio(own, others)

    return float(saved(np.ones((1, drawn.shape[1])))[0]), interval(saved(drawn))


def _resamples(comparison: Comparison) -> Floats:
    return resamples([scenario for scenario, _ in comparison.bound])


def _flights(comparison: Comparison) -> dict[str, list[Row]]:
    """The rows of each controller, all in the order of `bound`, so that sums over resamples are paired."""
    by_name: dict[str, dict[tuple[str, int], Row]] = {}
    for row in comparison.rows:
        by_name.setdefault(row.controller, {})[row.scenario, row.seed] = row
    return {name: [rows[episode] for episode in comparison.bound] for name, rows in by_name.items()}


def _column(rows: Sequence[Row], name: str) -> Floats:
    return np.array([getattr(row, name) for row in rows], np.float64)
