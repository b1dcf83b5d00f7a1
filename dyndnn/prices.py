"""What the rungs of a frame cost, at load and lately: by it anytime mode decides whether another one fits."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from dyndnn.network import Network

WARM_UPS = 3
FORGET = 0.1  # how fast the price of an upgrade falls where it turns out lower; it rises at once
RECOVER = 0.005  # how fast it falls to what it was at load while no upgrade is tried: each try may cost a deadline
MAX_PACE = 16.0  # clocks of a board differ by less; what took longer than that was held up


class Prices:
    """Seconds, by rung (0 is the smallest), of a network in memory.

    A clock and its neighbours change all rungs alike: what a frame's first rung takes over what it took at load is the
    frame's pace, and the price of an upgrade is kept at the pace of the load.
    """

    def __init__(self, start_s: list[float], upgrade_s: list[float]) -> None:
        """At load: a frame that begins at rung k; rung k for a frame that stands at rung k - 1."""
        self._start_s, self._usual_s, self._lately_s = start_s, upgrade_s, list(upgrade_s)

    def __len__(self) -> int:
        return len(self._lately_s)

    def pace(self, rung: int, took_s: float) -> float:
        """How much slower than at load a frame is that began at `rung` and took so long for it."""
        return min(max(took_s / self._start_s[rung], 1 / MAX_PACE), MAX_PACE)

    def upgrade_s(self, rung: int, pace: float) -> float:
        """What an upgrade to `rung` will take at this pace."""
        return pace * self._lately_s[rung]

    def paid(self, rung: int, took_s: float, pace: float) -> None:
        """Learn from an upgrade to `rung` that took so long at this pace."""
        now_s = took_s / pace
        self._lately_s[rung] = max(now_s, (1 - FORGET) * self._lately_s[rung] + FORGET * now_s)

    def declined(self, rung: int) -> None:
        """Learn that an upgrade to `rung` was too dear; one that was held up once becomes usual again."""
        self._lately_s[rung] += RECOVER * (self._usual_s[rung] - self._lately_s[rung])


def measure_prices(network: Network) -> Prices:
    """Warm a network up on an empty frame, and note the quickest of each rung."""
    rungs = len(network.ladder.rungs)
    frame: NDArray[np.uint8] = np.zeros(network.ladder.input.shape, np.uint8)
    starts, upgrades = np.empty((WARM_UPS, rungs)), np.empty((WARM_UPS, rungs))
    for start, upgrade in zip(starts, upgrades, strict=True):
        inference = network.begin(frame)
        for k in range(rungs):
            before_s = time.monotonic()
            inference.upto(k)
            between_s = time.monotonic()
            network.begin(frame).upto(k)
            upgrade[k], start[k] = between_s - before_s, time.monotonic() - between_s
    return Prices(starts.min(0).tolist(), upgrades.min(0).tolist())
