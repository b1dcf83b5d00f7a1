"""The ladder of a network as a file: `ladder.json` beside its ncnn model. Leans on the standard library alone.

It is all that a learner, a controller or a board needs to know of a network: the rungs, smallest first, with what
each gives and costs. Whoever loads one gets the model files checked against their SHA-256 too.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from dyndnn.errors import NetworkError
from dyndnn.files import atomic_write_text, is_file, is_folder, read_bytes, sha256
from dyndnn.values import MAX_SHOWN, whole

LADDER_FILE = "ladder.json"
PARAM_FILE = "model.param"
BIN_FILE = "model.bin"
MODEL_FILES = (PARAM_FILE, BIN_FILE)
ZOO = Path(__file__).parent / "zoo"
MAX_BYTES = 2**20  # a ladder is a page of text
MAX_COUNT = 2**53  # of anything: whole as a float too
MAX_SIDE, MAX_NUMBERS = 2**16, 2**27  # of a frame
LEAST_STD, MOST = 1e-6, 1e6  # single precision can hold what becomes of a pixel


@dataclass(frozen=True, kw_only=True)
class InputInfo:
    """What a frame is: its shape (channels, height, width), and mean and std per channel of pixels scaled to 0..1."""

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class RungInfo:
    """One rung: where its logits come out, what it gives, what it costs."""

    name: str
    output: str  # blob of the ncnn model
    groups: int  # of the network that this rung runs
    accuracy: float  # top-1 of the exported model on the whole test set, 0..1
    confidence: float  # total softmax confidence of the correct class over the test set; the full net's is 1
    macs: int  # multiply-accumulates per frame
    bytes: int  # weights, float32
    activation_bytes: int  # written by convolutions, the last average and the classifier, float32


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Every rung of one network, smallest first, and the checksums of its model files."""

    name: str
    input: InputInfo
    rungs: tuple[RungInfo, ...]
    files: Mapping[str, str]  # file beside ladder.json -> SHA-256

    def index(self, rung: str | int) -> int:
        """The position (from 0) of a rung given by name or, as people count, by number from 1; or NetworkError."""
        names = [r.name for r in self.rungs]
        if rung in names:
            return names.index(str(rung))
        with contextlib.suppress(NetworkError):
            return whole("rung", str(rung), len(names)) - 1
        known = f"{', '.join(names)} (or 1 to {len(names)})"
        raise NetworkError(f"ladder {self.name!r}: unknown rung {str(rung)[:MAX_SHOWN]!r}; it has {known}")


def ladder_folder(name: str | Path) -> Path:
    """The folder of a ladder: a path, or a name of the zoo; NetworkError naming what there is."""
    for folder in (Path(name), ZOO / name):
        if is_file(folder / LADDER_FILE):
            return folder
    if is_folder(name):
        raise NetworkError.at(name, f"holds no {LADDER_FILE}", want="a folder that dyndnn.export wrote")
    shipped = ", ".join(sorted(p.parent.name for p in ZOO.glob(f"*/{LADDER_FILE}"))) or "nothing yet"
    raise NetworkError.at(name, "no such ladder", want=f"a folder with {LADDER_FILE}; the zoo has {shipped}")


def save_ladder(directory: str | Path, ladder: Ladder) -> None:
    """Write `ladder.json`, all or nothing; NetworkError where it would not be read back."""
    path = Path(directory) / LADDER_FILE
    text = json.dumps(asdict(ladder), indent=2) + "\n"
    _parse(path, json.loads(text))
    atomic_write_text(path, text)


def load_ladder(directory: str | Path, *, check_files: bool = True) -> Ladder:
    """Read a ladder and check its model files against their checksums (`check_files`).

    Raises:
        NetworkError: one line that says which file is wrong, where, and what would be right.
    """
    path = Path(directory) / LADDER_FILE
    data = read_bytes(path)
    if len(data) > MAX_BYTES:
        raise NetworkError.at(path, f"has {len(data)} bytes", want=f"a ladder has at most {MAX_BYTES}")
    try:
        found = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_no_twins)
    except UnicodeDecodeError:
        raise NetworkError(f"{path}: is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise NetworkError(f"{path}:{error.lineno}: is not JSON: {error.msg}") from None
    except (_Twin, RecursionError, ValueError) as error:
        raise NetworkError(f"{path}: is not a ladder: {error}") from None
    ladder = _parse(path, found)
    if check_files:
        for name, want in ladder.files.items():
            _check_file(path.parent / name, want)
    return ladder


class _Twin(Exception):
    """The same key twice in one object."""


def _no_twins(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Twin(f"a key occurs twice among {', '.join(key for key, _ in pairs)}")
    return found


def _check_file(path: Path, want: str) -> None:
    found = sha256(path)
    if found != want:
        raise NetworkError(
            f"{path}: was altered: its SHA-256 is {found[:12]}..., {LADDER_FILE} has {want[:12]}...; export it again"
        )


def _parse(path: Path, found: object) -> Ladder:
    """The checked ladder; NetworkError naming the key."""
    top = _keys(path, "the ladder", found, [f.name for f in fields(Ladder)])
    given = _keys(path, "input", top["input"], [f.name for f in fields(InputInfo)])
    shape = _list(path, "input.shape", given["shape"], 3)
    sizes = [_whole(path, "input.shape", n, 1, MAX_SIDE) for n in shape]
    if math.prod(sizes) > MAX_NUMBERS:
        raise NetworkError(f"{path}, input.shape, value {shape}: a frame has at most {MAX_NUMBERS} numbers")
    mean = [_number(path, "input.mean", v, -MOST, MOST) for v in _list(path, "input.mean", given["mean"], sizes[0])]
    std = [_number(path, "input.std", v, LEAST_STD, MOST) for v in _list(path, "input.std", given["std"], sizes[0])]
    rungs = tuple(_rung(path, f"rungs[{k}]", rung) for k, rung in enumerate(_list(path, "rungs", top["rungs"], None)))
    for key in ("name", "output"):
        values = [getattr(rung, key) for rung in rungs]
        if len(set(values)) < len(values):
            raise NetworkError(f"{path}, rungs: two have the same {key}: {', '.join(values)}")
    if any(a.macs > b.macs for a, b in pairwise(rungs)):
        raise NetworkError(f"{path}, rungs: macs {[r.macs for r in rungs]} fall; the smallest rung comes first")
    files = _keys(path, "files", top["files"], MODEL_FILES)
    for name, digest in files.items():
        if not (isinstance(digest, str) and len(digest) == 64 and set(digest) <= set("0123456789abcdef")):
            raise NetworkError(f"{path}, files, {name}, value {digest!r}: is not a SHA-256 of 64 hex digits")
    frame = InputInfo(shape=(sizes[0], sizes[1], sizes[2]), mean=tuple(mean), std=tuple(std))
    return Ladder(name=_text(path, "name", top["name"]), input=frame, rungs=rungs, files=files)


def _rung(path: Path, where: str, found: object) -> RungInfo:
    rung = _keys(path, where, found, [f.name for f in fields(RungInfo)])
    return RungInfo(
        name=_text(path, f"{where}.name", rung["name"]),
        output=_text(path, f"{where}.output", rung["output"]),
        groups=_whole(path, f"{where}.groups", rung["groups"], 1),
        accuracy=_number(path, f"{where}.accuracy", rung["accuracy"], 0.0, 1.0),
        confidence=_number(path, f"{where}.confidence", rung["confidence"], 0.0, MOST),
        macs=_whole(path, f"{where}.macs", rung["macs"], 1),
        bytes=_whole(path, f"{where}.bytes", rung["bytes"], 1),
        activation_bytes=_whole(path, f"{where}.activation_bytes", rung["activation_bytes"], 1),
    )


def _keys(path: Path, where: str, found: object, want: Sequence[str]) -> dict[str, Any]:
    """`found` as an object with exactly the keys `want`."""
    if not isinstance(found, dict):
        raise NetworkError(f"{path}, {where}: is not an object; it has the keys {', '.join(want)}")
    for key in found:
        if key not in want:
            raise NetworkError(f"{path}, {where}: unknown key {key!r}; the keys are {', '.join(want)}")
    for key in want:
        if key not in found:
            raise NetworkError(f"{path}, {where}: missing key {key!r}; the keys are {', '.join(want)}")
    return found


def _list(path: Path, where: str, found: object, length: int | None) -> list[Any]:
    """`found` as a list of `length` entries, or of at least one."""
    if not isinstance(found, list) or not found or (length is not None and len(found) != length):
        raise NetworkError(f"{path}, {where}: is not a list of {'entries' if length is None else length}")
    return found


def _text(path: Path, where: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise NetworkError(f"{path}, {where}, value {value!r}: is not a line of text")
    return value


def _number(path: Path, where: str, value: object, low: float, high: float) -> float:
    # compared before it is converted: JSON's whole numbers may be longer than a float can hold
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise NetworkError(f"{path}, {where}, value {_short(value)}: is not a number from {low:g} to {high:g}")
    return float(value)


def _whole(path: Path, where: str, value: object, low: int, high: int = MAX_COUNT) -> int:
    if type(value) is not int or not low <= value <= high:
        raise NetworkError(f"{path}, {where}, value {_short(value)}: is not a whole number from {low} to {high}")
    return value


def _short(value: object) -> str:
    """A value as it stands in the file, or the beginning of it."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
