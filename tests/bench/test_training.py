"""`make bench`, training: images per second of a ResNet-20's rungs on two cores, by threads and by parts of a batch.

Beside one core in the same run; loosely asserted, since a busy machine blurs it.
"""

from __future__ import annotations

import os
import time
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dyndnn.nets import DynamicNet
from dyndnn.parts import Parts
from dyndnn.recipes import recipe

pytestmark = pytest.mark.bench
ROUNDS, STEPS = 5, 2
WAYS = {"one core": (1, 1), "a second thread": (2, 1), "two parts": (2, 2)}  # threads, parts


def learn(rung: int, net: DynamicNet, x: Tensor, y: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor]:
    logits = net(x, rung)
    loss = F.cross_entropy(logits, y)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), (logits.argmax(1) == y).sum()


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core")
def test_parts_beside_threads() -> None:
    config = recipe("resnet20-uniform")
    network = config.network()
    x, y = torch.randn(config.batch, *network.input_shape), torch.randint(0, network.classes, (config.batch,))
    x = x.to(memory_format=torch.channels_last)
    for rung in (0, network.rungs - 1):
        trained = []
        for threads, count in WAYS.values():
            torch.set_num_threads(threads)
            net = DynamicNet(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            trained.append((threads, Parts(net, count, torch.device("cpu"))))
        seconds: list[list[float]] = [[] for _ in WAYS]
        for _ in range(ROUNDS):  # in turns, so that what else the machine does hits all of them
            for (threads, parts), spent in zip(trained, seconds, strict=True):
                torch.set_num_threads(threads)
                start_s = time.perf_counter()
                for _ in range(STEPS):
                    parts.nets[0].zero_grad(set_to_none=True)
                    parts.step(partial(learn, rung), x, y, None)
                spent.append((time.perf_counter() - start_s) / STEPS)
        for _, parts in trained:
            parts.close()
        rates = [config.batch / min(spent) for spent in seconds]
        words = ", ".join(f"{way} {rate:.0f}" for way, rate in zip(WAYS, rates, strict=True))
        print(f"\nResNet-20, rung {rung + 1}, images per second: {words}; parts / one core {rates[2] / rates[0]:.2f}")
        assert rates[2] / rates[0] >= 1.3
