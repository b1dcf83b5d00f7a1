"""The settings of a training run, apart from the torch that runs it: a command line reads them quickly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from hw.errors import InputError

Algo = Literal["ppo", "maskable_ppo", "dqn"]
ALGOS: tuple[str, ...] = get_args(Algo)
MAX_SEED = 2**32 - 1  # NumPy's old generator, which SB3 seeds too, takes no more


@dataclass(frozen=True, kw_only=True)
class LearnConfig:
    """Everything that decides a training run besides the board. Defaults: PPO; `fast_config` has the others'.

    Many environments, short rollouts and few large minibatches make a step cheap. A control interval is felt
    for a few intervals only (backlog, heat, switching), hence the small discount factor.
    """

    algo: Algo = "ppo"
    steps: int = 2_400_000  # environment steps, all environments together
    n_envs: int = 512
    seed: int = 0
    learning_rate: float = 1.5e-3  # decays linearly to a twentieth
    gamma: float = 0.4  # an interval reaches little further than the next: a backlog, a switch, a kelvin
    lessons: int = 30_000  # observations of the teacher to start from; 0 starts from nothing
    hidden: tuple[int, ...] = (64, 64)
    activation: Literal["tanh", "relu"] = "tanh"
    batch_size: int = 2048
    # PPO and MaskablePPO
    n_steps: int = 16  # per environment and rollout
    n_epochs: int = 3
    gae_lambda: float = 0.9
    clip_range: float = 0.2
    ent_coef: float = 0.005  # decays linearly to a tenth: explore first, commit later
    vf_coef: float = 0.5
    # DQN
    buffer_size: int = 200_000
    learning_starts: int = 10_000
    gradient_steps: int = 1  # per step of all environments
    target_update_steps: int = 10_000
    exploration_share: float = 0.4  # of the training, over which random actions fade out
    exploration_final: float = 0.02

    def __post_init__(self) -> None:
        if self.algo not in ALGOS:
            raise InputError.at("algo", "no such algorithm", value=self.algo, want=f"known: {', '.join(ALGOS)}")
        for name in ("steps", "n_envs", "batch_size", "n_steps", "n_epochs", "gradient_steps"):
            if getattr(self, name) < 1:
                raise InputError.at(name, "too low", value=getattr(self, name), want="at least 1")
        if self.algo != "dqn" and self.n_envs * self.n_steps < 2:
            raise InputError.at("n_steps", "too low", value=self.n_steps, want="a rollout of at least 2 steps")
        if not 0 <= self.seed <= MAX_SEED:
            raise InputError.at("seed", "out of range", value=self.seed, want=f"from 0 to {MAX_SEED}")
        if self.lessons < 0:
            raise InputError.at("lessons", "too low", value=self.lessons, want="at least 0")
        if not 0 <= self.gamma <= 1:
            raise InputError.at("gamma", "not a discount factor", value=self.gamma, want="from 0 to 1")
        if not self.hidden or min(self.hidden) < 1:
            raise InputError.at("hidden", "no layers", value=self.hidden, want="widths of at least 1")

    @property
    def action_view(self) -> Literal["multi", "flat"]:
        """The view of the action space the algorithm can learn in; Q-learning needs one list of choices."""
        return "flat" if self.algo == "dqn" else "multi"


def fast_config(algo: str, **changes: Any) -> LearnConfig:
    """The defaults of an algorithm, with `changes`; InputError where there is no such algorithm."""
    config = LearnConfig(algo=algo)  # type: ignore[arg-type]  # checked by the config itself
    if algo == "dqn":
        config = replace(config, n_envs=512, batch_size=1024, activation="relu", steps=1_000_000)
    return replace(config, **changes)
