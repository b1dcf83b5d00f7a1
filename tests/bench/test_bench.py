"""`make bench`: one table of ratios, each from one run. No time is asserted, machines differ.

What is compared takes turns, so that a busy machine slows both sides alike; medians of several rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from rich.console import Console
from rich.table import Table
from stable_baselines3 import PPO

from agents.learn import export, fast_config, train
from envs.vector import make_sb3_env
from hw.boardfile import load_board
from hw.profile import open_profile

pytestmark = pytest.mark.bench

BATCHES = (1, 64, 1024, 4096)
ROUNDS = 7
ROUND_S = 0.15  # wall time of one side of one round, about
Row = tuple[str, str, float, str, float]  # what, ours, its rate or time, beside, its rate or time


def stepper(environment: str, n: int, **options: Any) -> Callable[[int], None]:
    """Steps a vector environment with random actions drawn beforehand."""
    env = gymnasium.make_vec(environment, num_envs=n, **options)
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(64)]

    def run(steps: int) -> None:
        for k in range(steps):
            env.step(actions[k % 64])

    return run


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def env_rates(n: int, name: str = "XU3") -> Row:
    """Environment steps per second, a board's and CartPole's."""
    sides = [
        stepper(f"powerband/{name}-v0", n),
        stepper("CartPole-v1", n, vectorization_mode="vector_entry_point"),
    ]
    counts = []
    for run in sides:
        run(20)  # warm up
        counts.append(max(20, int(20 * ROUND_S / seconds(lambda run=run: run(20)))))  # type: ignore[misc]
    rates: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for side, (run, count) in enumerate(zip(sides, counts, strict=True)):
            rates[side].append(n * count / seconds(lambda run=run, count=count: run(count)))  # type: ignore[misc]
    return (
        f"env steps/s, n = {n}",
        f"powerband/{name}-v0",
        median(rates[0]),
        "vector CartPole-v1",
        median(rates[1]),
    )


def learning_rates() -> Row:
    """PPO end to end: our defaults on the batched environment, SB3's on a single one."""
    config = fast_config("ppo", lessons=0)
    config = fast_config("ppo", lessons=0, steps=8 * config.n_envs * config.n_steps)
    env = make_sb3_env("xu3", None, n_envs=config.n_envs, seed=0)
    ours, theirs = [], []
    for _ in range(3):
        ours.append(train(config, env, tensorboard_dir=None).steps_per_s)
        model = PPO("MlpPolicy", gymnasium.make("powerband/XU3-v0"), seed=0, device="cpu")
        took = seconds(lambda model=model: model.learn(4000))  # type: ignore[misc]
        theirs.append(model.num_timesteps / took)
    return (
        "PPO steps/s",
        f"{config.n_envs} envs, our defaults",
        median(ours),
        "1 env, SB3 defaults",
        median(theirs),
    )


def decision_times() -> Row:
    """Median seconds of one decision: the NumPy player, SB3's predict."""
    config = fast_config("ppo", lessons=0, n_envs=8, n_steps=8, batch_size=64, steps=64)
    env: Any = make_sb3_env("xu3", None, n_envs=8, seed=0)
    model = train(config, env, tensorboard_dir=None).model
    spec = load_board("xu3").spec
    player = export(model, env.codec, None, profile=open_profile(spec, None), spec=spec)
    observation = env.reset()[0]
    sides: list[Callable[[], object]] = [
        lambda: player.predict(observation),
        lambda: model.predict(observation, deterministic=True),
    ]
    times: list[list[float]] = [[], []]
    for _ in range(2000):
        for side, call in enumerate(sides):
            times[side].append(seconds(call))
    return "one decision, s", "NumPy player", median(times[0]), "model.predict", median(times[1])


def test_ratios() -> None:
    torch.set_num_threads(1)
    rows = [*(env_rates(n) for n in BATCHES), env_rates(BATCHES[-1], "JetsonNano"), learning_rates(), decision_times()]
    table = Table(title="Ratios of one run (one torch thread)")
    for name in ("what", "ours", "", "beside", " ", "ours / beside"):
        table.add_column(name, justify="left" if name in ("what", "ours", "beside") else "right")
    for what, ours, a, beside, b in rows:
        table.add_row(
            what,
            ours,
            f"{a:,.3g}" if a < 1 else f"{a:,.0f}",
            beside,
            f"{b:,.3g}" if b < 1 else f"{b:,.0f}",
            f"{a / b:.3g}",
        )
    print()
    Console(width=120).print(table)
    figures = np.array([(row[2], row[4]) for row in rows])
    assert np.isfinite(figures).all() and (figures > 0).all()
