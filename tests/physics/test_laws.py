"""The laws hold whatever the inputs (hypothesis)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.boardmodel import leak_growth
from hw.clip import constant
from hw.simulated import physics
from hw.simulated.interval import Interval
from hw.simulated.simulator import Simulator
from tests.arrays import f32
from tests.physics.xu3 import MODEL, PROFILE, SPEC, N, knobs_of, seeded

SIZES = np.array([len(PROFILE.rungs), len(SPEC.placements), *(len(c.freqs_hz) for c in SPEC.clocks)])
few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def random_run(
    simulator: Simulator, rng: np.random.Generator, steps: int, **fixed: Any
) -> list[tuple[npt.NDArray[np.intp], Interval]]:
    """What was asked and what came of it: random knobs, load and demand, anew each interval."""
    n, out = simulator.n, []
    for _ in range(steps):
        busy = rng.uniform(0, 4, (2, n)) * rng.integers(0, 2, (2, n))
        ambient = fixed.get("ambient_c", rng.uniform(15, 45, n))
        simulator.inject(f32(busy), f32(rng.uniform(0, 3, n)), np.full(n, ambient, np.float32))
        knobs = rng.integers(0, SIZES[:, None], (len(SIZES), n))
        rate, deadline_s = f32(rng.uniform(0.5, 60, n)), f32(rng.uniform(0.02, 2, n))
        out.append((knobs, simulator.step(knobs, rate, deadline_s)))
    return out


@few
@given(seeds)
def test_energy_adds_up(seed: int) -> None:
    """What the meters report is the exact power, within gain, one window's lag and half a step."""
    sensor = MODEL.sensor
    lag = sensor.window_s / SPEC.interval_s
    quantum_j = sensor.step_w * SPEC.interval_s / int(SPEC.interval_s / sensor.window_s)
    before = None
    for _, interval in random_run(seeded(seed), np.random.default_rng(seed), 5):
        assert (interval.exact_power_w >= 0).all()
        if before is not None:
            exact_j = (interval.exact_power_w * (1 - lag) + before * lag) * SPEC.interval_s
            error = np.abs(interval.energy_j - exact_j)
            assert (error <= 6 * sensor.gain_std * exact_j + 0.51 * quantum_j).all()
            total, exact = interval.energy_j.sum(axis=0), exact_j.sum(axis=0)
            assert (np.abs(total - exact) <= 6 * sensor.gain_std * exact + 0.51 * 4 * quantum_j).all()
        before = interval.exact_power_w
        frames = interval.frames
        assert (interval.served + interval.dropped == frames).all()
        assert ((interval.dropped <= interval.missed) & (interval.missed <= frames)).all()
        assert (np.isnan(interval.latency_mean_s) == (interval.served == 0)).all()
        for share in (interval.utilisation, interval.peak_utilisation):
            assert ((share >= 0) & (share <= 1 + 1e-6)).all()


def test_frames_add_up_at_the_highest_rates() -> None:
    """Where a frame more or less is at the end of single precision."""
    n, rng = 2000, np.random.default_rng(0)
    simulator = seeded(0, n)
    for _ in range(20):
        knobs = rng.integers(0, SIZES[:, None], (len(SIZES), n))
        rate, deadline_s = f32(10 ** rng.uniform(2, 6, n)), f32(10 ** rng.uniform(-6, 0, n))
        interval = simulator.step(knobs, rate, deadline_s)
        assert ((interval.dropped <= interval.missed) & (interval.missed <= interval.frames)).all()
        assert (interval.served + interval.dropped == interval.frames).all()


@pytest.mark.parametrize("changed", [("clock",), ("place",), ("rung",), ("clock", "place", "rung")])
def test_a_switch_delays_frames_by_its_stall_and_draws_its_energy_once(changed: tuple[str, ...]) -> None:
    """Two boards alike in all but what was granted before: what differs then is what the switch costs."""
    costs = replace(MODEL.switching, rung_s=3e-3, energy_j=1000 * MODEL.switching.energy_j)
    simulator = Simulator(replace(MODEL, switching=costs), PROFILE, 1)
    knobs = knobs_of(4, "a15", 1, 3e8, 4e8, 2)
    # more frames than it can serve, and a deadline that none of them misses: each waits for all work before it
    rate, deadline_s = np.full(2, 100.0, np.float32), np.full(2, 1e3, np.float32)
    simulator.step(knobs[:, :1], rate[:1], deadline_s[:1])
    boards = simulator.fork(np.array([0, 0]))
    others = {"rung": (0, 0), "place": (1, SPEC.placements.index(("a7", 4))), "clock": (2, 0)}  # of the idle cluster
    stalls_s = {"rung": costs.rung_s, "place": costs.migration_s, "clock": MODEL.stall_s[0] + costs.control_path_s}
    for name in changed:
        row, other = others[name]
        assert boards.granted[row, 1] != other
        boards.granted[row, 1] = other
    first, after = (boards.step(knobs, rate, deadline_s) for _ in range(2))
    assert first.switched.sum(axis=0).tolist() == [0, len(changed)] and not after.switched.any()
    stall_s = sum(stalls_s[name] for name in changed)
    for interval in (first, after):  # nobody makes up for it: the backlog stays that much longer
        assert np.diff(interval.latency_mean_s)[0] == pytest.approx(stall_s, rel=0.01)
        assert np.diff(interval.latency_p95_s)[0] == pytest.approx(stall_s, rel=0.01)
    extra_j = np.diff(first.exact_power_w)[:, 0] * SPEC.interval_s
    np.testing.assert_allclose(extra_j, [costs.energy_j if rail == "a15" else 0.0 for rail in SPEC.rails], atol=1e-5)
    np.testing.assert_allclose(np.diff(after.exact_power_w), 0.0, atol=1e-3)  # but for the little that it warmed


@few
@given(seeds)
def test_throttling_only_lowers_clocks(seed: int) -> None:
    simulator = seeded(seed)
    hot = random_run(simulator, np.random.default_rng(seed), 40, ambient_c=75.0)
    throttled = 0
    for asked, interval in hot:
        assert (interval.granted[2:] <= asked[2:]).all()
        assert (interval.granted[:2] == asked[:2]).all()
        lowered = (interval.granted[2:] < asked[2:]).any(axis=0)
        assert (lowered == interval.throttled).all()
        throttled += int(lowered.sum())
    assert throttled > 0


@few
@given(seeds)
def test_service_time_grows_with_load_and_falls_with_the_clock(seed: int) -> None:
    rng = np.random.default_rng(seed)
    compute, stall = f32(rng.uniform(1e-3, 1, N)), f32(rng.uniform(0, 0.2, N))
    cores = f32(rng.integers(1, 5, N))
    low = f32(rng.uniform(0, 4, N))
    high = f32(low + rng.uniform(0, 1, N) * (4 - low))
    traffic = f32(rng.uniform(0, 2, N))
    floor = constant(MODEL.contention.min_share)

    def time_s(busy: Any, mem: Any, scale: float = 1.0) -> Any:
        share = physics.core_share(np.float32(4) - cores, busy, floor)
        assert ((share.share >= floor) & (share.share <= 1)).all()
        assert ((share.excess >= 0) & (share.excess <= 1)).all()
        alone = compute * np.float32(scale) + stall
        crowded = physics.crowded_time(alone, stall, MODEL.contention.stall_stretch)
        return physics.service_time(alone, crowded, share.share, mem)

    assert (time_s(high, traffic) >= time_s(low, traffic)).all()
    assert (time_s(low, traffic * np.float32(1.5)) >= time_s(low, traffic)).all()
    assert (time_s(low, traffic, 0.5) <= time_s(low, traffic)).all()


def test_profile_latency_falls_with_the_clock_in_the_simulator() -> None:
    """Unloaded, served latency of every rung and placement falls from step to step of its clock."""
    for place, (unit, _) in enumerate(SPEC.placements):
        row = 2 + [c.name for c in SPEC.clocks].index(SPEC.unit(unit).clock)
        steps = int(SIZES[row])
        simulator = Simulator(MODEL, PROFILE, steps)
        simulator.reset(range(steps), seeds=[1] * steps)
        knobs = np.zeros((len(SIZES), steps), np.intp)
        knobs[1], knobs[row] = place, np.arange(steps)
        for _ in range(2):  # the first pays for the switch
            interval = simulator.step(knobs, np.full(steps, 2.0, np.float32), np.full(steps, 50.0, np.float32))
        latency = interval.latency_mean_s
        assert (np.diff(latency[np.isfinite(latency)]) < 0).all(), (unit, place)


@few
@given(seeds)
def test_leakage_grows_with_temperature(seed: int) -> None:
    temp = np.sort(f32(np.random.default_rng(seed).uniform(-20, 120, N)))
    for law in MODEL.units:
        if law.leak_activation_k:
            growth = physics.leakage_arrhenius(temp, np.float32(law.leak_activation_k))
        else:
            growth = physics.leakage_exponential(temp, np.float32(law.leak_per_k))
        assert (np.diff(growth) >= 0).all()
        expected = [leak_growth(law, float(t)) for t in temp]
        np.testing.assert_allclose(growth, expected, rtol=1e-4)


@few
@given(seeds)
def test_powered_share_is_a_share(seed: int) -> None:
    rng = np.random.default_rng(seed)
    busy, network = f32(rng.uniform(0, 4, N)), f32(rng.uniform(0, 1, N))
    naps = f32(rng.uniform(0, 1, N))
    share = physics.powered_share(busy, network, naps)
    assert ((share >= 0) & (share <= 1)).all()
    assert (share >= network - 1e-6).all()
    assert (physics.powered_share(busy, network, naps + np.float32(0.1)) >= share - 1e-6).all()


@few
@given(st.floats(0.1, 200), st.floats(0, 15), st.floats(0.5, 20), st.integers(0, 3))
def test_two_half_steps_are_one(tau_s: float, watts: float, start_k: float, level: int) -> None:
    target, start = f32(watts * 8), f32(start_k)
    whole, half = f32(np.exp(-0.5 / tau_s)), f32(np.exp(-0.25 / tau_s))
    once = physics.relax(start, (1 - whole) * target, whole)
    twice = physics.relax(physics.relax(start, (1 - half) * target, half), (1 - half) * target, half)
    np.testing.assert_allclose(once, twice, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("level", range(len(MODEL.thermal.fan_duty)))
def test_temperature_relaxes_to_its_fixed_point(level: int) -> None:
    """At a constant power: offset plus (R1 + R2) P above ambient, monotonically."""
    regime = MODEL.thermal.regime(level)
    watts = 3.0
    heat, course = [f32(0), f32(0)], []
    targets = [f32(regime.r_k_per_w[0] * watts), f32(regime.r_k_per_w[1] * watts + regime.offset_k)]
    decay = [f32(np.exp(-SPEC.interval_s / t)) for t in regime.tau_s]
    for _ in range(4000):
        heat = [physics.relax(h, (1 - d) * t, d) for h, t, d in zip(heat, targets, decay, strict=True)]
        course.append(float(heat[0][0] + heat[1][0]))
    assert (np.diff(course) >= -1e-4).all()
    assert course[-1] == pytest.approx(sum(regime.r_k_per_w) * watts + regime.offset_k, rel=1e-3)


def test_a_steady_board_reaches_its_fixed_point() -> None:
    """The simulator at constant knobs: temperature is that of its own mean power at its fan level."""
    simulator = seeded(0, 1)
    knobs = knobs_of(1, "a7", 1, 6e8, 2e8)
    for _ in range(3000):
        simulator.inject(np.zeros((2, 1), np.float32), f32(0), f32(20.0))
        interval = simulator.step(knobs, f32(0.5), f32(2.0))
    regime = MODEL.thermal.regime(0)
    expected = 20.0 + regime.offset_k + sum(regime.r_k_per_w) * float(interval.exact_power_w.sum())
    assert expected < MODEL.thermal.fan_trips_c[0]  # else another fan level would be at work
    assert float(interval.exact_temp_c[0]) == pytest.approx(expected, abs=0.5)


@few
@given(seeds)
def test_hysteresis_does_not_chatter(seed: int) -> None:
    """Up at a trip and no sooner, down only below trip minus hysteresis; still where it jitters."""
    rng = np.random.default_rng(seed)
    trips, hyst = f32((50, 60, 70)), f32((5, 5, 5))
    points = physics.trip_points((trips.tolist(), hyst.tolist()))
    level = np.zeros(N, np.uint8)
    for _ in range(60):
        temp = f32(rng.uniform(35, 80, N))
        (after,) = physics.hysteresis(level[None], temp, points)
        assert (after >= (temp[:, None] >= trips).sum(axis=1)).all()
        rose = after > level
        assert (temp[rose] >= trips[after[rose] - 1]).all()
        fell = after < level
        assert (temp[fell] < (trips - hyst)[after[fell]]).all()
        level = after
    level = np.full(N, 2, np.uint8)
    for _ in range(20):
        (level,) = physics.hysteresis(level[None], f32(rng.uniform(55.01, 69.9, N)), points)
        assert (level == 2).all()


def test_labels_and_jitter_are_drawn_as_said() -> None:
    """Right answers are binomial in the rung's accuracy, frame by frame; no draw tells of another."""
    lanes, intervals, frames = 200, 150, 16
    simulator = seeded(3, lanes)
    knobs = knobs_of(2, "a15", 4, 2e8, 1.6e9, lanes)  # above, the kernel would throttle it within a minute
    rate, deadline_s = np.full(lanes, 2 * frames, np.float32), np.full(lanes, 1.0, np.float32)
    runs = [simulator.step(knobs, rate, deadline_s) for _ in range(intervals)]
    right = np.array([simulator.accuracy(i) for i in runs])
    served = np.array([i.served for i in runs])
    p = PROFILE.rungs[1].accuracy
    assert served[1:].mean() == pytest.approx(frames, rel=0.01)
    assert right.mean() == pytest.approx(p, abs=0.003)
    assert right[1:].std() == pytest.approx(np.sqrt(p * (1 - p) / frames), rel=0.03)
    latency_s = np.array([i.latency_mean_s for i in runs])
    jitter = (latency_s - latency_s.mean(axis=1, keepdims=True))[1:]  # without the clocks' common course
    right = right[1:]
    for one, other in (
        (right[1:], right[:-1]),
        (right[:, 1:], right[:, :-1]),
        (jitter[1:], jitter[:-1]),
        (jitter[:, 1:], jitter[:, :-1]),
        (jitter, right),
    ):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.03


@pytest.mark.parametrize("accuracy", [0.05, 0.85, 0.99])
@pytest.mark.parametrize("frames", [1, 2, 4, 9])
def test_few_frames_are_right_as_often_as_many(frames: int, accuracy: float) -> None:
    """Counts of right frames are whole, and binomial also where a rung is hardly ever wrong, or right."""
    lanes = 20000
    rungs = tuple(replace(rung, accuracy=accuracy) for rung in PROFILE.rungs)
    simulator = Simulator(MODEL, replace(PROFILE, rungs=rungs), lanes)
    simulator.reset(np.arange(lanes), seeds=range(lanes))
    knobs = knobs_of(1, "a15", 4, 2e8, 1.8e9, lanes)
    rate, deadline_s = np.full(lanes, frames / SPEC.interval_s, np.float32), np.ones(lanes, np.float32)
    interval = simulator.step(knobs, rate, deadline_s)
    assert (interval.served == frames).all()
    share = simulator.accuracy(interval)
    right = np.rint(share * frames)
    np.testing.assert_allclose(share, right / frames, rtol=1e-6)
    for k in range(frames + 1):
        expected = math.comb(frames, k) * accuracy**k * (1 - accuracy) ** (frames - k)
        deviation = math.sqrt(expected * (1 - expected) / lanes)
        assert (right == k).mean() == pytest.approx(expected, abs=4.5 * deviation + 1e-9)


@pytest.mark.parametrize("frames", [1, 2, 5, 20])
def test_frames_spread_as_the_profile_says(frames: int) -> None:
    """From interval to interval and within one, together the profile's; one frame is no faster than itself."""
    lanes, cv = 4000, 0.1
    points = tuple(replace(p, latency_std_s=cv * p.latency_mean_s) for p in PROFILE.points)
    simulator = Simulator(MODEL, replace(PROFILE, points=points), lanes)
    knobs = knobs_of(1, "a15", 4, 2e8, 1.8e9, lanes)
    rate, deadline_s = np.full(lanes, frames / SPEC.interval_s, np.float32), np.ones(lanes, np.float32)
    for _ in range(2):  # the first pays for the switch
        interval = simulator.step(knobs, rate, deadline_s)
    assert interval.served.tolist() == [frames] * lanes
    mean_s = interval.latency_mean_s
    among = (interval.latency_p95_s - mean_s) / 1.645 / mean_s
    between = np.log(mean_s).std()
    assert math.hypot(between, among.mean()) == pytest.approx(cv, rel=0.05)
    if frames == 1:
        np.testing.assert_allclose(interval.latency_p95_s, mean_s, rtol=0.002)
