"""How boards of one model differ: in voltage, leakage, heat, pace, and the gain of their meters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw.boardmodel import BoardModel
from hw.simulated import noise

F = NDArray[np.float32]


class Factors(NamedTuple):
    """What n boards have in place of their model's figures; each is a factor, 1 for the nominal board."""

    power: F  # (1 + units, n): of V^2, and of each unit's leakage
    heat: F  # (n,) of the thermal resistances
    pace: F  # (n,) of every service time
    gain: F  # (rails, n) of the meters


def nominal(model: BoardModel, n: int) -> Factors:
    """n boards just as their model says."""

    def ones(*size: int) -> F:
        return np.ones((*size, n), np.float32)

    return Factors(ones(1 + len(model.units)), ones(), ones(), ones(len(model.spec.rails)))


def drawn(model: BoardModel, counts: NDArray[np.uint32]) -> Factors:
    """As many other boards of the model as there are counts of noise (n,): the same count, the same board.

    Spreads are the board file's `[variation]` and its meters' `gain_std`. Voltage is drawn evenly between two ends,
    the gain from a normal distribution, everything else from log-normal ones.
    """
    spread = model.variation
    draws = noise.mixed(np.arange(1, 5 + len(model.spec.rails), dtype=np.uint32))  # as many kinds of noise
    bits = noise.mixed(counts ^ draws[:, None])
    volts = spread.volts_low + noise.uniform(bits[0]) * (spread.volts_high - spread.volts_low)
    deviations = np.array([[spread.leak_std], [spread.heat_std], [spread.latency_std]], np.float32)
    leakage, heat, pace = np.exp(deviations * noise.normal(bits[1:4]))
    # its exponent grows by so much per share that the voltage is higher
    leak_per_v = [[u.leak_per_v * max(model.spec.clock(u.clock).volts)] for u in model.units]
    leakage = volts * leakage * np.exp(np.array(leak_per_v, np.float32) * (volts - 1))
    gain = 1 + np.float32(model.sensor.gain_std) * noise.normal(bits[4:])
    return Factors(np.concatenate([[volts * volts], leakage]), heat, pace, gain)
