"""The trained ladders that ship: in order, as accurate as they say, and untouched by the training of a later group."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dyndnn.checkpoint import Checkpoint, load_net, save_checkpoint
from dyndnn.costs import activation_bytes, macs, weight_count
from dyndnn.data import Dataset, load_data
from dyndnn.evaluate import score
from dyndnn.ladder import BIN_FILE, LADDER_FILE, PARAM_FILE, ZOO, load_ladder
from dyndnn.netconfig import NetConfig
from dyndnn.nets import DynamicNet, GroupedConv
from dyndnn.network import Network
from dyndnn.param import read_param
from dyndnn.schemes import stages
from dyndnn.train import train
from dyndnn.train_config import SHAPES, TrainConfig

NAMES = sorted(path.parent.name for path in ZOO.glob(f"*/{LADDER_FILE}"))
RAW, HALF = 0, 0x01306B47  # how ncnn marks 32-bit and 16-bit weights


def record(name: str) -> dict:  # type: ignore[type-arg]
    found: dict = json.loads((ZOO / name / "training.json").read_text())  # type: ignore[type-arg]
    return found


def grouped(name: str) -> bool:
    return bool(record(name)["config"]["scheme"] == "incremental")


def torch_net(name: str) -> DynamicNet:
    """The torch network of a shipped group or nested ladder: batch norm passes on what was folded into the kernels."""
    net = DynamicNet(NetConfig.from_json(record(name)["network"], name)).eval()
    data = (ZOO / name / BIN_FILE).read_bytes()
    kernels: list[tuple[torch.Tensor, torch.Tensor]] = []
    at = 0
    for layer in read_param(ZOO / name / PARAM_FILE):
        if not layer.weights:
            continue
        bias = int(layer.params["0"])
        count = layer.weights - bias
        mark = int.from_bytes(data[at : at + 4], "little")
        assert mark in (RAW, HALF)
        size = 4 if mark == RAW else 2
        kernel = np.frombuffer(data, np.float32 if size == 4 else np.float16, count, at + 4).astype(np.float32)
        at += 4 + -(-size * count // 4) * 4
        kernels.append((torch.from_numpy(kernel), torch.from_numpy(np.frombuffer(data, np.float32, bias, at).copy())))
        at += 4 * bias
    assert at == len(data)
    places: list[tuple[nn.Module, nn.Module]] = []
    for conv in net.convs():
        assert isinstance(conv, GroupedConv)
        places += zip(conv.convs, conv.norms, strict=True)
    places += [(head, head) for head in net.heads]
    with torch.no_grad():
        for (weight, shift), (weighted, biased) in zip(kernels, places, strict=True):
            assert isinstance(weighted.weight, torch.Tensor) and isinstance(biased.bias, torch.Tensor)
            weighted.weight.copy_(weight.reshape(weighted.weight.shape))
            biased.bias.copy_(shift)
            if isinstance(biased, nn.BatchNorm2d):
                assert biased.running_var is not None
                biased.running_var.fill_(1 - biased.eps)
    return net


def noise(name: str, n: int) -> Dataset:
    """Random pictures: what is frozen must stay so whatever it sees."""
    rng = np.random.default_rng(0)
    config = record(name)["config"]
    pictures = rng.integers(0, 256, (2, n, *SHAPES[config["data"]]), np.uint8)
    labels = rng.integers(0, 10, (2, n)).astype(np.int64)
    channels = SHAPES[config["data"]][0]
    return Dataset(
        name=config["data"],
        train_images=pictures[0],
        train_labels=labels[0],
        test_images=pictures[1],
        test_labels=labels[1],
        labels=tuple("0123456789"),
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
    )


@pytest.mark.parametrize("name", NAMES)
def test_ladder_is_in_order(name: str) -> None:
    """Checksums hold, costs are the network's, larger rungs cost more, and the record names no place of a machine."""
    ladder, training = load_ladder(ZOO / name), record(name)
    config = NetConfig.from_json(training["network"], name)
    assert ladder.name == name
    assert ladder.input.shape == config.input_shape
    for k, rung in enumerate(ladder.rungs):
        assert rung.macs == macs(config, k)
        assert rung.bytes == 4 * weight_count(config, k)
        assert rung.activation_bytes == activation_bytes(config, k)
        assert 0 < rung.accuracy < 1
    for small, large in pairwise(ladder.rungs):
        assert small.macs < large.macs
    assert ladder.rungs[-1].confidence == 1
    assert training["finished"] and training["curve"] and training["seconds"] > 0
    assert not re.search(r'"[^"]*/[^"]*"', json.dumps(training["config"]))


def test_stages_cost_what_they_took() -> None:
    """The time that is left is told by `Stage.cost`: small networks take more than their multiply-accumulates."""
    took = []
    for name in ("alexnet-paper", "resnet20-uniform"):  # an epoch of one core each, of 1 to 10 million and of 26
        found = record(name)
        config, network = TrainConfig.from_json(found["config"]), NetConfig.from_json(found["network"], name)
        for stage in stages(config, network):
            seconds = [row["seconds"] for row in found["curve"] if row["stage"] == stage.title]
            took.append(float(np.median(seconds)) / stage.cost)
    assert max(took) < 1.5 * min(took)


def test_digits_are_as_accurate_as_they_say() -> None:
    data = load_data("digits")
    found = score(Network.load(ZOO / "digits"), data.test_images, data.test_labels)
    ladder = load_ladder(ZOO / "digits")
    assert found.accuracy == pytest.approx([rung.accuracy for rung in ladder.rungs], abs=0.004)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "digits"])
def test_cifar10_is_as_accurate_as_it_says(name: str, cifar10: Dataset) -> None:
    """All 10,000 test images through the shipped model; another processor may round one picture differently."""
    found = score(Network.load(ZOO / name), cifar10.test_images, cifar10.test_labels)
    ladder = load_ladder(ZOO / name)
    assert found.accuracy == pytest.approx([rung.accuracy for rung in ladder.rungs], abs=0.0005)
    assert found.confidence == pytest.approx([rung.confidence for rung in ladder.rungs], abs=0.0005)


@pytest.mark.parametrize("name", [name for name in NAMES if grouped(name)])
def test_training_later_groups_leaves_the_shipped_rungs_bit_identical(name: str, tmp_path: Path) -> None:
    """On the real weights: after each stage that is still to come, every earlier rung gives the very same logits."""
    net = torch_net(name)
    data = noise(name, 96)
    frames = torch.from_numpy(data.test_images[:16]).float() / 255 - 0.5
    config = TrainConfig.from_json(record(name)["config"] | {"epochs": [1], "batch": 32, "holdout": 0})
    for stage in range(1, net.config.rungs):
        folder = tmp_path / str(stage)
        folder.mkdir()
        begun = {"config": config.to_json(), "stage": stage, "epoch": 0, "seconds": 0.0, "finished": False, "curve": []}
        save_checkpoint(folder, Checkpoint(net.config, begun, dict(net.state_dict())))
        with torch.inference_mode():
            before = load_net(folder).forward_upto(frames, net.config.rungs - 1)
        train(config, data, folder, device="cpu", threads=1, resume=True)
        with torch.inference_mode():
            after = load_net(folder).forward_upto(frames, net.config.rungs - 1)
        for k in range(net.config.rungs):
            assert torch.equal(before[k], after[k]) == (k < stage), f"stage {stage + 1}, rung {k + 1}"
