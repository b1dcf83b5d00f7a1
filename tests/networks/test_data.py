"""CIFAR-10 without trusting pickle, damaged files, the download, and augmentation against a plain reference."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import socket
import struct
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from dyndnn import data
from dyndnn.augment import Augment, Batches
from dyndnn.data import CIFAR10_FOLDER, CIFAR10_MD5, Dataset, download_cifar10, load_data, parse_batch
from dyndnn.errors import NetworkError


def batch(labels: bytes, pixels: bytes) -> bytes:
    """A file as Python 2 wrote CIFAR-10's: {'batch_label': ..., 'labels': [...], 'data': array, 'filenames': [...]}."""

    def short(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text

    listed = b"".join(b"K" + bytes([n]) for n in labels)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01M\x10\x27M\x00\x0c\x86"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"T" + struct.pack("<I", len(pixels)) + pixels + b"tb"
    )
    names = b"](" + short(b"a.png") + short(b"b.png") + b"e"
    return (
        b"\x80\x02}(" + short(b"batch_label") + short(b"training batch 1 of 5") + short(b"labels") + b"](" + listed
        + b"e" + short(b"data") + array + short(b"filenames") + names + b"u."
    )  # fmt: skip


LABELS = bytes(n % 10 for n in range(10_000))
PIXELS = np.random.default_rng(0).integers(0, 256, 10_000 * 3072, np.uint8).tobytes()


def test_a_batch_is_read_and_no_pickle_run() -> None:
    images, labels = parse_batch("f", batch(LABELS, PIXELS))
    assert images.shape == (10_000, 3, 32, 32) and images.tobytes() == PIXELS
    assert labels.tolist() == list(LABELS)


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.abort, ()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        pickle.dumps({"labels": [1, 2], "data": Evil()}, protocol=2),
        batch(LABELS[:-1], PIXELS),
        batch(LABELS[:-1] + b"\x0a", PIXELS),
        batch(LABELS, PIXELS[:-1]),
        batch(LABELS, PIXELS)[:-1000],
        batch(LABELS, PIXELS)[:50_000],
    ],
    ids=["empty", "noise", "evil", "a label less", "label 10", "a pixel less", "cut at the end", "cut"],
)
def test_no_batch(content: bytes) -> None:
    with pytest.raises(NetworkError, match=r"^f: is not a batch of CIFAR-10"):
        parse_batch("f", content)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of small made-up batches, which are what is published as far as this test goes."""
    monkeypatch.setattr(data, "PER_FILE", 500)
    content = batch(LABELS[:500], PIXELS[: 500 * 3072])
    path = tmp_path / "there" / CIFAR10_FOLDER
    path.mkdir(parents=True)
    for name in CIFAR10_MD5:
        (path / name).write_bytes(content)
        monkeypatch.setitem(CIFAR10_MD5, name, hashlib.md5(content).hexdigest())
    return path


def test_the_folder_or_the_one_it_lies_in(folder: Path) -> None:
    for place in (folder, folder.parent):
        found = load_data("cifar10", place)
        assert found.train_images.shape == (2_500, 3, 32, 32) and found.test_labels.shape == (500,)
        assert found.mean == pytest.approx((0.5,) * 3, abs=0.01) and found.std == pytest.approx((0.29,) * 3, abs=0.01)


def test_a_damaged_file_is_named_with_its_checksums(folder: Path) -> None:
    file = folder / "data_batch_3"
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1
    file.write_bytes(content)
    with pytest.raises(NetworkError) as error:
        load_data("cifar10", folder)
    told = str(error.value)
    assert told.startswith(str(file)) and "\n" not in told
    assert hashlib.md5(content).hexdigest() in told and CIFAR10_MD5["data_batch_3"] in told


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "test_batch").unlink()
    with pytest.raises(NetworkError, match=r"test_batch: no such file; --data-dir names"):
        load_data("cifar10", folder)
    with pytest.raises(NetworkError, match="data-dir"):
        load_data("cifar10")
    with pytest.raises(NetworkError, match="one of cifar10, digits"):
        load_data("mnist")


@pytest.fixture
def archive(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The published archive, as far as this test goes."""
    path = tmp_path / "cifar.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name in CIFAR10_MD5:
            tar.add(folder / name, f"{CIFAR10_FOLDER}/{name}")
        extra = tarfile.TarInfo("../../evil")
        tar.addfile(extra, io.BytesIO(b""))
    monkeypatch.setattr(data, "CIFAR10_URL", path.as_uri())
    monkeypatch.setattr(data, "CIFAR10_ARCHIVE_MD5", hashlib.md5(path.read_bytes()).hexdigest())
    return path


def test_download(archive: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    found = download_cifar10(tmp_path / "here", lambda done, total: told.append((done, total)))
    assert sorted(p.name for p in found.iterdir()) == sorted(CIFAR10_MD5)
    assert told[-1] == (archive.stat().st_size,) * 2
    archive.unlink()
    assert download_cifar10(tmp_path / "here") == found  # complete: nothing is fetched
    with pytest.raises(NetworkError, match="cannot be fetched"):
        download_cifar10(tmp_path / "elsewhere")


def test_a_download_of_something_else_leaves_nothing(archive: Path, tmp_path: Path) -> None:
    with archive.open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(NetworkError, match="MD5"):
        download_cifar10(tmp_path / "here")
    assert not list((tmp_path / "here" / CIFAR10_FOLDER).iterdir())


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\ncut", b"please log in\r\n" * 99],
    ids=["cut short", "not HTTP"],
)
def test_an_answer_that_is_none(answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(2**16)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        server.settimeout(30)
        monkeypatch.setattr(data, "CIFAR10_URL", url := f"http://127.0.0.1:{server.getsockname()[1]}/")
        monkeypatch.setenv("no_proxy", "*")
        served = pool.submit(serve)
        with pytest.raises(NetworkError) as error:
            download_cifar10(tmp_path)
        served.result()
    told = str(error.value)
    assert told.startswith(f"{url}: cannot be fetched: the answer is cut short") and "--data-dir" in told
    assert "\n" not in told and len(told) < 300


def test_digits() -> None:
    digits = load_data("digits")
    assert digits.shape == (1, 8, 8) and len(digits.train_labels) == 1437 and len(digits.test_labels) == 360
    assert digits.train_images.max() == 255 and set(digits.test_labels.tolist()) == set(range(10))
    held = digits.held_out(400)
    assert len(held.train_labels) == 1037 and len(held.test_labels) == 400
    for a, b in ((held.train_images, held.test_images),):
        assert not {x.tobytes() for x in a} & {x.tobytes() for x in b}
    with pytest.raises(NetworkError, match="from 1 to 1436"):
        digits.held_out(1437)


@pytest.mark.slow
def test_the_real_cifar10(cifar10: Dataset) -> None:
    found = cifar10
    assert np.bincount(found.train_labels).tolist() == [5000] * 10
    assert np.bincount(found.test_labels).tolist() == [1000] * 10
    assert found.train_labels[:5].tolist() == [6, 9, 9, 4, 1] and found.test_labels[:5].tolist() == [3, 8, 8, 0, 6]
    # the figures everybody uses
    assert found.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=1e-4)
    assert found.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=1e-4)


MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def batches() -> Batches:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 3, 12, 10), np.uint8)
    return Batches(images, np.arange(60), MEAN, STD, device=torch.device("cpu"))


def plain(batches: Batches) -> torch.Tensor:
    return torch.cat([x for x, _ in batches.in_order(32)])


def test_images_as_they_are(batches: Batches) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 3, 12, 10), np.uint8)
    mean, std = (np.array(v).reshape(3, 1, 1) for v in (MEAN, STD))
    np.testing.assert_allclose(plain(batches).numpy(), (images / 255 - mean) / std, rtol=1e-5, atol=1e-5)
    assert next(batches.in_order(4))[0].is_contiguous(memory_format=torch.channels_last)
    assert torch.cat([y for _, y in batches.in_order(32)]).tolist() == list(range(60))


@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_crop_and_flip_are_what_they_say(batches: Batches, padding: str) -> None:
    whole = plain(batches)
    outside = torch.tensor([round(m * 255) / 255 for m in MEAN]).sub(torch.tensor(MEAN)).div(torch.tensor(STD))
    if padding == "zero":
        padded = outside.reshape(1, 3, 1, 1).expand(60, 3, 18, 16).clone()
        padded[:, :, 3:-3, 3:-3] = whole
    else:
        padded = torch.nn.functional.pad(whole, (3, 3, 3, 3), mode="reflect")
    augment = Augment(crop=3, padding=padding, flip=True)  # type: ignore[arg-type]
    seen = set()
    for x, y in batches.shuffled(20, augment, torch.Generator().manual_seed(1)):
        for image, number in zip(x, y.tolist(), strict=True):
            places = [
                (down, across, mirrored)
                for down in range(7)
                for across in range(7)
                for mirrored in (False, True)
                if torch.allclose(
                    (padded[number].flip(2) if mirrored else padded[number])[:, down : down + 12, across : across + 10],
                    image,
                    atol=1e-5,
                )
            ]
            assert len(places) == 1
            seen.add(places[0])
    assert len(seen) > 25 and {m for *_, m in seen} == {False, True}


def test_cutout_hides_a_square(batches: Batches) -> None:
    whole = plain(batches)
    sizes = set()
    for x, y in batches.shuffled(20, Augment(cutout=4), torch.Generator().manual_seed(1)):
        changed = (x - whole[y]).abs().amax(1) > 1e-5
        for mask in changed:
            rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
            height, width = (int(v.max() - v.min()) + 1 for v in (rows, columns))
            assert 2 <= height <= 4 and 2 <= width <= 4 and int(mask.sum()) >= height * width - 2
            sizes.add((height, width))
    assert (4, 4) in sizes


def test_color_is_linear_per_channel(batches: Batches) -> None:
    whole = plain(batches)
    x, y = next(batches.shuffled(20, Augment(color=0.3), torch.Generator().manual_seed(1)))
    for image, number in zip(x, y, strict=True):
        gains = [float(image[c].std() / whole[number, c].std()) for c in range(3)]
        assert gains == pytest.approx([gains[0]] * 3, rel=1e-3) and 0.7 <= gains[0] <= 1.3


def test_an_epoch_is_every_image_once_and_the_same_for_a_seed(batches: Batches) -> None:
    augment = Augment(crop=2, flip=True, cutout=3, color=0.1)
    runs = [list(batches.shuffled(15, augment, torch.Generator().manual_seed(s))) for s in (5, 5, 6)]
    assert all(sorted(torch.cat([y for _, y in run]).tolist()) == list(range(60)) for run in runs)
    same, other = ([torch.equal(a[0], b[0]) for a, b in zip(runs[0], runs[k], strict=True)] for k in (1, 2))
    assert all(same) and not any(other)
    assert len(list(batches.shuffled(25, augment, torch.Generator()))) == 2 == batches.steps(25)


def test_too_many_channels() -> None:
    with pytest.raises(NetworkError, match="at most 4"):
        Batches(
            np.zeros((1, 5, 2, 2), np.uint8), np.zeros(1, np.int64), (0.5,) * 5, (1.0,) * 5, device=torch.device("cpu")
        )
