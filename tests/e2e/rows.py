"""A row of results by hand: what the tests of figures share."""

from __future__ import annotations

from dataclasses import replace

from experiments._metrics import Row

BASE = Row(
    controller="ladder",
    scenario="one",
    seed=0,
    intervals=10,
    frames=50,
    miss_rate=0.02,
    accuracy_mean=0.7,
    accuracy_breach_rate=0.0,
    energy_j=5.0,
    energy_per_frame_j=0.1,
    latency_mean_s=0.05,
    latency_p95_s=0.08,
    temp_max_c=50.0,
    throttled_share=0.0,
    switches=3,
    reward_mean=-1.0,
    regret=0.1,
    labelled=49,
    intervals_with_frames=10,
)


def row(**changes: object) -> Row:
    return replace(BASE, **changes)  # type: ignore[arg-type]
