"""A head start for PPO: a few seconds of imitating the clairvoyant one-interval choice, in simulation.

Choices that only pay together (another cluster and its clock) are hard to find by exploring one axis at a time:
left alone, PPO settles on the big cluster and never learns what the small one is for. The teacher looks
ahead in the training scenarios only; what flies has learned to guess from telemetry what the teacher knew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from envs.batch import DEADLINE, RATE, Batch
from envs.sb3 import BoardVecEnv

LANES = 48
STRAY = 0.25  # share of random actions while collecting, to see what to do off the teacher's path
EPOCHS, BATCH, LEARNING_RATE = 40, 512, 2e-3


def best_points(batch: Batch) -> NDArray[np.intp]:
    """(n,) operating point with the highest reward of the coming interval, for each lane of a batch."""
    simulator = batch.simulator
    points = simulator.flat_points
    count = points.shape[1]
    best = np.empty(batch.n, np.intp)
    batch.inject()
    for lane in range(batch.n):
        now = batch.now[:, lane]
        rate, deadline = np.full(count, now[RATE]), np.full(count, now[DEADLINE])
        interval = simulator.fork(np.full(count, lane)).step(points, rate, deadline)
        best[lane] = int(np.argmax(sum(batch.terms(interval, now).values())))
    return best


def lessons(
    env: BoardVecEnv, samples: int, rng: np.random.Generator, on_progress: Callable[[int, int], None] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Observations (n, d) and the teacher's actions for them, (n, len(nvec)) or (n,) when flat.

    n is `samples`, rounded up to whole steps of all lanes; `on_progress(seen, n)` is called after each.
    """
    flat = env.codec.action_view == "flat"
    points = env.codec.flat_points
    observation = env.reset()
    seen, taught = [], []
    steps = -(-samples // env.num_envs)
    for _ in range(steps):
        best = best_points(env.batch)
        action = best if flat else points[:, best].T
        seen.append(observation)
        taught.append(action)
        stray = rng.random(env.num_envs) < STRAY
        random = rng.integers(0, points.shape[1], env.num_envs)
        played = np.where(stray, random, best)
        observation, *_ = env.step(played if flat else points[:, played].T)
        if on_progress is not None:
            on_progress(len(seen) * env.num_envs, steps * env.num_envs)
    return np.concatenate(seen), np.concatenate(taught).astype(np.int64)


def imitate(
    model: OnPolicyAlgorithm,
    observations: NDArray[np.float32],
    actions: NDArray[np.int64],
    rng: np.random.Generator,
) -> float:
    """Fit the policy of a PPO or MaskablePPO to the lessons; returns the last mean log-likelihood of an action."""
    policy: Any = model.policy
    seen, taught = torch.as_tensor(observations), torch.as_tensor(actions)
    optimiser = torch.optim.Adam(policy.parameters(), lr=LEARNING_RATE)
    mean = float("nan")
    for epoch in range(EPOCHS):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * (1 - epoch / EPOCHS)
        order = torch.as_tensor(rng.permutation(len(seen)))
        total = 0.0
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            likelihood = policy.get_distribution(seen[rows]).log_prob(taught[rows]).mean()
            optimiser.zero_grad()
            (-likelihood).backward()
            optimiser.step()
            total += float(likelihood.detach()) * len(rows)
        mean = total / len(order)
    return mean
