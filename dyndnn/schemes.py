"""How rungs are trained: which stages a scheme has, which rungs a step trains, what is held still, the losses.

| scheme | stages | trained in a step | source |
|---|---|---|---|
| `incremental` | one per group, smaller groups frozen | the group's rung | Tann et al., 2016; Xun et al., MLCAD 2019 |
| `multi_path` | one per rung, the weights of smaller rungs held | the rung | ASP-DAC 2021, as the baseline |
| `single_path` | one | a rung, drawn per batch or epoch | Yang & Fan, ASP-DAC 2021 |
| `joint` | one | groups: all rungs; dense: the sandwich, taught by the largest | Yu & Huang, ICCV 2019 |
| `alone` | one | the largest rung | what every rung is compared with |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dyndnn.costs import macs
from dyndnn.errors import NetworkError
from dyndnn.netconfig import NetConfig, convolutions
from dyndnn.nets import DynamicNet, SlimmableConv
from dyndnn.train_config import STAGED, TrainConfig

BACKWARD = 3  # a training step costs about three forward passes
# What a convolution's batch norm, ReLU and calls take per image, in multiply-accumulates that take as long. Measured:
# ResNet-20's smallest rung (2.6 million, 21 convolutions) trains in a third of the largest one's time (40.8 million)
BESIDE = 0.7e6


@dataclass(frozen=True)
class Stage:
    """A stretch of training with one optimiser and one learning-rate cycle. Rungs count from 0."""

    index: int
    title: str  # for people: rungs count from 1
    rungs: tuple[int, ...]  # that it trains
    frozen: int  # groups, or dense rungs, below this one stay as they are
    epochs: int
    cost: float  # of an epoch: time per image, in multiply-accumulates


def stages(config: TrainConfig, network: NetConfig) -> list[Stage]:
    """The stages of a scheme; NetworkError where the counts of epochs do not suit them."""
    count = network.rungs if config.scheme in STAGED else 1
    if len(config.epochs) not in (1, count):
        want = f"1 or {count} counts" if count > 1 else "1 count"
        raise NetworkError.at("epochs", f"do not suit {config.scheme}", value=config.epochs, want=want)
    epochs = config.epochs if len(config.epochs) > 1 else config.epochs * count
    cost = [_cost(network, k) for k in range(network.rungs)]
    top = network.rungs - 1
    if config.scheme == "incremental":
        return [
            Stage(k, f"group {k + 1} of {count}", (k,), k, epochs[k], _group_cost(config, network, k))
            for k in range(count)
        ]
    if config.scheme == "multi_path":
        return [Stage(k, f"rung {k + 1} of {count}", (k,), k, epochs[k], BACKWARD * cost[k]) for k in range(count)]
    if config.scheme == "alone":
        return [Stage(0, "alone", (top,), 0, epochs[0], BACKWARD * cost[top])]
    rungs = tuple(range(network.rungs))
    if config.scheme == "joint":
        return [Stage(0, "joint", rungs, 0, epochs[0], BACKWARD * cost[top])]
    turns = config.turns or (1,) * network.rungs
    if len(turns) != network.rungs:
        want = f"{network.rungs} counts"
        raise NetworkError.at("turns", f"do not suit {network.rungs} rungs", value=turns, want=want)
    mean = sum(c * n for c, n in zip(cost, turns, strict=True)) / sum(turns)
    return [Stage(0, "single path", rungs, 0, epochs[0], BACKWARD * mean)]


def _cost(network: NetConfig, k: int) -> float:
    """What a forward pass of rung k takes per image, in multiply-accumulates."""
    passes = 1 if network.connectivity == "slimmable" else k + 1
    return macs(network, k) + BESIDE * passes * len(convolutions(network))


def _group_cost(config: TrainConfig, network: NetConfig, k: int) -> float:
    """Of an epoch of group k, on the mean of the part that it spends alone and the part that it does not."""
    if not k:
        return BACKWARD * _cost(network, 0)
    below = _cost(network, k - 1)
    together = below + BACKWARD * (_cost(network, k) - below)
    own = tuple(n - b for n, b in zip(network.widths[k], network.widths[k - 1], strict=True))
    alone = BACKWARD * _cost(replace(network, widths=(own,)), 0)
    if config.head == "own":
        alone += below
    return config.alone * alone + (1 - config.alone) * together


def parameters(net: DynamicNet, config: TrainConfig, stage: Stage) -> list[nn.Parameter]:
    """What the optimiser of a stage sees: the new group alone, or everything."""
    if config.scheme in STAGED:
        return net.group_parameters(stage.rungs[0])
    return list(net.parameters())


def hold(net: DynamicNet, stage: Stage) -> Callable[[], None]:
    """A function that puts the shared weights that a stage of dense rungs does not train back to what they are now.

    Those are what rungs below `stage.frozen` have, and what none of the stage's rungs reaches: no gradient does, but
    weight decay would have it near zero before its turn comes.
    """
    config = net.config
    largest = stage.rungs[-1]
    if config.connectivity != "slimmable" or (not stage.frozen and largest == config.rungs - 1):
        return lambda: None
    blocks: list[Tensor] = []
    for conv in net.convs():
        assert isinstance(conv, SlimmableConv)
        weight = conv.conv.weight.detach()
        blocks += [weight[conv.out[largest] :], weight[:, conv.seen[largest] :]]
        if stage.frozen:
            blocks.append(weight[: conv.out[stage.frozen - 1], : conv.seen[stage.frozen - 1]])
    if config.head == "added":
        head = net.heads[0]
        assert isinstance(head, nn.Linear)
        weight = head.weight.detach()
        blocks.append(weight[:, config.features[largest] :])
        if stage.frozen:
            blocks += [weight[:, : config.features[stage.frozen - 1]], head.bias.detach()]
    kept = [block.clone() for block in blocks]

    def restore() -> None:
        for block, value in zip(blocks, kept, strict=True):
            block.copy_(value)

    return restore


def plan_epoch(config: TrainConfig, stage: Stage, epoch: int, steps: int) -> list[tuple[int, ...]]:
    """The rungs that each step of an epoch trains, the largest first; the same for the same seed."""
    rungs, count = stage.rungs, len(stage.rungs)
    if config.scheme == "single_path":
        every = np.repeat(rungs, config.turns or 1)
        if config.draw == "epoch":
            turn = np.random.default_rng([config.seed, 1, epoch // len(every)]).permutation(every)
            return [(int(turn[epoch % len(every)]),)] * steps
        rng = np.random.default_rng([config.seed, 2, epoch])
        turns = np.concatenate([rng.permutation(every) for _ in range(steps // len(every) + 1)])
        return [(int(k),) for k in turns[:steps]]
    if config.scheme == "joint":
        rng = np.random.default_rng([config.seed, 3, epoch])
        between = min(config.sandwich - 2, count - 2)
        ends = (rungs[-1], rungs[0]) if count > 1 else (rungs[0],)
        if between <= 0:
            return [ends] * steps
        return [ends + tuple(int(k) for k in rng.permutation(rungs[1:-1])[:between]) for _ in range(steps)]
    return [rungs] * steps


@dataclass(frozen=True)
class Losses:
    """The losses of a step."""

    config: TrainConfig

    def __call__(
        self, net: DynamicNet, x: Tensor, y: Tensor, rungs: tuple[int, ...], taught: Tensor | None, alone: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(loss, logits of its largest rung), to be differentiated one after the other.

        `taught` (n, classes): the teacher's logits; `alone`: the group learns what it can by itself.
        """
        largest = rungs[0]
        if self.config.scheme != "joint":
            if not alone:
                logits = net(x, largest)
                yield self._labelled(logits, y, taught), logits
                return
            feature = net.features(x, largest, first=largest)[-1]
            logits = net.alone(feature, largest)
            loss = self._labelled(logits, y, taught)
            if net.config.head == "own":  # the head gets ready; the group's features do not learn from it
                with torch.no_grad():
                    earlier = net.features(x, largest - 1)
                logits = net.logits([*earlier, feature.detach()], largest)
                loss = loss + self._labelled(logits, y, taught)
            yield loss, logits
        elif net.config.connectivity == "slimmable":
            logits = net(x, largest)
            yield self._labelled(logits, y, taught), logits
            target = logits.detach()
            for rung in rungs[1:]:
                yield _divergence(net(x, rung), target, 1.0), logits
        else:
            everything = net.forward_upto(x, net.config.rungs - 1)
            logits = everything[-1]
            loss = self._labelled(logits, y, taught)
            for smaller in everything[:-1]:
                loss = loss + _divergence(smaller, logits.detach(), 1.0)
            yield loss, logits

    def _labelled(self, logits: Tensor, y: Tensor, taught: Tensor | None) -> Tensor:
        loss = F.cross_entropy(logits.float(), y, label_smoothing=self.config.label_smoothing)
        if taught is None:
            return loss
        share = self.config.teacher_weight
        return (1 - share) * loss + share * _divergence(logits, taught, self.config.temperature)


def _divergence(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence from the target's probabilities, times temperature squared (Hinton et al. 2015)."""
    ours = F.log_softmax(logits.float() / temperature, 1)
    theirs = F.log_softmax(target.float() / temperature, 1)
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * temperature**2
