"""train_dnn.py as a person runs it: in an empty folder, by subprocess."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from dyndnn.data import CIFAR10_FOLDER, CIFAR10_MD5
from dyndnn.ladder import load_ladder
from experiments import train_dnn
from tests.e2e.refusing import refused, run_inside

SCRIPT = Path(__file__).resolve().parents[2] / "experiments/train_dnn.py"
FEW = ("--data", "digits", "--epochs", 1, "--shares", 0.5, 1)

Done = subprocess.CompletedProcess[str]


def command(*words: object) -> list[str]:
    return [sys.executable, "-W", "error", str(SCRIPT), *(str(w) for w in words)]


def run(cwd: Path, *words: object) -> Done:
    return subprocess.run(command(*words), cwd=cwd, capture_output=True, text=True, timeout=120)


def epochs_of(folder: Path) -> int:
    """How many the record has; -1 where none was begun."""
    file = folder / "training.json"
    return len(json.loads(file.read_text())["curve"]) if file.exists() else -1


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """The README's example: its run folder, and what it said."""
    cwd = tmp_path_factory.mktemp("digits")
    done = run(cwd, "--data", "digits", "--out", "out")
    assert done.returncode == 0, done.stderr
    return cwd / "out", done


def test_digits_leave_a_ladder(trained: tuple[Path, Done]) -> None:
    folder, done = trained
    names = {"checkpoint.npz", "ladder.json", "model.bin", "model.param", "tb", "training.json"}
    assert {p.name for p in folder.iterdir()} == names
    ladder = load_ladder(folder)
    accuracies = [rung.accuracy for rung in ladder.rungs]
    assert ladder.name == "digits" and [r.name for r in ladder.rungs] == ["25%", "50%", "75%", "100%"]
    assert accuracies[0] > 0.9 and accuracies[-1] > 0.95 and accuracies[-1] >= accuracies[0] + 0.01
    record = json.loads((folder / "training.json").read_text())
    # what torch counted and what the exported model gives: a few images of 360 may lie on an edge
    assert accuracies == pytest.approx([rung["accuracy"] for rung in record["rungs"]], abs=0.006)
    assert record["config"]["scheme"] == "incremental" and "git_commit" in record
    assert "ms, 1 thread" in done.stdout and f"{100 * accuracies[-1]:.2f}" in done.stdout
    assert str(folder.name) in done.stdout


def test_evaluate(trained: tuple[Path, Done], tmp_path: Path) -> None:
    done = run(tmp_path, "--evaluate", trained[0])
    assert done.returncode == 0, done.stderr
    ladder = load_ladder(trained[0])
    for rung in ladder.rungs:
        assert any(rung.name in line and f"{100 * rung.accuracy:.2f}" in line for line in done.stdout.splitlines())
    assert list(tmp_path.iterdir()) == []


def test_names_of_a_strangers_ladder_are_printed_as_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["[/small]", "[red]x", ":smile:", "[link=here]100%"]
    evaluation = SimpleNamespace(
        rows=lambda: (("rung", "accuracy %"), [(name, "90.00") for name in names]),
        ladder=SimpleNamespace(name="[bold]mine"),
    )
    data = SimpleNamespace(name="digits", test_images=range(360))
    train_dnn._print(evaluation, data)  # type: ignore[arg-type]
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told if "90.00" in line] == names
    assert any(line.startswith("[bold]mine: exported model") for line in told)


def test_half_exports_an_ended_run_again(trained: tuple[Path, Done], tmp_path: Path) -> None:
    shutil.copytree(trained[0], tmp_path / "out")
    told = json.loads((tmp_path / "out/training.json").read_text())
    (tmp_path / "out/training.json").write_text(json.dumps(told | {"name": "as it began"}))
    done = run(tmp_path, "--out", "out", "--resume", "--half")
    assert done.returncode == 0, done.stderr
    assert load_ladder(tmp_path / "out").name == "as it began"
    assert (tmp_path / "out/model.bin").stat().st_size < 0.6 * (trained[0] / "model.bin").stat().st_size
    whole, half = (load_ladder(folder) for folder in (trained[0], tmp_path / "out"))
    assert [r.accuracy for r in half.rungs] == pytest.approx([r.accuracy for r in whole.rungs], abs=0.01)
    record = json.loads((tmp_path / "out/training.json").read_text())
    assert record["curve"] == json.loads((trained[0] / "training.json").read_text())["curve"]


def test_a_run_is_not_overwritten(trained: tuple[Path, Done]) -> None:
    before = (trained[0] / "training.json").read_bytes()
    refused(run(trained[0].parent, *FEW, "--out", "out"), "out: already holds a run", "--resume")
    refused(run(trained[0].parent, *FEW, "--out", "out", "--resume"), "cannot change while out is resumed")
    other = ("--recipe", "alexnet-paper", "--out", "out", "--resume")
    refused(run(trained[0].parent, *other), "--recipe", "'alexnet-paper'", "digits, with which the run began")
    assert (trained[0] / "training.json").read_bytes() == before


@pytest.mark.parametrize("least", [0, 1])
def test_ctrl_c_and_on_again(tmp_path: Path, least: int) -> None:
    """Before the first epoch is over, and after it."""
    words = ("--data", "digits", "--epochs", 4, "--shares", 1, "--out", "out", "--channels", 64, 64, 64, 64, 64)
    with subprocess.Popen(
        command(*words), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as training:
        end_s = time.monotonic() + 60
        while epochs_of(tmp_path / "out") < least:
            assert training.poll() is None and time.monotonic() < end_s
            time.sleep(0.02)
        training.send_signal(signal.SIGINT)
        shown, said = training.communicate(timeout=60)
    assert training.returncode == 130 and shown == "", said
    assert said.splitlines()[-1] == "interrupted; every whole epoch is in out, go on with --out out --resume"
    assert "Traceback" not in said
    assert least <= epochs_of(tmp_path / "out") < 4
    done = run(tmp_path, "--out", "out", "--resume")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out/training.json").read_text())
    assert len(record["curve"]) == 4 and record["config"]["shares"] == [1]
    assert load_ladder(tmp_path / "out").rungs[0].accuracy > 0.5


def test_alone_is_a_number(tmp_path: Path) -> None:
    done = run(tmp_path, *FEW, "--scheme", "alone", "--rung", 1, "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "Rung 1 alone: accuracy" in done.stdout and not (tmp_path / "out/ladder.json").exists()


def test_images_held_out_are_what_is_measured_on(tmp_path: Path) -> None:
    done = run(tmp_path, *FEW, "--holdout", 200, "--out", "out")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out/training.json").read_text())
    ladder = load_ladder(tmp_path / "out")
    assert [r.accuracy for r in ladder.rungs] == pytest.approx([r["accuracy"] for r in record["rungs"]], abs=0.01)
    assert all(r.accuracy * 200 == pytest.approx(round(r.accuracy * 200)) for r in ladder.rungs)
    assert "on all 200 held-out training images" in " ".join(done.stdout.split())


def test_help_shows_what_the_recipe_has(tmp_path: Path) -> None:
    done = run(tmp_path, "--recipe", "digits", "--help")
    assert done.returncode == 0 and "(default: 64)" in done.stdout  # images per step


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--data", "mnist"), ("mnist", "digits")),
        (("--net", "vgg"), ("vgg", "resnet20")),
        (("--recipe", "alexnet"), ("recipe", "'alexnet'", "alexnet-group")),
        (("--data", "digits", "--scheme", "multi_path"), ("scheme", "incremental for group")),
        (("--data", "digits", "--epochs", "0"), ("epochs", "at least 1")),
        (("--data", "digits", "--epochs", "1", "2"), ("epochs", "1 or 4 counts")),
        (("--data", "digits", "--batch", "many"), ("batch", "many")),
        (("--data", "digits", "--threads", "0"), ("--threads", "from 1 to 256")),
        (("--data", "digits", "--threads", "99999999999"), ("--threads", "from 1 to 256")),
        (("--data", "digits", "--resume"), ("--resume", "--out DIR")),
        (("--out", "none", "--resume"), ("none: holds no run to go on with; a run is begun without --resume",)),
        (("--data", "digits", "--device", "gpu"), ("device", "'gpu'")),
        (("--data", "digits", "--device", "meta"), ("device", "'meta'")),
        (("--data", "digits", "--teacher", "nowhere"), ("nowhere", "no such file")),
        (("--data", "digits", "--out", "file/x"), ("file", "cannot be written")),
        (("--data", "cifar10"), ("data-dir", CIFAR10_FOLDER, "--download")),
        (("--data-dir", "nowhere"), ("nowhere", "data_batch_1", "no such file")),
        (("--evaluate", "nowhere"), ("nowhere", "no such ladder")),
        (("--evaluate", "."), ("holds no ladder.json",)),
        (("--recipe",), ("--recipe",)),
    ],
    ids=lambda words: " ".join(words),
)
def test_refused(tmp_path: Path, words: tuple[str, ...], told: tuple[str, ...]) -> None:
    (tmp_path / "file").touch()
    refused(run(tmp_path, *words), *told)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "words",
    [
        "--net alexnet --connectivity group --scheme alone --rung 2",
        "--net alexnet --connectivity group --scheme joint",
        "--net alexnet --connectivity group --scheme single_path",
        "--connectivity nested --scheme alone",
        "--net alexnet --shares 0.5 1.0",
        "--net resnet20 --shares 0.5 1.0",
        "--recipe alexnet-group --scheme alone",
        "--recipe alexnet-group --connectivity slimmable --scheme multi_path",
        "--recipe resnet20-uniform --shares 0.5 1.0",
    ],
)
def test_nobody_is_refused_over_what_was_not_typed(words: str, tmp_path: Path) -> None:
    """All that is missing is the data."""
    refused(run_inside(tmp_path, "train_dnn.py", *words.split()), "data-dir: is missing")


def test_a_damaged_data_file_and_an_altered_model(trained: tuple[Path, Done], tmp_path: Path) -> None:
    folder = tmp_path / CIFAR10_FOLDER
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(b"damaged")
    refused(run(tmp_path, "--data-dir", folder, "--out", "out"), "data_batch_1", "MD5", CIFAR10_MD5["data_batch_1"])
    copy = Path(shutil.copytree(trained[0], tmp_path / "copy"))
    with (copy / "model.bin").open("r+b") as stream:
        stream.seek(100, os.SEEK_SET)
        stream.write(b"\xff")
    refused(run(tmp_path, "--evaluate", "copy"), "model.bin", "SHA-256")
