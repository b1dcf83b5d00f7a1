"""The learning smoke test: a short training beats chance, and beats full speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from agents.learn import export, train
from agents.learn_config import fast_config
from agents.policy import Policy, policy_names
from agents.runtime import control
from envs.families import scenario_set
from envs.reward import DEFAULT_WEIGHTS
from envs.scenario import Scenario
from envs.vector import make_sb3_env
from experiments._evaluate import evaluate
from experiments._metrics import episode_row
from experiments._summary import summarise
from hw.catalog import open_board
from hw.simulated.board import SimBoard
from hw.types import BoardSpec, Demand, Knobs, Profile, Telemetry

STEPS = 200_000  # a third of a minute on one core: enough to learn, not to excel


class Chance:
    """Any rung, place and frequency, each as likely."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def reset(self, spec: BoardSpec, profile: Profile) -> None:
        self._spec, self._rungs = spec, len(profile.rungs)

    def act(self, telemetry: Telemetry, demand: Demand) -> Knobs:
        unit, cores = self._spec.placements[self._rng.integers(len(self._spec.placements))]
        freqs = {c.name: c.freqs_hz[self._rng.integers(len(c.freqs_hz))] for c in self._spec.clocks}
        return Knobs(rung=int(self._rng.integers(self._rungs)) + 1, unit=unit, cores=cores, freqs_hz=freqs)


def reward(policy: Policy, board: SimBoard, scenarios: Sequence[Scenario]) -> float:
    """Mean per interval over the scenarios."""
    return float(np.mean([flight_reward(policy, board, scenario) for scenario in scenarios]))


def flight_reward(policy: Policy, board: SimBoard, scenario: Scenario) -> float:
    demands: list[Demand] = []

    def hear(_: int, demand: Demand, __: Telemetry) -> None:
        demands.append(demand)

    first = board.reset(seed=0)
    record = control(board, policy, scenario, board.profile, seed=0, on_interval=hear)
    return episode_row("", scenario.name, 0, first, record, demands, board.profile, DEFAULT_WEIGHTS).reward_mean


@pytest.mark.parametrize(("algo", "steps"), [("ppo", STEPS)])
def test_a_short_training_beats_chance_and_full_speed(algo: str, steps: int, tmp_path: Path) -> None:
    board = open_board("xu3")
    config = fast_config(algo, steps=steps, seed=1)
    env = make_sb3_env("xu3", None, n_envs=config.n_envs, seed=1, action_view=config.action_view)
    trained = train(config, env, tensorboard_dir=None)
    file = tmp_path / "policy.npz"
    policy = export(trained.model, env.codec, file, profile=board.profile, spec=board.spec, config=config)
    scenarios = scenario_set("held_out", board.spec, board.profile, 8)
    comparison = evaluate([file, "performance@auto"], "xu3", board.profile, scenarios, [0])
    learned, careful = (s.reward_mean for s in summarise(comparison))
    assert summarise(comparison)[0].controller == str(file)
    assert learned > careful
    assert reward(policy, board, scenarios) == pytest.approx(learned)  # the file flies as the model it came from
    assert learned > reward(Chance(np.random.default_rng(0)), board, scenarios)


@pytest.mark.slow
def test_the_default_training_meets_its_numbers(tmp_path: Path) -> None:
    """What the project promises of `train_agent.py --board xu3`, five seeds; about two minutes."""
    board = open_board("xu3")
    config = fast_config("ppo")
    env = make_sb3_env("xu3", None, n_envs=config.n_envs, seed=0, action_view=config.action_view)
    trained = train(config, env, tensorboard_dir=None)
    file = tmp_path / "policy.npz"
    export(trained.model, env.codec, file, profile=board.profile, spec=board.spec, config=config)
    scenarios = scenario_set("held_out", board.spec, board.profile, 8)
    names: list[str | Path] = [file, "oracle", *(n for n in policy_names() if "@" in n)]
    found = {s.controller: s for s in summarise(evaluate(names, "xu3", board.profile, scenarios, range(5)))}
    learned, oracle = found.pop(str(file)), found.pop("oracle")
    assert learned.regret_normalised <= 0.20
    assert learned.miss_rate <= oracle.miss_rate + 0.01
    assert learned.breach_rate < 0.005
    # governor-and-rung pairs as accurate and as punctual as it is; where none is (the XU3 throttles at full speed),
    # those as accurate that miss least
    accurate = [s for s in found.values() if s.breach_rate <= learned.breach_rate]
    fewest = min(s.miss_rate for s in accurate)
    punctual = [s for s in accurate if s.miss_rate <= max(learned.miss_rate, fewest)]
    assert punctual
    assert all(learned.energy_per_frame_j <= 0.6 * s.energy_per_frame_j for s in punctual)
