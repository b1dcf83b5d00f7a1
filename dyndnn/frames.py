"""Frames from files, with NumPy alone: `.npy`, `.npz`, binary PPM and PGM, a folder of them, raw bytes.

| what | holds |
|---|---|
| `.npy` | one frame (channels, height, width) or a stack (n, channels, height, width): uint8, or floats from 0 to 1 |
| `.npz` | `frames`, a stack as above, and, where they are known, `labels` (n,), the classes |
| `.ppm`, `.pgm` | one frame of 3 or 1 channels in bytes (P6 or P5, maximum 255); any tool converts PNG or JPEG to it |
| a folder | a frame per file of these kinds but `.npz`, by name; `labels.csv` (`file,label`) where they are known |

Other formats would need a library that boards do not have.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyndnn.errors import NetworkError
from dyndnn.files import is_file, is_folder, read_bytes, unreadable

STACKS = (".npy", ".npz")
IMAGES = (".npy", ".pgm", ".ppm")
LABELS_FILE = "labels.csv"
MAX_BYTES = 2**31  # of all frames of a stack, unpacked: boards are small

Frame = NDArray[Any]
_CLOSED = (FileNotFoundError, IsADirectoryError, PermissionError)
# what numpy and zipfile raise on damaged input
_DAMAGE = (ValueError, EOFError, OSError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error, SyntaxError, TypeError)


@dataclass(frozen=True)
class Source:
    """Frames in an order, each with a name for messages and, where it is known, its class."""

    names: Sequence[str]
    labels: Sequence[int | None]
    load: Callable[[int], Frame]  # by position; NetworkError where that frame cannot be read

    def __len__(self) -> int:
        return len(self.names)


def open_frames(path: str | Path) -> Source:
    """Frames of a file or folder; those of a folder are read when their turn comes.

    Raises:
        NetworkError: there is no such thing, it holds no frames, or a stack or the labels cannot be read.
    """
    path = Path(path)
    if is_folder(path):
        return _folder(path)
    if not is_file(path):
        raise NetworkError.at(path, "no such file or folder", want=f"frames are {', '.join((*IMAGES, '.npz'))}")
    if path.suffix.lower() not in STACKS:
        return Source([str(path)], [None], lambda _: read_frame(path))
    frames, labels = _read_stack(path)
    return Source([f"{path}[{k}]" for k in range(len(frames))], labels, lambda k: frames[k])


def read_frame(path: str | Path) -> Frame:
    """One frame of a `.npy`, `.ppm` or `.pgm` file; NetworkError where it is not one."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in (".ppm", ".pgm"):
        return _netpbm(path, read_bytes(path))
    if suffix == ".npy":
        return _array(path)
    raise NetworkError.at(path, "unknown kind of frame", want=f"one of {', '.join(IMAGES)}")


def raw_frame(data: bytes, shape: tuple[int, int, int]) -> Frame:
    """A frame of bytes in the order channels, rows, columns; NetworkError where their number is wrong."""
    if len(data) != np.prod(shape):
        raise NetworkError.at("raw frame", f"has {len(data)} bytes", want=f"{np.prod(shape)} for a frame of {shape}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _folder(path: Path) -> Source:
    try:
        entries = sorted(path.iterdir())
    except OSError as error:
        raise unreadable(path, error) from None
    files = [p for p in entries if p.suffix.lower() in IMAGES and is_file(p)]
    if not files:
        raise NetworkError.at(path, "holds no frames", want=f"files of {', '.join(IMAGES)}")
    labels = _read_labels(path / LABELS_FILE) if path / LABELS_FILE in entries else {}
    strange = sorted(labels.keys() - {p.name for p in files})
    if strange:
        raise NetworkError.at(path / LABELS_FILE, "labels a file that is not there", value=strange[0])
    return Source([str(p) for p in files], [labels.get(p.name) for p in files], lambda k: read_frame(files[k]))


def _read_labels(path: Path) -> dict[str, int]:
    """`file,label` lines as a table."""
    try:
        rows = list(csv.reader(io.StringIO(read_bytes(path).decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise NetworkError.at(path, f"is not a CSV file: {error}") from None
    if not rows or rows[0] != ["file", "label"]:
        raise NetworkError.at(f"{path}:1", "wrong header", want="file,label")
    labels = {}
    for line, row in enumerate(rows[1:], 2):
        if row and (len(row) != 2 or not re.fullmatch(r"[0-9]{1,6}", row[1])):
            raise NetworkError.at(f"{path}:{line}", "is not a file and its class", value=",".join(row), want="a.ppm,3")
        if row:
            labels[row[0]] = int(row[1])
    return labels


def _array(path: Path) -> NDArray[Any]:
    """A `.npy` array; its file is mapped first, so that a header cannot claim more than there is."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except _CLOSED as error:
        raise unreadable(path, error) from None
    except _DAMAGE:
        raise NetworkError.at(path, "is not a .npy array of numbers, or damaged") from None
    return np.array(found)


def _read_stack(path: Path) -> tuple[NDArray[Any], list[int | None]]:
    """Frames (n, channels, height, width) and their classes."""
    labels: NDArray[Any] | None = None
    if path.suffix.lower() == ".npy":
        frames = _array(path)
        frames = frames[None] if frames.ndim == 3 else frames
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
            if size > MAX_BYTES:
                raise NetworkError.at(path, f"holds {size} bytes", want=f"at most {MAX_BYTES}")
            with np.load(path, allow_pickle=False) as arrays:
                frames, labels = arrays["frames"], arrays.get("labels")
        except NetworkError:
            raise
        except _CLOSED as error:
            raise unreadable(path, error) from None
        except _DAMAGE:
            raise NetworkError.at(path, "is not a stack of frames, or damaged", want="an .npz with frames") from None
    if frames.ndim != 4 or not len(frames):
        raise NetworkError.at(path, f"holds an array of shape {frames.shape}", want="(n, channels, height, width)")
    if labels is None:
        return frames, [None] * len(frames)
    if labels.shape != frames.shape[:1] or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise NetworkError.at(path, f"labels of shape {labels.shape}, {labels.dtype}", want="one class per frame")
    return frames, [int(n) for n in labels]


def _netpbm(path: Path, data: bytes) -> Frame:
    """A binary PPM or PGM of one byte per sample."""
    head = re.match(rb"(P[56])(?:\s|#[^\n]*\n)+(\d{1,6})(?:\s|#[^\n]*\n)+(\d{1,6})(?:\s|#[^\n]*\n)+(\d{1,6})\s", data)
    if head is None:
        raise NetworkError.at(path, "is not a binary PPM or PGM", want="it begins with P6 or P5")
    channels = 3 if head[1] == b"P6" else 1
    width, height, most = (int(n) for n in head.groups()[1:])
    if most != 255:
        raise NetworkError.at(path, "has another maximum", value=most, want="255, one byte per sample")
    body = data[head.end() :]
    if len(body) != channels * height * width:
        raise NetworkError.at(path, f"has {len(body)} bytes of pixels", want=f"{channels * height * width}")
    return np.frombuffer(body, np.uint8).reshape(height, width, channels).transpose(2, 0, 1)
