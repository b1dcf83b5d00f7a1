"""Recipes, and that training does what they say: each setting reaches what it is of."""

from __future__ import annotations

from typing import get_args

import pytest

from dyndnn.errors import NetworkError
from dyndnn.recipes import RECIPES, default_config, recipe
from dyndnn.schemes import stages
from dyndnn.train_config import Scheme


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
