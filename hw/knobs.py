"""What a board can be asked for: the one test of knobs, of every driver and of whoever watches a policy."""

from __future__ import annotations

import math
from numbers import Integral

from hw.errors import Refused
from hw.types import BoardSpec, Knobs


def check_knobs(knobs: Knobs, spec: BoardSpec, rungs: int) -> None:
    """Refused for a rung, unit, core count or clock that this board, or its ladder of so many rungs, does not have.

    A frequency (Hz) need only be a number: a board takes the nearest one that it has.
    """
    if not isinstance(knobs.rung, Integral) or not 1 <= knobs.rung <= rungs:
        raise Refused(f"rung {knobs.rung!r}: this ladder has rungs 1 to {rungs}")
    if not isinstance(knobs.cores, Integral) or (knobs.unit, knobs.cores) not in spec.placements:
        raise Refused(f"{knobs.cores!r} cores of {knobs.unit!r}: {spec.name} has no such placement")
    if set(knobs.freqs_hz) != {clock.name for clock in spec.clocks}:
        raise Refused(f"clocks {sorted(knobs.freqs_hz)}: {spec.name} has {[clock.name for clock in spec.clocks]}")
    for name, freq_hz in knobs.freqs_hz.items():
        if not math.isfinite(freq_hz):
            raise Refused(f"clock {name!r} at {freq_hz!r} Hz: that is no number")
