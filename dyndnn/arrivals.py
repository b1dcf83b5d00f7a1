"""When frames arrive: steadily at a rate that may change or pause, or one as soon as the other is done."""

from __future__ import annotations

import math
from collections import deque


class Arrivals:
    """The clock of a camera. Times are those of `time.monotonic`, seconds.

    A frame arrives on time whether or not anybody is ready for it. Where the rate changes, what is left of the
    current period, as a share of it, is left of the new one.
    """

    def __init__(self, now_s: float, rate_hz: float | None = None, *, hold: bool = False) -> None:
        """The first frame arrives at `now_s`; `rate_hz` None: one after the other; `hold`: none until told."""
        self._rate_hz, self._hold = rate_hz, hold
        self._waiting: deque[float] = deque()  # arrived before the rate changed, not yet taken
        self._next_s = now_s

    @property
    def next_s(self) -> float:
        """When the next frame arrives or arrived; infinity while there is none to come."""
        if self._waiting:
            return self._waiting[0]
        return math.inf if self._hold else self._next_s

    @property
    def pressing_s(self) -> float:
        """When the next frame will wait for the one that was taken; infinity where it only comes after that one."""
        return math.inf if self._rate_hz is None and not self._waiting else self.next_s

    def turn(self, now_s: float, rate_hz: float | None, *, hold: bool = False) -> None:
        """From `now_s` on at this rate; after a pause, or after frames one by one, the next frame arrives at once."""
        if (rate_hz, hold) == (self._rate_hz, self._hold):
            return
        steady = self._rate_hz is not None and not self._hold
        if steady and self._rate_hz is not None:
            while self._next_s <= now_s:
                self._waiting.append(self._next_s)
                self._next_s += 1 / self._rate_hz
        if steady and self._rate_hz is not None and rate_hz is not None:
            self._next_s = now_s + (self._next_s - now_s) * self._rate_hz / rate_hz
        elif not hold:
            self._next_s = now_s
        self._rate_hz, self._hold = rate_hz, hold

    def take(self, now_s: float) -> float:
        """Take the next frame, which has arrived by `now_s`; when it did."""
        if self._waiting:
            return self._waiting.popleft()
        if self._rate_hz is None:
            return now_s
        arrived_s, self._next_s = self._next_s, self._next_s + 1 / self._rate_hz
        return arrived_s
