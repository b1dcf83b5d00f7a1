"""How a meter lies: window, step, gain; pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F = NDArray[np.float32]


def read_energy(now_w: F, before_w: F, gain: F, *, window_s: float, step_w: float, interval_s: float) -> F:
    """The energy (J) that an averaging meter reports for an interval, from its power (W), any shape.

    A value stands for the window before it, so on average it is one window old: that share of the interval still
    shows the power of the interval before. Every value is a multiple of `step_w`; an interval holds several,
    so its mean is a multiple of `step_w` over their number. `gain` is the meter's own.
    """
    mean = before_w - now_w
    mean *= min(1.0, window_s / interval_s)
    mean += now_w
    mean *= gain
    if step_w <= 0:
        mean *= interval_s
        return mean
    quantum = step_w / max(1, int(interval_s / window_s))
    mean *= 1.0 / quantum
    np.rint(mean, mean)
    mean *= quantum * interval_s
    return mean


def read_temperature(temp_c: F, step_c: float) -> F:
    """A thermal sensor's reading: whole steps, rounded down as the kernel does."""
    if step_c <= 0:
        return temp_c
    whole: F = np.floor(temp_c * (1.0 / step_c)) * step_c
    return whole
