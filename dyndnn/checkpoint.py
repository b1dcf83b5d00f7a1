"""A training run on disk: an `.npz` of plain arrays and one JSON header, written all or nothing; no pickle.

Members: `header` (UTF-8 JSON as uint8) and, per tensor, `net/<name>`, `momentum/<name>`, `average/<name>`.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dyndnn.errors import NetworkError
from dyndnn.files import atomic_write, is_file, read_bytes
from dyndnn.netconfig import NetConfig
from dyndnn.nets import DynamicNet

CHECKPOINT = "checkpoint.npz"
FORMAT_VERSION = 1
PARTS = ("net", "momentum", "average")

# what zipfile, numpy and json raise on damaged input
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, OSError, TypeError, ValueError)

State = dict[str, Tensor]


@dataclass
class Checkpoint:
    """Where a run stands: the network, what the optimiser remembers, and the record so far."""

    network: NetConfig
    record: dict[str, Any]  # JSON: config, stage, epoch, curve, ...
    net: State = field(default_factory=dict)
    momentum: State = field(default_factory=dict)
    average: State = field(default_factory=dict)


def save_checkpoint(folder: str | Path, checkpoint: Checkpoint) -> None:
    """Write the run's checkpoint; NetworkError where it cannot be written."""
    header = {"format_version": FORMAT_VERSION, "network": checkpoint.network.to_json(), "record": checkpoint.record}
    members: dict[str, Any] = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}
    for part in PARTS:
        for name, tensor in getattr(checkpoint, part).items():
            members[f"{part}/{name}"] = tensor.detach().cpu().contiguous().numpy()
    stream = io.BytesIO()
    np.savez(stream, **members)
    atomic_write(Path(folder) / CHECKPOINT, stream.getvalue())


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Read a run's checkpoint; NetworkError in one line where it is missing, damaged or of another version."""
    path = Path(folder) / CHECKPOINT
    if not is_file(path):
        raise NetworkError.at(path, "no such file", want="a run folder of train_dnn.py")
    try:
        with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as archive:
            arrays: dict[str, NDArray[Any]] = {name: archive[name] for name in archive.files}
        header = json.loads(arrays.pop("header").tobytes())
        version, network, record = header["format_version"], header["network"], header["record"]
    except _DAMAGE:
        raise NetworkError.at(path, "is truncated, damaged or no checkpoint") from None
    if version != FORMAT_VERSION:
        want = f"this Powerband reads version {FORMAT_VERSION}"
        raise NetworkError.at(path, "unknown format version", value=version, want=want)
    if not isinstance(record, Mapping):
        raise NetworkError.at(path, "its record is not an object")
    checkpoint = Checkpoint(NetConfig.from_json(network, f"{path}, network"), dict(record))
    for member, array in arrays.items():
        part, _, name = member.partition("/")
        if part not in PARTS or array.dtype not in (np.float32, np.int64):
            raise NetworkError.at(path, "unexpected array", value=member)
        if not np.isfinite(array).all():
            raise NetworkError.at(path, f"array {member} holds NaN or infinity")
        getattr(checkpoint, part)[name] = torch.from_numpy(array)
    return checkpoint


def load_net(folder: str | Path) -> DynamicNet:
    """The network of a run folder, in evaluation mode; NetworkError where it cannot be read."""
    checkpoint = load_checkpoint(folder)
    net = DynamicNet(checkpoint.network)
    fill(net, checkpoint.net, Path(folder) / CHECKPOINT)
    return net.eval()


def fill(net: DynamicNet, state: State, where: str | Path) -> None:
    """Put saved tensors into a network; NetworkError where they are not exactly the network's."""
    own = net.state_dict()
    check_state(state, own, where)
    net.load_state_dict(state)


def check_state(state: State, own: State, where: str | Path, *, complete: bool = True) -> None:
    """NetworkError where saved tensors are not those of `own`, by name and shape; `complete`: all of them."""
    for name in sorted(own.keys() ^ state.keys() if complete else state.keys() - own.keys()):
        raise NetworkError.at(where, "missing tensor" if name in own else "unexpected tensor", value=name)
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            problem = f"tensor {name} has shape {tuple(tensor.shape)}"
            raise NetworkError.at(where, problem, want=f"shape {tuple(own[name].shape)}")
