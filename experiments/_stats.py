"""95 % intervals by the bootstrap, for figures that are made of flights.

Scenarios are drawn again, and within a drawn scenario its flights: a claim is about scenarios that were not flown, and
the seeds of one scenario resemble each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]  # low and high; NaN where there is none

RESAMPLES = 5_000
BOUNDS = (2.5, 97.5)  # %, of the resamples


def resamples(scenarios: Sequence[str]) -> Floats:
    """How often each resample holds each flight, (RESAMPLES, flights), by the flights' scenarios; always the same ones.

    So the sums of a column over the resamples are `resamples(...) @ column`, and figures of two controllers on the
    same flights are paired. Without a row below two scenarios: nothing then says how much scenarios differ.
    """
    names, of = np.unique(np.asarray(scenarios, str), return_inverse=True)
    if len(names) < 2:
        return np.empty((0, len(of)))
    rng = np.random.default_rng(0)
    times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)  # (RESAMPLES, scenarios)
    counts = np.empty((RESAMPLES, len(of)))
    for i in range(len(names)):
        own = np.flatnonzero(of == i)
        counts[:, own] = rng.multinomial(times[:, i] * len(own), np.full(len(own), 1 / len(own)))
    return counts


def interval(drawn: Floats) -> Interval:
    """What bounds 95 % of a figure of each resample; NaN where there are none, or one of them has no such figure."""
    if not len(drawn):
        return math.nan, math.nan
    low, high = np.percentile(drawn, BOUNDS)
    return float(low), float(high)


def ratio(over: Floats, under: Floats) -> Floats:
    """One over the other, NaN where that is not above 0."""
    found: Floats = np.divide(over, under, out=np.full(len(over), math.nan), where=under > 0)
    return found
