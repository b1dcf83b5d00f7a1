"""The images of a training step in parts, side by side: each part on a core of its own, where there are so many.

One operation of a small network is too little work for two threads to share; a half of the images for each is not. On
two cores the smallest rung of a ResNet-20 trains 1.06 times as fast with a second thread and 1.8 times as fast in two
parts, the largest 1.87 and 1.94 times (`make bench`). Batch norm sees a part, as it does where a batch is spread over
several GPUs, so the count of parts belongs to the recipe; how many cores there are changes nothing but the time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from dyndnn.nets import DynamicNet

# of the network, images, labels, a teacher's logits: a loss and how many were right, gradients left in the network
Work = Callable[[DynamicNet, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]


class Parts:
    """Copies of a network that share its weights, each with gradients and batch statistics of its own."""

    def __init__(self, net: DynamicNet, count: int, device: torch.device) -> None:
        net.zero_grad(set_to_none=True)  # what is frozen now may have learned before
        self.nets = [net, *(copy.deepcopy(net) for _ in range(count - 1))]
        for other in self.nets[1:]:
            for theirs, own in zip(other.parameters(), net.parameters(), strict=True):
                theirs.data = own.data
        threads = torch.get_num_threads() if device.type == "cpu" else 1
        self.pool: ThreadPoolExecutor | None = None
        if count > 1 and threads > 1:
            workers = min(count, threads)
            self.pool = ThreadPoolExecutor(workers, "part", torch.set_num_threads, (threads // workers,))

    def close(self) -> None:
        """Let the threads end."""
        if self.pool is not None:
            self.pool.shutdown()

    def train(self) -> None:
        """Training mode."""
        for net in self.nets:
            net.train()

    def step(self, work: Work, x: Tensor, y: Tensor, taught: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean loss over a batch and how many were right; its mean gradient is left in the network.

        x (n, ...), y (n,), taught (n, classes), with n at least the count of parts.
        """
        count = len(self.nets)
        if count == 1:
            return work(self.nets[0], x, y, taught)
        several = (self.nets, x.tensor_split(count), y.tensor_split(count))
        hints = taught.tensor_split(count) if taught is not None else (None,) * count
        done = list((map if self.pool is None else self.pool.map)(work, *several, hints))
        shares = [len(part) / len(x) for part in several[1]]
        for parameters in zip(*(net.parameters() for net in self.nets), strict=True):
            gradients = [p.grad for p in parameters]
            own = gradients[0]
            if own is None:  # no part of what the step trained
                continue
            own.mul_(shares[0])
            for share, theirs in zip(shares[1:], gradients[1:], strict=True):
                assert theirs is not None
                own.add_(theirs, alpha=share)
            for p in parameters[1:]:
                p.grad = None
        loss = torch.stack([loss for loss, _ in done]).mul(torch.tensor(shares, device=x.device)).sum()
        return loss, torch.stack([right for _, right in done]).sum()
