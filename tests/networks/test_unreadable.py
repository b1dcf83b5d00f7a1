"""What one may not read is told in one line, by whoever asks for it. Root may read all, so the refusal is played."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dyndnn.checkpoint import load_checkpoint
from dyndnn.data import load_data
from dyndnn.errors import NetworkError
from dyndnn.frames import open_frames, read_frame
from dyndnn.ladder import ladder_folder
from dyndnn.record import begun, read_record

ASKED: tuple[Callable[[Path], object], ...] = (
    open_frames,
    ladder_folder,
    lambda folder: load_data("cifar10", folder),
    begun,
    read_record,
    load_checkpoint,
)
NAMES = ("open_frames", "ladder_folder", "load_data", "begun", "read_record", "load_checkpoint")


@pytest.mark.parametrize("ask", ASKED, ids=NAMES)
def test_a_folder_that_one_may_not_look_into(
    ask: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(NetworkError, match=f"^{tmp_path}.*: cannot be read: Permission denied$"):
        ask(tmp_path)


@pytest.mark.parametrize("ask", ASKED, ids=NAMES)
def test_a_name_that_is_too_long(ask: Callable[[Path], object]) -> None:
    with pytest.raises(NetworkError, match=r"x: cannot be read: File name too long$|x/.*: File name too long$"):
        ask(Path("x" * 300))


def test_a_folder_that_one_may_not_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(NetworkError, match=f"^{tmp_path}: cannot be read: Permission denied$"):
        open_frames(tmp_path)


@pytest.mark.parametrize("suffix", ["npy", "ppm"])
def test_a_frame_that_is_not_there(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=f"nope.{suffix}: cannot be read: No such file or directory"):
        read_frame(tmp_path / f"nope.{suffix}")
