"""Energy per rail since the last call, whatever the source: sampled in a thread, and missing where it is not known."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from hw.boardmodel import RealModel
from hw.errors import BoardError, Missing
from hw.real.interfaces import TimeSource
from hw.real.sources import INA231, INA3221, RAPL, Source
from hw.real.sysfs import Sysfs

COVERED = 0.9  # of an interval: with less of it sampled, its energy is not known
FROZEN_S = 5.0  # not a digit of any rail moved for so long: no powered board is that still


def find_source(sysfs: Sysfs, real: RealModel) -> Source | None:
    """The source that a board file names; None where it names none or it is not there (an XU4 has no INA231)."""
    try:
        if real.meter == "ina231":
            return INA231(sysfs, real.rails)
        if real.meter == "ina3221":
            return INA3221(sysfs, real.rails, real.total_rail)
        if real.meter == "rapl":
            return RAPL(sysfs, real.rails)
    except Missing:
        return None
    return None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the meter counted since the last call."""

    energy_j: Mapping[str, float] | None  # per rail; None: no meter, or too few good samples, or frozen
    age_s: float | None  # since the power was what the last value says: its window and the time gone by


class Meter:
    """Integrates a source in a thread of its own, one sample per window, from `start` to `close`.

    A sample that fails leaves a gap, which the next good one fills where it is short; see `COVERED`.
    """

    def __init__(self, source: Source | None, time: TimeSource) -> None:
        """`source`: None is a machine without a meter: everything is missing, nothing is zero."""
        self.source, self._time = source, time
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._energy_j: dict[str, float] = {}
        self._covered_s = 0.0
        self._sampled_s = self._moved_s = self._taken_s = time.now_s()
        self._digits: tuple[float, ...] = ()
        self.trouble: str | None = None  # of the last sample

    def start(self) -> None:
        """Switch the source on and begin. Raises Refused or Missing where it cannot be switched on."""
        if self.source is None or self._thread is not None:
            return
        self.source.start()
        self._sampled_s = self._moved_s = self._taken_s = self._time.now_s()
        self._thread = threading.Thread(target=self._run, name="meter", daemon=True)
        self._thread.start()

    def take(self) -> Reading:
        """Energy since the last call, up to now."""
        if self.source is None:
            return Reading(energy_j=None, age_s=None)
        with self._lock:
            self._sample()
            now_s = self._time.now_s()
            elapsed_s, covered_s = now_s - self._taken_s, self._covered_s
            energy_j, self._energy_j = self._energy_j, {}
            self._taken_s, self._covered_s = now_s, 0.0
            still_s = now_s - self._moved_s
            frozen = still_s > FROZEN_S
            age_s = self.source.window_s + (still_s if frozen else now_s - self._sampled_s)
            if frozen:
                self.trouble = f"{self.source.where}: the same digits for {still_s:.1f} s"
        if frozen or elapsed_s <= 0 or covered_s < COVERED * elapsed_s:
            return Reading(energy_j=None, age_s=age_s)
        return Reading(energy_j={r: j * elapsed_s / covered_s for r, j in energy_j.items()}, age_s=age_s)

    def close(self) -> None:
        """End the thread; twice is fine."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        assert self.source is not None  # start has seen to it
        while not self._time.wait(self.source.window_s, self._stop):
            with self._lock:
                self._sample()

    def _sample(self) -> None:
        """One sample; the caller holds the lock."""
        assert self.source is not None
        now_s = self._time.now_s()
        since_s = now_s - self._sampled_s
        # a power value says nothing of a long gap before it: it stands for what it averaged and a little more
        stands_s = since_s if self.source.counts else min(since_s, 4 * self.source.window_s)
        try:
            energy_j = self.source.joules(stands_s)
        except BoardError as error:
            self.trouble = str(error)
            if self.source.counts and self._digits and self.source.digits() != self._digits:
                self._sampled_s = now_s  # its counter began anew, and nothing later tells of the time before
            return
        self.trouble = None
        for rail, joules in energy_j.items():
            self._energy_j[rail] = self._energy_j.get(rail, 0.0) + joules
        self._covered_s += stands_s
        self._sampled_s = now_s
        if self.source.digits() != self._digits:
            self._digits, self._moved_s = self.source.digits(), now_s
