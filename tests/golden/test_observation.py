"""What a learner sees, entry by entry, worked out by hand: saved policies hang on every one of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from envs.codec import Codec
from hw.types import BoardSpec, Clock, Demand, Knobs, OperatingPoint, Profile, Rung, Telemetry, Unit

SPEC = BoardSpec(
    name="small",
    clocks=(
        Clock(name="cpu", freqs_hz=(0.5e9, 1e9), volts=(0.9, 1.0)),
        Clock(name="gpu", freqs_hz=(0.1e9, 0.2e9, 0.4e9), volts=(0.9, 0.9, 1.0)),
    ),
    units=(Unit(name="cpu", clock="cpu", cores=2), Unit(name="gpu", clock="gpu", cores=1, kind="gpu")),
    rails=("cpu", "gpu", "mem"),
    thermal_nodes=("soc", "gpu"),
)
RUNG_S = {1: 0.01, 2: 0.09}
TIMES = (2.0, 1.0, 0.5, 0.25, 8.0, 4.0, 0.125)  # of the rung's time, by placement and clock; their product is 1
POINTS = [(unit, cores, hz) for unit, cores in SPEC.placements for hz in SPEC.clock(unit).freqs_hz]
# A typical frame takes sqrt(0.01 x 0.09) = 0.03 s. At rest rails draw 0.2 + 0.2 + 0.1 W, and a frame comes every six
# frame times, so it takes (1 W + 6 x 0.5 W) x 0.03 s = 0.12 J.
PROFILE = Profile(
    name="hand",
    board="small",
    kind="modelled",
    rungs=(Rung(index=1, name="half", accuracy=0.6), Rung(index=2, name="full", accuracy=0.7)),
    points=tuple(
        OperatingPoint(
            rung=rung,
            unit=unit,
            cores=cores,
            freq_hz=hz,
            latency_mean_s=RUNG_S[rung] * times,
            latency_std_s=0.0,
            latency_p95_s=RUNG_S[rung] * times,
            power_w=1.0,
            rail_power_w={"cpu": 0.2, "gpu": 0.2, "mem": 0.1, unit: 1.0},
            samples=0,
        )
        for rung in RUNG_S
        for (unit, cores, hz), times in zip(POINTS, TIMES, strict=True)
    ),
)

ON_CPU = Knobs(rung=2, unit="cpu", cores=1, freqs_hz={"cpu": 1e9, "gpu": 0.2e9})  # alone, 0.09 s
BUSY = Telemetry(
    interval_s=0.5,
    asked=ON_CPU,
    granted=ON_CPU,
    frames=10,
    served=8,
    missed=4,
    dropped=2,
    latency_mean_s=0.135,
    latency_p95_s=0.18,
    accuracy=0.75,
    labelled=8,
    confidence=None,
    energy_j={"cpu": 1.0, "gpu": 0.25, "mem": 0.0},
    temp_c={"soc": 65.0, "gpu": 55.0},
    utilisation={"cpu": 0.3, "gpu": 0.1},
    peak_utilisation={"cpu": 0.6, "gpu": 0.2},
    throttled=True,
    switched=False,
    sensor_age_s=0.01,
)
ASKED = Demand(rate_hz=5.0, deadline_s=0.15, accuracy_min=0.7, energy_budget_j=0.24, goal="max_accuracy")
BUSY_SEEN = {
    "rate": math.log(0.15),  # 5 Hz x 0.03 s
    "deadline": math.log(5),  # of 0.03 s
    "frames that fit into it": math.log(0.75),
    "budget": math.log(2),  # of 0.12 J
    "slower than alone": math.log(1.5),
    "p95 of the deadline": math.log(1.2),
    "load": 0.45,  # 0.09 s x 5 Hz
    "mean of the deadline": 0.9,
    "cpu's power": math.log(2) / 2,  # W
    "gpu's power": math.log(0.5) / 2,
    "mem's power": math.log(0.01) / 2,  # the least that is told
    "goal": 1.0,
    "missed": 0.4,
    "dropped": 0.2,
    "served": 1.0,
    "temperature": 0.3,  # 15 K above 50 C, in 50 K
    "throttled": 1.0,
    "rung 1 meets the floor": 0.0,
    "rung 1 is granted": 0.0,
    "rung 2 meets the floor": 1.0,
    "rung 2 is granted": 1.0,
    "on the cpu": 1.0,
    "on the gpu": 0.0,
    "share of its cores": 0.5,
    "cpu's clock": 1.0,
    "gpu's clock": 0.5,
    "cpu's utilisation": 0.3,
    "cpu's peak": 0.6,
    "gpu's utilisation": 0.1,
    "gpu's peak": 0.2,
}

ON_GPU = Knobs(rung=1, unit="gpu", cores=1, freqs_hz={"cpu": 0.5e9, "gpu": 0.4e9})  # alone, 1.25 ms
IDLE = replace(
    BUSY,
    granted=ON_GPU,
    frames=0,
    served=0,
    missed=0,
    dropped=0,
    latency_mean_s=None,
    latency_p95_s=None,
    accuracy=None,
    labelled=0,
    energy_j=None,
    temp_c={"soc": 20.0, "gpu": 15.0},
    throttled=False,
    sensor_age_s=None,
)
RUSHED = Demand(rate_hz=2000.0, deadline_s=0.25e-3, accuracy_min=0.8, energy_budget_j=0.06, goal="min_energy")
IDLE_SEEN = BUSY_SEEN | {
    "rate": 4.0,  # the most that is told, as log(60) is more
    "deadline": -4.0,  # log(1/120)
    "frames that fit into it": math.log(0.5),
    "budget": math.log(0.5),
    "slower than alone": 0.0,
    "p95 of the deadline": math.log(5),  # as if alone
    "load": 2.5,
    "mean of the deadline": 3.0,  # cut, from 5
    "cpu's power": 0.0,
    "gpu's power": 0.0,
    "mem's power": 0.0,
    "goal": 0.0,
    "missed": 0.0,
    "dropped": 0.0,
    "served": 0.0,
    "temperature": -0.6,
    "throttled": 0.0,
    "rung 1 is granted": 1.0,
    "rung 2 meets the floor": 0.0,
    "rung 2 is granted": 0.0,
    "on the cpu": 0.0,
    "on the gpu": 1.0,
    "share of its cores": 1.0,
    "cpu's clock": 0.0,
    "gpu's clock": 1.0,
}


def check(telemetry: Telemetry, demand: Demand, seen: Mapping[str, float], spec: BoardSpec = SPEC) -> None:
    found = Codec(spec, PROFILE).observe(telemetry, demand)
    assert found.dtype == np.float32
    assert dict(zip(seen, found.tolist(), strict=True)) == pytest.approx(seen, abs=1e-6)


def test_an_interval_with_frames() -> None:
    check(BUSY, ASKED, BUSY_SEEN)


def test_an_interval_without_frames_or_meter() -> None:
    check(IDLE, RUSHED, IDLE_SEEN)


def test_frames_that_all_were_dropped() -> None:
    none = replace(IDLE, frames=3, missed=3, dropped=3, energy_j={"cpu": 2000.0, "gpu": 0.5, "mem": 0.5})
    most = math.log(2980) / 2
    check(none, RUSHED, IDLE_SEEN | {"missed": 1.0, "dropped": 1.0, "cpu's power": most})


def test_a_board_without_a_thermometer() -> None:
    check(replace(BUSY, temp_c={}), ASKED, BUSY_SEEN | {"temperature": 0.0}, replace(SPEC, thermal_nodes=()))
