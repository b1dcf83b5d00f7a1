"""Training through Stable-Baselines3, and the way out of it: weights into a policy that flies without torch.

With `agents.imitate` the only room here with torch and SB3 in it. Training runs on the CPU with one torch thread: for
networks this small a second thread is slower, and many times slower on a machine that has anything else to do.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, configure
from stable_baselines3.common.vec_env import VecEnv

from agents.imitate import LANES, imitate, lessons
from agents.learn_config import ALGOS, LearnConfig, fast_config
from agents.policy_file import Header, Layer
from agents.saved import SavedPolicy
from envs.codec import Codec
from envs.sb3 import BoardVecEnv
from hw.errors import InputError
from hw.types import BoardSpec, Profile

__all__ = ["LearnConfig", "Trained", "export", "fast_config", "make_model", "train", "versions"]

ACTIVATIONS: dict[str, type[torch.nn.Module]] = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}
LOG_STEPS = 8192  # environment steps between two rows of the log, for algorithms without long rollouts


@dataclass(frozen=True)
class Trained:
    """What came out of a training run."""

    model: BaseAlgorithm
    steps: int  # environment steps taken
    interrupted: bool  # by Ctrl-C; the model is what there was by then
    seconds: float

    @property
    def steps_per_s(self) -> float:
        """Environment steps per second, learning included."""
        return self.steps / max(self.seconds, 1e-9)


class _Report(BaseCallback):
    """Writes the environment's statistics to the log, tells of progress, lets the entropy bonus fade."""

    def __init__(self, config: LearnConfig, env: VecEnv, on_progress: Callable[[int, float], None] | None) -> None:
        super().__init__()
        self._config = config
        self._pop: Callable[[], dict[str, float]] = getattr(env, "pop_statistics", dict)
        self._on_progress = on_progress
        self._logged = 0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        config, model = self._config, self.model
        if isinstance(model, PPO | MaskablePPO):
            left = max(0.0, 1.0 - self.num_timesteps / config.steps)
            model.ent_coef = config.ent_coef * (0.1 + 0.9 * left)
        elif self.num_timesteps - self._logged < LOG_STEPS and self.num_timesteps < config.steps:
            return  # one rollout of DQN is a single step
        self._logged = self.num_timesteps
        statistics = self._pop()
        for name, value in statistics.items():
            if math.isfinite(value):
                self.logger.record(name, value)
        if isinstance(model, DQN):
            model.dump_logs()
        if self._on_progress is not None:
            self._on_progress(self.num_timesteps, statistics.get("reward/total", math.nan))


def make_model(config: LearnConfig, env: VecEnv) -> BaseAlgorithm:
    """An untrained SB3 model of this configuration on `env`.

    Raises:
        InputError: the action space of `env` does not suit the algorithm.
    """
    torch.set_num_threads(1)
    common: dict[str, Any] = {
        "gamma": config.gamma,
        "learning_rate": lambda left: config.learning_rate * max(left, 0.05),
        "seed": config.seed,
        "device": "cpu",  # such a network gains nothing from a GPU, and SB3 warns of one
    }
    activation = ACTIVATIONS[config.activation]
    hidden = list(config.hidden)
    if config.algo == "dqn":
        if not isinstance(env.action_space, spaces.Discrete):
            raise InputError.at("algo", "dqn needs one list of choices", want='action_view="flat"')
        return DQN(
            "MlpPolicy",
            env,
            buffer_size=config.buffer_size,
            learning_starts=min(config.learning_starts, config.steps // 4),
            batch_size=config.batch_size,
            train_freq=1,
            gradient_steps=config.gradient_steps,
            target_update_interval=config.target_update_steps,
            exploration_fraction=config.exploration_share,
            exploration_final_eps=config.exploration_final,
            policy_kwargs={"net_arch": hidden, "activation_fn": activation},
            **common,
        )
    algorithm: Any = MaskablePPO if config.algo == "maskable_ppo" else PPO
    model: BaseAlgorithm = algorithm(
        "MlpPolicy",
        env,
        n_steps=config.n_steps,
        batch_size=_minibatch(config.n_steps * env.num_envs, config.batch_size),
        n_epochs=config.n_epochs,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_range,
        ent_coef=config.ent_coef,
        vf_coef=config.vf_coef,
        policy_kwargs={"net_arch": {"pi": hidden, "vf": hidden}, "activation_fn": activation},
        **common,
    )
    return model


def train(
    config: LearnConfig,
    env: VecEnv,
    *,
    tensorboard_dir: Path | None,
    on_progress: Callable[[int, float], None] | None = None,
    on_lesson: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train on `env`, the lab's batched environment.

    PPO and MaskablePPO start from `config.lessons` observations of a clairvoyant teacher (`agents.imitate`)
    where `env` is ours, a twentieth of the steps at most; `on_lesson(seen, of)` is called as they come in.

    TensorBoard events and `progress.csv` go to `tensorboard_dir`, with `env.pop_statistics()` among them.
    `on_progress(steps, reward)` is called after every rollout: steps so far, mean reward per interval since
    the last call (NaN where the environment does not tell). Ctrl-C ends the training early and is reported
    in the result.

    Raises:
        InputError: the action space of `env` does not suit the algorithm.
    """
    model = make_model(config, env)
    silent = tensorboard_dir is None
    model.set_logger(Logger(None, []) if silent else configure(str(tensorboard_dir), ["tensorboard", "csv"]))
    interrupted = False
    start = time.perf_counter()
    try:
        count = min(config.lessons, config.steps // 20)  # a short training is not all school
        if count and isinstance(model, PPO | MaskablePPO) and isinstance(env, BoardVecEnv):
            rng = np.random.default_rng([config.seed, 2])
            school = env.twin(LANES, seed=config.seed + env.num_envs)
            imitate(model, *lessons(school, count, rng, on_lesson), rng)
        # DQN counts episodes here, and its log is written by the callback
        every = 2**62 if isinstance(model, DQN) else 1
        model.learn(config.steps, callback=_Report(config, env, on_progress), log_interval=every)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        model.logger.close()
    return Trained(model, model.num_timesteps, interrupted, time.perf_counter() - start)


def export(
    model: BaseAlgorithm,
    codec: Codec,
    path: str | Path | None,
    *,
    profile: Profile,
    spec: BoardSpec,
    command: str = "",
    config: LearnConfig | Mapping[str, object] | None = None,
) -> SavedPolicy:
    """The acting part of a trained model as a policy that flies; also written to `path` where one is given.

    Raises:
        InputError: `path` cannot be written, or the model is none that can be exported.
    """
    if isinstance(model, DQN):
        parts: list[torch.nn.Module] = [model.q_net.q_net]
        activation = model.q_net.activation_fn
    elif isinstance(model, PPO | MaskablePPO):
        parts = [model.policy.mlp_extractor.policy_net, model.policy.action_net]
        activation = model.policy.activation_fn
    else:
        raise InputError.at("model", f"{type(model).__name__} cannot be exported", want=f"{', '.join(ALGOS)}")
    names = [name for name, kind in ACTIVATIONS.items() if kind is activation]
    if not names:
        known = " or ".join(ACTIVATIONS)
        raise InputError.at("model", f"activation {activation.__name__} cannot be exported", want=known)
    linear = [m for part in parts for m in part.modules() if isinstance(m, torch.nn.Linear)]
    layers: list[Layer] = [(_array(m.weight), _array(m.bias)) for m in linear]
    settings = asdict(config) if isinstance(config, LearnConfig) else dict(config or {})
    header = Header(
        board=spec.name,
        board_hash=spec.hash,
        profile=profile.name,
        profile_checksum=profile.checksum,
        algo="dqn" if isinstance(model, DQN) else "maskable_ppo" if isinstance(model, MaskablePPO) else "ppo",
        activation=names[0],
        sizes=[layers[0][0].shape[1], *(len(b) for _, b in layers)],
        nvec=[int(n) for n in codec.nvec],
        masked=isinstance(model, MaskablePPO),
        codec=codec.to_json(),
        command=command,
        versions=versions(),
        config=settings,
    )
    policy = SavedPolicy(header, layers, "policy" if path is None else path)
    if path is not None:
        policy.save(path)
    return policy


def versions() -> dict[str, str]:
    """Versions of what decides a training run, for the records."""
    try:
        own = importlib.metadata.version("powerband")
    except importlib.metadata.PackageNotFoundError:  # run from a clone that was never installed
        own = "unknown"
    return {
        "powerband": own,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "stable_baselines3": stable_baselines3.__version__,
    }


def _array(parameter: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    return parameter.detach().cpu().numpy().astype(np.float32)


def _minibatch(total: int, wanted: int) -> int:
    """The divisor of `total` nearest to `wanted` in ratio: SB3 warns of a truncated last minibatch."""
    divisors = {d for k in range(1, math.isqrt(total) + 1) if total % k == 0 for d in (k, total // k) if d > 1}
    return min(divisors, key=lambda d: (abs(math.log(d / wanted)), d))
