"""Checkpoints that are damaged or altered are refused in one line; what a whole one holds; no run is overwritten."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dyndnn.checkpoint import CHECKPOINT, load_checkpoint, load_net
from dyndnn.data import Dataset
from dyndnn.errors import NetworkError
from dyndnn.ladder import ZOO
from dyndnn.record import begun
from dyndnn.train import check_run
from dyndnn.train_config import TrainConfig
from tests.training import config, digits, run, stop_at

__all__ = ["digits"]  # a fixture


@pytest.mark.parametrize("fault", ["truncated", "pickle", "version", "shape", "nan", "missing", "no file", "noise"])
def test_damaged_checkpoints(digits: Dataset, tmp_path: Path, fault: str) -> None:
    run(config("group", "incremental", epochs=(1,), shares=(0.5, 1.0)), digits, tmp_path)
    file = tmp_path / CHECKPOINT
    with np.load(file, allow_pickle=False) as archive:
        arrays: dict[str, Any] = dict(archive)
    weight = "net/layers.conv2.convs.0.weight"
    words = "truncated, damaged"
    if fault == "truncated":
        file.write_bytes(file.read_bytes()[:-500])
    elif fault == "noise":
        file.write_bytes(b"PK\x03\x04" + bytes(100))
    elif fault == "no file":
        file.unlink()
        words = "no such file"
    else:
        if fault == "pickle":
            arrays[weight] = np.array([{"a": 1}], dtype=object)
        elif fault == "version":
            header = json.loads(arrays["header"].tobytes()) | {"format_version": 2}
            arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
            words = "unknown format version"
        elif fault == "shape":
            arrays[weight] = arrays[weight][:1]
            words = "conv2.convs.0.weight has shape"
        elif fault == "nan":
            arrays[weight][0] = np.nan
            words = "NaN"
        else:
            del arrays[weight]
            words = "missing tensor"
        np.savez(file, **arrays)
    with pytest.raises(NetworkError, match=words) as error:
        load_net(tmp_path)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


@pytest.fixture(scope="module")
def stopped(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, Path]:
    """A run that was stopped in the middle of a stage."""
    c = config("group", "incremental", ema=0.9, epochs=(3,), shares=(0.5, 1.0))
    folder = tmp_path_factory.mktemp("stopped")
    run(c, digits, folder, on_progress=stop_at("group 1", 2))
    return c, folder


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("momentum shape", "tensor layers.conv2.convs.0.weight has shape"),
        ("average shape", "tensor layers.conv2.convs.0.weight has shape"),
        ("average missing", "missing tensor"),
        ("momentum unknown", "unexpected tensor, value 'x'|value 'x': unexpected tensor"),
        ("momentum nan", "holds NaN"),
        ("momentum big-endian", "unexpected array"),
        ({"stage": "x"}, "does not say where the run stands"),
        ({"stage": 99}, "does not say where the run stands"),
        ({"epoch": 99}, "does not say where the run stands"),
        ({"epoch": True}, "does not say where the run stands"),
        ({"finished": True}, "does not say where the run stands"),
        ({"seconds": -1}, "does not say where the run stands"),
        ({"curve": None}, "does not say where the run stands"),
        ({"config": []}, "config: is not an object"),
    ],
    ids=str,
)
def test_an_altered_checkpoint_is_not_gone_on_with(
    digits: Dataset, stopped: tuple[TrainConfig, Path], tmp_path: Path, fault: str | dict[str, Any], words: str
) -> None:
    c, folder = stopped
    file = tmp_path / CHECKPOINT
    with np.load(folder / CHECKPOINT, allow_pickle=False) as archive:
        arrays: dict[str, Any] = dict(archive)
    weight = "layers.conv2.convs.0.weight"
    if isinstance(fault, dict):
        header = json.loads(arrays["header"].tobytes())
        header["record"] |= fault
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    else:
        part, what = fault.split()
        name = f"{part}/{weight}"
        if what == "shape":
            arrays[name] = arrays[name][:1]
        elif what == "missing":
            del arrays[name]
        elif what == "unknown":
            arrays[f"{part}/x"] = arrays[name]
        elif what == "nan":
            arrays[name] = arrays[name] * np.float32(np.nan)
        else:
            arrays[name] = arrays[name].astype(">f4")
    np.savez(file, **arrays)
    with pytest.raises(NetworkError, match=words) as error:
        run(c, digits, tmp_path, resume=True)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_a_checkpoint_in_the_middle_holds_what_the_optimiser_remembers(digits: Dataset, tmp_path: Path) -> None:
    c = config("group", "incremental", ema=0.9)
    run(c, digits, tmp_path, on_progress=stop_at("group 1", 2))
    found = load_checkpoint(tmp_path)
    assert found.record["epoch"] == 1 and found.momentum and found.average
    assert all(".0." in name for name in found.momentum)  # the optimiser sees group 1 only


@pytest.mark.parametrize("file", ["checkpoint.npz", "training.json", "ladder.json", "ranking/checkpoint.npz"])
def test_what_others_left_is_not_overwritten(digits: Dataset, tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("theirs")
    with pytest.raises(NetworkError, match="already holds a run"):
        run(config("group", "incremental", epochs=(1,)), digits, tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [tmp_path / file]
    assert (tmp_path / file).read_text() == "theirs"


def test_a_run_without_a_checkpoint_goes_on_as_it_began(digits: Dataset, tmp_path: Path) -> None:
    c = config("slimmable", "single_path", "resnet20", plan="nonuniform", epochs=(1,), ranking_epochs=1)
    run(c, digits, tmp_path, on_progress=stop_at("ranking", 1))
    before = (tmp_path / "training.json").read_bytes()
    with pytest.raises(NetworkError, match="batch, value 32: cannot change while"):
        run(replace(c, batch=32), digits, tmp_path, resume=True)
    assert (tmp_path / "training.json").read_bytes() == before
    shipped = ZOO / "digits"
    with pytest.raises(NetworkError, match=r"digits/checkpoint\.npz: no such file"):
        check_run(begun(shipped)[0], shipped, resume=True)
