"""Non-uniform rungs: channels of a trained full network ranked across all layers, under a budget of MACs.

A channel's score is the magnitude of its batch-norm scale, which is the spread of what it passes on (network
slimming, Liu et al. 2017); layers that add up share their channels and the mean of their scores. The channels
are then sorted, so that a rung is a prefix, as the sampling of Yang & Fan (ASP-DAC 2021) needs it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from dyndnn.netconfig import NetConfig, convolutions, macs
from dyndnn.nets import DynamicNet, SlimmableConv

Scores = list[NDArray[np.float64]]  # per free layer: a score per channel
FLOOR = 8  # every layer keeps at least one channel in this many


def channel_scores(net: DynamicNet) -> Scores:
    """Scores of every free layer's channels, from the largest rung of a dense network."""
    found: list[list[NDArray[np.float64]]] = [[] for _ in net.config.widths[-1]]
    for plan, conv in zip(convolutions(net.config), net.convs(), strict=True):
        assert isinstance(conv, SlimmableConv)
        scale = conv.norms[-1].weight
        assert isinstance(scale, torch.Tensor)
        found[plan.target].append(scale.detach().abs().double().cpu().numpy())
    return [np.mean(scores, axis=0) for scores in found]


def ranked_widths(scores: Scores, uniform: NetConfig, cost: float = 0.5) -> tuple[tuple[int, ...], ...]:
    """Channels per rung and layer, each rung within the MACs of the uniform one; the largest rung is whole.

    All channels compete by score / (MACs that one channel of the layer costs) ** `cost`.
    """
    full = uniform.widths[-1]
    least = 0 if uniform.connectivity == "slimmable" else 1  # channels by which every layer must grow
    whole = replace(uniform, connectivity="slimmable", widths=(full,))
    price = [
        macs(whole, 0) - macs(replace(whole, widths=(_add(full, layer, -1),)), 0) if full[layer] > 1 else macs(whole, 0)
        for layer in range(len(full))
    ]
    order = sorted(
        (-score / price[layer] ** cost, layer, place)
        for layer, of_layer in enumerate(scores)
        for place, score in enumerate(np.sort(of_layer)[::-1])
    )
    rows: list[tuple[int, ...]] = []
    counts = tuple(max(1, n // FLOOR) for n in full)
    for k in range(uniform.rungs - 1):
        room = tuple(n - least * (uniform.rungs - 1 - k) for n in full)
        if rows:
            counts = tuple(n + least for n in counts)
        budget = macs(uniform, k)
        for _, layer, place in order:
            wider = _add(counts, layer, 1)
            if place < counts[layer] or wider[layer] > room[layer]:
                continue
            if macs(replace(uniform, widths=(*rows, wider)), k) <= budget:
                counts = wider
        rows.append(counts)
    return (*rows, full)


def sort_channels(net: DynamicNet, scores: Scores) -> dict[str, torch.Tensor]:
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


def spread(state: dict[str, torch.Tensor], net: DynamicNet) -> None:
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
