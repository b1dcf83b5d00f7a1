"""Networks as data: shapes, costs, what a rung sees, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from dyndnn.costs import macs, weight_count
from dyndnn.errors import NetworkError
from dyndnn.netconfig import NetConfig, alone, convolutions, free_layers, shares_of
from dyndnn.nets import DynamicNet

SHARES = (0.25, 0.5, 0.75, 1.0)
CHANNELS: dict[str, tuple[int, ...]] = {"alexnet": (8, 12, 16, 12, 20), "resnet20": (4, 8, 12)}
FAMILIES = ("alexnet", "resnet20")
CONNECTIVITIES = ("group", "nested", "slimmable")


def config(family: Any, connectivity: Any, **changes: Any) -> NetConfig:
    widths = shares_of(free_layers(family, CHANNELS[family]), SHARES)
    return NetConfig(**{"family": family, "connectivity": connectivity, "widths": widths} | changes)


@pytest.fixture(params=[(f, c, h) for f in FAMILIES for c in CONNECTIVITIES for h in ("added", "own")], ids="-".join)
def net(request: pytest.FixtureRequest) -> DynamicNet:
    family, connectivity, head = request.param
    torch.manual_seed(0)
    net = DynamicNet(config(family, connectivity, head=head)).train()
    with torch.no_grad():
        for rung in range(net.config.rungs):
            net(torch.randn(16, 3, 32, 32), rung)  # statistics other than those of a new network
    return net.eval()


def test_one_pass_gives_the_logits_of_every_rung_bit_for_bit(net: DynamicNet) -> None:
    x = torch.randn(3, 3, 32, 32)
    together = net.forward_upto(x, net.config.rungs - 1)
    assert [tuple(logits.shape) for logits in together] == [(3, 10)] * 4
    assert all(torch.equal(logits, net(x, k)) for k, logits in enumerate(together))
    assert not any(torch.equal(a, b) for a, b in pairwise(together))


def test_training_order_of_pool_and_relu_is_the_same_function(net: DynamicNet) -> None:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train(False)
    x = torch.randn(3, 3, 32, 32)
    expected = net(x, 3)
    net.training = True
    assert torch.equal(net(x, 3), expected)


def test_the_largest_rung_has_every_weight(net: DynamicNet) -> None:
    if net.config.head == "own":
        return  # smaller rungs have classifiers of their own
    kept = sum(p.numel() for m in net.modules() if isinstance(m, nn.Conv2d) for p in m.parameters())
    biases = sum(net.config.widths[-1][c.target] for c in convolutions(net.config))
    classifier = (net.config.features[-1] + 1) * net.config.classes
    assert weight_count(net.config, 3) == kept + biases + classifier


def test_macs_are_those_of_the_convolutions_that_run(net: DynamicNet) -> None:
    if net.config.connectivity == "slimmable":
        counted = 0

        def conv2d(x: torch.Tensor, weight: torch.Tensor, *rest: Any) -> torch.Tensor:
            nonlocal counted
            y: torch.Tensor = original(x, weight, *rest)
            counted += weight.numel() * y.shape[2] * y.shape[3]
            return y

        original, patch = torch.nn.functional.conv2d, pytest.MonkeyPatch()
        for rung in range(4):
            counted = 0
            with patch.context() as context:
                context.setattr(torch.nn.functional, "conv2d", conv2d)
                net(torch.randn(1, 3, 32, 32), rung)
            assert counted + 10 * net.config.features[rung] == macs(net.config, rung)
        return
    done: list[int] = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, _, y: done.append(m.weight.numel() * y.shape[2] * y.shape[3]))
    for rung in range(4):
        done.clear()
        net(torch.randn(1, 3, 32, 32), rung)
        assert sum(done) + 10 * net.config.features[rung] == macs(net.config, rung)


@pytest.mark.parametrize("connectivity", ["group", "nested"])
@pytest.mark.parametrize("family", FAMILIES)
def test_later_groups_cannot_be_felt(family: str, connectivity: str) -> None:
    net = DynamicNet(config(family, connectivity)).eval()
    x = torch.randn(2, 3, 32, 32)
    before = net.forward_upto(x, 3)
    with torch.no_grad():
        for parameter in net.group_parameters(2):
            parameter.add_(1.0)
    after = net.forward_upto(x, 3)
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True, True, False, False]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_belongs_to_a_group(family: str) -> None:
    for connectivity in CONNECTIVITIES:
        net = DynamicNet(config(family, connectivity))
        groups = [{id(p) for p in net.group_parameters(k)} for k in range(4)]
        assert set().union(*groups) == {id(p) for p in net.parameters()}
        if connectivity != "slimmable":
            assert sum(len(g) for g in groups) == len(set().union(*groups))


def test_frozen_groups_learn_nothing_in_training_mode() -> None:
    net = DynamicNet(config("alexnet", "nested"))
    net.freeze_upto(2)
    net.train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net(torch.randn(4, 3, 32, 32), 2).sum().backward()
    learned = {name for name, p in net.named_parameters() if p.grad is not None}
    assert {id(p) for name, p in net.named_parameters() if name in learned} == {id(p) for p in net.group_parameters(2)}
    moved = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved and all(".norms.2." in name for name in moved)


@pytest.mark.parametrize(
    ("family", "changes", "heights"),
    [
        ("alexnet", {"stem_kernel": 11, "stem_stride": 4, "pool_kernel": 3}, {56, 27, 13}),
        ("resnet20", {"stem_kernel": 7, "stem_stride": 2, "pools": (1,), "pool_kernel": 3}, {112, 55, 28, 14}),
    ],
)
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_imagenet_is_one_config_away(
    connectivity: str, family: str, changes: dict[str, Any], heights: set[int]
) -> None:
    large = config(family, connectivity, input_shape=(3, 224, 224), classes=1000, **changes)
    net = DynamicNet(large).eval()
    assert [tuple(y.shape) for y in net.forward_upto(torch.randn(1, 3, 224, 224), 3)] == [(1, 1000)] * 4
    assert {c.height for c in convolutions(large)} == heights


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_depth_is_the_length_of_a_row(connectivity: Any) -> None:
    deep = config("alexnet", connectivity, widths=shares_of((8, 8, 16, 16, 16, 16, 12), SHARES))
    assert len(convolutions(deep)) == 7 and deep.pool_after == (1, 2, 7)
    resnet56 = config("resnet20", connectivity, widths=shares_of(free_layers("resnet20", (4, 8, 12), 9), SHARES))
    assert len(convolutions(resnet56)) == 1 + 54 + 2
    for c in (deep, resnet56):
        assert DynamicNet(c).eval()(torch.randn(2, 3, 32, 32), 1).shape == (2, 10)


def test_group_costs_a_quarter_and_nested_what_the_paper_says() -> None:
    channels = (64, 192, 384, 256, 256)
    full = {
        c: NetConfig(family="alexnet", connectivity=c, widths=shares_of(channels, SHARES))  # type: ignore[arg-type]
        for c in CONNECTIVITIES
    }
    assert macs(full["group"], 3) == 4 * macs(full["group"], 0)
    assert len({macs(c, 0) for c in full.values()}) == 1
    ratio = weight_count(full["nested"], 3) / weight_count(full["group"], 3)
    assert ratio == pytest.approx(2.49, abs=0.01)  # PAPERS 1.3


def test_alone() -> None:
    assert alone(config("alexnet", "slimmable"), 1).widths == (config("alexnet", "slimmable").widths[1],)
    assert alone(config("alexnet", "group"), 1).widths == config("alexnet", "group").widths[:2]


def test_json_there_and_back() -> None:
    for c in (config("resnet20", "nested", head="own"), config("alexnet", "group", pools=(2,), classes=7)):
        assert NetConfig.from_json(json.loads(json.dumps(c.to_json()))) == c


WIDTHS = ((2, 2, 2, 2, 2), (4, 4, 4, 4, 4))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"family": "vgg"}, ("family", "'vgg'", "alexnet")),
        ({"connectivity": "dense"}, ("connectivity", "slimmable")),
        ({"widths": ()}, ("widths", "0 rungs")),
        ({"widths": ((2,),)}, ("rung 1", "at least 2 layers")),
        ({"widths": ((2,) * 13,), "family": "resnet20"}, ("rung 1", "3 stage widths")),
        ({"widths": ((2, 2, 2), (3, 3))}, ("rung 2", "3 counts")),
        ({"widths": ((2, 2, 0, 2, 2),)}, ("rung 1", "(2, 2, 0, 2, 2)")),
        ({"widths": ((2, 2, 2, 2, 2), (4, 4, 4, 4, 2))}, ("rung 2", "more in every layer")),
        ({"widths": ((2, 2, 2, 2, 2), (4, 4, 1, 4, 4)), "connectivity": "slimmable"}, ("rung 2", "no layer narrower")),
        ({"widths": ((2, 2, 2, 2, 2), (2, 2, 2, 2, 2)), "connectivity": "slimmable"}, ("rung 2", "do not grow")),
        ({"input_shape": (3, 4, 4)}, ("input_shape", "nothing is left")),
        ({"input_shape": (3, 32)}, ("input_shape", "height")),
        ({"pools": (6,)}, ("pools", "from 1 to 5")),
        ({"classes": 1}, ("classes", "from 2")),
        ({"stem_kernel": 3.0}, ("stem_kernel",)),
    ],
)
def test_refused(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    good = {"family": "alexnet", "connectivity": "group", "widths": WIDTHS}
    NetConfig.from_json(good)
    with pytest.raises(NetworkError) as error:
        NetConfig.from_json(good | changes, "here")
    assert "\n" not in str(error.value) and all(word in str(error.value) for word in ("here", *words)), error.value


@pytest.mark.parametrize("found", [None, [], {"family": "alexnet"}, {"widths": 3}, {"depth": 5}])
def test_no_network_at_all(found: object) -> None:
    with pytest.raises(NetworkError):
        NetConfig.from_json(found)
    with pytest.raises(NetworkError):
        NetConfig.from_json({"family": "alexnet", "connectivity": "group", "widths": 3})


def test_an_image_of_another_shape() -> None:
    net = DynamicNet(config("alexnet", "group")).eval()
    with pytest.raises(NetworkError, match=r"\(2, 3, 16, 16\).*\(n, 3, 32, 32\)"):
        net(torch.zeros(2, 3, 16, 16), 0)


def test_a_group_starts_like_a_network_of_its_size() -> None:
    net = DynamicNet(replace(config("alexnet", "group"), widths=shares_of((64, 192, 384, 256, 256), SHARES)))
    conv = net.get_submodule("layers.conv3.convs.2")
    assert isinstance(conv, nn.Conv2d)
    assert float(conv.weight.std().detach()) == pytest.approx((2 / (48 * 9)) ** 0.5, rel=0.05)
