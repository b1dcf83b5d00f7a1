"""Small networks, exported: with random weights, since what is tested here does not depend on them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dyndnn.data import Dataset, load_data
from dyndnn.evaluate import export_ladder
from dyndnn.netconfig import NetConfig, free_layers, shares_of
from dyndnn.nets import DynamicNet

UNPACK_CIFAR10 = Path(__file__).resolve().parents[3] / "shared/tools/unpack_cifar10.py"
SHARES = (0.25, 0.5, 0.75, 1.0)
CHANNELS = {"alexnet": (8, 12, 16, 12, 20), "resnet20": (8, 12, 16)}
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)

torch.set_num_threads(1)  # small networks; with more, a busy machine makes them wait for each other


def random_net(
    family: str, connectivity: str, head: str = "added", shape: tuple[int, int, int] = (3, 16, 16)
) -> DynamicNet:
    """A network in evaluation mode whose batch norm is not the identity."""
    channels = CHANNELS[family]
    config = NetConfig.from_json(
        {
            "family": family,
            "connectivity": connectivity,
            "head": head,
            "widths": shares_of(free_layers(family, channels), SHARES),  # type: ignore[arg-type]
            "input_shape": shape,
        }
    )
    rng = torch.Generator().manual_seed(0)
    net = DynamicNet(config)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=rng)
            elif isinstance(module, torch.nn.Linear):
                module.weight.normal_(0, 0.3, generator=rng)
                module.bias.normal_(0, 0.3, generator=rng)
            elif isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=rng)
                module.bias.normal_(0, 0.3, generator=rng)
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.normal_(0, 0.3, generator=rng)
                module.running_var.uniform_(0.5, 1.5, generator=rng)
    return net.eval()


@pytest.fixture(scope="session")
def cifar10(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The real images, where this machine has them."""
    place = os.environ.get("POWERBAND_CIFAR10")
    if place is None and UNPACK_CIFAR10.is_file():
        place = str(tmp_path_factory.mktemp("cifar10"))
        subprocess.run([sys.executable, str(UNPACK_CIFAR10), place], check=True, capture_output=True)
    if place is None:
        pytest.skip("name CIFAR-10's canonical folder in POWERBAND_CIFAR10")
    return load_data("cifar10", place)


@pytest.fixture(scope="session")
def group_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ladder of four groups for frames of (3, 16, 16); read only."""
    folder = tmp_path_factory.mktemp("group")
    export_ladder(random_net("alexnet", "group"), folder, name="tiny", mean=MEAN, std=STD)
    return folder


@pytest.fixture
def ladder_copy(group_folder: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copytree(group_folder, tmp_path / "ladder"))
