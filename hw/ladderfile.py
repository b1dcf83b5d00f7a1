"""A network's ladder as boards see it: `ladder.json` and the ncnn model beside it, read as a stranger's files.

The folder is one that dyndnn.export wrote; nothing of dyndnn is needed to read it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

from hw.errors import InputError
from hw.files import read_bytes
from hw.latency import Work
from hw.types import Rung

LADDER_FILE = "ladder.json"
PARAM_FILE = "model.param"
ZOO = Path(__file__).parent.parent / "dyndnn" / "zoo"
MAX_BYTES = 2**22  # both files are a few pages of text
MAGIC = "7767517"  # first line of a model.param
IDLE_LAYERS = ("Input", "Split")  # compute nothing
MOST = 1e18  # of MACs and bytes: beyond, sums of them lose their units


@dataclass(frozen=True, kw_only=True)
class LadderFile:
    """A ladder: its rungs, smallest first, and what one frame asks for on each."""

    path: Path
    sha256: str
    name: str
    rungs: tuple[Rung, ...]
    work: tuple[Work, ...]


def ladder_names() -> list[str]:
    """Names of the ladders that ship with the networks; none where those are not beside this package."""
    return sorted(p.parent.name for p in ZOO.glob(f"*/{LADDER_FILE}"))


def find_ladder(name_or_path: str | Path) -> Path | None:
    """The ladder.json of a ladder of the zoo, of a folder, or the file itself; None where there is none."""
    if str(name_or_path) in ladder_names():
        return ZOO / str(name_or_path) / LADDER_FILE
    path = Path(name_or_path)
    if path.suffix == ".json":
        return path
    return path / LADDER_FILE if path.is_dir() else None


def read_ladder(path: str | Path) -> LadderFile:
    """Read a `ladder.json` and count its model's layers.

    Raises InputError, one line with file, key, value and what would be right, where either file is not what it says.
    """
    path = Path(path)
    data = _read(path)
    try:
        found = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_no_twins)
    except json.JSONDecodeError as error:
        raise InputError.at(path, f"is not JSON: {error.msg}", line=error.lineno) from None
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise InputError.at(path, f"is not a ladder: {error}", want="a file that dyndnn.export wrote") from None
    top = _table(path, "the ladder", found, ("name", "rungs", "files"))
    tables = top["rungs"]
    if not isinstance(tables, list) or not tables:
        raise InputError.at(path, "no rungs", column="rungs", want="a list of at least one rung, smallest first")
    keys = ("name", "output", "accuracy", "macs", "bytes", "activation_bytes")
    entries = [_table(path, f"rungs[{i}]", entry, keys) for i, entry in enumerate(tables)]
    model = path.parent / PARAM_FILE
    outputs = [_text(path, f"rungs[{i}].output", entry["output"]) for i, entry in enumerate(entries)]
    layers = _count_layers(model, _checked(path, model, top["files"]), outputs)
    work = tuple(_work(path, f"rungs[{i}]", e, n) for i, (e, n) in enumerate(zip(entries, layers, strict=True)))
    for small, large in pairwise(work):
        if large.macs < small.macs:
            raise InputError.at(path, "falls", column="rungs.macs", value=large.macs, want="smallest rung first")
    rungs = tuple(
        Rung(
            index=i + 1,
            name=_text(path, f"rungs[{i}].name", entry["name"]),
            accuracy=_number(path, f"rungs[{i}].accuracy", entry["accuracy"], 0.0, 1.0),
            macs=own.macs,
            bytes=own.weight_bytes + own.activation_bytes,
        )
        for i, (entry, own) in enumerate(zip(entries, work, strict=True))
    )
    return LadderFile(
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        name=_text(path, "name", top["name"]),
        rungs=rungs,
        work=work,
    )


def _work(path: Path, where: str, entry: Mapping[str, object], layers: int) -> Work:
    return Work(
        macs=_number(path, f"{where}.macs", entry["macs"], 1.0, MOST),
        weight_bytes=_number(path, f"{where}.bytes", entry["bytes"], 1.0, MOST),
        activation_bytes=_number(path, f"{where}.activation_bytes", entry["activation_bytes"], 1.0, MOST),
        layers=layers,
    )


def _checked(path: Path, model: Path, files: object) -> list[str]:
    """The lines of the ladder's model.param, which must be the one that its ladder.json names."""
    digest = _table(path, "files", files, (PARAM_FILE,))[PARAM_FILE]
    data = _read(model)
    if hashlib.sha256(data).hexdigest() != digest:
        want = f"{path.name} beside it was written for another; export the ladder again"
        raise InputError.at(model, "checksum mismatch", want=want)
    try:
        return data.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise InputError.at(model, "is not UTF-8 text", want=f"a {PARAM_FILE} of ncnn") from None


def _count_layers(path: Path, lines: Sequence[str], outputs: Sequence[str]) -> list[int]:
    """How many layers compute something on the way to each output."""
    if not lines or lines[0].strip() != MAGIC:
        raise InputError.at(path, "is not an ncnn model", line=1, want=f"a text whose first line is {MAGIC}")
    made_by: dict[str, int] = {}  # blob -> layer
    layers: list[tuple[bool, list[str]]] = []  # does it compute, what it reads
    for i, line in enumerate(lines[2:], 3):
        words = line.split()
        if not words:
            continue
        try:
            reads, writes = int(words[2]), int(words[3])
            blobs = words[4 : 4 + reads + writes]
            if min(reads, writes) < 0 or len(blobs) < reads + writes:
                raise ValueError
        except (IndexError, ValueError):
            want = "type, name, number of inputs and of outputs, and their names"
            raise InputError.at(path, "is not a layer", line=i, want=want) from None
        made_by.update(dict.fromkeys(blobs[reads:], len(layers)))
        layers.append((words[0] not in IDLE_LAYERS, blobs[:reads]))
    counts = []
    for output in outputs:
        if output not in made_by:
            raise InputError.at(path, "no layer writes this output of the ladder", value=output)
        needed: set[int] = set()
        blobs = [output]
        while blobs:
            blob = blobs.pop()
            layer = made_by.get(blob)
            if layer is None:
                raise InputError.at(path, "no layer writes a blob that another reads", value=blob)
            if layer not in needed:
                needed.add(layer)
                blobs += layers[layer][1]
        counts.append(sum(layers[layer][0] for layer in needed))
    return counts


def _read(path: Path) -> bytes:
    data = read_bytes(path)
    if len(data) > MAX_BYTES:
        raise InputError.at(path, f"has {len(data)} bytes", want=f"a ladder's files have at most {MAX_BYTES}")
    return data


def _no_twins(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a key occurs twice among {', '.join(key for key, _ in pairs)}")
    return found


def _table(path: Path, where: str, found: object, keys: Sequence[str]) -> dict[str, object]:
    """An object with at least these keys: what else the networks' side writes is not for boards."""
    if not isinstance(found, dict):
        raise InputError.at(path, f"{where} is not an object", want=f"one with the keys {', '.join(keys)}")
    for key in keys:
        if key not in found:
            raise InputError.at(path, f"missing key in {where}", column=key, want=f"it has {', '.join(keys)}")
    return cast(dict[str, object], found)


def _text(path: Path, where: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise InputError.at(path, "not a line of text", column=where, value=value, want="a text in quotes")
    return value


def _number(path: Path, where: str, value: object, low: float, high: float) -> float:
    # compared before it is converted: JSON integers may be longer than a float can hold
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError.at(path, "out of range", column=where, value=value, want=f"a number from {low:g} to {high:g}")
    return float(value)
