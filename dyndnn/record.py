"""`training.json`: where a network came from; a run folder has it, and so has a ladder that ships."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dyndnn.errors import NetworkError
from dyndnn.files import read_bytes
from dyndnn.ladder import ZOO
from dyndnn.netconfig import NetConfig

TRAINING = "training.json"


def recorded_network(folder: str | Path) -> NetConfig:
    """The network of `read_record`."""
    return read_record(folder)[0]


def read_record(folder: str | Path) -> tuple[NetConfig, dict[str, Any]]:
    """The network and the whole record of a run folder, of a ladder's folder, or of a ladder of the zoo by its name.

    Raises NetworkError where there is no record, or it is none.
    """
    shipped = ZOO / folder / TRAINING
    path = Path(folder) / TRAINING
    if shipped.is_file() and not path.is_file():
        path = shipped
    if not path.is_file():
        raise NetworkError.at(path, "no such file", want="a run folder of train_dnn.py, or a ladder")
    data = read_bytes(path)
    try:
        record: dict[str, Any] = json.loads(data)
        network = record["network"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise NetworkError.at(path, "is no training record", want="one written by train_dnn.py") from None
    return NetConfig.from_json(network, f"{path}, network"), record
