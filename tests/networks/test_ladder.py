"""`ladder.json`: written and read back, refused in one line wherever it or its model is not in order."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dyndnn import ladder as ladder_module
from dyndnn.costs import activation_bytes, macs, weight_count
from dyndnn.data import load_data
from dyndnn.errors import NetworkError
from dyndnn.evaluate import evaluate_ladder, export_ladder, rung_names, score, write_ladder
from dyndnn.ladder import BIN_FILE, LADDER_FILE, PARAM_FILE, ladder_folder, load_ladder, save_ladder
from dyndnn.netconfig import NetConfig
from dyndnn.network import Network, softmax
from dyndnn.speed import resident_bytes
from tests.networks.conftest import MEAN, STD, random_net

# of the issue, written out: a renamed field must not rename a key unseen
KEYS = {"name", "input", "rungs", "files"}
INPUT_KEYS = {"shape", "mean", "std"}
RUNG_KEYS = {"name", "output", "groups", "accuracy", "confidence", "macs", "bytes", "activation_bytes"}


def test_the_file_is_what_was_agreed(group_folder: Path) -> None:
    found = json.loads((group_folder / LADDER_FILE).read_text())
    assert found.keys() == KEYS and found["input"].keys() == INPUT_KEYS
    assert found["input"] == {"shape": [3, 16, 16], "mean": list(MEAN), "std": list(STD)}
    assert found["files"].keys() == {"model.param", "model.bin"}
    config = random_net("alexnet", "group").config
    for k, rung in enumerate(found["rungs"]):
        assert rung.keys() == RUNG_KEYS
        assert (rung["name"], rung["output"], rung["groups"]) == (f"{25 * (k + 1)}%", f"out{k}", k + 1)
        assert rung["macs"] == macs(config, k) and rung["bytes"] == 4 * weight_count(config, k)
        assert rung["activation_bytes"] == activation_bytes(config, k)


def test_saved_and_loaded_is_the_same(group_folder: Path, ladder_copy: Path) -> None:
    ladder = load_ladder(group_folder)
    changed = replace(ladder, name="another", rungs=tuple(replace(r, accuracy=0.5) for r in ladder.rungs))
    save_ladder(ladder_copy, changed)
    assert load_ladder(ladder_copy) == changed


def test_a_rung_by_name_or_number(group_folder: Path) -> None:
    ladder = load_ladder(group_folder)
    assert [ladder.index(rung) for rung in ("25%", "100%", "1", 4, "004")] == [0, 3, 0, 3, 3]
    for unknown in ("5", "0", 0, -1, "30%", "", "1.0", "²", "0000000010", "9" * 5000):
        with pytest.raises(NetworkError, match="unknown rung") as caught:
            ladder.index(unknown)
        assert "25%, 50%, 75%, 100%" in str(caught.value) and "\n" not in str(caught.value)


Change = Callable[[dict[str, Any]], object]

# what is done to a good ladder, and what the complaint names
DAMAGE: list[tuple[Change, str]] = [
    (lambda d: d.pop("name"), "missing key 'name'"),
    (lambda d: d.update(colour="red"), "unknown key 'colour'"),
    (lambda d: d.update(name=""), "name"),
    (lambda d: d.update(name=3), "name"),
    (lambda d: d.update(input=[1, 2]), "input: is not an object"),
    (lambda d: d["input"].pop("std"), "missing key 'std'"),
    (lambda d: d["input"].update(shape=[3, 16]), "input.shape"),
    (lambda d: d["input"].update(shape=[3, 16, 0]), "input.shape"),
    (lambda d: d["input"].update(shape=[3, 16, 16.0]), "input.shape"),
    (lambda d: d["input"].update(mean=[0.5]), "input.mean: is not a list of 3"),
    (lambda d: d["input"].update(mean=[0.5, 0.5, "x"]), "input.mean"),
    (lambda d: d["input"].update(std=[0.5, 0.5, 0.0]), "input.std"),
    (lambda d: d["input"].update(std=[0.5, 0.5, float("nan")]), "input.std"),
    (lambda d: d["input"].update(std=[0.5, 0.5, 1e-300]), "input.std, value 1e-300: is not a number from 1e-06"),
    (lambda d: d["input"].update(mean=[0.5, 0.5, 1e300]), "input.mean, value 1e"),
    (lambda d: d["input"].update(mean=[0.5, 0.5, 10**400]), r"input.mean, value 10{39}\.\.\.: is not a number"),
    (lambda d: d["input"].update(shape=[3, 60_000, 60_000]), "input.shape.*at most"),
    (lambda d: d["rungs"][3].update(macs=10**400), r"rungs\[3\].macs, value 10{39}\.\.\.: is not a whole number"),
    (lambda d: d.update(rungs=[]), "rungs"),
    (lambda d: d.update(rungs={}), "rungs"),
    (lambda d: d["rungs"].reverse(), "smallest rung comes first"),
    (lambda d: d["rungs"].append(d["rungs"][-1]), "same name"),
    (lambda d: d["rungs"][1].update(output="out0"), "same output"),
    (lambda d: d["rungs"].append("x"), r"rungs\[4\]"),
    (lambda d: d["rungs"][2].pop("macs"), r"rungs\[2\]: missing key 'macs'"),
    (lambda d: d["rungs"][2].update(latency=1), r"rungs\[2\]: unknown key 'latency'"),
    (lambda d: d["rungs"][2].update(accuracy=84.0), r"rungs\[2\].accuracy"),
    (lambda d: d["rungs"][2].update(accuracy=True), r"rungs\[2\].accuracy"),
    (lambda d: d["rungs"][2].update(accuracy=None), r"rungs\[2\].accuracy"),
    (lambda d: d["rungs"][2].update(confidence=-0.1), r"rungs\[2\].confidence"),
    (lambda d: d["rungs"][2].update(macs=0), r"rungs\[2\].macs"),
    (lambda d: d["rungs"][2].update(bytes=1.5), r"rungs\[2\].bytes"),
    (lambda d: d["rungs"][2].update(groups="3"), r"rungs\[2\].groups"),
    (lambda d: d["rungs"][2].update(name="a\nb"), r"rungs\[2\].name"),
    (lambda d: d.update(files={}), "missing key 'model.param'"),
    (lambda d: d["files"].update({"../../etc/passwd": "0" * 64}), "unknown key"),
    (lambda d: d["files"].update({"model.bin": "abc"}), "is not a SHA-256"),
    (lambda d: d["files"].update({"model.bin": "0" * 64}), r"model\.bin: was altered"),
]


@pytest.mark.parametrize(("change", "named"), DAMAGE)
def test_a_ladder_that_is_not_in_order(change: Change, named: str, ladder_copy: Path) -> None:
    path = ladder_copy / LADDER_FILE
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))
    with pytest.raises(NetworkError, match=named) as caught:
        load_ladder(ladder_copy)
    assert str(ladder_copy) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "is not JSON"),
        (b"{", "ladder.json:1: is not JSON"),
        (b"[]", "is not an object"),
        (b"null", "is not an object"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"name": 1, "name": 2}', "a key occurs twice"),
        (b"[" * 200_000, "is not a ladder"),
        (b" " * 2_000_000, "bytes"),
        (b'{"name": ' + b"9" * 10_000 + b"}", "is not a ladder"),
    ],
)
def test_a_file_that_is_no_ladder(data: bytes, named: str, ladder_copy: Path) -> None:
    (ladder_copy / LADDER_FILE).write_bytes(data)
    with pytest.raises(NetworkError, match=named) as caught:
        load_ladder(ladder_copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [BIN_FILE, PARAM_FILE])
def test_a_model_file_that_is_missing_or_altered(name: str, ladder_copy: Path) -> None:
    path = ladder_copy / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(NetworkError, match=f"{name}: was altered: its SHA-256 is"):
        Network.load(ladder_copy)
    path.write_bytes(data[:-1])
    with pytest.raises(NetworkError, match=f"{name}: was altered"):
        Network.load(ladder_copy)
    path.unlink()
    with pytest.raises(NetworkError, match=f"{name}: cannot be read: No such file"):
        Network.load(ladder_copy)


def test_a_model_of_another_ladder(ladder_copy: Path) -> None:
    path = ladder_copy / LADDER_FILE
    path.write_text(path.read_text().replace('"out3"', '"out9"'))
    with pytest.raises(NetworkError, match="has no blob out9"):
        Network.load(ladder_copy)


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        (np.zeros((3, 16, 15), np.uint8), "has another shape"),
        (np.zeros((16, 16, 3), np.uint8), "has another shape"),
        (np.zeros((1, 3, 16, 16), np.uint8), "has another shape"),
        (np.zeros((), np.uint8), "has another shape"),
        (np.zeros((3, 16, 16), np.int64), "wrong type"),
        (np.zeros((3, 16, 16), np.bool_), "wrong type"),
        (np.zeros((3, 16, 16), np.complex64), "wrong type"),
        (np.full((3, 16, 16), 1.5), "outside 0..1"),
        (np.full((3, 16, 16), -0.5, np.float32), "outside 0..1"),
        (np.full((3, 16, 16), np.nan), "outside 0..1"),
        (np.full((3, 16, 16), np.inf), "outside 0..1"),
    ],
)
def test_a_frame_that_does_not_fit(frame: np.ndarray[Any, Any], named: str, group_folder: Path) -> None:
    with pytest.raises(NetworkError, match=named) as caught:
        Network.load(group_folder).infer(frame, 1)
    assert "\n" not in str(caught.value)


def test_a_ladder_by_path_or_by_name_of_the_zoo(
    group_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ladder_folder(group_folder) == group_folder
    monkeypatch.setattr(ladder_module, "ZOO", group_folder.parent)
    assert ladder_folder(group_folder.name) == group_folder
    with pytest.raises(NetworkError, match=f"no such ladder.*the zoo has .*{group_folder.name}"):
        ladder_folder("nothing")
    with pytest.raises(NetworkError, match=r"holds no ladder\.json"):
        ladder_folder(tmp_path)


def test_scores_are_what_the_papers_define(group_folder: Path) -> None:
    network = Network.load(group_folder)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 3, 16, 16), np.uint8)
    labels = rng.integers(0, 10, 40)
    told: list[tuple[int, int]] = []
    found = score(network, images, labels, lambda done, total: told.append((done, total)))
    logits = np.array([[network.infer(image, k) for image in images] for k in (1, 2, 3, 4)])  # (rungs, images, classes)
    np.testing.assert_allclose(found.accuracy, (logits.argmax(-1) == labels).mean(1))
    sums = softmax(logits)[:, np.arange(40), labels].sum(1)
    np.testing.assert_allclose(found.confidence, sums / sums[-1])
    assert found.confidence[-1] == 1.0
    with pytest.raises(NetworkError, match="40 with 39 labels"):
        score(network, images, labels[:-1])


def test_a_ladder_of_digits_is_measured_on_all_test_images(tmp_path: Path) -> None:
    data = load_data("digits")
    (tmp_path / ".measured-killed").mkdir()
    ladder = write_ladder(random_net("alexnet", "nested", shape=(1, 8, 8)), tmp_path, data, name="digits")
    assert load_ladder(tmp_path) == ladder and ladder.input.shape == (1, 8, 8)
    assert {path.name for path in tmp_path.iterdir()} == {LADDER_FILE, PARAM_FILE, BIN_FILE}
    assert (ladder.input.mean, ladder.input.std) == (data.mean, data.std)
    again = evaluate_ladder(tmp_path, data, threads=(1,))
    assert again.score.accuracy == tuple(r.accuracy for r in ladder.rungs)
    assert again.score.confidence == tuple(r.confidence for r in ladder.rungs)
    heads, rows = again.rows()
    assert len(rows) == 4 and {len(row) for row in rows} == {len(heads)} and heads[-1] == "ms, 1 thread"
    assert all(0 < float(row[-1]) < 1000 for row in rows)


def test_a_ladder_and_data_of_another_shape(group_folder: Path) -> None:
    with pytest.raises(NetworkError, match="takes frames of"):
        evaluate_ladder(group_folder, load_data("digits"))


def test_rungs_are_named_by_their_share(tmp_path: Path) -> None:
    def config(*rows: tuple[int, ...]) -> NetConfig:
        return NetConfig(family="alexnet", connectivity="slimmable", widths=rows)

    assert rung_names(config((2, 3, 5, 5, 5), (4, 6, 10, 10, 10))) == ("50%", "100%")
    uneven = config((4, 6, 2, 2, 10), (4, 6, 10, 10, 10))
    share = round(100 * macs(uneven, 0) / macs(uneven, 1))
    assert rung_names(uneven) == (f"{share}%", "100%") and share != 50
    twins = config((1000, 6, 8, 8, 8), (1001, 6, 8, 8, 8))
    assert rung_names(twins) == ("1", "2")
    with pytest.raises(NetworkError, match="1 of them"):
        export_ladder(random_net("alexnet", "group"), tmp_path, name="x", mean=MEAN, std=STD, names=("one",))
    assert not list(tmp_path.iterdir())


def test_memory_is_measured_in_whatever_folder_one_stands(group_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(group_folder.parent)
    assert resident_bytes(group_folder.name) > 0
