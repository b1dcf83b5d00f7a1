"""A measured profile of this machine that nobody measured, for tests that fly it."""

from __future__ import annotations

import math
from pathlib import Path

from hw.boardfile import load_board
from hw.profiletable import grid
from hw.types import OperatingPoint, Profile, Rung


def profile_of(board: str, spec_file: Path, power: str) -> Profile:
    """Two rungs, the same everywhere; `power` as the provenance of a measured profile says it."""
    spec = load_board(spec_file).spec
    watts = math.nan if power == "missing" else 1.0
    points = tuple(
        OperatingPoint(
            rung=rung,
            unit=unit,
            cores=cores,
            freq_hz=freq_hz,
            latency_mean_s=0.01,
            latency_std_s=0.0,
            latency_p95_s=0.01,
            power_w=watts,
            rail_power_w=dict.fromkeys(spec.rails, watts),
            samples=5,
        )
        for rung, unit, cores, freq_hz in grid(spec, 2)
    )
    told = {"how": "a test", "when": "now", "sensor_rate_hz": 0.0, "accuracy_source": "nobody", "power": power}
    rungs = tuple(Rung(index=k, name=str(k), accuracy=0.5) for k in (1, 2))
    return Profile(name="x", board=board, kind="measured", rungs=rungs, points=points, provenance=told)
