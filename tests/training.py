"""What tests of training share: a third of the digits, small networks, a Ctrl-C."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dyndnn.data import Dataset, load_data
from dyndnn.nets import DynamicNet
from dyndnn.recipes import default_config
from dyndnn.train import Progress, Trained, train
from dyndnn.train_config import TrainConfig


@pytest.fixture(scope="module")
def digits() -> Dataset:
    """A third of the digits: enough to learn something in a few steps."""
    whole = load_data("digits")
    return replace(whole, train_images=whole.train_images[:512], train_labels=whole.train_labels[:512])


def config(connectivity: str, scheme: str, net: str = "alexnet", **changes: Any) -> TrainConfig:
    channels = (8, 16, 16, 16, 16) if net == "alexnet" else (4, 8, 12)
    return default_config("digits", net, connectivity, scheme, **{"epochs": (2,), "channels": channels} | changes)


def run(c: TrainConfig, data: Dataset, out: Path, **how: Any) -> Trained:
    return train(c, data, out, device="cpu", threads=1, **how)


def images(data: Dataset) -> torch.Tensor:
    return (torch.from_numpy(data.test_images[:64]).float() / 255 - data.mean[0]) / data.std[0]


def same(a: DynamicNet, b: DynamicNet) -> bool:
    theirs = b.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in a.state_dict().items())


def stop_at(stage: str, epoch: int) -> Any:
    """A Ctrl-C in the middle of an epoch."""

    def on_progress(p: Progress) -> None:
        if p.stage.startswith(stage) and p.epoch == epoch and p.images % (p.images_total // p.epochs):
            raise KeyboardInterrupt

    return on_progress
