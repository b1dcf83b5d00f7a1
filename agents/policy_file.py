"""The file of a learned policy: an `.npz` of plain float32 arrays and one JSON header, sealed by a SHA-256.

Members: `header` (UTF-8 JSON as uint8), `w0, b0, w1, b1, ...` (layer i: w (out, in), b (out,)) and `sha256`.
A policy file comes from outside, so nothing in it is trusted: sizes are checked before anything is read,
no byte reaches pickle (`numpy.load(allow_pickle=False)` opens the file too), and every refusal is one
`InputError` line.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.errors import InputError
from hw.files import atomic_write_bytes

FORMAT_VERSION = 1
MAX_BYTES = 16 * 2**20  # a policy is kilobytes; more is a mistake or an attack
MAX_MEMBERS = 64
MAX_LAYERS = MAX_MEMBERS // 2
ACTIVATIONS = ("tanh", "relu")

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]  # w (out, in), b (out,)

_COMPRESSED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # as numpy writes; others have errors of their own
# what zipfile and numpy raise on damaged input, besides BadZipFile
_DAMAGE = (
    zipfile.BadZipFile,
    tokenize.TokenError,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a policy is for, how it is played and where it came from."""

    format_version: int = FORMAT_VERSION
    board: str  # name of the board
    board_hash: str  # BoardSpec.hash
    profile: str  # name of the profile
    profile_checksum: str  # Profile.checksum
    algo: str
    activation: str  # of the hidden layers: tanh or relu
    sizes: list[int]  # width of every layer: observation, hidden ..., logits
    nvec: list[int]  # choices per sub-action; one entry for a flat action
    masked: bool  # whether it was trained with action masks and so is played with them
    codec: dict[str, object]  # Codec.to_json()
    command: str = ""  # that trained it
    versions: dict[str, str] = field(default_factory=dict)
    config: dict[str, object] = field(default_factory=dict)


def write_policy(path: str | Path, header: Header, layers: Sequence[Layer]) -> None:
    """Write a policy, all or nothing.

    Raises:
        InputError: the arrays do not fit the header, or the path cannot be written.
    """
    arrays = {f"{'wb'[k]}{i}": array for i, layer in enumerate(layers) for k, array in enumerate(layer)}
    _check_header(path, header)
    _check_arrays(path, header, arrays)
    text = json.dumps(asdict(header), sort_keys=True).encode()
    stream = io.BytesIO()
    members = {name: np.ascontiguousarray(array, dtype="<f4") for name, array in arrays.items()}
    seal = np.frombuffer(_digest(text, members), dtype=np.uint8)
    everything: dict[str, Any] = {"header": np.frombuffer(text, np.uint8), "sha256": seal, **members}
    np.savez(stream, **everything)
    if stream.tell() > MAX_BYTES:
        raise InputError.at(path, f"the policy has {stream.tell()} bytes", want=f"at most {MAX_BYTES}")
    atomic_write_bytes(path, stream.getvalue())


def read_policy(path: str | Path) -> tuple[Header, list[Layer]]:
    """Read and check a policy; layers in the order of play.

    Raises:
        InputError: one line that says what is wrong with the file.
    """
    members = _read_members(path)
    if "header" not in members or "sha256" not in members:
        raise InputError.at(path, "is not a policy: no header", want="a file written by train_agent.py")
    text = members.pop("header").tobytes()
    seal = members.pop("sha256").tobytes()
    header = _parse_header(path, text)
    _check_arrays(path, header, members)
    if _digest(text, members) != seal:
        raise InputError.at(path, "the checksum does not match: the file was changed or damaged")
    return header, [(members[f"w{i}"], members[f"b{i}"]) for i in range(len(header.sizes) - 1)]


def _digest(header: bytes, arrays: Mapping[str, NDArray[np.float32]]) -> bytes:
    """SHA-256 over the header and the arrays (name, shape, little-endian bytes), by name."""
    digest = hashlib.sha256(struct.pack("<Q", len(header)) + header)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name], dtype="<f4")
        digest.update(f"{name} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.digest()


def _read_members(path: str | Path) -> dict[str, NDArray[Any]]:
    """Every array of the file by its name; `header` and `sha256` are uint8, the others float32."""
    try:
        found = Path(path).stat()
        if not stat.S_ISREG(found.st_mode):  # a device has no size and may have no end
            raise InputError.at(path, "cannot be read: it is no file", want="a file written by train_agent.py")
        size = found.st_size
        if size > MAX_BYTES:
            raise InputError.at(path, f"has {size} bytes", want=f"a policy has at most {MAX_BYTES}")
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError.at(path, f"cannot be read: {error.strerror or error}") from None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            names = {entry.filename for entry in entries}
            if len(entries) > MAX_MEMBERS or len(names) < len(entries):
                raise InputError.at(path, f"is not a policy: {len(entries)} arrays, {len(names)} names")
            if any(entry.compress_type not in _COMPRESSED for entry in entries):
                raise InputError.at(path, "is not a policy: compressed as no .npz is")
            if sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise InputError.at(path, "its arrays are too large", want=f"at most {MAX_BYTES} bytes")
            return {
                entry.filename.removesuffix(".npy"): _parse_array(path, entry.filename, archive.read(entry))
                for entry in entries
            }
    except _DAMAGE:
        raise InputError.at(
            path, "is truncated, damaged or not an .npz", want="a file written by train_agent.py"
        ) from None


def _parse_array(path: str | Path, name: str, data: bytes) -> NDArray[Any]:
    """One `.npy` member without numpy.load, which would allocate whatever shape the file claims."""
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise InputError.at(path, "unknown array format", column=name)
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject:
        raise InputError.at(path, "holds a pickled object", column=name, want="plain numbers; nothing was unpickled")
    want = np.dtype(np.uint8) if name in ("header.npy", "sha256.npy") else np.dtype("<f4")
    if dtype != want or (fortran and len(shape) > 1):
        raise InputError.at(path, f"holds {dtype}", column=name, want=f"{want} in C order")
    body = data[stream.tell() :]
    if len(body) != math.prod(shape) * want.itemsize:
        raise InputError.at(path, f"{len(body)} bytes for shape {shape}", column=name)
    return np.frombuffer(body, dtype=want).reshape(shape)


def _parse_header(path: str | Path, text: bytes) -> Header:
    """The header; InputError on an unknown version, a missing, unknown or wrongly typed entry."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError.at(path, "the header is not JSON") from None
    version = found.get("format_version") if isinstance(found, dict) else None
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise InputError.at(
            path,
            "unknown format version",
            value=version,
            want=f"this Powerband reads version {FORMAT_VERSION}",
        )
    names = {f.name for f in fields(Header)}
    for name in sorted(names ^ set(found)):
        raise InputError.at(path, f"header: {'missing' if name in names else 'unknown'} entry", column=name)
    header = Header(**found)
    _check_header(path, header)
    return header


def _check_header(path: str | Path, header: Header) -> None:
    """InputError where an entry has the wrong type or the layers make no sense."""
    kinds: dict[str, type] = {"sizes": list, "nvec": list, "masked": bool}
    kinds |= dict.fromkeys(("codec", "versions", "config"), dict)
    for name in ("board", "board_hash", "profile", "profile_checksum", "algo", "activation", "command"):
        kinds[name] = str
    for name, kind in kinds.items():
        if not isinstance(getattr(header, name), kind):
            raise InputError.at(path, "header: wrong type", column=name, want=f"a {kind.__name__}")
    if header.activation not in ACTIVATIONS:
        want = f"one of {', '.join(ACTIVATIONS)}"
        raise InputError.at(path, "unknown activation", column="activation", value=header.activation, want=want)
    for name, counts in (("sizes", header.sizes), ("nvec", header.nvec)):
        if not 1 <= len(counts) <= MAX_LAYERS or not all(type(n) is int and 1 <= n <= MAX_BYTES for n in counts):
            want = f"1 to {MAX_LAYERS} whole numbers of at least 1"
            raise InputError.at(path, "header: not a list of counts", column=name, want=want)
    if len(header.sizes) < 2 or header.sizes[-1] != sum(header.nvec):
        raise InputError.at(
            path, f"{header.sizes[-1]} logits for {sum(header.nvec)} choices", want="one logit per choice"
        )


def _check_arrays(path: str | Path, header: Header, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """InputError where the arrays are not exactly the layers of the header, finite."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(len(header.sizes) - 1):
        shapes[f"w{i}"] = (header.sizes[i + 1], header.sizes[i])
        shapes[f"b{i}"] = (header.sizes[i + 1],)
    for name in sorted(shapes.keys() ^ arrays.keys()):
        problem = "missing array" if name in shapes else "unexpected array"
        raise InputError.at(path, problem, column=name, want=f"exactly {', '.join(shapes)}")
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise InputError.at(path, f"has shape {arrays[name].shape}", column=name, want=f"shape {shape}")
        if not np.isfinite(arrays[name]).all():
            raise InputError.at(path, "holds NaN or infinity", column=name, want="finite weights")
