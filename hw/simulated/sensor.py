"""How a meter lies: window, step, gain; how far its energies are off; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class EnergyError:
    """Standard errors (J) of one interval's energy as a meter reports it, by cause."""

    lag_j: float  # goes over into the next interval: over many it stays what it is for one
    rounding_j: float  # random: over k intervals it grows with their root
    gain_j: float  # systematic: the same share of every reading of this meter, whatever is integrated

    @property
    def total_j(self) -> float:
        """All three together: the root of the sum of their squares."""
        return math.hypot(self.lag_j, self.rounding_j, self.gain_j)


def energy_error(
    power_w: float, change_w: float, *, window_s: float, step_w: float, gain_std: float, interval_s: float
) -> EnergyError:
    """How far (J) the energy of an interval at a mean of `power_w` may be off, after a change by `change_w`.

    `change_w` is how much more or less (W) the interval before drew, or the standard deviation of that; 0 at rest.

    - Lag: a value is one window old on average (see `read_energy`), so that much time still shows the power before:
      `window |change|`. What one interval lacks, the next one has; a sum keeps the lag of its two ends alone.
    - Rounding: a value is off by anything up to half a step, standard deviation `step / sqrt(12)`, and an interval
      averages as many values as windows fit in: `interval step / sqrt(12 values)`. That takes each value's rounding
      for independent, as it is where power moves by a step or more between values. At a perfectly steady power all
      values round alike: up to half a step then, and no average helps.
    - Gain: `gain_std` of the energy, the same sign and share for ever. Only a comparison with another meter tells
      it; between two energies of the same meter it cancels (take 0 for it).

    For an interval shorter than the window, readings repeat: the rounding is then what a sum of them will show.
    """
    values = interval_s / window_s
    values = math.floor(values) if values > 1.0 else values
    return EnergyError(
        lag_j=min(window_s, interval_s) * abs(change_w),
        rounding_j=interval_s * step_w / math.sqrt(12.0 * values),
        gain_j=gain_std * abs(power_w) * interval_s,
    )


def rails_error_j(
    energy_j: Mapping[str, float],
    before_j: Mapping[str, float],
    *,
    window_s: float,
    step_w: float,
    gain_std: float,
    interval_s: float,
) -> float:
    """Standard error (J) of an interval's energy over all rails, whose meters err independently (see `energy_error`).

    `before_j` is what they reported for the interval before.
    """
    errors = [
        energy_error(
            joules / interval_s,
            (joules - before_j[rail]) / interval_s,
            window_s=window_s,
            step_w=step_w,
            gain_std=gain_std,
            interval_s=interval_s,
        ).total_j
        for rail, joules in energy_j.items()
    ]
    return math.hypot(*errors)


def read_energy(now_w: F, before_w: F, gain: F | None, *, window_s: float, step_w: float, interval_s: float) -> F:
    """The energy (J) that an averaging meter reports for an interval, from its power (W), any shape.

    A value stands for the window before it, so on average it is one window old: that share of the interval still
    shows the power of the interval before. Every value is a multiple of `step_w`; an interval holds several,
    so its mean is a multiple of `step_w` over their number. `gain` is the meter's own; None: 1.
    """
    mean = before_w - now_w
    mean *= min(1.0, window_s / interval_s)
    mean += now_w
    if gain is not None:
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
    whole: F = np.floor(temp_c * (1.0 / step_c))
    whole *= step_c
    return whole
