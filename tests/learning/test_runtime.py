"""The one loop: deterministic, bounded, and it shows the policy what it may see and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from agents.policy import make_policy
from agents.runtime import control
from envs.families import generate, scenario_set
from envs.scenario import Scenario
from hw.catalog import open_board
from hw.profile import open_profile
from hw.types import Board, BoardSpec, Demand, Knobs, Load, Profile, Telemetry


@pytest.fixture
def board() -> Iterator[Board]:
    board = open_board("xu3")
    yield board
    board.close()


@pytest.fixture
def profile(board: Board) -> Profile:
    return open_profile(board.spec, None)


@pytest.fixture
def scenario(board: Board, profile: Profile) -> Scenario:
    return scenario_set("held_out", board.spec, profile, 1, seed=4)[0]


class Recorder:
    """Wraps a board and a policy and notes in which order they are called."""

    def __init__(self, board: Board) -> None:
        self.board, self.spec = board, board.spec
        self.calls: list[str] = []
        self.loads: list[Load] = []

    def reset(self, *, seed: int | None = None) -> Telemetry:
        self.calls.append("board.reset")
        return self.board.reset(seed=seed)

    def inject(self, load: Load) -> None:
        self.calls.append("inject")
        self.loads.append(load)
        self.board.inject(load)

    def step(self, knobs: Knobs, demand: Demand) -> Telemetry:
        self.calls.append("step")
        return self.board.step(knobs, demand)

    def close(self) -> None:
        self.calls.append("close")


class Spy:
    """Keeps what a policy was given; asks for the lowest clocks."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls
        self.seen: list[tuple[Telemetry, Demand]] = []

    def reset(self, spec: BoardSpec, profile: Profile) -> None:
        self.calls.append("policy.reset")
        freqs = {c.name: c.freqs_hz[0] for c in spec.clocks}
        self.knobs = Knobs(rung=1, unit=spec.big_unit.name, cores=1, freqs_hz=freqs)

    def act(self, telemetry: Telemetry, demand: Demand) -> Knobs:
        self.calls.append("act")
        self.seen.append((telemetry, demand))
        return self.knobs


@pytest.mark.parametrize("name", ["schedutil@auto", "ladder"])
def test_same_seed_same_telemetry(board: Board, profile: Profile, scenario: Scenario, name: str) -> None:
    first, again, other = (control(board, make_policy(name), scenario, profile, seed=s) for s in (7, 7, 8))
    assert first == again
    assert first != other


def test_ends_with_the_scenario(board: Board, profile: Profile, scenario: Scenario) -> None:
    n = scenario.n_intervals(board.spec.interval_s)
    assert n == round(scenario.duration_s / board.spec.interval_s)
    assert len(control(board, make_policy("powersave@1"), scenario, profile, seed=0)) == n
    assert len(control(board, make_policy("powersave@1"), scenario, profile, seed=0, intervals=n + 50)) == n


@pytest.mark.parametrize("intervals", [0, 1, 17])
def test_bounded(board: Board, profile: Profile, scenario: Scenario, intervals: int) -> None:
    flight = control(board, make_policy("powersave@1"), scenario, profile, seed=0, intervals=intervals)
    whole = control(board, make_policy("powersave@1"), scenario, seed=0)  # the profile that the board carries
    assert flight == whole[:intervals]


def test_order_of_calls(board: Board, profile: Profile, scenario: Scenario) -> None:
    recorder = Recorder(board)
    spy = Spy(recorder.calls)
    control(recorder, spy, scenario, profile, seed=0, intervals=2)
    assert recorder.calls[:5] == ["board.reset", "policy.reset", "inject", "act", "step"]
    assert "close" not in recorder.calls


def test_what_the_policy_sees(board: Board, profile: Profile, scenario: Scenario) -> None:
    """The last telemetry and the demand of the interval to come; the load only through the board."""
    recorder = Recorder(board)
    spy = Spy(recorder.calls)
    heard: list[tuple[int, Demand, Telemetry]] = []
    flight = control(recorder, spy, scenario, profile, seed=0, on_interval=lambda k, d, t: heard.append((k, d, t)))
    changes = scenario.changes(board.spec.interval_s)
    rows = [max(row for start, row in changes.items() if start <= k) for k in range(len(flight))]
    assert [d for _, d in spy.seen] == [scenario.demand(row) for row in rows]
    assert [t for t, _ in spy.seen][1:] == flight[:-1]
    assert heard == [(k, spy.seen[k][1], t) for k, t in enumerate(flight)]
    assert recorder.loads == [scenario.background(row, board.spec) for row in changes.values()]
    assert len(changes) > 1, "the scenario has rows to change between"


def test_generated_scenarios_fly(board: Board, profile: Profile) -> None:
    scenario = generate("train", board.spec, profile, np.random.default_rng(0), duration_s=5.0)
    assert len(control(board, make_policy("ondemand@auto"), scenario, profile, seed=None)) == 10
