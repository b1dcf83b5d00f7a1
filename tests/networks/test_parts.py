"""A step in parts: the mean over parts that each normalise by themselves; on two cores no other than on one."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dyndnn.checkpoint import load_net
from dyndnn.data import load_data
from dyndnn.nets import DynamicNet
from dyndnn.parts import Parts
from dyndnn.recipes import default_config
from dyndnn.train import train
from tests.networks.conftest import random_net

CPU = torch.device("cpu")


@pytest.fixture
def cores() -> Iterator[None]:
    """Threads as they were, afterwards."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def learn(rung: int, net: DynamicNet, x: Tensor, y: Tensor, taught: Tensor | None) -> tuple[Tensor, Tensor]:
    logits = net(x, rung)
    loss = F.cross_entropy(logits, y)
    if taught is not None:
        loss = loss + F.mse_loss(logits, taught)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), (logits.argmax(1) == y).sum()


def batch(n: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(n, 3, 16, 16, generator=rng), torch.randint(0, 10, (n,), generator=rng)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("connectivity", ["group", "slimmable"])
@pytest.mark.parametrize("teacher", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_a_step_is_the_mean_over_its_parts(
    cores: None, connectivity: str, count: int, teacher: bool, threads: int
) -> None:
    torch.set_num_threads(threads)
    net = random_net("resnet20", connectivity).train()
    x, y = batch(10)  # parts of 4, 3 and 3 images
    taught = torch.randn(10, 10) if teacher else None
    wanted, loss, right = {name: torch.zeros_like(p) for name, p in net.named_parameters()}, 0.0, 0
    for indices in torch.arange(10).tensor_split(count):
        by_hand = copy.deepcopy(net)
        found = learn(1, by_hand, x[indices], y[indices], None if taught is None else taught[indices])
        loss, right = loss + float(found[0]) * len(indices) / 10, right + int(found[1])
        for name, p in by_hand.named_parameters():
            if p.grad is not None:
                wanted[name] += p.grad * len(indices) / 10
    parts = Parts(net, count, CPU)
    for _ in range(2):  # nothing of a step is left in the next one
        net.zero_grad(set_to_none=True)
        told = parts.step(partial(learn, 1), x, y, taught)
    parts.close()
    assert float(told[0]) == pytest.approx(loss, rel=1e-5)
    assert int(told[1]) == right
    for name, p in net.named_parameters():
        found_gradient = torch.zeros_like(p) if p.grad is None else p.grad
        torch.testing.assert_close(found_gradient, wanted[name], rtol=1e-3, atol=1e-5)


def test_copies_follow_the_weights() -> None:
    net = random_net("resnet20", "slimmable").train()
    parts = Parts(net, 2, CPU)
    x, y = batch(8)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        optimiser.zero_grad(set_to_none=True)
        parts.step(partial(learn, 3), x, y, None)
        optimiser.step()
    for ours, theirs in zip(net.parameters(), parts.nets[1].parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("connectivity", "scheme"), [("slimmable", "single_path"), ("nested", "incremental")])
def test_cores_change_nothing_but_the_time(cores: None, tmp_path: Path, connectivity: str, scheme: str) -> None:
    data = load_data("digits")
    c = default_config(
        "digits", "alexnet", connectivity, scheme, epochs=(1,), channels=(8, 16, 16, 16, 16), parts=2, batch=128
    )
    nets = []
    for threads in (1, 2):
        train(c, data, tmp_path / str(threads), device="cpu", threads=threads)
        nets.append(load_net(tmp_path / str(threads)))
    for (name, one), two in zip(nets[0].state_dict().items(), nets[1].state_dict().values(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4, msg=name)
