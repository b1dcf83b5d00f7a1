"""The frequency governors of Linux for a GPU's clock; they settle over an interval as those in `cpufreq.py` do.

Both look at the share of time in which the GPU was busy. A real one looks every few milliseconds, so that a single
frame reads as 100 % and sends the clock up for as long as it lasts; here an interval has one mean share.

Rules and defaults: drivers/devfreq/governor_pod_scaling.c of NVIDIA's L4T kernel 4.9 in the Jetson Nano's version,
which averages cycles (one up to 2017 averages the idle share), without the history of highs that a build may switch
on; and drivers/devfreq/governor_simpleondemand.c, mainline. NVIDIA's GPU driver polls every 25 ms.
"""

from __future__ import annotations

from agents.baselines.cpufreq import Rule, predicted_load
from hw.types import Clock

POLL_S = 0.025  # how often both look at the GPU's counters


class Podgov:
    """NVIDIA's governor of the Jetson Nano: a proportional step towards 70 % load, a leap where it is above 90 %.

    In integers, as the kernel: Hz, per mille of time, MHz. At every poll the cycles (busy share x frequency) enter a
    running mean, of which 10 of 11 parts stay; over the frequency it is the load. Above 900 busy at this poll alone: up
    by a third of the highest frequency. Else `boost = 80 f (load - 700) / (100 x 700)`, at most that third, and the
    request f + boost is damped: 7 parts of 10, with 3 parts of the requests' own running mean. The clock takes the
    table's lowest entry not below; after a change nothing is decided for 50 ms.
    """

    LOAD_MAX, LOAD_TARGET = 900, 700  # per mille
    BIAS, SMOOTH, DAMP = 80, 10, 7
    BLOCKED = 2  # polls, 50 ms

    def __init__(self, clock: Clock, interval_s: float) -> None:
        self._clock = clock
        self._polls = max(1, round(interval_s / POLL_S))
        self._cycles_mean = 0  # Hz
        self._request_mean = 0  # MHz
        self._since = self.BLOCKED  # polls since the clock changed

    def settle(self, freq_hz: float, load: float) -> int:
        """Index of the frequency after the interval's polls; the two running means stay for the next one."""
        index = self._clock.nearest(freq_hz)
        for _ in range(self._polls):
            now_hz = self._clock.freqs_hz[index]
            share = predicted_load(load, freq_hz, now_hz)
            self._cycles_mean = (self.SMOOTH * self._cycles_mean + int(share * now_hz)) // (self.SMOOTH + 1)
            self._since += 1
            if self._since >= self.BLOCKED:
                to = self._clock.at_least(self._request(now_hz, share) * 1e6)
                if to != index:
                    index, self._since = to, 0
        return index

    def _request(self, freq_hz: float, share: float) -> int:
        """The frequency asked for, in MHz."""
        mhz = int(freq_hz / 1e6)
        leap = int(self._clock.max_hz / 3 / 1e6)
        damp = self.DAMP
        if int(1000 * share + 1e-9) > self.LOAD_MAX:
            boost, damp = leap, 10
        else:
            over = 1000 * self._cycles_mean // int(freq_hz) - self.LOAD_TARGET
            # C rounds quotients towards zero
            boost = min(int(over * self.BIAS * mhz / (100 * self.LOAD_TARGET)), leap)
        request = mhz + boost
        self._request_mean = (self.SMOOTH * self._request_mean + request) // (self.SMOOTH + 1)
        return (damp * request + (10 - damp) * self._request_mean) // 10


class SimpleOndemand:
    """devfreq's default: above 90 % busy the highest frequency, above 85 % the same, else one that makes it 88 %."""

    UP, DIFFERENTIAL = 90, 5  # percent

    def __init__(self, clock: Clock, interval_s: float) -> None:
        self._clock = clock
        self._polls = max(1, round(interval_s / POLL_S))

    def settle(self, freq_hz: float, load: float) -> int:
        """Index of the frequency at which the rule stays, or that it reaches in an interval."""
        index = self._clock.nearest(freq_hz)
        for _ in range(self._polls):
            now_hz = self._clock.freqs_hz[index]
            busy = 100 * predicted_load(load, freq_hz, now_hz)
            if busy > self.UP:
                index = len(self._clock.freqs_hz) - 1
            elif busy <= self.UP - self.DIFFERENTIAL:
                index = self._clock.at_least(busy * now_hz / (self.UP - self.DIFFERENTIAL // 2))
        return index


GPU_RULES: dict[str, type[Rule]] = {"podgov": Podgov, "simple_ondemand": SimpleOndemand}
