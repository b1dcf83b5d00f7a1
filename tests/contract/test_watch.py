"""Somebody watches a policy by what it measures: who is stopped, who takes over, and a shadow that only says."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from agents.policy import make_policy
from agents.runtime import control
from agents.watch import (
    BLIND_INTERVALS,
    HOT_C,
    HOT_UNKNOWN_C,
    MISSED_INTERVALS,
    Fault,
    Pilot,
    Shadow,
    Watch,
    hot_limit_c,
)
from envs.families import scenario_set
from hw.boardfile import load_board
from hw.catalog import open_board
from hw.types import BoardSpec, Demand, Knobs, Profile, Telemetry

DEMAND = Demand(rate_hz=20.0, deadline_s=0.1, accuracy_min=0.6, energy_budget_j=1.0, goal="min_energy")


@pytest.fixture(scope="module")
def fine() -> Telemetry:
    """An interval of a simulated XU3 in which all is well."""
    board = open_board("xu3")
    t = board.reset(seed=0)
    return board.step(t.granted, replace(DEMAND, deadline_s=1.0))


# ---- what an interval may not measure ----


def test_what_is_in_order_is_never_stopped(fine: Telemetry) -> None:
    watch = Watch(HOT_C)
    idle = replace(fine, frames=0, served=0, missed=0, latency_mean_s=None, latency_p95_s=None, accuracy=None)
    assert not any(watch.look(t) for t in [fine, idle, replace(fine, energy_j=None)] * 200)


def test_heat_ends_every_flight(fine: Telemetry) -> None:
    watch = Watch(HOT_C)
    assert watch.look(replace(fine, temp_c={"soc": HOT_C - 0.1})) is None
    with pytest.raises(Fault, match="soc is at 120 C, the limit is 90 C"):
        watch.look(replace(fine, temp_c={"soc": 120.0}))


def test_the_limit_is_above_the_trips_of_the_board_file() -> None:
    limits = {n: hot_limit_c(t.trip_c for t in load_board(n).throttle) for n in ("xu3", "jetson_nano")}
    assert limits == {"xu3": 90.0, "jetson_nano": 101.5}, "a Nano is switched off at 102"
    assert hot_limit_c([]) == HOT_UNKNOWN_C


@pytest.mark.parametrize(
    "change",
    [
        {"temp_c": {"soc": math.nan}},
        {"utilisation": {"a7": math.nan}},
        {"peak_utilisation": {"a7": 0.5, "a15": math.inf}},
        {"energy_j": {"a7": math.inf}},
        {"latency_mean_s": math.inf},
        {"latency_p95_s": math.nan},
        {"accuracy": math.nan},
        {"confidence": math.nan},
        {"sensor_age_s": math.inf},
    ],
)
def test_no_number_is_a_reason(fine: Telemetry, change: dict[str, Any]) -> None:
    assert Watch(HOT_C).look(replace(fine, **change)) == "telemetry holds what is no number"


def test_a_meter_that_fell_silent_is_a_reason_and_no_meter_is_none(fine: Telemetry) -> None:
    blind = replace(fine, energy_j=None, sensor_age_s=None)
    watch = Watch(HOT_C)
    assert not any(watch.look(blind) for _ in range(50)), "a board without a meter"
    watch.look(fine)
    reasons = [watch.look(blind) for _ in range(BLIND_INTERVALS)]
    assert reasons[:-1] == [None] * (BLIND_INTERVALS - 1)
    assert "meter is dead or frozen" in str(reasons[-1])


def test_a_meter_that_was_dead_from_the_start_is_a_reason_too(fine: Telemetry) -> None:
    dead = replace(fine, energy_j=None, sensor_age_s=1.0)
    watch = Watch(HOT_C)
    reasons = [watch.look(dead) for _ in range(BLIND_INTERVALS)]
    assert reasons[:-1] == [None] * (BLIND_INTERVALS - 1)
    assert "meter is dead or frozen" in str(reasons[-1])
    watch.forgive()
    assert not any(watch.look(dead) for _ in range(50)), "the fallback flies without it"
    assert not any(watch.look(t) for t in [fine, *[dead] * 5] * 5), "also where it gives a reading now and then"


def test_missing_everything_for_long_is_a_reason(fine: Telemetry) -> None:
    watch = Watch(HOT_C)
    late, idle = replace(fine, missed=fine.frames), replace(fine, frames=0, served=0, missed=0)
    assert not any(watch.look(t) for t in [late] * (MISSED_INTERVALS - 1) + [idle, fine, late])
    reasons = [watch.look(late) for _ in range(MISSED_INTERVALS - 1)]
    assert "every frame of 60 intervals was missed" in str(reasons[-1])


def test_missing_all_but_one_is_never_a_reason(fine: Telemetry) -> None:
    watch = Watch(HOT_C)
    assert not any(watch.look(replace(fine, frames=10, missed=9)) for _ in range(2 * MISSED_INTERVALS))


# ---- who takes over ----


class Scripted:
    """Says what it is told to, or raises it."""

    def __init__(self, *says: Knobs | Exception) -> None:
        self._says = list(says)

    def reset(self, spec: BoardSpec, profile: Profile) -> None:
        pass

    def act(self, telemetry: Telemetry, demand: Demand) -> Knobs:
        said = self._says.pop(0) if len(self._says) > 1 else self._says[0]
        if isinstance(said, Exception):
            raise said
        return said


def piloted(policy: Scripted, **more: Any) -> Pilot:
    """A pilot who flies an XU3 under watch."""
    pilot, board = Pilot(policy, Watch(HOT_C), **more), open_board("xu3")
    pilot.reset(board.spec, board.profile)
    return pilot


IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "no number": {"freqs_hz": {"a7": math.nan, "a15": 1e9}},
    "rung": {"rung": 99},
    "half a rung": {"rung": 1.5},
    "unit": {"unit": "a72"},
    "cores": {"cores": 5},
    "clocks": {"freqs_hz": {"a15": 1e9}},
}


@pytest.mark.parametrize("fault", ["raises", "no number measured", "blind", *IMPOSSIBLE])
def test_the_fallback_takes_over_once(fine: Telemetry, fault: str) -> None:
    mine, its = fine.granted, replace(fine.granted, rung=2)
    bad: dict[str, list[Knobs | Exception]] = {"raises": [mine, ZeroDivisionError("x")]}
    bad |= {name: [mine, replace(mine, **change)] for name, change in IMPOSSIBLE.items()}
    told: list[str] = []
    first = Scripted(*bad.get(fault, [mine]))
    pilot = piloted(first, fallback=Scripted(its, its, ValueError("mine too")), on_handover=told.append)
    broken = {
        "blind": [fine, *[replace(fine, energy_j=None)] * 2],
        "no number measured": [fine, replace(fine, energy_j={"a15": math.inf}), fine],
    }
    seen = broken.get(fault, [fine, fine, fine])
    flown = [pilot.act(t, DEMAND) for t in seen]
    assert flown[0] == mine
    assert flown[-1] == its
    assert len(told) == 1 and ("asks for what cannot be: " in told[0]) == (fault in IMPOSSIBLE)
    with pytest.raises(Fault, match="the policy failed: ValueError: mine too"):
        for _ in range(3):
            pilot.act(fine, DEMAND)


def test_without_a_fallback_the_reason_comes_out(fine: Telemetry) -> None:
    with pytest.raises(Fault, match="the policy failed: KeyError"):
        piloted(Scripted(KeyError("x"))).act(fine, DEMAND)
    hot = replace(fine, temp_c={"soc": 99.0})
    with pytest.raises(Fault, match="99 C"):  # it would not cool for another policy
        piloted(Scripted(fine.granted), fallback=Scripted(fine.granted)).act(hot, DEMAND)


def test_a_shadow_only_says_what_it_would_do() -> None:
    board = open_board("xu3")
    scenario = scenario_set("held_out", board.spec, board.profile, 1)[0]
    plain = control(board, make_policy("ondemand@auto"), scenario, board.profile, seed=1, intervals=10)
    shadow, would = Shadow(make_policy("ladder"), make_policy("ondemand@auto")), []
    flown = control(
        board,
        shadow,
        scenario,
        board.profile,
        seed=1,
        intervals=10,
        on_interval=lambda k, demand, t: would.append(shadow.would),
    )
    assert flown == plain
    assert len(would) == 10
    assert would != [t.asked for t in plain]


@pytest.mark.parametrize("says", [ValueError("x"), *IMPOSSIBLE.values()])
def test_what_a_shadowed_policy_cannot_have_is_missing(fine: Telemetry, says: Any) -> None:
    bad = says if isinstance(says, Exception) else replace(fine.granted, **says)
    shadow, board = Shadow(Scripted(bad, fine.granted), Scripted(fine.granted)), open_board("xu3")
    shadow.reset(board.spec, board.profile)
    assert shadow.act(fine, DEMAND) == fine.granted
    assert shadow.would is None and shadow.trouble.startswith("the policy ")
    assert shadow.act(fine, DEMAND) == shadow.would and not shadow.trouble
