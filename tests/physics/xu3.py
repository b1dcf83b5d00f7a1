"""Simulated XU3 boards by hand: what the tests of its physics share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hw.boardfile import load_board
from hw.profile import open_profile
from hw.simulated.simulator import Simulator

MODEL = load_board("xu3")
SPEC = MODEL.spec
PROFILE = open_profile(SPEC, None)
N = 64


def seeded(seed: int, n: int = N) -> Simulator:
    simulator = Simulator(MODEL, PROFILE, n)
    simulator.reset(range(n), seeds=range(seed, seed + n))
    return simulator


def knobs_of(rung: int, unit: str, cores: int, a7_hz: float, a15_hz: float, n: int = 1) -> npt.NDArray[np.intp]:
    place = SPEC.placements.index((unit, cores))
    steps = SPEC.clock("a7").nearest(a7_hz), SPEC.clock("a15").nearest(a15_hz)
    return np.repeat(np.array([[rung - 1], [place], *([s] for s in steps)], np.intp), n, axis=1)
