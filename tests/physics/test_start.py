"""A board just reset is one that has had nothing to do for long, whatever surrounds it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hw.boardfile import board_names
from hw.catalog import open_board
from hw.simulated.board import SimBoard
from hw.simulated.simulator import Simulator
from hw.types import Demand, Load, Telemetry
from tests.arrays import f32

NOTHING = Demand(rate_hz=1e-6, deadline_s=1.0, accuracy_min=0.0, energy_budget_j=1.0, goal="min_energy")


def at_rest(board: SimBoard, ambient_c: float, intervals: int) -> list[Telemetry]:
    """What a board shows from its reset on, at the clocks that it then has; one frame is due at once."""
    knobs = board.reset(seed=0).granted
    board.inject(Load(busy={}, ambient_c=ambient_c))
    return [board.step(knobs, NOTHING) for _ in range(intervals)]


def fan(board: SimBoard) -> int:
    return int(board.simulator._heat.fan[0])


def total_w(telemetry: Telemetry) -> float:
    assert telemetry.total_energy_j is not None
    return telemetry.total_energy_j / telemetry.interval_s


def test_a_warm_day_starts_with_the_fan_on() -> None:
    """XU3 at 45 C: 66 C with the fan still, so it runs at its first level and holds the board near 57 C."""
    board = open_board("xu3")
    flight = at_rest(board, 45.0, 100)
    assert fan(board) == 1
    for telemetry in flight:
        assert not telemetry.throttled
        assert telemetry.temp_c["soc"] == pytest.approx(57, abs=1)


@pytest.mark.parametrize("name", board_names())
def test_a_board_starts_where_it_would_stay(name: str) -> None:
    """Within what the one frame and leakage at another temperature than 45 C make."""
    ambients_c = np.array([-10.0, 25.0, 35.0, 45.0, 60.0, 85.0], np.float32)
    n = len(ambients_c)
    board = open_board(name)
    simulator = Simulator(board.simulator.model, board.profile, n)
    simulator.inject(np.zeros((len(board.spec.units), n), np.float32), np.zeros(n, np.float32), ambients_c)
    knobs, rate_hz, deadline_s = simulator.granted, f32([NOTHING.rate_hz] * n), f32([NOTHING.deadline_s] * n)
    began = simulator.step(knobs, rate_hz, deadline_s)
    for _ in range(2000):
        stayed = simulator.step(knobs, rate_hz, deadline_s)
    assert began.fan.tolist() == stayed.fan.tolist()
    np.testing.assert_allclose(began.temp_c, stayed.temp_c, atol=1.5)


def test_a_board_in_an_oven_starts_throttled() -> None:
    """Where the last trip is passed without work, too: asked for its highest clocks, it grants the caps."""
    board = open_board("xu3")
    knobs = board.reset(seed=0).granted
    board.inject(Load(busy={}, ambient_c=85.0))
    top = {c.name: c.max_hz for c in board.spec.clocks}
    told = board.step(replace(knobs, freqs_hz=top), NOTHING)
    assert told.throttled and told.granted.freqs_hz == {"a7": 6e8, "a15": 6e8}


@pytest.mark.parametrize("name", board_names())
def test_a_reset_shows_what_the_board_draws_at_rest(name: str) -> None:
    board = open_board(name)
    shown = board.reset(seed=0)
    rest = at_rest(board, 25.0, 3)[-1]
    assert shown.energy_j is not None and rest.energy_j is not None
    for rail, joules in shown.energy_j.items():
        gain = 3 * board.simulator.model.sensor.gain_std
        drawn_w = rest.energy_j[rail] / rest.interval_s
        assert joules / shown.interval_s == pytest.approx(drawn_w, rel=gain, abs=board.simulator.model.sensor.step_w)
    assert list(shown.temp_c.values()) == pytest.approx(list(rest.temp_c.values()), abs=1.0)


def test_a_nano_at_rest() -> None:
    """943-1003 mW in, as on real ones, from the first reading on."""
    board = open_board("jetson_nano")
    assert 0.94 <= total_w(board.reset(seed=0)) <= 1.0


def test_the_first_reading_lags_behind_power_at_rest_rail_by_rail() -> None:
    """Of the interval before, a meter's window still shows: what each rail drew at rest."""
    board = open_board("jetson_nano")
    board.reset(seed=0)
    np.testing.assert_allclose(board.simulator._before_w[:, 0], [0.145, 0.0, 0.83], atol=1e-6)


def test_a_fork_of_a_board_just_reset_starts_as_it_does() -> None:
    board = open_board("xu3")
    knobs = board.reset(seed=0).granted
    board.inject(Load(busy={}, ambient_c=45.0))
    twin = board.simulator.fork(np.zeros(3, np.intp))
    column = np.repeat(board.simulator.granted, 3, axis=1)
    rate, deadline_s = np.full(3, NOTHING.rate_hz, np.float32), np.ones(3, np.float32)
    ahead = twin.step(column, rate, deadline_s)
    told = board.step(knobs, NOTHING)
    assert ahead.temp_c.tolist() == [told.temp_c["soc"]] * 3
    assert ahead.fan.tolist() == [fan(board)] * 3
