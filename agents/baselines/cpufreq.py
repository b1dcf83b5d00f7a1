"""The rules of Linux's cpufreq governors, for one clock each.

A governor looks at its clusters' load every 10 to 20 ms; a control interval holds dozens of such samples. So
a decision here is where a governor's sampling *settles* over one interval: its rule is applied as often as
the kernel would sample, each time with the load predicted for the frequency just chosen (the same work per
second: load x old / new frequency).

What this leaves out: a frame that lasts longer than a sample reads as 100 % while it is served and the pause
after it as 0 %, so a real ondemand serves such frames near the top speed and idles near the lowest. Here an
interval has one frequency and a governor settles at the mean load: it burns less and misses more than on a
board. `performance` bounds what that hides: no governor serves a frame faster. And the load is the last interval's:
new work is served for half a second on the old work's clock, the first of a flight on the lowest; a kernel sees it
within a sample or two.

Rules and defaults: the kernel's drivers/cpufreq/cpufreq_{ondemand,conservative}.c and
kernel/sched/cpufreq_schedutil.c, mainline, tickless, HZ=100; cpufreq_interactive.c of the XU3's vendor kernel 3.10.
"""

from __future__ import annotations

import math
from typing import Protocol

from hw.types import Clock

SAMPLING_S = 0.02  # two ticks at HZ=100
PELT_HALF_LIFE_S = 0.032  # of the scheduler's utilisation average


class Rule(Protocol):
    """A governor's rule for one clock."""

    def __init__(self, clock: Clock, interval_s: float) -> None: ...

    def settle(self, freq_hz: float, load: float) -> int:
        """Index of the frequency for the next interval.

        `freq_hz` was granted in the last one, in which the busiest CPU had `load` (1 is all of it; above 1:
        what it would have needed; infinite: saturated at any speed for all one knows).
        """
        ...


class Performance:
    """The highest frequency."""

    def __init__(self, clock: Clock, interval_s: float) -> None:
        self._clock = clock

    def settle(self, freq_hz: float, load: float) -> int:
        """Index of the highest frequency."""
        return len(self._clock.freqs_hz) - 1


class Powersave:
    """The lowest frequency."""

    def __init__(self, clock: Clock, interval_s: float) -> None:
        pass

    def settle(self, freq_hz: float, load: float) -> int:
        """Index of the lowest frequency."""
        return 0


class Ondemand:
    """Above the threshold the highest frequency, else one in proportion to load.

    95 is the default threshold with micro accounting (a tickless kernel); below it
    f = fmin + load (fmax - fmin), the nearest entry of the table (RELATION_C).
    """

    UP = 95  # percent

    def __init__(self, clock: Clock, interval_s: float) -> None:
        self._clock = clock
        self._samples = _samples(interval_s)

    def sample(self, load: float) -> int:
        """One application of the rule to a load (0..1): index of the frequency it sets."""
        percent = _percent(load)
        if percent > self.UP:
            return len(self._clock.freqs_hz) - 1
        low, high = self._clock.freqs_hz[0], self._clock.freqs_hz[-1]
        return self._clock.nearest(low + percent * (high - low) / 100)

    def settle(self, freq_hz: float, load: float) -> int:
        """Where sampling ends; where it ends in a cycle, the frequency nearest to the cycle's mean."""
        freqs = self._clock.freqs_hz
        chosen: list[int] = []
        for _ in range(self._samples):
            now = freqs[chosen[-1]] if chosen else freq_hz
            index = self.sample(predicted_load(load, freq_hz, now))
            if index in chosen:
                cycle = chosen[chosen.index(index) :]
                return self._clock.nearest(sum(freqs[i] for i in cycle) / len(cycle))
            chosen.append(index)
        return chosen[-1]


class Conservative:
    """A step of 5 % of the highest frequency up above 80 % load, down below 20 %.

    A step up takes the highest entry not above what is requested (RELATION_H), a step down the lowest not
    below (RELATION_L); the request is kept between samples, so steps smaller than the table's add up.
    """

    UP, DOWN = 80, 20  # percent
    STEP = 0.05  # of the highest frequency

    def __init__(self, clock: Clock, interval_s: float) -> None:
        self._clock = clock
        self._samples = _samples(interval_s)
        self._step_hz = self.STEP * clock.max_hz
        self._requested_hz = clock.freqs_hz[0]
        self._index = 0

    def settle(self, freq_hz: float, load: float) -> int:
        """Steps until the predicted load lies between the thresholds, at most one per sample."""
        freqs = self._clock.freqs_hz
        if freq_hz != freqs[self._index]:  # throttled, or somebody else set it: the request follows
            self._requested_hz, self._index = freq_hz, self._clock.nearest(freq_hz)
        for _ in range(self._samples):
            percent = _percent(predicted_load(load, freq_hz, freqs[self._index]))
            if percent > self.UP and self._requested_hz < freqs[-1]:
                self._requested_hz = min(self._requested_hz + self._step_hz, freqs[-1])
                self._index = _at_most(self._clock, self._requested_hz)
            elif percent < self.DOWN and self._requested_hz > freqs[0]:
                self._requested_hz = max(self._requested_hz - self._step_hz, freqs[0])
                self._index = self._clock.at_least(self._requested_hz)
            else:
                break
        return self._index


class Schedutil:
    """f = 1.25 fmax util / capacity, frequency-invariant: the lowest entry not below.

    `util / capacity` is load x f / fmax, so in the steady state f = 1.25 x load x the frequency it was
    measured at. Utilisation is an average with a half-life of 32 ms: under full load u' = (f / fmax - u) ln 2
    / 32 ms with f = 1.25 fmax u, so the frequency grows at most by exp(0.25 ln 2 / 32 ms x interval): 15-fold
    in 0.5 s.

    The L4T kernel of the Jetson Nano (4.9) has a schedutil of its own: the same 1.25 (a margin of 256 / 1024), at
    most one step up in 500 us and one down in 2000 us, and the larger of two averages. Its limits end long before
    an interval does, so it settles where this one does; over the Nano's 14-fold range the bound on growth is not
    felt either.
    """

    HEADROOM = 1.25

    def __init__(self, clock: Clock, interval_s: float) -> None:
        self._clock = clock
        self._growth = math.exp((self.HEADROOM - 1) * math.log(2) / PELT_HALF_LIFE_S * interval_s)

    def settle(self, freq_hz: float, load: float) -> int:
        """Index of the frequency at which utilisation has settled, or how far it got in one interval."""
        return self._clock.at_least(min(self.HEADROOM * load, self._growth) * freq_hz)


class Interactive:
    """Above 99 % load the highest frequency, else the lowest at which the load is at most 90 %.

    Android's governor, the default on some images of the XU3's vendor kernel: `go_hispeed_load` 99, `hispeed_freq` the
    highest, `target_loads` 90. It goes down only after 80 ms, and up beyond `hispeed_freq` after 20 ms: both end long
    before an interval does.
    """

    HISPEED, TARGET = 99, 90  # percent

    def __init__(self, clock: Clock, interval_s: float) -> None:
        self._clock = clock
        self._samples = _samples(interval_s)

    def settle(self, freq_hz: float, load: float) -> int:
        """Index of the frequency at which the rule stays, or that it reaches in an interval."""
        index = self._clock.nearest(freq_hz)
        for _ in range(self._samples):
            now_hz = self._clock.freqs_hz[index]
            share = predicted_load(load, freq_hz, now_hz)
            if _percent(share) >= self.HISPEED:
                index = len(self._clock.freqs_hz) - 1
            else:
                index = self._clock.at_least(100 * share * now_hz / self.TARGET)
        return index


RULES: dict[str, type[Rule]] = {
    "performance": Performance,
    "powersave": Powersave,
    "ondemand": Ondemand,
    "conservative": Conservative,
    "schedutil": Schedutil,
    "interactive": Interactive,
}


def _samples(interval_s: float) -> int:
    return max(1, round(interval_s / SAMPLING_S))


def predicted_load(load: float, measured_hz: float, freq_hz: float) -> float:
    """The load (0..1) that the work of `load` at `measured_hz` is at `freq_hz`."""
    return min(1.0, load * measured_hz / freq_hz)


def _percent(load: float) -> int:
    """The kernel counts load in whole percent, rounded down (epsilon: 0.29 x 100 is 28.999...)."""
    return int(100 * load + 1e-9)


def _at_most(clock: Clock, freq_hz: float) -> int:
    """Index of the highest frequency that is not above `freq_hz`; the lowest where none is (RELATION_H)."""
    return max((i for i, f in enumerate(clock.freqs_hz) if f <= freq_hz * (1 + 1e-9)), default=0)
