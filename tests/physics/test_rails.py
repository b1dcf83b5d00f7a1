"""What rails draw: a profile's power is met exactly, the XU3 meets its published figures, the rest is on no meter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from hw.boardfile import load_board
from hw.boardmodel import BoardModel
from hw.modelled import model_profile
from hw.profile import open_profile
from hw.simulated.simulator import Simulator
from hw.types import POWER_W, Profile
from tests.arrays import f32
from tests.physics.xu3 import MODEL, SPEC, knobs_of, seeded

A7 = 0


def back_to_back_w(model: BoardModel, profile: Profile) -> npt.NDArray[np.float32]:
    """Exact power of every rail (W), (rails, points), at the reference temperature while frames come back to back."""
    points = profile.points
    simulator = Simulator(model, profile, len(points))
    latency_s = np.array([p.latency_mean_s for p in points], np.float32)
    still, ambient_c = np.zeros((len(model.units), len(points)), np.float32), simulator.ambient_c
    for _ in range(20):  # its sensor is held at that temperature by its surroundings
        simulator.inject(still, still[0], ambient_c)
        interval = simulator.step(simulator.flat_points, f32(4 / latency_s), f32(4 * latency_s))
        assert not interval.throttled.any()
        ambient_c = ambient_c + np.float32(model.reference_temp_c) - interval.exact_temp_c
    return interval.exact_power_w


@pytest.mark.parametrize("board", ["xu3", "jetson_nano", "raspberry_pi_5"])
def test_a_measured_profile_is_met_exactly(board: str) -> None:
    """What a meter on the simulated board reads is what the simulator draws from a profile of these readings."""
    model = load_board(board)
    modelled = open_profile(model, None)
    read_w = back_to_back_w(model, modelled)
    points = []
    for point, column in zip(modelled.points, read_w.T.tolist(), strict=True):
        rails = dict(zip(model.spec.rails, column, strict=True))
        points.append(replace(point, power_w=rails[point.unit], rail_power_w=rails, samples=9))
    measured = replace(modelled, kind="measured", points=tuple(points))
    np.testing.assert_allclose(back_to_back_w(model, measured), read_w, rtol=0.01, atol=1e-3)


def test_two_rails_share_what_a_networks_traffic_draws() -> None:
    """Each draws its own part of it, as the profile says, and not the whole."""
    rails = tuple(replace(r, w_per_gbps=0.03) if r.name == "gpu" else r for r in MODEL.rails)
    model = replace(MODEL, rails=rails)
    profile = model_profile(MODEL.default_profile, model)
    read_w = back_to_back_w(model, profile)
    for rail in rails:
        wanted_w = [p.rail_power_w[rail.name] for p in profile.points]
        np.testing.assert_allclose(read_w[SPEC.rails.index(rail.name)], wanted_w, rtol=0.02)


# -- published figures of the XU3 (BOARDS, parts A7 and F3) ------------------------------------------------


@pytest.mark.parametrize(("mhz", "watts"), [(200, 0.096), (600, 0.157), (1000, 0.232), (1400, 0.358), (1800, 0.655)])
def test_a15_idle_rail(mhz: int, watts: float) -> None:
    """Measured on the board whose power was fitted, not among the rows of the fit; 45 C is known for 1800 MHz only."""
    assert MODEL.idle_rail_w({"a7": 2e8, "a15": mhz * 1e6}, 45.0)["a15"] == pytest.approx(watts, rel=0.09)


def test_a15_idle_rail_at_1800_mhz_measured() -> None:
    assert MODEL.idle_rail_w({"a7": 2e8, "a15": 1.8e9}, 50.0)["a15"] == pytest.approx(0.655, rel=0.05)


@pytest.mark.parametrize(("mhz", "watts"), [(200, 0.072), (600, 0.220), (1000, 0.477), (1200, 0.662), (1400, 0.940)])
def test_four_a7_cores_busy(mhz: int, watts: float) -> None:
    """Table A7.3 at 50 C: the rail of a cluster with four cores of background work."""
    simulator = seeded(0, 1)
    simulator.inject(f32((4, 0))[:, None], f32(0), f32(25))
    idle = knobs_of(1, "a15", 1, mhz * 1e6, 2e8)
    first = simulator.step(idle, f32(0.5), f32(2.0))
    # bring the silicon to 50 C by its surroundings, then look
    simulator.inject(f32((4, 0))[:, None], f32(0), f32(25.0) + f32(50.0) - first.exact_temp_c)
    power = float(simulator.step(idle, f32(0.5), f32(2.0)).exact_power_w[A7, 0])
    assert power == pytest.approx(watts, rel=0.03)


def test_a7_rail_figure_of_f3() -> None:
    """F3: four A7 cores busy at 1.4 GHz draw 0.94 to 1.01 W."""
    law, volts = MODEL.units[A7], SPEC.clock("a7").volts[-1]
    idle = MODEL.idle_rail_w({"a7": 1.4e9, "a15": 2e8}, 50.0)["a7"]
    busy = idle + 4 * law.background_nf * 1e-9 * volts**2 * 1.4e9
    assert 0.93 <= busy <= 1.01


def test_one_hot_core_with_the_fan_low() -> None:
    """F3: one A15 core at 2.0 GHz with the fan low reaches 95 C in minutes at 3.1 to 3.3 W.

    The regime's own arithmetic, without the kernel's fan and trip points: leakage and heat feed each other.
    """
    regime = MODEL.thermal.regime(0)
    volts = SPEC.clock("a15").volts[-1]
    heat = [0.0, regime.offset_k]
    decay = [np.exp(-SPEC.interval_s / t) for t in regime.tau_s]
    seconds = 0.0
    while (temp := 25.0 + sum(heat)) < 95.0 and seconds < 1200:
        rails = MODEL.idle_rail_w({"a7": 2e8, "a15": 2e9}, temp)
        a15 = rails["a15"] + 0.40e-9 * volts**2 * 2e9  # one core of integer to floating-point work
        total = sum(rails.values()) - rails["a15"] + a15
        spot = regime.spot_k_per_w * min(a15, MODEL.thermal.spot_nf * 1e-9 * volts**2 * 2e9)
        for k, offset in enumerate((spot, regime.offset_k)):
            target = regime.r_k_per_w[k] * total + offset
            heat[k] = target + (heat[k] - target) * decay[k]
        seconds += SPEC.interval_s
    assert temp >= 95.0, temp
    assert 60 <= seconds <= 900, seconds
    assert 3.0 <= a15 <= 3.4, a15


def test_the_fan_and_the_rest_of_the_board_are_on_no_meter() -> None:
    simulator = seeded(1, 4)
    knobs, rate, deadline_s = knobs_of(1, "a7", 1, 1.4e9, 1.8e9, 4), np.ones(4, np.float32), np.ones(4, np.float32)
    first = simulator.step(knobs, rate, deadline_s)
    np.testing.assert_allclose(simulator.unmetered_w(first), MODEL.board_base_w)
    simulator.inject(np.full((2, 4), 4.0, np.float32), np.zeros(4, np.float32), np.full(4, 40.0, np.float32))
    for _ in range(60):
        last = simulator.step(knobs, rate, deadline_s)
    assert last.fan.min() > 0
    duty = np.array(MODEL.thermal.fan_duty)[last.fan]
    np.testing.assert_allclose(simulator.unmetered_w(last), MODEL.board_base_w + duty * MODEL.fan_w, rtol=1e-6)


def test_a_profile_that_burns_the_board_stays_a_number() -> None:
    """The most that a profile may say (1000 W a rail): far too hot, and no overflow."""
    profile = open_profile(SPEC, None)
    rails_w = dict.fromkeys(SPEC.rails, POWER_W[1])
    points = tuple(replace(p, power_w=POWER_W[1], rail_power_w=rails_w) for p in profile.points)
    simulator = Simulator(MODEL, replace(profile, points=points), 1)
    for _ in range(400):
        interval = simulator.step(simulator.flat_points[:, -1:], f32([1e3]), f32([1.0]))
    assert interval.throttled.all() and np.isfinite(interval.exact_power_w).all() and interval.exact_temp_c > 200
