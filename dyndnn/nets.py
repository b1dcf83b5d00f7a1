"""Dynamic networks in torch: one module class for every family and connectivity; a rung is data.

The shapes and their sources are in `dyndnn.netconfig`. Activations travel as a list of tensors, one per group
(dense rungs: one tensor), so group k is computed from groups <= k alone, and the logits of a rung stay
bit-identical whatever happens to later groups. Only convolutions, batch norm, ReLU, pools, concatenation,
addition and linear layers are used: every one of them has a counterpart where the network is served.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dyndnn.errors import NetworkError
from dyndnn.netconfig import STAGES, Convolution, NetConfig, convolutions


class GroupedConv(nn.Module):
    """A convolution with batch norm whose output channels come in groups, each with weights of its own.

    Group j reads its own group of the input (`group`), groups 1..j (`nested`), or the image.
    """

    def __init__(self, config: NetConfig, plan: Convolution) -> None:
        super().__init__()
        self.image = plan.source is None
        self.nested = config.connectivity == "nested"
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for j, row in enumerate(config.widths):
            before = config.widths[j - 1] if j else (0,) * len(row)
            out = row[plan.target] - before[plan.target]
            if plan.source is None:
                seen = config.input_shape[0]
            else:
                seen = row[plan.source] - (0 if self.nested else before[plan.source])
            self.convs.append(nn.Conv2d(seen, out, plan.kernel, plan.stride, plan.kernel // 2, bias=False))
            self.norms.append(nn.BatchNorm2d(out))

    def forward(self, xs: list[Tensor], rung: int, first: int = 0) -> list[Tensor]:
        """Groups first..rung, before the non-linearity, from the same groups of the layer before and no others."""
        out = []
        for j in range(first, rung + 1):
            conv = self.convs[j]
            assert isinstance(conv, nn.Conv2d)
            if self.image:
                x = xs[0]
            elif self.nested and j > first:
                x = torch.cat(xs[: j - first + 1], 1)
            else:
                x = xs[j - first]
            if x.shape[1] == conv.in_channels:
                y = conv(x)
            else:  # own channels come last
                y = F.conv2d(x, conv.weight[:, -x.shape[1] :], None, conv.stride, conv.padding)
            out.append(self.norms[j](y))
        return out

    def parts(self, k: int) -> Iterator[nn.Module]:
        """The modules of group k."""
        yield self.convs[k]
        yield self.norms[k]

    def shared(self) -> list[nn.Parameter]:
        """Parameters of every group."""
        return []


class SlimmableConv(nn.Module):
    """A dense convolution of which a rung uses the first channels, with batch norm per rung."""

    def __init__(self, config: NetConfig, plan: Convolution) -> None:
        super().__init__()
        image = config.input_shape[0]
        self.out = [row[plan.target] for row in config.widths]
        self.seen = [image if plan.source is None else row[plan.source] for row in config.widths]
        self.conv = nn.Conv2d(self.seen[-1], self.out[-1], plan.kernel, plan.stride, plan.kernel // 2, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for n in self.out)

    def forward(self, xs: list[Tensor], rung: int, first: int = 0) -> list[Tensor]:
        """The rung's channels, before the non-linearity, in a list of one."""
        weight = self.conv.weight[: self.out[rung], : self.seen[rung]]
        return [self.norms[rung](F.conv2d(xs[0], weight, None, self.conv.stride, self.conv.padding))]

    def parts(self, k: int) -> Iterator[nn.Module]:
        """The modules of rung k that no other rung uses."""
        yield self.norms[k]

    def shared(self) -> list[nn.Parameter]:
        """Parameters of every rung."""
        return list(self.conv.parameters())


class DynamicNet(nn.Module):
    """A network with rungs; rungs and groups count from 0 here, from 1 wherever a person sees them.

    Input (n, *config.input_shape); logits (n, config.classes).
    """

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        self.frozen = 0  # groups below this one stay as they are
        slimmable = config.connectivity == "slimmable"
        kind = SlimmableConv if slimmable else GroupedConv
        self.layers = nn.ModuleDict({plan.name: kind(config, plan) for plan in convolutions(config)})
        features = config.features
        if config.head == "own":
            sizes = list(features)
        elif slimmable:
            sizes = [features[-1]]
        else:
            sizes = [n - b for n, b in zip(features, (0, *features), strict=False)]
        self.heads = nn.ModuleList(nn.Linear(n, config.classes) for n in sizes)
        # what a group says by itself, where the heads do not tell: for training only, never exported
        own = [n - b for n, b in zip(features, (0, *features), strict=False)] if config.head == "own" else []
        self.asides = nn.ModuleList(nn.Linear(n, config.classes) for n in ([] if slimmable else own))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # He et al. 2015; by what a channel reads, so that a group starts like a network of its size
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, x: Tensor, rung: int) -> Tensor:
        """Logits of a rung."""
        return self.logits(self.features(x, rung), rung)

    def forward_upto(self, x: Tensor, rung: int) -> list[Tensor]:
        """Logits of rungs 0..rung; in one pass where rungs are groups, a pass each where they are dense."""
        if self.config.connectivity == "slimmable":
            return [self.forward(x, k) for k in range(rung + 1)]
        features = self.features(x, rung)
        return [self.logits(features, k) for k in range(rung + 1)]

    def features(self, x: Tensor, rung: int, first: int = 0) -> list[Tensor]:
        """Pooled features of groups first..rung, each (n, channels of the group); dense rungs: one tensor.

        Groups below `first` are neither computed nor read: a new group learns by itself what it can.
        """
        if tuple(x.shape[1:]) != self.config.input_shape:
            raise NetworkError.at("input", "has another shape", value=tuple(x.shape), want=f"(n, {self._shape()})")
        xs = self._relu_pool(self.layers["stem"]([x], rung, first), 1)
        xs = self._alexnet(xs, rung, first) if self.config.family == "alexnet" else self._resnet20(xs, rung, first)
        return [F.adaptive_avg_pool2d(x, 1).flatten(1) for x in xs]

    def alone(self, feature: Tensor, k: int) -> Tensor:
        """What group k says by itself, from its features."""
        logits: Tensor = (self.asides if len(self.asides) else self.heads)[k](feature)
        return logits

    def logits(self, features: list[Tensor], rung: int) -> Tensor:
        """Logits of a rung from at least its features."""
        if self.config.connectivity == "slimmable":
            if self.config.head == "own":
                return self._head(rung, features[0])
            head = self.heads[0]
            assert isinstance(head, nn.Linear)
            return F.linear(features[0], head.weight[:, : self.config.features[rung]], head.bias)
        if self.config.head == "own":
            return self._head(rung, torch.cat(features[: rung + 1], 1) if rung else features[0])
        total = self._head(0, features[0])
        for k in range(1, rung + 1):
            total = total + self._head(k, features[k])
        return total

    def convs(self) -> Iterator[GroupedConv | SlimmableConv]:
        """Every convolution in the order of computation (a projection after its block)."""
        for layer in self.layers.values():
            assert isinstance(layer, GroupedConv | SlimmableConv)
            yield layer

    def group_parameters(self, k: int) -> list[nn.Parameter]:
        """What training group k may change; for dense rungs the shared weights are among it."""
        parameters = [p for conv in self.convs() for part in conv.parts(k) for p in part.parameters()]
        parameters += [p for conv in self.convs() for p in conv.shared()]
        if len(self.asides):
            parameters += self.asides[k].parameters()
        return parameters + list(self.heads[min(k, len(self.heads) - 1)].parameters())

    def freeze_upto(self, k: int) -> None:
        """Freeze groups below k: no gradients, batch norm by its statistics, in training mode too.

        The shared weights of dense rungs stay free; who trains them keeps the smaller rungs' blocks.
        """
        self.frozen = k
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        for group in range(k, self.config.rungs):
            for parameter in self.group_parameters(group):
                parameter.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> DynamicNet:
        """Training mode for what is not frozen."""
        super().train(mode)
        for conv in self.convs():
            for k in range(self.frozen):
                for part in conv.parts(k):
                    part.eval()
        return self

    def _alexnet(self, xs: list[Tensor], rung: int, first: int) -> list[Tensor]:
        for number in range(2, self.config.layers + 1):
            xs = self._relu_pool(self.layers[f"conv{number}"](xs, rung, first), number)
        return xs

    def _resnet20(self, xs: list[Tensor], rung: int, first: int) -> list[Tensor]:
        for stage in range(1, STAGES + 1):
            for block in range(1, self.config.blocks + 1):
                name = f"stage{stage}_block{block}"
                inner = [F.relu_(x) for x in self.layers[f"{name}_conv1"](xs, rung, first)]
                short = self.layers[f"{name}_projection"](xs, rung, first) if stage > 1 and block == 1 else xs
                main = self.layers[f"{name}_conv2"](inner, rung, first)
                xs = [F.relu_(m + s) for m, s in zip(main, short, strict=True)]
        return xs

    def _relu_pool(self, xs: list[Tensor], number: int) -> list[Tensor]:
        # in place, as every ReLU here: nobody reads what it overwrites, and a full ResNet-20 trains 5 to 9 % faster
        if number not in self.config.pool_after:
            return [F.relu_(x) for x in xs]
        # the two commute; pooling first makes training faster, and a convolution with ReLU is one step when served
        if self.training:
            return [F.relu_(F.max_pool2d(x, self.config.pool_kernel, 2)) for x in xs]
        return [F.max_pool2d(F.relu_(x), self.config.pool_kernel, 2) for x in xs]

    def _head(self, k: int, features: Tensor) -> Tensor:
        logits: Tensor = self.heads[k](features)
        return logits

    def _shape(self) -> str:
        return ", ".join(str(n) for n in self.config.input_shape)
