"""The queue as anybody would write it down, frame by frame: what `hw.simulated.queue.serve` must agree with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Outcome:
    """What became of all frames that arrived."""

    arrived: int
    dropped: int
    late: int
    latency_mean_s: float  # of the served frames
    busy_s: float  # before the horizon

    @property
    def missed(self) -> int:
        return self.dropped + self.late


def reference_queue(
    *,
    rate_hz: float,
    deadline_s: float,
    service_s: float,
    cv: float,
    horizon_s: float,
    phase: float,
    rng: np.random.Generator,
    repeats: int = 1,
    backlog_s: float = 0.0,
) -> Outcome:
    """Frames at `(phase + k) / rate_hz` before the horizon, one server, first in first out, `repeats` times.

    Service is log-normal with this mean and coefficient of variation. A frame whose turn comes after its
    deadline is dropped; one that starts in time runs to its end, also when it is late.
    """
    sigma2 = math.log(1 + cv * cv)
    arrivals = []
    k = 0
    while (phase + k) / rate_hz < horizon_s:
        arrivals.append((phase + k) / rate_hz)
        k += 1
    dropped = late = served = 0
    latency_s = busy_s = 0.0
    for _ in range(repeats):
        times = rng.lognormal(math.log(service_s) - sigma2 / 2, math.sqrt(sigma2), len(arrivals)).tolist()
        free_s = backlog_s
        busy_s += min(backlog_s, horizon_s)
        for arrival_s, time_s in zip(arrivals, times, strict=True):
            start_s = max(arrival_s, free_s)
            if start_s >= arrival_s + deadline_s:
                dropped += 1
                continue
            free_s = start_s + time_s
            latency = free_s - arrival_s
            served += 1
            latency_s += latency
            busy_s += max(min(free_s, horizon_s) - start_s, 0.0)
            late += latency > deadline_s
    mean = latency_s / served if served else math.nan
    return Outcome(len(arrivals) * repeats, dropped, late, mean, busy_s)
