"""What a worker's lines of an interval's frames come to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hw.real.interfaces import Served

Record = dict[str, Any]


def tally(records: Sequence[Record], owed: float) -> tuple[Served, float]:
    """The frames counted; `owed`: whole frames' worth of right pictures that no interval has told yet, and after it.

    Of a frame of several pictures, the share that is right counts; whole frames are told, the rest with the next ones.
    """
    served = [r for r in records if "latency_s" in r]
    latencies = [r["latency_s"] for r in served]
    labelled = [r for r in served if "label" in r or r.get("labelled")]
    owed += sum(r["right"] / r["labelled"] if "right" in r else r["class"] == r["label"] for r in labelled)
    right = min(int(owed + 1e-9), len(labelled))
    confident = [r["confidence"] for r in served if "confidence" in r]
    counted = Served(
        frames=len(records),
        served=len(served),
        missed=len(records) - sum(not r["missed"] for r in served),
        dropped=len(records) - len(served),  # a picture that is none never started either
        latency_mean_s=float(np.mean(latencies)) if latencies else None,
        latency_p95_s=float(np.percentile(latencies, 95)) if latencies else None,
        labelled=len(labelled),
        right=right,
        confidence=float(np.mean(confident)) if confident else None,
    )
    return counted, owed - right
