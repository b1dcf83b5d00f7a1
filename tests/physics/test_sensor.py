"""A meter's error is what it is said to be: against a meter that rounds value by value, and against `read_energy`."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hw.simulated.sensor import energy_error, rails_error_j, read_energy, read_temperature
from tests.arrays import f32
from tests.physics.xu3 import MODEL, seeded

# INA231 under the mainline driver and under the vendor's, INA3221 of the Jetson Nano; data sheets and drivers
METERS = {
    "ina231": {"window_s": 0.0352, "step_w": 0.025},
    "ina231-vendor": {"window_s": 0.263808, "step_w": 0.025},
    "ina3221": {"window_s": 0.0538, "step_w": 0.04},
}
INTERVAL_S = 0.5
GAIN_STD = 0.01


@pytest.mark.parametrize("meter", METERS)
def test_rounding_is_that_of_a_meter_that_rounds_every_value(meter: str) -> None:
    """A meter written out: a value per window, each rounded; their sum against the same values not rounded."""
    window_s, step_w = METERS[meter]["window_s"], METERS[meter]["step_w"]
    rng = np.random.default_rng(0)
    values = max(1, round(INTERVAL_S / window_s))
    watts = rng.uniform(0.5, 3.0, (20_000, values))  # moves by far more than a step between values
    off_j = (np.rint(watts / step_w) * step_w - watts).sum(axis=1) * window_s
    told = energy_error(1.0, 0.0, **METERS[meter], gain_std=0.0, interval_s=values * window_s)
    assert off_j.std() == pytest.approx(told.rounding_j, rel=0.02)
    assert told.lag_j == told.gain_j == 0.0


@pytest.mark.parametrize("meter", METERS)
def test_read_energy_is_off_by_what_is_said(meter: str) -> None:
    """Gain and lag exactly; its rounding, of the mean and not of each value, by less than is said."""
    rng = np.random.default_rng(1)
    n, power_w, change_w = 50_000, 2.0, 0.5
    how = {"window_s": METERS[meter]["window_s"], "interval_s": INTERVAL_S}
    before_w, now_w = f32(rng.normal(power_w, change_w, n)), f32(np.full(n, power_w))
    gain = f32(rng.normal(1.0, GAIN_STD, n))
    told = energy_error(power_w, change_w, **how, step_w=METERS[meter]["step_w"], gain_std=GAIN_STD)
    exact = power_w * INTERVAL_S
    lag = read_energy(now_w, before_w, f32(1.0), **how, step_w=0.0) - exact
    assert lag.std() == pytest.approx(told.lag_j, rel=0.02)
    drift = read_energy(now_w, now_w, gain, **how, step_w=0.0) - exact
    assert drift.std() == pytest.approx(told.gain_j, rel=0.02)
    moving = f32(rng.uniform(1.0, 3.0, n))
    rounding = read_energy(moving, moving, f32(1.0), **how, step_w=METERS[meter]["step_w"]) - moving * INTERVAL_S
    values = int(INTERVAL_S / METERS[meter]["window_s"])
    assert told.rounding_j / math.sqrt(values) * 0.98 < rounding.std() < told.rounding_j * 1.02
    whole = read_energy(now_w, before_w, gain, **how, step_w=METERS[meter]["step_w"]) - exact
    assert whole.std() == pytest.approx(told.total_j, rel=0.05)


def test_over_many_intervals_rounding_falls_lag_telescopes_and_gain_stays() -> None:
    """Sums of `read_energy` over k intervals of a power that jumps about, many boards at once."""
    rng = np.random.default_rng(2)
    boards, intervals, spread_w = 4_000, 60, 0.3
    how = {**METERS["ina231-vendor"], "interval_s": INTERVAL_S}
    watts = f32(rng.normal(2.0, spread_w, (intervals + 1, boards)))
    gain = f32(rng.normal(1.0, GAIN_STD, boards))
    change_w = spread_w * math.sqrt(2)  # between the two ends
    for k in (1, 4, 60):
        off_j = sum(
            read_energy(watts[i + 1], watts[i], gain, **how) - watts[i + 1] * np.float32(INTERVAL_S) for i in range(k)
        )
        one = energy_error(2.0, change_w, **how, gain_std=GAIN_STD)
        told = math.hypot(one.lag_j, one.rounding_j * math.sqrt(k), one.gain_j * k)
        assert np.std(off_j) == pytest.approx(told, rel=0.06), k


def test_figures_that_a_person_can_check() -> None:
    """XU3, mainline driver: 25 mW steps, 35.2 ms windows, half a second."""
    how = {**METERS["ina231"], "interval_s": 0.5}
    one = energy_error(3.0, 1.0, **how, gain_std=0.01)
    assert one.lag_j == pytest.approx(0.0352)
    assert one.rounding_j == pytest.approx(0.025 * 0.5 / math.sqrt(12 * 14))  # 0.96 mJ
    assert one.gain_j == pytest.approx(0.015)


def test_rails_err_independently() -> None:
    """3, 4 and 12 make 13; the gains alone, of meters without a window's lag and without steps."""
    how = {"window_s": 0.0352, "step_w": 0.0, "interval_s": INTERVAL_S}
    steady_j = {"a7": 3.0, "a15": 4.0, "mem": 12.0}
    assert rails_error_j(steady_j, steady_j, **how, gain_std=0.1) == pytest.approx(1.3)
    # one jumped by so much that its lag is 4 J
    before_j = {**steady_j, "a7": 3.0 + 4.0 * INTERVAL_S / 0.0352}
    assert rails_error_j(steady_j, before_j, **how, gain_std=0.0) == pytest.approx(4.0)
    assert rails_error_j(steady_j, before_j, **how, gain_std=0.1) == pytest.approx(math.hypot(4.0, 1.3))


def test_a_temperature_is_rounded_down_to_the_sensors_step() -> None:
    temp_c = f32([49.99, 50.0, 50.49, 50.5, 50.99, -0.01])
    assert read_temperature(temp_c, 1.0).tolist() == [49.0, 50.0, 50.0, 50.0, 50.0, -1.0]
    assert read_temperature(temp_c, 0.5).tolist() == [49.5, 50.0, 50.0, 50.5, 50.5, -0.5]
    np.testing.assert_array_equal(read_temperature(temp_c, 0.0), temp_c)


def test_a_board_tells_its_temperature_by_the_sensors_step() -> None:
    simulator = seeded(0, 8)
    simulator.inject(np.zeros((2, 8), np.float32), np.zeros(8, np.float32), f32(np.linspace(20.0, 21.0, 8)))
    knobs = np.zeros((2 + len(MODEL.spec.clocks), 8), np.intp)
    interval = simulator.step(knobs, np.full(8, 2.0, np.float32), np.ones(8, np.float32))
    assert MODEL.sensor.temp_step_c == 1.0
    np.testing.assert_array_equal(interval.temp_c, np.floor(interval.exact_temp_c))
    assert (interval.temp_c < interval.exact_temp_c).all()
