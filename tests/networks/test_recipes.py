"""Recipes, and that training does what they say: each setting reaches what it is of."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from dyndnn.augment import Augment
from dyndnn.costs import activation_bytes
from dyndnn.data import Dataset
from dyndnn.errors import NetworkError
from dyndnn.loop import Progress, Run
from dyndnn.nets import DynamicNet
from dyndnn.optimiser import stage_optimiser
from dyndnn.recipes import RECIPES, default_config, recipe
from dyndnn.schemes import Losses, stages
from dyndnn.train_config import Scheme, TrainConfig
from tests.networks.conftest import random_net

CHANGES: dict[str, Any] = {"crop": 3, "padding": "zero", "cutout": 5, "color": 0.25, "batch": 16}
CHANGES |= {"learning_rate": 0.03, "warmup": 0.5, "momentum": 0.7, "weight_decay": 0.02}
OTHER = TrainConfig(channels=(4, 6), scheme="joint", epochs=(2,), **CHANGES)  # unlike the defaults
BEGUN = {"seconds": 0.0, "stage": 0, "epoch": 0, "finished": False, "curve": []}


def begin(c: TrainConfig, folder: Path, on_progress: Any = None) -> Run:
    """A run on 64 pictures of noise."""
    shape = c.network().input_shape
    pictures = np.random.default_rng(0).integers(0, 256, (64, *shape), np.uint8)
    labels, spread = np.arange(64) % 10, (0.5,) * shape[0]
    data = Dataset(
        name=c.data,
        train_images=pictures,
        train_labels=labels,
        test_images=pictures,
        test_labels=labels,
        labels=tuple("0123456789"),
        mean=spread,
        std=spread,
    )
    return Run(c, DynamicNet(c.network()), data, folder, torch.device("cpu"), dict(BEGUN, curve=[]), on_progress)


def test_recipes() -> None:
    assert {
        "alexnet-group",
        "alexnet-paper",
        "alexnet-nested",
        "alexnet-slimmable",
        "resnet20-uniform",
    } <= RECIPES.keys()
    for name in RECIPES:
        c = recipe(name, batch=32)
        assert c.batch == 32 and stages(c, c.network())
    for net in ("alexnet", "resnet20"):
        for connectivity in (None, "group", "nested", "slimmable"):
            for data in ("cifar10", "digits"):
                c = default_config(data, net, connectivity)
                assert c.data == data and c.net == net and connectivity in (None, c.connectivity)
                assert c.network().family == net


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("shares", [(0.25, 0.5, 0.75, 1.0), (0.5, 1.0), (1.0,)])
@pytest.mark.parametrize("scheme", get_args(Scheme))
def test_a_recipe_leaves_room_for_other_schemes_and_rungs(name: str, shares: tuple[float, ...], scheme: str) -> None:
    first = recipe(name)
    if scheme == ("incremental" if first.connectivity == "slimmable" else "multi_path"):
        return
    start = (first.data, first.net, first.connectivity)
    for c, usual in (
        (recipe(name, shares=shares, scheme=scheme), first),
        (default_config(*start, scheme, shares=shares), default_config(*start)),
    ):
        found = stages(c, c.network())
        assert found[-1].epochs == usual.epochs[-1]
        assert len({stage.epochs for stage in found}) == 1 or c.epochs == usual.epochs
        assert c.turns == (usual.turns if len(shares) == len(usual.turns) else ())
    with pytest.raises(NetworkError, match="epochs"):
        stages(c := recipe(name, scheme="alone", epochs=(1, 2)), c.network())


def test_images_are_augmented_as_the_recipe_says(tmp_path: Path) -> None:
    says = Augment(crop=3, padding="zero", flip=True, cutout=5, color=0.25)
    assert begin(OTHER, tmp_path / "a").augment == says
    assert begin(replace(OTHER, flip=False), tmp_path / "b").augment == replace(says, flip=False)
    # nobody mirrors a digit
    assert begin(replace(OTHER, data="digits"), tmp_path / "c").augment == replace(says, flip=False)


def test_a_cycle_of_the_rate_is_a_stage(tmp_path: Path) -> None:
    """8 steps: half of them up in a line, half down in half a cosine; a step's rate is that of its middle."""
    rates, wanted = list[float](), list[float]()

    def look(_: Progress) -> None:
        rates.extend({group["lr"] for group in run.optimiser.param_groups})

    run = begin(OTHER, tmp_path, look)
    run.fit(None)
    for step in range(8):
        down = math.cos(math.pi * (step + 0.5 - 4) / 4)
        wanted.append(0.03 * ((step + 0.5) / 4 if step < 4 else (1 + down) / 2))
    assert rates == pytest.approx(wanted)


@pytest.mark.parametrize("momentum", [0.7, 0.0])
def test_kernels_and_classifiers_decay_and_nothing_else(momentum: float) -> None:
    c = replace(OTHER, momentum=momentum, scheme="incremental")
    net = DynamicNet(c.network())
    optimiser = stage_optimiser(net, c, stages(c, net.config)[1])
    decay = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    names = {name: decay[id(p)] for name, p in net.named_parameters() if id(p) in decay}
    assert names == {name: 0.02 if ".convs." in name or name == "heads.1.weight" else 0.0 for name in names}
    assert len(names) == 2 * 3 + 2 and all(".1." in name for name in names)
    assert {(g["momentum"], g["nesterov"]) for g in optimiser.param_groups} == {(momentum, momentum > 0)}


def test_multi_path_costs_what_the_documentation_says() -> None:
    single = recipe("resnet20-uniform")
    several = recipe("resnet20-uniform", scheme="multi_path")
    costs = [[s.cost * s.epochs / 1e9 for s in stages(c, c.network())] for c in (single, several)]
    assert costs[0] == pytest.approx([12.3], abs=0.05) and costs[1] == pytest.approx([5.2, 7.5, 11.3, 16.7], abs=0.05)


def log_softmax(logits: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    found = logits.detach().double().numpy()
    shares: np.ndarray[Any, np.dtype[np.float64]] = found - np.log(np.exp(found).sum(1, keepdims=True))
    return shares


def divergence(ours: torch.Tensor, theirs: torch.Tensor, temperature: float) -> float:
    p, q = log_softmax(theirs / temperature), log_softmax(ours / temperature)
    return float(temperature**2 * (np.exp(p) * (p - q)).sum(1).mean())


def test_losses_are_those_of_the_books() -> None:
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 3, 16, 16, generator=rng), torch.arange(6)
    taught = 2 * torch.randn(6, 10, generator=rng)
    net = random_net("alexnet", "slimmable")
    smooth = 0.8 * np.eye(10)[:6] + 0.2 / 10
    changes: dict[str, Any] = {"label_smoothing": 0.2, "teacher_weight": 0.6, "temperature": 3.0}
    c = TrainConfig(connectivity="slimmable", scheme="single_path", **changes)
    for teacher in (None, taught):
        logits = net(x, 2)
        labelled = -(smooth * log_softmax(logits)).sum(1).mean()
        wanted = labelled if teacher is None else 0.4 * labelled + 0.6 * divergence(logits, teacher, 3.0)
        ((loss, _),) = Losses(c)(net, x, y, (2,), teacher, False)
        assert loss.item() == pytest.approx(wanted, rel=1e-5)
    _, *smaller = Losses(replace(c, scheme="joint"))(net, x, y, (3, 0, 1), None, False)
    wanted_of = [divergence(net(x, k), net(x, 3), 1.0) for k in (0, 1)]
    assert [loss.item() for loss, _ in smaller] == pytest.approx(wanted_of, rel=1e-4)


@pytest.mark.parametrize("family", ["alexnet", "resnet20"])
@pytest.mark.parametrize("connectivity", ["group", "nested", "slimmable"])
def test_activations_are_what_layers_write(family: str, connectivity: str) -> None:
    net = random_net(family, connectivity)
    written: list[torch.Tensor] = []
    for conv in net.convs():
        conv.register_forward_hook(lambda _module, _args, found: written.extend(found))
    for k in range(4):
        written.clear()
        written += net.features(torch.zeros(1, *net.config.input_shape), k)
        assert 4 * (sum(x.numel() for x in written) + net.config.classes) == activation_bytes(net.config, k)
