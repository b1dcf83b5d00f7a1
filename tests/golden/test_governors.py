"""The kernel's rules, worked out by hand for the XU3's clocks."""

from __future__ import annotations

import math
from typing import Any

import pytest

from agents.baselines.cpufreq import Conservative, Interactive, Ondemand, Performance, Powersave, Schedutil
from hw.types import Clock

A15 = Clock(name="a15", freqs_hz=tuple(m * 1e8 for m in range(2, 21)), volts=(1.0,) * 19)
A7 = Clock(name="a7", freqs_hz=tuple(m * 1e8 for m in range(2, 15)), volts=(1.0,) * 13)


def settle(rule: type[Any], freq_ghz: float, load: float, clock: Clock = A15, interval_s: float = 0.5) -> float:
    """GHz."""
    return float(clock.freqs_hz[rule(clock, interval_s).settle(freq_ghz * 1e9, load)] / 1e9)


@pytest.mark.parametrize("load", [0.0, 0.5, 1.0, math.inf])
def test_performance_and_powersave_do_not_look(load: float) -> None:
    assert settle(Performance, 0.2, load) == 2.0
    assert settle(Powersave, 2.0, load) == 0.2


@pytest.mark.parametrize(
    ("load", "ghz"),
    [
        (0.0, 0.2),  # fmin + 0 % of 1.8 GHz
        (0.02, 0.2),  # 0.236
        (0.03, 0.3),  # 0.254
        (0.50, 1.1),
        (0.29, 0.7),  # 0.722
        (0.80, 1.6),  # 1.64
        (0.95, 1.9),  # 1.91: 95 is not above 95
        (0.9599, 1.9),  # whole percent, rounded down
        (0.96, 2.0),
        (1.0, 2.0),
    ],
)
def test_one_sample_of_ondemand(load: float, ghz: float) -> None:
    assert A15.freqs_hz[Ondemand(A15, 0.5).sample(load)] / 1e9 == pytest.approx(ghz)


def test_ondemand_tie_goes_to_the_lower_entry() -> None:
    two = Clock(name="c", freqs_hz=(1e9, 2e9), volts=(1.0, 1.0))
    assert Ondemand(two, 0.5).sample(0.5) == 0  # 1.5 GHz lies half-way; RELATION_C takes the lower


@pytest.mark.parametrize(
    ("freq", "load", "ghz"),
    [
        (2.0, 0.0, 0.2),
        # Work of 0.2 GHz: 10 % -> 0.4; 50 % -> 1.1; 18 % -> 0.5; 40 % -> 0.9; 22 % -> 0.6; 33 % -> 0.8;
        # 25 % -> 0.65, and 0.6 is nearer or equal: the cycle is 0.6, 0.8, its mean 0.7.
        (2.0, 0.1, 0.7),
        (0.7, 0.2 / 0.7, 0.7),  # and there it stays
        (0.2, 1.0, 0.7),  # the same work, saturated at the lowest: first to 2.0, then as above
        (0.2, 10.0, 2.0),
        (0.2, math.inf, 2.0),
    ],
)
def test_where_ondemand_settles(freq: float, load: float, ghz: float) -> None:
    assert settle(Ondemand, freq, load) == pytest.approx(ghz)


@pytest.mark.parametrize(
    ("start", "load", "interval_s", "ghz"),
    [
        (0.2, 0.5, 0.5, 0.2),  # between the thresholds: no step
        (1.0, 0.80, 0.5, 1.0),  # 80 is not above 80
        (1.0, 0.20, 0.5, 1.0),  # 20 is not below 20
        (1.0, 0.81, 0.02, 1.1),  # one sample, one step of 5 % of 2 GHz
        (1.0, 0.90, 0.5, 1.2),  # 90 % at 1.0 is 81 % at 1.1 and 75 % at 1.2
        (1.0, 0.19, 0.5, 0.9),  # 19 % at 1.0 is 21 % at 0.9
        (2.0, 0.05, 0.5, 0.5),  # work of 0.1 GHz: 20 % at 0.5
        (1.0, 0.0, 0.1, 0.5),  # five samples, five steps down
        (1.0, 0.0, 0.5, 0.2),
        (0.2, math.inf, 0.1, 0.7),
        (0.2, math.inf, 0.5, 2.0),
    ],
)
def test_conservative(start: float, load: float, interval_s: float, ghz: float) -> None:
    assert settle(Conservative, start, load, interval_s=interval_s) == pytest.approx(ghz)


def test_conservative_adds_up_steps_smaller_than_the_table_s() -> None:
    """5 % of 1.4 GHz is 70 MHz: up 0.27, 0.34, 0.41, rounded down; from there 0.34, 0.27, 0.2, rounded up."""
    rule = Conservative(A7, 0.02)
    up: list[float] = []
    down: list[float] = []
    freq = A7.freqs_hz[0]
    for load, trace in [(math.inf, up)] * 3 + [(0.0, down)] * 3:
        freq = A7.freqs_hz[rule.settle(freq, load)]
        trace.append(freq / 1e9)
    assert up == pytest.approx([0.2, 0.3, 0.4])
    assert down == pytest.approx([0.4, 0.3, 0.2])


def test_conservative_follows_a_throttled_clock() -> None:
    rule = Conservative(A15, 0.02)
    assert A15.freqs_hz[rule.settle(1.9e9, math.inf)] == 2.0e9
    assert A15.freqs_hz[rule.settle(0.9e9, math.inf)] == 1.0e9  # capped at 0.9 meanwhile: on from there


@pytest.mark.parametrize(
    ("freq", "load", "ghz"),
    [
        (2.0, 0.5, 1.3),  # 1.25 x 0.5 x 2 = 1.25, rounded up
        (1.0, 0.5, 0.7),  # utilisation is frequency-invariant: 0.25 of capacity -> 0.625
        (2.0, 0.8, 2.0),
        (2.0, 0.79, 2.0),  # 1.975
        (2.0, 0.76, 1.9),  # 1.9 exactly
        (2.0, 0.05, 0.2),  # 0.125: the lowest
        (1.0, 0.8, 1.0),  # exactly in place
        (0.2, 4.0, 1.0),  # needs four times what it has
        (0.2, math.inf, 2.0),
    ],
)
def test_schedutil(freq: float, load: float, ghz: float) -> None:
    assert settle(Schedutil, freq, load) == pytest.approx(ghz)


def test_schedutil_climbs_no_faster_than_utilisation_grows() -> None:
    """exp(0.25 ln 2 / 32 ms x 64 ms) = sqrt(2): 0.2 -> 0.283 GHz, rounded up."""
    assert settle(Schedutil, 0.2, math.inf, interval_s=0.064) == pytest.approx(0.3)
    assert settle(Schedutil, 1.0, math.inf, interval_s=0.064) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("freq", "load", "ghz"),
    [
        (1.0, 0.90, 1.0),  # 90 % is wanted
        (1.0, 0.91, 1.1),  # 1.011
        (1.0, 0.98, 1.1),  # 1.089, not yet saturated
        (1.0, 0.99, 1.1),  # first to 2.0; there it is 49 %, and 0.99 / 0.9 is 1.1
        (1.0, 1.5, 1.7),  # first to 2.0; 1.667
        (0.2, math.inf, 2.0),
        (2.0, 0.99, 2.0),
        (2.0, 0.30, 0.7),  # 0.667; there it is 86 %
        (2.0, 0.0, 0.2),
    ],
)
def test_interactive(freq: float, load: float, ghz: float) -> None:
    assert settle(Interactive, freq, load) == pytest.approx(ghz)
