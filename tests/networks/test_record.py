"""Training records: found by folder or zoo name, and an accuracy taken only from a finished rung trained alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dyndnn.errors import NetworkError
from dyndnn.ladder import ZOO
from dyndnn.netconfig import alone
from dyndnn.record import TRAINING, read_record, recorded_network
from experiments.network_table import alone_accuracy, beside


def write(folder: Path, **changes: Any) -> Path:
    """The record of the shipped digits, as if they had been a rung trained alone, with `changes`."""
    _, record = read_record("digits")
    record["config"]["scheme"] = "alone"
    (folder / TRAINING).write_text(json.dumps(record | changes))
    return folder


def test_a_name_of_the_zoo_and_its_folder_are_the_same() -> None:
    assert read_record("digits") == read_record(ZOO / "digits")


def test_a_folder_goes_before_a_ladder_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = recorded_network("alexnet-paper")
    (tmp_path / "digits").mkdir()
    write(tmp_path / "digits", network=paper.to_json())
    monkeypatch.chdir(tmp_path)
    assert recorded_network("digits") == paper


@pytest.mark.parametrize("text", ["", "[]", "{", '{"network": 3}', "null", "[" * 100_000])
def test_what_is_no_record_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / TRAINING).write_text(text)
    with pytest.raises(NetworkError, match=TRAINING):
        read_record(tmp_path)


def test_accuracy_of_a_rung_trained_alone(tmp_path: Path) -> None:
    network, accuracy = alone_accuracy(write(tmp_path, rungs=[{"rung": 2, "accuracy": 0.875}]))
    assert network == recorded_network("digits")
    assert accuracy == 0.875


@pytest.mark.parametrize(
    "changes",
    [
        {"rungs": []},
        {"rungs": None},
        {"rungs": [{"rung": 2}]},
        {"rungs": [{"rung": 2, "accuracy": "high"}]},
        {"config": {"scheme": "joint"}},
        {"config": []},
    ],
)
def test_other_runs_are_no_rung_trained_alone(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="is no rung trained alone"):
        alone_accuracy(write(tmp_path, **changes))


@pytest.mark.parametrize("name", ["alexnet-group", "alexnet-nested", "alexnet-slimmable", "resnet20-nonuniform"])
def test_a_rung_trained_alone_stands_beside_its_own(name: str) -> None:
    network = recorded_network(name)
    for k in range(network.rungs):
        shown = [beside(network, other, [(alone(network, k), 0.5)]) for other in range(network.rungs)]
        assert shown == ["50.00" if other == k else "-" for other in range(network.rungs)]


@pytest.mark.parametrize("name", ["alexnet-nested", "alexnet-slimmable"])
def test_one_rung_is_the_same_network_with_either_head(name: str) -> None:
    network = recorded_network(name)
    heads = [replace(network, head="added"), replace(network, head="own")]
    for config in heads:
        for k in range(network.rungs):
            shown = [beside(config, k, [(alone(other, k), 0.5)]) for other in heads]
            same = alone(network, k).rungs == 1
            assert shown == ["50.00" if same or other == config else "-" for other in heads]
