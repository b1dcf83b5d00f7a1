"""Non-uniform rungs: channels of a trained full network ranked across all layers, under a budget of MACs.

A channel's score is how much the loss would change without it, to first order and from batch norm's scale and shift:
the root mean square over batches of scale * d loss / d scale + shift * d loss / d shift (Molchanov et al., CVPR
2019). Layers that add up share their channels, so their terms are summed. The channels are then sorted, so that a
rung is a prefix, as the sampling of Yang & Fan (ASP-DAC 2021) needs it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from dyndnn.costs import macs
from dyndnn.errors import NetworkError
from dyndnn.netconfig import NetConfig, convolutions
from dyndnn.nets import DynamicNet

Scores = list[NDArray[np.float64]]  # per free layer: a score per channel


def channel_scores(net: DynamicNet, batches: Iterable[tuple[Tensor, Tensor]]) -> Scores:
    """Scores of every free layer's channels of a dense network of one rung, from labelled batches."""
    net.eval()
    sums = [np.zeros(n) for n in net.config.widths[0]]
    norms = [part for conv in net.convs() for part in conv.parts(0) if isinstance(part, nn.BatchNorm2d)]
    plans = convolutions(net.config)
    seen = [tensor for norm in norms for tensor in (norm.weight, norm.bias)]
    for x, y in batches:
        gradients = torch.autograd.grad(F.cross_entropy(net(x, 0), y), seen)
        here = [np.zeros_like(total) for total in sums]
        for plan, norm, scale, shift in zip(plans, norms, gradients[0::2], gradients[1::2], strict=True):
            here[plan.target] += (norm.weight * scale + norm.bias * shift).detach().double().cpu().numpy()
        for total, term in zip(sums, here, strict=True):
            total += term**2
    return [np.sqrt(total) for total in sums]


def ranked_widths(
    scores: Scores, uniform: NetConfig, *, cost: float = 1.0, bound: float = 1.5, step: int = 1
) -> tuple[tuple[int, ...], ...]:
    """Channels per rung and layer, each rung within the MACs of the uniform one; the largest rung is whole.

    All channels compete by score / (MACs that one channel of the layer costs) ** `cost`. What scores of a full network
    say of a much smaller one is rough, so a layer has at most `bound` times its uniform channels, at least 1 / `bound`.
    Below the largest rung a layer's channels are a multiple of `step`, and compete `step` at a time.
    """
    full = uniform.widths[-1]
    grows = 0 if uniform.connectivity == "slimmable" else step  # channels by which every layer must grow
    whole = replace(uniform, connectivity="slimmable", widths=(full,))
    price = [macs(whole, 0) / n for n in full]
    if min(full) > 1:
        price = [
            macs(whole, 0) - macs(replace(whole, widths=(_add(full, layer, -1),)), 0) for layer in range(len(full))
        ]
    order = sorted(
        (-falling[place : place + step].sum() / price[layer] ** cost, layer, place)
        for layer, falling in enumerate(np.sort(of_layer)[::-1] for of_layer in scores)
        for place in range(0, len(falling) - step + 1, step)
    )
    rows: list[tuple[int, ...]] = []
    for k, usual in enumerate(uniform.widths[:-1]):
        most = [min(n - grows * (uniform.rungs - 1 - k), int(u * bound)) for n, u in zip(full, usual, strict=True)]
        least = [max(1, math.ceil(u / bound)) for u in usual]
        if rows:
            least = [max(n, before + grows) for n, before in zip(least, rows[-1], strict=True)]
        counts, budget = tuple(min(-(-n // step) * step, u) for n, u in zip(least, full, strict=True)), macs(uniform, k)
        for _, layer, place in order:
            wider = _add(counts, layer, step)
            if place < counts[layer] or wider[layer] > most[layer]:
                continue
            if macs(replace(uniform, widths=(*rows, wider)), k) <= budget:
                counts = wider
        if macs(replace(uniform, widths=(*rows, counts)), k) > budget:
            problem = f"leave no room for rung {k + 1} within the MACs of {usual}"
            raise NetworkError.at("shares", problem, want="rungs further apart, or a plan that is uniform")
        rows.append(counts)
    return (*rows, full)


def sort_channels(net: DynamicNet, scores: Scores) -> dict[str, Tensor]:
    """The state of a dense network of one rung with every layer's channels in falling order of score."""
    orders = [torch.from_numpy(np.argsort(-of_layer, kind="stable")) for of_layer in scores]
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for plan in convolutions(net.config):
        prefix = f"layers.{plan.name}"
        weight = state[f"{prefix}.conv.weight"][orders[plan.target]]
        state[f"{prefix}.conv.weight"] = weight if plan.source is None else weight[:, orders[plan.source]]
        for name in ("weight", "bias", "running_mean", "running_var"):
            state[f"{prefix}.norms.0.{name}"] = state[f"{prefix}.norms.0.{name}"][orders[plan.target]]
    state["heads.0.weight"] = state["heads.0.weight"][:, orders[net.config.feature_layer]]
    return state


def spread(state: dict[str, Tensor], net: DynamicNet) -> None:
    """Begin a dense network of many rungs with the state of one rung: every rung a prefix of it."""
    own = net.state_dict()
    for name, tensor in own.items():
        head, _, rest = name.partition(".norms.")
        if rest:
            source = state[f"{head}.norms.0.{rest.partition('.')[2]}"]
        else:
            source = state["heads.0." + name.rpartition(".")[2]] if name.startswith("heads.") else state[name]
        tensor.copy_(source[tuple(slice(n) for n in tensor.shape)])


def _add(row: tuple[int, ...], layer: int, count: int) -> tuple[int, ...]:
    return (*row[:layer], row[layer] + count, *row[layer + 1 :])
