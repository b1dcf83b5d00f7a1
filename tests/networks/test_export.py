"""What ncnn computes is what torch computes, and a rung runs its own layers and no others."""

from __future__ import annotations

import stat
from itertools import pairwise
from pathlib import Path

import numpy as np
import pnnx
import pytest
import torch
from numpy.typing import NDArray

from dyndnn.costs import macs, weight_count
from dyndnn.errors import NetworkError
from dyndnn.export import export_net
from dyndnn.ladder import BIN_FILE, PARAM_FILE
from dyndnn.netconfig import NetConfig
from dyndnn.nets import DynamicNet
from dyndnn.network import Inference, Network, open_net
from dyndnn.param import needed, read_param
from tests.networks.conftest import MEAN, STD, random_net

KINDS = [
    (family, connectivity, head)
    for family in ("alexnet", "resnet20")
    for connectivity in ("group", "nested", "slimmable")
    for head in ("added", "own")
]


def torch_logits(net: DynamicNet, frames: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    with torch.inference_mode():
        return [y.numpy() for y in net.forward_upto(torch.from_numpy(frames), net.config.rungs - 1)]


@pytest.mark.parametrize(("family", "connectivity", "head"), KINDS)
def test_every_kind_gives_torch_logits_and_runs_only_its_layers(
    family: str, connectivity: str, head: str, tmp_path: Path
) -> None:
    net = random_net(family, connectivity, head)
    outputs = export_net(net, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted((PARAM_FILE, BIN_FILE))
    assert stat.S_IMODE((tmp_path / BIN_FILE).stat().st_mode) & 0o444  # readable, though it began as a private file
    served = open_net(tmp_path / PARAM_FILE, tmp_path / BIN_FILE)
    frames = np.random.default_rng(1).standard_normal((3, 3, 16, 16)).astype(np.float32)
    for k, want in enumerate(torch_logits(net, frames)):
        found = np.stack([Inference(served, outputs, frame).upto(k) for frame in frames])
        assert np.abs(want).max() > 0.1
        np.testing.assert_allclose(found, want, rtol=0, atol=2e-5 * np.abs(want).max())

    layers = read_param(tmp_path / PARAM_FILE)
    assert not [x.name for x in layers if x.kind == "BatchNorm"]  # folded
    weights = [sum(x.weights for x in needed(layers, output)) for output in outputs]
    # an added head has one bias per group, which weight_count takes as one
    spare = [10 * k if head == "added" and connectivity != "slimmable" else 0 for k in range(4)]
    assert weights == [weight_count(net.config, k) + spare[k] for k in range(4)]
    kernels = [{x.name for x in needed(layers, output) if x.kind == "Convolution"} for output in outputs]
    plan = 5 if family == "alexnet" else 21
    if connectivity == "slimmable":  # branches
        assert [len(names) for names in kernels] == [plan] * 4 and len(set.union(*kernels)) == 4 * plan
    else:  # prefixes
        assert [len(names) for names in kernels] == [plan * (k + 1) for k in range(4)]
        assert all(small < large for small, large in pairwise(kernels))
        all_kernels = sum(x.weights for x in layers if x.kind == "Convolution")
        assert all_kernels == sum(x.weights for x in needed(layers, outputs[-1]) if x.kind == "Convolution")


def test_macs_are_those_of_the_exported_layers(tmp_path: Path) -> None:
    # counted anew from the file: every kernel is applied once per pixel of its output, 16, 8, 4, 4, 4 pixels a side
    net = random_net("alexnet", "nested")
    outputs = export_net(net, tmp_path)
    layers = read_param(tmp_path / PARAM_FILE)
    for k, output in enumerate(outputs):
        kernels = [x for x in needed(layers, output) if x.kind == "Convolution"]
        sides = np.repeat((16, 8, 4, 4, 4), k + 1)
        by_hand = sum(int(x.params["6"]) * int(side) ** 2 for x, side in zip(kernels, sides, strict=True))
        assert macs(net.config, k) == by_hand + 10 * net.config.features[k]


def test_nonuniform_rungs(tmp_path: Path) -> None:
    widths = ((8, 8, 8, 3, 5, 2, 4, 4, 6, 8, 3, 2), (8, 10, 16, 3, 6, 2, 4, 5, 6, 12, 3, 9))
    for connectivity in ("slimmable", "nested"):
        rows = widths if connectivity == "slimmable" else (widths[0], tuple(n + 4 for n in widths[1]))
        config = NetConfig.from_json({"family": "resnet20", "connectivity": connectivity, "widths": rows})
        net = DynamicNet(config).eval()
        folder = tmp_path / connectivity
        outputs = export_net(net, folder)
        served = open_net(folder / PARAM_FILE, folder / BIN_FILE)
        frame = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
        for k, want in enumerate(torch_logits(net, frame)):
            found = Inference(served, outputs, frame[0]).upto(k)
            np.testing.assert_allclose(found, want[0], rtol=0, atol=1e-4 * max(1, np.abs(want).max()))


def test_half_halves_the_file_and_barely_moves_the_logits(tmp_path: Path) -> None:
    net = random_net("alexnet", "group")
    export_net(net, tmp_path / "full")
    outputs = export_net(net, tmp_path / "half", half=True)
    sizes = [(tmp_path / name / BIN_FILE).stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    served = open_net(tmp_path / "half" / PARAM_FILE, tmp_path / "half" / BIN_FILE)
    frame = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)
    for k, want in enumerate(torch_logits(net, frame)):
        found = Inference(served, outputs, frame[0]).upto(k)
        assert 0 < np.abs(found - want[0]).max() < 5e-3 * np.abs(want).max()


def test_lean_and_half_in_memory_give_the_same_logits(group_folder: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (3, 16, 16), np.uint8)
    want = Network.load(group_folder).infer(frame, 4)
    lean = Network.load(group_folder, lean=True, threads=2).infer(frame, 4)
    np.testing.assert_allclose(lean, want, rtol=0, atol=1e-4 * np.abs(want).max())
    half = Network.load(group_folder, half=True).infer(frame, 4)
    np.testing.assert_allclose(half, want, rtol=0, atol=2e-2 * np.abs(want).max())


def test_the_network_itself_is_left_alone(tmp_path: Path) -> None:
    net = random_net("alexnet", "group").train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    export_net(net, tmp_path)
    assert net.training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_an_upgrade_is_the_larger_rung_bit_for_bit(group_folder: Path) -> None:
    network = Network.load(group_folder)
    frame = np.random.default_rng(0).integers(0, 256, (3, 16, 16), np.uint8)
    straight = [network.infer(frame, rung) for rung in ("25%", "50%", "75%", "100%")]
    first, second = network.begin(frame), network.begin(255 - frame)
    for k, want in enumerate(straight):  # two frames at once do not disturb each other
        assert np.array_equal(first.upto(k), want)
        second.upto(k)
    assert np.array_equal(first.upto(0), straight[0])  # and back
    jumped = network.begin(frame)
    jumped.upto(0)
    assert np.array_equal(jumped.upto(3), straight[3])


def test_frames_are_normalised_as_in_training(group_folder: Path) -> None:
    net = random_net("alexnet", "group")
    frame = np.random.default_rng(0).integers(0, 256, (3, 16, 16), np.uint8)
    mean, std = (np.array(values)[:, None, None] for values in (MEAN, STD))
    pixels = ((frame / 255 - mean) / std).astype(np.float32)[None]
    network = Network.load(group_folder)
    for k, want in enumerate(torch_logits(net, pixels)):
        np.testing.assert_allclose(network.infer(frame, k + 1), want[0], rtol=0, atol=1e-4)
        np.testing.assert_allclose(network.infer(frame / 255, k + 1), want[0], rtol=0, atol=1e-4)
        strided = np.ascontiguousarray(frame.transpose(1, 2, 0)).transpose(2, 0, 1)
        assert np.array_equal(network.infer(strided, k + 1), network.infer(frame, k + 1))


def test_a_model_that_cannot_be_made_leaves_the_old_one(
    group_folder: Path, ladder_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = (ladder_copy / BIN_FILE).read_bytes()
    for path, said in (("/bin/false", "status 1"), ("/no/such/program", "cannot translate")):
        monkeypatch.setattr(pnnx, "EXEC_PATH", path)
        with pytest.raises(NetworkError, match=said) as caught:
            export_net(random_net("alexnet", "nested"), ladder_copy)
        assert "\n" not in str(caught.value)
    assert (ladder_copy / BIN_FILE).read_bytes() == old


def test_wrong_weights_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dyndnn.export.TOLERANCE", 0.0)
    with pytest.raises(NetworkError, match="differ from torch's"):
        export_net(random_net("alexnet", "group"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_logits_that_are_no_numbers_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upto = Inference.upto
    monkeypatch.setattr(Inference, "upto", lambda self, k: upto(self, k) * (np.nan if k == 1 else 1))
    with pytest.raises(NetworkError, match="differ from torch's by nan"):
        export_net(random_net("alexnet", "group"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "hello\n1 1\nx\n", "7767517\n2 2\nInput in0 0 9 in0\nPooling\n", "\0\1\2"])
def test_a_param_file_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / PARAM_FILE).write_text(text)
    with pytest.raises(NetworkError, match=r"model\.param"):
        read_param(tmp_path / PARAM_FILE)
