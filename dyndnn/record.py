"""`training.json`: where a network came from; a run folder has it, and so has a ladder that ships."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dyndnn.errors import NetworkError
from dyndnn.files import atomic_write_text, is_file, read_bytes
from dyndnn.ladder import ZOO
from dyndnn.netconfig import NetConfig
from dyndnn.train_config import TrainConfig

TRAINING = "training.json"
WANT = "one written by train_dnn.py"


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Put the record into a run folder; NetworkError where it cannot be written."""
    atomic_write_text(folder / TRAINING, json.dumps(record, indent=1) + "\n")


def recorded_network(folder: str | Path) -> NetConfig:
    """The network of `read_record`."""
    return read_record(folder)[0]


def read_record(folder: str | Path) -> tuple[NetConfig, dict[str, Any]]:
    """The network and the whole record of a run folder, of a ladder's folder, or of a ladder of the zoo by its name.

    Raises NetworkError where there is no record, or it is none.
    """
    shipped = ZOO / folder / TRAINING
    path = Path(folder) / TRAINING
    if not is_file(path) and is_file(shipped):
        path = shipped
    if not is_file(path):
        raise NetworkError.at(path, "no such file", want="a run folder of train_dnn.py, or a ladder")
    record = _read(path)
    if "network" not in record:
        raise NetworkError.at(path, "is no training record", want=WANT)
    return NetConfig.from_json(record["network"], f"{path}, network"), record


def begun(folder: str | Path) -> tuple[TrainConfig, dict[str, Any]]:
    """The config and the whole record of a run that was begun in a folder, be it before its first epoch was over.

    Raises NetworkError where there is none, or its record is damaged.
    """
    path = Path(folder) / TRAINING
    if not is_file(path):
        raise NetworkError.at(folder, "holds no run to go on with", want="a run is begun without --resume")
    record = _read(path)
    return TrainConfig.from_json(record.get("config"), f"{path}, config"), record


def _read(path: Path) -> dict[str, Any]:
    data = read_bytes(path)
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise NetworkError.at(path, "is no training record", want=WANT)
    return record
