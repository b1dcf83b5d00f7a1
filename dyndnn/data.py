"""Data sets in memory: CIFAR-10 from its canonical folder, and scikit-learn's digits, which need no download.

CIFAR-10's files are Python pickles. Each is compared with its published MD5, and no pickle is ever run: the
bytes are cut into opcodes (`pickletools`), and labels and pixels are read off them.
Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import pickletools
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dyndnn.errors import NetworkError
from dyndnn.files import atomic_write, is_file, is_folder, make_folder, md5, read_bytes

DataName = Literal["cifar10", "digits"]

CIFAR10_FOLDER = "cifar-10-batches-py"
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CIFAR10_ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"  # published beside the archive
CIFAR10_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PER_FILE, CHANNELS, SIDE = 10_000, 3, 32
CHUNK = 2**20
TIMEOUT_S = 60.0
DIGITS_TEST = 360  # of 1,797 images, drawn once and for all by DIGITS_SEED: the set comes without a split
DIGITS_SEED = 0

UInt8 = NDArray[np.uint8]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images (n, channels, height, width) in uint8 and their labels (n,); the mean pixel and its spread."""

    name: str
    train_images: UInt8
    train_labels: Int64
    test_images: UInt8
    test_labels: Int64
    labels: tuple[str, ...]
    mean: tuple[float, ...]  # per channel, of training pixels scaled to 0..1
    std: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width

    def held_out(self, count: int, seed: int = 0) -> Dataset:
        """`count` training images, drawn by `seed`, take the place of the test images: to choose a recipe with."""
        if not 0 < count < len(self.train_images):
            want = f"from 1 to {len(self.train_images) - 1}"
            raise NetworkError.at("holdout", "cannot be held out", value=count, want=want)
        order = np.random.default_rng(seed).permutation(len(self.train_images))
        held, kept = order[:count], np.sort(order[count:])
        return Dataset(
            name=self.name,
            train_images=self.train_images[kept],
            train_labels=self.train_labels[kept],
            test_images=self.train_images[held],
            test_labels=self.train_labels[held],
            labels=self.labels,
            mean=self.mean,
            std=self.std,
        )


def load_data(name: str, folder: str | Path | None = None) -> Dataset:
    """A data set by name; cifar10 needs the canonical folder (or the one it lies in).

    Raises NetworkError on an unknown name and on a missing or damaged file, naming it and its checksum.
    """
    if name == "digits":
        return _digits()
    if name != "cifar10":
        raise NetworkError.at("data", "unknown", value=name, want=f"one of {', '.join(get_args(DataName))}")
    if folder is None:
        want = f"name the folder {CIFAR10_FOLDER} with --data-dir; --download fetches it"
        raise NetworkError.at("data-dir", "is missing", want=want)
    return _cifar10(cifar10_folder(folder))


def cifar10_folder(folder: str | Path) -> Path:
    """The canonical folder, given it or the folder that it lies in."""
    inner = Path(folder) / CIFAR10_FOLDER
    return inner if is_folder(inner) else Path(folder)


def download_cifar10(folder: str | Path, on_progress: Callable[[int, int], None] | None = None) -> Path:
    """Fetch the canonical archive and unpack it into `folder`/cifar-10-batches-py; nothing where it is complete.

    `on_progress(bytes, total)` is called as they come. Raises NetworkError where the archive cannot be had or
    is not the published one; then no file is left behind.
    """
    target = make_folder(Path(folder) if Path(folder).name == CIFAR10_FOLDER else Path(folder) / CIFAR10_FOLDER)
    if all(is_file(target / name) and md5(target / name) == sum_ for name, sum_ in CIFAR10_MD5.items()):
        return target
    data = _fetch(CIFAR10_URL, on_progress)
    _check_md5(CIFAR10_URL, data, CIFAR10_ARCHIVE_MD5)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for name, published in CIFAR10_MD5.items():
            stream = archive.extractfile(f"{CIFAR10_FOLDER}/{name}")
            content = b"" if stream is None else stream.read()
            _check_md5(f"{CIFAR10_URL}, member {name}", content, published)
            atomic_write(target / name, content)
    return target


def _fetch(url: str, on_progress: Callable[[int, int], None] | None) -> bytes:
    parts: list[bytes] = []
    done = 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as stream:
            total = int(stream.headers.get("Content-Length") or 0)
            while part := stream.read(CHUNK):
                parts.append(part)
                done += len(part)
                if on_progress is not None:
                    on_progress(done, max(total, done))
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(error, http.client.HTTPException):  # some hold what was sent, in lines
            reason = f"the answer is cut short or not HTTP: {error!r:.100}"
        want = f"fetch it by hand and name its folder {CIFAR10_FOLDER} with --data-dir"
        raise NetworkError.at(url, f"cannot be fetched: {reason}", want=want) from None
    return b"".join(parts)


def _check_md5(where: str | Path, data: bytes, published: str) -> None:
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != published:
        raise NetworkError.at(where, f"is damaged or another file: MD5 {found}", want=f"published is {published}")


def _cifar10(folder: Path) -> Dataset:
    batches = {}
    for name, published in CIFAR10_MD5.items():
        path = folder / name
        if not is_file(path):
            want = f"--data-dir names the canonical folder {CIFAR10_FOLDER}, --download fetches it"
            raise NetworkError.at(path, "no such file", want=want)
        data = read_bytes(path)
        _check_md5(path, data, published)
        batches[name] = parse_batch(path, data)
    train = [batch for name, batch in batches.items() if name != "test_batch"]
    images = np.concatenate([pixels for pixels, _ in train])
    mean, std = _statistics(images)
    return Dataset(
        name="cifar10",
        train_images=images,
        train_labels=np.concatenate([labels for _, labels in train]),
        test_images=batches["test_batch"][0],
        test_labels=batches["test_batch"][1],
        labels=CIFAR10_LABELS,
        mean=mean,
        std=std,
    )


def parse_batch(path: str | Path, data: bytes) -> tuple[UInt8, Int64]:
    """Images (10000, 3, 32, 32) and labels (10000,) of one of CIFAR-10's files, without running its pickle.

    The labels are the small numbers between the key `labels` and the next string, the pixels the one long string.
    Raises NetworkError where that is not so.
    """
    size = CHANNELS * SIDE * SIDE
    labels: list[int] = []
    pixels, key = b"", ""
    try:
        for opcode, argument, position in pickletools.genops(data):
            if opcode.name == "SHORT_BINSTRING":
                key = str(argument)
            elif opcode.name == "BININT1" and key == "labels":
                labels.append(int(argument or 0))
            elif opcode.name == "BINSTRING":
                start = (position or 0) + 5  # an opcode and a length of four bytes
                pixels = data[start : start + len(str(argument))]
    except (ValueError, IndexError, OverflowError, EOFError):
        pixels = b""
    if len(pixels) != PER_FILE * size or len(labels) != PER_FILE or max(labels) >= len(CIFAR10_LABELS):
        raise NetworkError.at(path, "is not a batch of CIFAR-10", want=f"{PER_FILE} images and labels")
    images = np.frombuffer(pixels, np.uint8).reshape(PER_FILE, CHANNELS, SIDE, SIDE)
    return images, np.array(labels, np.int64)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)[:, None]  # (n, 1, 8, 8)
    labels = found.target.astype(np.int64)
    order = np.random.default_rng(DIGITS_SEED).permutation(len(images))
    test, train = order[:DIGITS_TEST], order[DIGITS_TEST:]
    mean, std = _statistics(images[train])
    return Dataset(
        name="digits",
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        labels=tuple(str(n) for n in range(10)),
        mean=mean,
        std=std,
    )


def _statistics(images: UInt8) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of pixels scaled to 0..1, exactly, from histograms."""
    means, stds = [], []
    values = np.arange(256) / 255
    for channel in range(images.shape[1]):
        share = np.bincount(images[:, channel].reshape(-1), minlength=256) / images[:, channel].size
        mean = float(share @ values)
        means.append(mean)
        stds.append(float(np.sqrt(share @ (values - mean) ** 2)))
    return tuple(means), tuple(stds)
