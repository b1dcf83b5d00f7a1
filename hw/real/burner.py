"""Background load of one process: `python -m hw.real.burner` reads lines "SHARE GBPS" until its input ends.

It takes that share of a core, in time of its own (where the core is shared, it insists on it as work would), and
copies so much memory meanwhile; both in turns that are short against a control interval. Standard library only.
"""

from __future__ import annotations

import math
import os
import select
import sys
import time

TURN_S = 0.02
BUFFER_BYTES = 2**25  # two of them are more than most caches hold
COPY_BYTES = 2**19  # between two looks at the clock
SPINS = 200


class _Copier:
    """Copies memory, around in a circle that no cache holds."""

    def __init__(self) -> None:
        """The buffers are made when the first byte is to be copied."""
        self._from = self._to = memoryview(b"")
        self._place = 0

    def copy(self) -> int:
        """Copy a piece; how many bytes were read and written."""
        if not self._from:
            self._from, self._to = memoryview(bytearray(BUFFER_BYTES)), memoryview(bytearray(BUFFER_BYTES))
        end = self._place + COPY_BYTES
        self._to[self._place : end] = self._from[self._place : end]
        self._place = end % BUFFER_BYTES
        return 2 * COPY_BYTES


def turn(share: float, gbps: float, copier: _Copier, owed: float) -> float:
    """One turn: the memory traffic first, then the rest of the share, then sleep; bytes that are still owed.

    The sleep ends early where a line has come in.
    """
    start_s, start_cpu_s = time.monotonic(), time.process_time()
    owed += gbps * 1e9 * TURN_S
    while owed > 0 and time.monotonic() - start_s < TURN_S:
        owed -= copier.copy()
    while time.process_time() - start_cpu_s < share * TURN_S and time.monotonic() - start_s < TURN_S:
        for _ in range(SPINS):
            pass
    left_s = start_s + TURN_S - time.monotonic()
    if left_s > 0:
        select.select([0], [], [], left_s)
    return min(owed, 1e9)  # a traffic that cannot be had is not made up for later


def main() -> int:
    """Burn until standard input ends; the exit status."""
    share, gbps, owed, buffer = 0.0, 0.0, 0.0, b""
    copier = _Copier()
    while True:
        idle = share <= 0.0 and gbps <= 0.0
        if select.select([0], [], [], None if idle else 0.0)[0]:
            part = os.read(0, 4096)
            if not part:
                return 0
            *lines, buffer = (buffer + part).split(b"\n")
            for line in lines:
                share, gbps = (float(word) for word in line.split())
            if not (math.isfinite(share) and math.isfinite(gbps)):
                return 2
        else:
            owed = turn(share, gbps, copier, owed)


if __name__ == "__main__":
    sys.exit(main())
