"""A policy in flight does not go unwatched: what no interval may measure, and who takes over when one did.

Leans on `hw` alone: it flies.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from hw.errors import PowerbandError, Refused
from hw.knobs import check_knobs
from hw.types import BoardSpec, Demand, Knobs, Profile, Telemetry

if TYPE_CHECKING:
    from agents.policy import Policy

MISSED_INTERVALS = 60  # half a minute; a demand that no policy can meet passes sooner
BLIND_INTERVALS = 2  # one reading may be lost to a busy bus
HOT_C = 90.0  # an XU3, throttled at 85, passes that by 3 K in flights that are in order
HOT_UNKNOWN_C = 95.0  # of a board whose file has no trip point
ABOVE_TRIP_K = 1.0  # a step of the sensor; a Nano throttles at 100.5 and is switched off at 102


class Fault(PowerbandError):
    """Something because of which a flight ends; the text is the reason, in a line."""


def hot_limit_c(trips_c: Iterable[float]) -> float:
    """The temperature (deg C) at which a flight ends, from the trip points at which the board's file throttles it."""
    highest_c = max(trips_c, default=None)
    return HOT_UNKNOWN_C if highest_c is None else max(HOT_C, highest_c + ABOVE_TRIP_K)


class Watch:
    """Looks at every interval's telemetry."""

    def __init__(self, hot_c: float) -> None:
        """`hot_c`: temperature (deg C) of any node from which on nobody should fly; see `hot_limit_c`."""
        self._hot_c = hot_c
        self._metered = self._forgiven = self._meterless = False
        self._missed = self._blind = 0

    def look(self, t: Telemetry) -> str | None:
        """Why this policy should not fly on; None where all is well. Raises Fault where nobody should: it is hot."""
        for node, temp_c in t.temp_c.items():
            if temp_c >= self._hot_c:
                raise Fault(f"{node} is at {temp_c:g} C, the limit is {self._hot_c:g} C")
        if not all(map(math.isfinite, _numbers(t))):
            return "telemetry holds what is no number"
        # where there is a meter its readings have an age, also when it was dead from the start
        self._metered = self._metered or t.energy_j is not None or (t.sensor_age_s is not None and not self._forgiven)
        self._blind = self._blind + 1 if self._metered and not self._meterless and t.energy_j is None else 0
        if t.frames:
            self._missed = self._missed + 1 if t.missed == t.frames else 0
        if self._blind >= BLIND_INTERVALS:
            return f"the power meter is dead or frozen: no energy for {self._blind} intervals"
        if self._missed >= MISSED_INTERVALS:
            return f"every frame of {self._missed} intervals was missed"
        return None

    def forgive(self) -> None:
        """Another policy begins: misses were not its own, and it flies without the meter that failed, come what may."""
        self._meterless = self._meterless or self._blind >= BLIND_INTERVALS
        self._missed = self._blind = 0
        self._metered, self._forgiven = False, True


class Pilot:
    """Flies one policy under watch, and another one once the first cannot go on."""

    def __init__(
        self,
        policy: Policy,
        watch: Watch,
        *,
        fallback: Policy | None = None,
        on_interval: Callable[[], None] = lambda: None,
        on_handover: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """`on_interval` is called first in every interval, `on_handover` with the reason when `fallback` takes over."""
        self._policy, self._watch, self._fallback = policy, watch, fallback
        self._on_interval, self._on_handover = on_interval, on_handover
        self.decided_s = 0.0  # time that the last decision took, on the wall

    def reset(self, spec: BoardSpec, profile: Profile) -> None:
        """Start a flight; raises as both policies do."""
        self._spec, self._rungs = spec, len(profile.rungs)
        self._policy.reset(spec, profile)
        if self._fallback is not None:
            self._fallback.reset(spec, profile)

    def act(self, telemetry: Telemetry, demand: Demand) -> Knobs:
        """As the policy in charge does. Raises Fault where there is none left to fly, or none should."""
        began_s = time.perf_counter()
        self._on_interval()
        if reason := self._watch.look(telemetry):
            self._hand_over(reason)  # whoever takes over is not asked about this telemetry again
        while isinstance(found := _ask(self._policy, telemetry, demand, self._spec, self._rungs), str):
            self._hand_over(found)
        self.decided_s = time.perf_counter() - began_s
        return found

    def _hand_over(self, reason: str) -> None:
        """The fallback takes charge; Fault where there is none."""
        if self._fallback is None:
            raise Fault(reason)
        self._on_handover(reason)
        self._policy, self._fallback = self._fallback, None
        self._watch.forgive()


class Shadow:
    """One policy acts, another one only says what it would do."""

    def __init__(self, policy: Policy, acting: Policy) -> None:
        self._policy, self._acting = policy, acting
        self.would: Knobs | None = None  # of the interval that was decided last; None: nothing that can be had
        self.trouble = ""  # why

    def reset(self, spec: BoardSpec, profile: Profile) -> None:
        """Start a flight; raises as both policies do."""
        self._spec, self._rungs = spec, len(profile.rungs)
        self._policy.reset(spec, profile)
        self._acting.reset(spec, profile)

    def act(self, telemetry: Telemetry, demand: Demand) -> Knobs:
        """What the acting one does."""
        found = _ask(self._policy, telemetry, demand, self._spec, self._rungs)
        self.would, self.trouble = (None, found) if isinstance(found, str) else (found, "")
        return self._acting.act(telemetry, demand)


def _ask(policy: Policy, telemetry: Telemetry, demand: Demand, spec: BoardSpec, rungs: int) -> Knobs | str:
    """What a policy wants, or why that cannot be had."""
    try:
        knobs = policy.act(telemetry, demand)
        check_knobs(knobs, spec, rungs)
    except Refused as error:
        return f"the policy asks for what cannot be: {error}"
    except Exception as error:  # whatever it is: the board must not be left to a policy that fails
        return f"the policy failed: {type(error).__name__}: {error}"
    return knobs


def _numbers(t: Telemetry) -> Iterator[float]:
    per_name = (t.temp_c, t.utilisation, t.peak_utilisation, t.energy_j or {})
    alone = (t.latency_mean_s, t.latency_p95_s, t.accuracy, t.confidence, t.sensor_age_s)
    return chain(*(found.values() for found in per_name), (x for x in alone if x is not None))
