"""What flies does what was trained: the NumPy player and SB3 choose the same action."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.learn import LearnConfig, export, fast_config, make_model, train
from agents.saved import SavedPolicy
from envs.vector import make_sb3_env
from hw.boardfile import load_board
from hw.errors import InputError
from hw.profile import open_profile

OBSERVATIONS = 1000
TIE = 1e-5  # SB3 takes the argmax of probabilities, the player of logits: closer than this is a tie


def small(algo: str, **changes: Any) -> LearnConfig:
    return fast_config(algo, **{"n_envs": 8, "n_steps": 8, "batch_size": 64, "steps": 256, **changes})


def exported(config: LearnConfig, path: Path | None = None, trained: bool = True) -> tuple[Any, SavedPolicy, Any]:
    """(model, player, env); a few updates move the weights off their start, where logits are nearly equal."""
    env: Any = make_sb3_env("xu3", None, n_envs=config.n_envs, seed=1, action_view=config.action_view)
    model = train(config, env, tensorboard_dir=None).model if trained else make_model(config, env)
    spec = load_board("xu3").spec
    player = export(model, env.codec, path, profile=open_profile(spec, None), spec=spec, config=config)
    return model, player, env


def observations(env: Any, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Half of them seen on the board under random actions, half drawn around those."""
    seen = [env.reset()]
    while sum(map(len, seen)) < OBSERVATIONS // 2:
        env.step_async(np.array([env.action_space.sample() for _ in range(env.num_envs)]))
        seen.append(env.step_wait()[0])
    real = np.concatenate(seen)[: OBSERVATIONS // 2]
    drawn = real + rng.normal(scale=0.3, size=real.shape)
    return np.concatenate([real, drawn.clip(env.observation_space.low, env.observation_space.high)]).astype(np.float32)


def masks(player: SavedPolicy, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Random masks that leave at least one choice of each sub-action."""
    found = rng.random((OBSERVATIONS, player.header.sizes[-1])) < 0.5
    start = 0
    for n in player.header.nvec:
        found[np.arange(OBSERVATIONS), start + rng.integers(0, n, OBSERVATIONS)] = True
        start += n
    return found


def compare(player: SavedPolicy, expected: Any, seen: Any, masked: Any = None) -> None:
    """Same choice in every sub-action whose best two are further apart than a tie."""
    ends = np.cumsum(player.header.nvec).tolist()
    compared = 0
    for k, observation in enumerate(seen):
        mask = None if masked is None else masked[k]
        action = np.atleast_1d(player.predict(observation, mask))
        logits = player.logits(observation).copy()
        if mask is not None:
            logits[~mask] = -np.inf
        for axis, (n, end) in enumerate(zip(player.header.nvec, ends, strict=True)):
            best = np.sort(logits[end - n : end])[-2:]
            if best[1] - best[0] >= TIE:
                compared += 1
                assert action[axis] == np.atleast_1d(expected[k])[axis], (k, axis, best)
    assert compared > 0.95 * OBSERVATIONS * len(ends), "nearly everything was a tie"


@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "trained"])
@pytest.mark.parametrize("algo", ["ppo", "maskable_ppo", "dqn"])
def test_same_actions(algo: str, trained: bool, tmp_path: Path) -> None:
    model, player, env = exported(small(algo), tmp_path / "policy.npz", trained)
    seen = observations(env, np.random.default_rng(0))
    expected = model.predict(seen, deterministic=True)[0]
    compare(player, expected, seen)
    compare(SavedPolicy.load(tmp_path / "policy.npz"), expected, seen)
    assert player.header.algo == algo and player.header.masked == (algo == "maskable_ppo")


def test_same_actions_with_masks() -> None:
    model, player, env = exported(small("maskable_ppo"))
    rng = np.random.default_rng(0)
    seen, masked = observations(env, rng), masks(player, rng)
    compare(player, model.predict(seen, deterministic=True, action_masks=masked)[0], seen, masked)


def test_same_logits() -> None:
    model, player, env = exported(small("ppo", activation="relu", hidden=(32, 48, 16)))
    seen = observations(env, np.random.default_rng(0))
    with torch.no_grad():
        latent = model.policy.mlp_extractor.policy_net(torch.as_tensor(seen))
        expected = model.policy.action_net(latent).numpy()
    found = np.array([player.logits(observation).copy() for observation in seen])
    assert np.allclose(found, expected, atol=1e-5)


def test_log_and_progress(tmp_path: Path) -> None:
    config = small("ppo")
    env: Any = make_sb3_env("xu3", None, n_envs=config.n_envs, seed=1)
    steps: list[int] = []
    rewards: list[float] = []

    def note(step: int, reward: float) -> None:
        steps.append(step)
        rewards.append(reward)

    result = train(config, env, tensorboard_dir=tmp_path, on_progress=note)
    assert steps == [64, 128, 192, 256] and result.steps == 256 and not result.interrupted
    assert np.isfinite(rewards).all()
    assert list(tmp_path.glob("events.out.tfevents.*"))
    header = (tmp_path / "progress.csv").read_text().splitlines()[0]
    for term in ("energy", "deadline", "accuracy", "switching", "heat"):
        assert f"reward/{term}" in header
    assert "miss_rate" in header and "energy_per_frame_j" in header


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_same_seed_same_weights(algo: str) -> None:
    (_, a, _), (_, b, _) = exported(small(algo)), exported(small(algo))
    for (w, c), (v, d) in zip(a.layers, b.layers, strict=True):
        assert np.array_equal(w, v) and np.array_equal(c, d)


def test_interrupt_keeps_the_model() -> None:
    config = small("ppo", steps=100_000, lessons=0)
    env: Any = make_sb3_env("xu3", None, n_envs=config.n_envs, seed=1)

    def stop(step: int, reward: float) -> None:
        if step >= 192:
            raise KeyboardInterrupt

    result = train(config, env, tensorboard_dir=None, on_progress=stop)
    assert result.interrupted and result.steps == 192
    spec = load_board("xu3").spec
    assert export(result.model, env.codec, None, profile=open_profile(spec, None), spec=spec).layers


def test_wrong_settings() -> None:
    with pytest.raises(InputError, match="no such algorithm; known: ppo, maskable_ppo, dqn"):
        fast_config("sac")
    with pytest.raises(InputError, match="steps"):
        fast_config("ppo", steps=0)
    with pytest.raises(InputError, match="action_view"):
        make_model(small("dqn"), make_sb3_env("xu3", None, n_envs=8, seed=1))
