"""The optimiser of a stage: what it changes and decays, its one cycle of learning rate, what it remembers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from dyndnn.nets import DynamicNet
from dyndnn.schemes import Stage, parameters
from dyndnn.train_config import TrainConfig


def stage_optimiser(net: DynamicNet, config: TrainConfig, stage: Stage) -> torch.optim.SGD:
    """Stochastic gradient descent on what the stage trains; batch norm and biases do not decay."""
    seen = parameters(net, config, stage)
    decaying = [p for p in seen if p.ndim > 1]
    others = [p for p in seen if p.ndim <= 1]
    return torch.optim.SGD(
        [{"params": decaying, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
    )


def set_rate(optimiser: torch.optim.Optimizer, config: TrainConfig, step: int, steps: int) -> None:
    """The learning rate of a step of the stage's `steps`: a line up, half a cosine down (Smith & Topin 2019)."""
    up, now = config.warmup * steps, step + 0.5
    peak = config.learning_rate
    rate = peak * now / up if now < up else peak * 0.5 * (1 + math.cos(math.pi * (now - up) / (steps - up)))
    for group in optimiser.param_groups:
        group["lr"] = rate


def remembered(net: DynamicNet, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Momentum by the parameter's name."""
    found: dict[str, Tensor] = {}
    for name, parameter in net.named_parameters():
        if parameter in optimiser.state:  # reading an entry would make it
            momentum = optimiser.state[parameter].get("momentum_buffer")
            if momentum is not None:
                found[name] = momentum
    return found


def remind(net: DynamicNet, optimiser: torch.optim.Optimizer, momentum: Mapping[str, Tensor]) -> None:
    """The inverse of `remembered`."""
    for name, parameter in net.named_parameters():
        if name in momentum:
            optimiser.state[parameter]["momentum_buffer"] = momentum[name].to(parameter)
