"""Every controller by its name: legal knobs on a board of any shape, and on the simulated XU3."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.baselines.governors import demanded_load
from agents.policy import Policy, Privileged, make_policy, policy_names
from agents.runtime import control
from envs.families import generate
from envs.reward import RewardWeights
from envs.scenario import Scenario
from hw.catalog import open_board
from hw.errors import InputError
from hw.simulated.board import SimBoard
from hw.types import BoardSpec, Clock, Demand, Knobs, OperatingPoint, Profile, Rung, Telemetry, Unit

Indices = NDArray[np.intp]

# One CPU cluster of two cores and a GPU, two rungs: nothing about the XU3 may be taken for granted.
SPEC = BoardSpec(
    name="small",
    clocks=(
        Clock(name="cpu", freqs_hz=(0.5e9, 1e9), volts=(0.9, 1.0)),
        Clock(name="gpu", freqs_hz=(0.1e9, 0.2e9, 0.4e9), volts=(0.9, 0.9, 1.0)),
    ),
    units=(Unit(name="cpu", clock="cpu", cores=2), Unit(name="gpu", clock="gpu", cores=1, kind="gpu")),
    rails=("all",),
    thermal_nodes=("soc",),
)
SPEED = {"cpu": 1e8, "gpu": 1e7}  # cycles per frame of rung 1 on one core


def small_profile() -> Profile:
    points = [
        OperatingPoint(
            rung=rung,
            unit=unit,
            cores=cores,
            freq_hz=freq_hz,
            latency_mean_s=rung * SPEED[unit] / cores / freq_hz,
            latency_std_s=0.0,
            latency_p95_s=rung * SPEED[unit] / cores / freq_hz,
            power_w=1.0,
            rail_power_w={"all": 1.0},
            samples=0,
        )
        for rung in (1, 2)
        for unit, cores in SPEC.placements
        for freq_hz in SPEC.clock(unit).freqs_hz
    ]
    rungs = (Rung(index=1, name="half", accuracy=0.6), Rung(index=2, name="full", accuracy=0.7))
    return Profile(name="hand", board="small", kind="modelled", rungs=rungs, points=tuple(points))


PROFILE = small_profile()
DEMAND = Demand(rate_hz=10.0, deadline_s=0.12, accuracy_min=0.65, energy_budget_j=0.2, goal="min_energy")


def seen(
    knobs: Knobs,
    *,
    frames: int = 0,
    dropped: int = 0,
    latency_s: float | None = None,
    peak: float = 0.0,
) -> Telemetry:
    return Telemetry(
        interval_s=0.5,
        asked=knobs,
        granted=knobs,
        frames=frames,
        served=frames - dropped,
        missed=dropped,
        dropped=dropped,
        latency_mean_s=latency_s,
        latency_p95_s=latency_s,
        accuracy=None,
        labelled=0,
        confidence=None,
        energy_j=None,
        temp_c={"soc": 40.0},
        utilisation={"cpu": peak, "gpu": 0.0},
        peak_utilisation={"cpu": peak, "gpu": 0.0},
        throttled=False,
        switched=False,
        sensor_age_s=None,
    )


START = Knobs(rung=1, unit="cpu", cores=2, freqs_hz={"cpu": 0.5e9, "gpu": 0.1e9})


def check_legal(knobs: Knobs, spec: BoardSpec, rungs: int) -> None:
    assert 1 <= knobs.rung <= rungs
    assert (knobs.unit, knobs.cores) in spec.placements
    assert set(knobs.freqs_hz) == {c.name for c in spec.clocks}
    for clock in spec.clocks:
        assert knobs.freqs_hz[clock.name] in clock.freqs_hz


def started(name: str) -> Policy:
    policy = make_policy(name)
    policy.reset(SPEC, PROFILE)
    return policy


@pytest.mark.parametrize("name", [n for n in policy_names(2) if n not in ("static_best", "oracle")])
def test_legal_on_a_hand_built_board(name: str) -> None:
    policy = started(name)
    telemetry = seen(START)
    for frames, dropped, latency_s, peak in [(5, 0, 0.1, 0.9), (5, 5, None, 1.0), (0, 0, None, 0.0)] * 3:
        knobs = policy.act(telemetry, DEMAND)
        check_legal(knobs, SPEC, 2)
        assert name == "static_safe" or (knobs.unit, knobs.cores) == ("cpu", 2)
        assert name == "static_safe" or knobs.freqs_hz["gpu"] == 0.1e9
        telemetry = seen(knobs, frames=frames, dropped=dropped, latency_s=latency_s, peak=peak)


@pytest.fixture(scope="module")
def board() -> SimBoard:
    return open_board("xu3")


@pytest.fixture(scope="module")
def scenario(board: SimBoard) -> Scenario:
    return generate("held_out", board.spec, board.profile, np.random.default_rng(1), duration_s=20.0)


def fly(name: str, board: SimBoard, scenario: Scenario, **options: Any) -> list[Telemetry]:
    policy = make_policy(name)
    if isinstance(policy, Privileged):
        policy.bind(board, scenario, RewardWeights())
    return control(board, policy, scenario, board.profile, **{"seed": 3, "intervals": 20, **options})


@pytest.mark.parametrize("name", policy_names())
def test_legal_and_repeatable_on_the_xu3(name: str, board: SimBoard, scenario: Scenario) -> None:
    flight = fly(name, board, scenario)
    assert len(flight) == 20
    for telemetry in flight:
        check_legal(telemetry.asked, board.spec, 4)
    assert fly(name, board, scenario) == flight


def test_names_are_unique_and_follow_the_ladder() -> None:
    assert len(set(policy_names(4))) == len(policy_names(4)) == 6 * 5 + 4
    assert "ondemand@2" in policy_names(2)
    assert "ondemand@3" not in policy_names(2)


def test_a_rung_beyond_the_ladder_is_refused_at_reset() -> None:
    policy = make_policy("schedutil@9")
    with pytest.raises(InputError, match=r"'schedutil@9'.*no rung 9; want @1 to @2"):
        policy.reset(SPEC, PROFILE)


@pytest.mark.parametrize("name", ["", "ondemand", "ondemand@", "ondemand@0", "ondemand@x", "Oracle", "warp@1"])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(InputError, match=r"no such controller; known: performance@RUNG.*oracle.*\.npz") as caught:
        make_policy(name)
    assert "\n" not in str(caught.value)


def test_a_saved_policy_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        make_policy(str(tmp_path / "none.npz"))


@pytest.mark.parametrize(
    ("demand", "rung"),
    [
        (DEMAND, 2),
        (replace(DEMAND, accuracy_min=0.6), 1),
        (replace(DEMAND, accuracy_min=0.9), 2),  # none meets it: the most accurate
        (replace(DEMAND, goal="max_accuracy"), 2),  # 0.1 s at 1 GHz on two cores
        (replace(DEMAND, goal="max_accuracy", deadline_s=0.09), 1),
        (replace(DEMAND, goal="max_accuracy", deadline_s=0.01), 1),  # none meets it: the smallest
        (replace(DEMAND, goal="max_accuracy", rate_hz=15.0), 1),  # in time, but frames would pile up
    ],
)
def test_auto_rung(demand: Demand, rung: int) -> None:
    for governor in ("performance", "powersave"):
        assert started(f"{governor}@auto").act(seen(START), demand).rung == rung


@pytest.mark.parametrize(
    ("peak", "dropped", "load"),
    [
        (0.8, 0, 0.8),
        (0.8, 3, 0.8),  # dropped for another reason than a lack of time
        (1.0, 3, 2.5),  # 2 of 5 took all of it
        (1.0, 5, 5.0),
        (1.0, 0, math.inf),  # all were served: some job eats any speed there is
    ],
)
def test_the_load_that_governors_see(peak: float, dropped: int, load: float) -> None:
    assert demanded_load(seen(START, frames=5, dropped=dropped, peak=peak), SPEC, "cpu") == load


def test_static_safe_takes_the_fastest_placement() -> None:
    knobs = started("static_safe").act(seen(START), DEMAND)
    assert knobs == Knobs(rung=1, unit="gpu", cores=1, freqs_hz={"cpu": 0.5e9, "gpu": 0.4e9})


def test_ladder_steps_down_remembers_and_tries_again() -> None:
    policy = started("ladder")
    demand = DEMAND
    knobs = policy.act(seen(START), demand)
    assert knobs.rung == 2  # the floor's rung
    assert knobs.freqs_hz == {"cpu": 1e9, "gpu": 0.1e9}
    knobs = policy.act(seen(knobs, frames=20, latency_s=0.13), demand)
    assert knobs.rung == 1  # 0.13 s is above 0.12 s
    fine = seen(knobs, frames=20, latency_s=0.06)
    rungs = [policy.act(fine, demand).rung for _ in range(21)]
    assert rungs[:19] == [1] * 19  # below the floor and latency fits, but rung 2 has just failed
    assert rungs[19] == 2  # FORGET_INTERVALS later
    # Another demand: what failed then may do now.
    policy.act(seen(knobs, frames=20, latency_s=0.5), demand)
    assert policy.act(fine, replace(demand, deadline_s=0.3)).rung == 2


def test_ladder_climbs_for_accuracy_while_latency_fits() -> None:
    policy = started("ladder")
    demand = replace(DEMAND, goal="max_accuracy", deadline_s=0.09, accuracy_min=0.5)
    knobs = policy.act(seen(START), demand)
    assert knobs.rung == 1  # rung 2 would take 0.1 s
    assert policy.act(seen(knobs, frames=20, latency_s=0.05), demand).rung == 2
    policy = started("ladder")
    thrifty = replace(demand, goal="min_energy")
    knobs = policy.act(seen(START), thrifty)
    assert policy.act(seen(knobs, frames=20, latency_s=0.05), thrifty).rung == 1  # the floor is met


def test_ladder_window_is_twenty_frames_and_drops_count() -> None:
    policy = started("ladder")
    knobs = policy.act(seen(START), DEMAND)
    for _ in range(4):
        knobs = policy.act(seen(knobs, frames=5, latency_s=0.10), DEMAND)
    # 5 at 0.15 and the 15 before at 0.10: mean 0.1125. Then ten and ten: 0.125, above 0.12.
    knobs = policy.act(seen(knobs, frames=5, latency_s=0.15), DEMAND)
    assert knobs.rung == 2
    knobs = policy.act(seen(knobs, frames=5, latency_s=0.15), DEMAND)
    assert knobs.rung == 1
    policy = started("ladder")
    knobs = policy.act(seen(START), DEMAND)
    assert policy.act(seen(knobs, frames=20, dropped=20), DEMAND).rung == 1
    policy = started("ladder")
    knobs = policy.act(seen(START), DEMAND)
    assert policy.act(seen(knobs), DEMAND).rung == 2  # no frames: hold


def test_ladder_waits_for_twenty_frames_on_every_rung() -> None:
    policy = started("ladder")
    knobs = policy.act(seen(START), DEMAND)
    rungs = [policy.act(seen(knobs, frames=5, latency_s=0.5), DEMAND).rung for _ in range(4)]
    assert rungs == [2, 2, 2, 1]
    climber = replace(DEMAND, goal="max_accuracy", deadline_s=0.3)
    slow = [policy.act(seen(knobs, frames=9, latency_s=0.05), climber).rung for _ in range(3)]
    assert slow == [1, 1, 2]


def test_names_and_baselines_are_light() -> None:
    code = (
        "import sys, agents.policy as p; [p.make_policy(n) for n in p.policy_names()];"
        "print([m for m in ('torch', 'gymnasium', 'stable_baselines3', 'pandas') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
