"""What a step of the simulator gives: one control interval of n boards."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw.simulated.tables import K

F = NDArray[np.float32]


class Interval(NamedTuple):  # quicker to make than a frozen dataclass
    """One control interval of n boards. Counts are whole numbers in float32; NaN is missing."""

    granted: K  # (2 + clocks, n): rung, placement, a frequency index per clock, all from 0
    frames: F  # (n,) arrived
    served: F
    missed: F
    dropped: F
    latency_mean_s: F  # NaN where nothing was served
    latency_p95_s: F
    energy_j: F  # (rails, n) as the meters report it
    temp_c: F  # (n,) as the sensor reports it; minus infinity where the board has none
    utilisation: F  # (units, n) mean over the unit's cores
    peak_utilisation: F  # (units, n) of the busiest core
    throttled: NDArray[np.bool_]
    switched: F  # (3, n) 0 or 1: rung, placement, any frequency
    exact_power_w: F  # (rails, n) mean over the interval; no controller sees it
    exact_temp_c: F  # (n,) at the end
    fan: NDArray[np.uint8]  # (n,) the fan's level
    alone_s: F  # (n,) profile latency of the granted point; everybody who holds the profile knows it
    noise: NDArray[np.uint32]  # (n,) the board's count of it, see `Simulator.accuracy`
