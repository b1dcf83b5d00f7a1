"""Passes over a data set without gradients: what every rung gets right, and batch-norm statistics taken anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from dyndnn.augment import Batches
from dyndnn.nets import DynamicNet

TEST_BATCH = 500


@torch.no_grad()
def accuracies(
    net: DynamicNet, batches: Batches, rungs: tuple[int, ...], context: AbstractContextManager[Any] | None = None
) -> dict[int, tuple[float, float]]:
    """Per rung: the share of images it gets right, and its mean confidence in the right class.

    `context` surrounds the computation (autocast). Leaves the network in evaluation mode.
    """
    net.eval()
    right, sure = dict.fromkeys(rungs, 0.0), dict.fromkeys(rungs, 0.0)
    dense = net.config.connectivity == "slimmable"
    for x, y in batches.in_order(TEST_BATCH):
        with context or nullcontext():
            shared = None if dense else net.forward_upto(x, max(rungs))
            logits = {k: net(x, k) if shared is None else shared[k] for k in rungs}
        for k in rungs:
            right[k] += float((logits[k].argmax(1) == y).sum())
            sure[k] += float(logits[k].float().softmax(1).gather(1, y[:, None]).sum())
    return {k: (right[k] / len(batches), sure[k] / len(batches)) for k in rungs}


@torch.no_grad()
def settle(net: DynamicNet, rung: int, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
    """Take a dense rung's batch-norm statistics anew, as plain means over `batches`, for the weights as they are.

    While rungs share weights, the statistics of one go stale in the steps that train another (Yu & Huang 2019).
    """
    norms = [part for conv in net.convs() for part in conv.parts(rung) if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
    net.train()
    for x, _ in batches:
        net.features(x, rung)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
