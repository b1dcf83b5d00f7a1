"""How long a job still takes, by the pace of its last minutes."""

from __future__ import annotations

import time
from collections import deque

RECENT_S = 120.0  # a machine may have slept before, or had others to serve


class Pace:
    """Remembers when how much was done, in any unit of work."""

    def __init__(self, done: float) -> None:
        self._recent = deque([(time.monotonic(), done)])

    def left_s(self, done: float, total: float) -> float:
        """Seconds that the rest will take, now that so much more is done than when this was made."""
        now_s = time.monotonic()
        if now_s - self._recent[-1][0] >= 1.0:
            self._recent.append((now_s, done))
        while len(self._recent) > 2 and now_s - self._recent[1][0] > RECENT_S:
            self._recent.popleft()
        then_s, then = self._recent[0]
        return (total - done) * (now_s - then_s) / (done - then)
