"""What the worker refuses before it serves: a wrong command line, an altered model, frames and labels that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dyndnn.errors import NetworkError
from dyndnn.frames import open_frames
from tests.serving import ROOT, serve


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rung", "30%"), "error: ladder 'tiny': unknown rung '30%'; it has 25%, 50%, 75%, 100% (or 1 to 4)"),
        (("--frames", "/no/such/folder"), "error: /no/such/folder: no such file or folder"),
        (("--frames", ROOT / "hw" / "boards"), "holds no frames"),
        (("--threads", "0"), "error: --threads, value '0'"),
        (("--threads", "1e3"), "error: --threads"),
        (("--cpus", "9999"), "error: cpus, value '9999': refused"),
        (("--powersave", "tiny"), "error: argument --powersave"),
        (("--anytime",), "error: --anytime: needs a deadline"),
        (("--rate", "5"), "error: --frames: is missing"),
        (("--deadline", "0"), "error: --deadline"),
        (("--colour",), "error: unrecognized arguments: --colour"),
        (("--ladder", "/no/such/ladder"), "error: /no/such/ladder: no such ladder"),
    ],
)
def test_a_wrong_command_line(words: tuple[object, ...], said: str, group_folder: Path) -> None:
    records, heard, status = serve("--ladder", group_folder, *words)
    assert status == 2 and not records
    assert said in heard and len(heard.splitlines()) == 1


def test_an_altered_model(ladder_copy: Path) -> None:
    with (ladder_copy / "model.bin").open("ab") as stream:
        stream.write(b"x")
    _, heard, status = serve("--ladder", ladder_copy)
    assert status == 2 and len(heard.splitlines()) == 1
    assert heard.startswith(f"error: {ladder_copy}/model.bin: was altered: its SHA-256 is ")
    (ladder_copy / "model.param").unlink()
    _, heard, status = serve("--ladder", ladder_copy)
    assert status == 2 and "model.param: cannot be read: No such file" in heard and len(heard.splitlines()) == 1


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ({"pictures": np.zeros((2, 3, 16, 16), np.uint8)}, "not a stack of frames"),
        ({"frames": np.zeros((3, 16, 16), np.uint8)}, "shape (3, 16, 16)"),
        ({"frames": np.zeros((0, 3, 16, 16), np.uint8)}, "shape (0, 3, 16, 16)"),
        ({"frames": np.zeros((2, 3, 16, 16), np.uint8), "labels": np.array([1])}, "one class per frame"),
        ({"frames": np.zeros((2, 3, 16, 16), np.uint8), "labels": np.array([1, -1])}, "one class per frame"),
        ({"frames": np.zeros((2, 3, 16, 16), np.uint8), "labels": np.array([1.0, 2.0])}, "one class per frame"),
        ({"frames": np.array([{}], dtype=object)}, "not a stack of frames"),
    ],
)
def test_a_bad_stack(arrays: dict[str, np.ndarray[Any, Any]], named: str, tmp_path: Path) -> None:
    path = tmp_path / "stack.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(NetworkError) as caught:
        open_frames(path)
    assert named in str(caught.value) and "\n" not in str(caught.value)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(NetworkError, match="not a stack of frames"):
        open_frames(path)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name,class\n", "labels.csv:1: wrong header"),
        ("file,label\na.ppm\n", "labels.csv:2"),
        ("file,label\na.ppm,cat\n", "labels.csv:2"),
        ("file,label\nz.ppm,1\n", "not there"),
        ("", "labels.csv:1"),
    ],
)
def test_bad_labels(text: str, named: str, tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P6\n1 1\n255\nabc")
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(NetworkError) as caught:
        open_frames(tmp_path)
    assert named in str(caught.value)
