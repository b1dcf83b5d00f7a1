"""Measures a board point by point, and makes a profile's rows of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

import numpy as np

from experiments._journal import Journal, Sample
from hw.errors import Flaky
from hw.profiletable import Key, in_words
from hw.real.board import LinuxBoard
from hw.real.worker import ProcessWorker
from hw.types import BoardSpec, Demand, Knobs, OperatingPoint, Telemetry

BACK_TO_BACK = Demand(
    rate_hz=math.inf, deadline_s=math.inf, accuracy_min=0.0, energy_budget_j=math.inf, goal="max_accuracy"
)
NOTHING = Demand(rate_hz=0.0, deadline_s=math.inf, accuracy_min=0.0, energy_budget_j=math.inf, goal="min_energy")
WARM_S = 30.0  # no first frame takes so long
COOL_K, COOL_S = 5.0, 60.0  # a point begins at most so far above the first one's temperature, or after so long
BUSY_SHARE = 0.4  # of the time, while latency is measured
TRIES = 3  # of a point: throttled, or the worker died


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long a point is measured, each time."""

    frames: int
    least_s: float
    most_s: float  # with two frames at least


def order(points: Sequence[Key], repeats: int, seed: int) -> list[tuple[Key, int]]:
    """Every point once per repeat, in an order drawn anew for each: what drifts touches all points alike."""
    rng = np.random.default_rng(seed)
    return [(points[i], repeat) for repeat in range(repeats) for i in rng.permutation(len(points))]


class _Served(NamedTuple):
    """Frames of a point, one demand long."""

    service_s: tuple[float, ...]
    readings: list[Telemetry]  # of the intervals in which they were served, none of them throttled
    cut: bool  # by throttling


class Sweep:
    """Measures points on a board that was reset."""

    def __init__(self, board: LinuxBoard, worker: ProcessWorker, effort: Effort) -> None:
        self._board, self._worker, self._effort = board, worker, effort
        self._start_c: float | None = None

    def run(self, todo: Sequence[tuple[Key, int]], journal: Journal, on_point: Callable[[Sample], None]) -> None:
        """Measure what the journal does not hold yet.

        Raises what board and worker do, after some tries; Flaky once all else is measured where points throttled each
        time before two frames were served: no profile is without them.
        """
        if self._board.metered:  # what its meter missed is not measured yet
            journal.samples = [sample for sample in journal.samples if sample.energy_j is not None]
        done = {(sample.key, sample.repeat) for sample in journal.samples}
        hot: list[Key] = []
        for key, repeat in todo:
            if (key, repeat) in done:
                continue
            sample = self._tried(key, repeat)
            if sample is None:
                hot.append(key)
                continue
            journal.add(sample)
            on_point(sample)
        if hot:
            raise Flaky(
                f"{len(hot)} of {len(todo)} measurements throttled at once each time, the first of {in_words(hot[0])}; "
                "the others are kept: cool the board better, then the same command goes on"
            )

    def _tried(self, key: Key, repeat: int) -> Sample | None:
        """A sample; None where the board throttled each time before there was one."""
        for left in range(TRIES - 1, -1, -1):
            self._cool(key)
            try:
                sample = self._measure(key, repeat)
            except Flaky:
                if not left:
                    raise
                continue
            if sample is not None:
                return sample
        return None

    def _cool(self, key: Key) -> None:
        """Wait, at the lowest clocks, until the board is about as cool as at the start."""
        if not self._board.spec.thermal_nodes:
            return
        end_s = time.monotonic() + COOL_S
        idle = knobs_of(self._board.spec, (1, key[1], key[2], 0.0))
        while True:
            hottest_c = hottest(self._board.step(idle, NOTHING))
            if hottest_c is None:
                return
            self._start_c = hottest_c if self._start_c is None else self._start_c
            if hottest_c <= self._start_c + COOL_K or time.monotonic() >= end_s:
                return

    def _measure(self, key: Key, repeat: int) -> Sample | None:
        """A sample; None where the board throttled before two frames were served. What it served until then counts.

        Power while frames come back to back, latency while they come on a clock and the cores rest between them: what
        a controller's frames find is a processor that slept and a cache that others used.
        """
        knobs = knobs_of(self._board.spec, key)
        from_s = time.monotonic()
        end_s = from_s + WARM_S
        while not (warm := self._frames(from_s)):
            if time.monotonic() > end_s:
                raise Flaky(f"{in_words(key)}: no frame was served in {WARM_S:.0f} s")
            if self._board.step(knobs, BACK_TO_BACK).throttled:
                return None
        busy = self._served(key, BACK_TO_BACK, replace(self._effort, frames=2), max(s + took for s, took in warm))
        if busy is None:
            return None
        period_s = float(np.median(busy.service_s)) / BUSY_SHARE
        clocked = None if busy.cut else self._clocked(key, period_s)
        if clocked is None:  # hot, or nearly, from the frames back to back
            self._cool(key)
            clocked = self._clocked(key, period_s)
        if clocked is None:
            return None
        known = [t for t in busy.readings if t.energy_j is not None]
        if not known and self._board.metered:
            raise Flaky(f"{in_words(key)}: the power meter gave no energy")
        rails = self._board.spec.rails
        return Sample(
            key=key,
            repeat=repeat,
            service_s=clocked.service_s,
            energy_j={r: sum((t.energy_j or {})[r] for t in known) for r in rails} if known else None,
            seconds=sum(t.interval_s for t in known or busy.readings),
            temp_c=hottest(clocked.readings[-1]),
            cut=busy.cut or clocked.cut,
        )

    def _clocked(self, key: Key, period_s: float) -> _Served | None:
        """What frames take that come one a period."""
        spaced = replace(BACK_TO_BACK, rate_hz=1.0 / period_s)
        return self._served(key, spaced, self._effort, time.monotonic() + period_s)

    def _served(self, key: Key, demand: Demand, effort: Effort, from_s: float) -> _Served | None:
        """What frames took that started at or after `from_s`, until the board throttles; None where that was at once.

        At once: before there were two of them. The interval before may hold the beginning of it, so it counts only
        where there is no other.
        """
        service_s: list[list[float]] = []
        readings: list[Telemetry] = []
        begun_s = time.monotonic()
        while True:
            telemetry = self._board.step(knobs_of(self._board.spec, key), demand)
            count = sum(map(len, service_s))
            if telemetry.throttled:
                if service_s and count - len(service_s[-1]) >= 2:
                    service_s, readings = service_s[:-1], readings[:-1]
                return _Served(tuple(chain(*service_s)), readings, cut=True) if count >= 2 else None
            readings.append(telemetry)
            service_s.append([took for _, took in self._frames(from_s)])
            gone_s, count = time.monotonic() - begun_s, count + len(service_s[-1])
            if (count >= effort.frames and gone_s >= effort.least_s) or (count >= 2 and gone_s >= effort.most_s):
                return _Served(tuple(chain(*service_s)), readings, cut=False)
            if gone_s > effort.most_s + WARM_S:
                raise Flaky(f"{in_words(key)}: {count} frames in {gone_s:.0f} s")

    def _frames(self, from_s: float) -> list[tuple[float, float]]:
        """Start and service time of the frames of the last interval that started at or after `from_s`."""
        started = [(f["arrived_s"] + f["wait_s"], f["service_s"]) for f in self._worker.frames]
        return [(start_s, took_s) for start_s, took_s in started if start_s >= from_s]


def hottest(telemetry: Telemetry) -> float | None:
    """The hottest node's temperature (deg C); None where none is known."""
    return max(telemetry.temp_c.values(), default=None)


def knobs_of(spec: BoardSpec, key: Key) -> Knobs:
    """A point as knobs: its unit's clock as it says, the others at their lowest."""
    rung, unit, cores, freq_hz = key
    freqs_hz = {c.name: c.freqs_hz[0] for c in spec.clocks}
    clock = spec.clock(spec.unit(unit).clock)
    freqs_hz[clock.name] = clock.freqs_hz[clock.nearest(freq_hz)]
    return Knobs(rung=rung, unit=unit, cores=cores, freqs_hz=freqs_hz)


def operating_point(spec: BoardSpec, key: Key, samples: Sequence[Sample]) -> OperatingPoint:
    """All repeats of a point as one row; power is NaN where no repeat has energy."""
    rung, unit, cores, freq_hz = key
    service_s = np.concatenate([sample.service_s for sample in samples])
    metered = [(sample.energy_j, sample.seconds) for sample in samples if sample.energy_j is not None]
    seconds = sum(s for _, s in metered)
    watts = {r: sum(e[r] for e, _ in metered) / seconds if metered else math.nan for r in spec.rails}
    mean_s = float(service_s.mean())
    return OperatingPoint(
        rung=rung,
        unit=unit,
        cores=cores,
        freq_hz=freq_hz,
        latency_mean_s=_rounded(mean_s),
        latency_std_s=_rounded(float(service_s.std(ddof=1)) if len(service_s) > 1 else 0.0),
        # of few uneven frames the 95th percentile may lie below the mean
        latency_p95_s=_rounded(max(mean_s, float(np.percentile(service_s, 95)))),
        power_w=_rounded(watts[unit]),
        rail_power_w={r: _rounded(w) for r, w in watts.items()},
        samples=len(service_s),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
