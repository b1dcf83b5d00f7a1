"""What a Linux board is given beside its files: who serves frames, who makes load, who says what time it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Protocol

from hw.types import Demand, Load


@dataclass(frozen=True, kw_only=True)
class Served:
    """What a worker did with the frames that arrived in one interval; `None` is missing.

    `served + dropped == frames` and `dropped <= missed <= frames`.
    """

    frames: int  # arrived
    served: int
    missed: int  # late or dropped
    dropped: int  # never started
    latency_mean_s: float | None  # of the served frames, from arrival to result
    latency_p95_s: float | None
    labelled: int  # served frames whose right answer is known
    right: int  # of those
    confidence: float | None  # mean top-1 probability of the network, 0..1


class Worker(Protocol):
    """Serves the frames: frames arrive on the demand's clock, first in first out, a backlog carries over.

    A frame that cannot start before its deadline is dropped and counts as missed.
    """

    def set(self, rung: int, cpus: Sequence[int], threads: int) -> None:
        """From the next frame on: this rung (1 is the smallest), on these CPUs (none: a GPU), with so many threads.

        Raises Refused where the worker has no such rung or may not run there, Flaky where it died.
        """
        ...

    def serve(self, demand: Demand, seconds: float) -> Served:
        """Let it serve for `seconds`; returns when they are over. Raises Flaky where it died or hangs."""
        ...

    def pause(self) -> None:
        """No frames arrive until it is to serve again; those of before count nowhere. Raises Flaky where it died."""
        ...

    def close(self) -> None:
        """End it; twice is fine."""
        ...


class LoadGenerator(Protocol):
    """Makes background load; whoever closes it finds no process left."""

    def prepare(self, loads: Iterable[Load]) -> None:
        """Start, idle, what these will need and takes longer to start than an interval. Raises as `set`."""
        ...

    def set(self, load: Load) -> None:
        """From now on this load and no other. Raises Refused where the machine cannot make it."""
        ...

    def close(self) -> None:
        """End every load; twice is fine."""
        ...


class TimeSource(Protocol):
    """What time it is for a board: the machine's clock, or an emulated one that a simulator moves."""

    def now_s(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let the board's time pass; for the thread that flies the board."""
        ...

    def wait(self, seconds: float, stop: Event) -> bool:
        """Let the board's time pass, for any other thread; True as soon as `stop` is set."""
        ...
