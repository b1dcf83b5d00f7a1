"""All-or-nothing writes and checksums; leans on the standard library alone."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from dyndnn.errors import NetworkError


def atomic_write(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` so that readers see the old file or the new one, never half of one.

    Raises NetworkError naming the path where it cannot be written.
    """
    target = Path(path)
    mask = os.umask(0)
    os.umask(mask)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes the file private; give it what an ordinary open() would have
        temporary.chmod(0o666 & ~mask)
        temporary.replace(target)
        temporary = None
    except OSError as error:
        raise unwritable(target, error) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path`, all or nothing; see `atomic_write`."""
    atomic_write(path, text.encode("utf-8"))


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file; NetworkError naming it where it is missing or unreadable."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError as error:  # a zero byte in its name
        raise NetworkError.at(repr(str(path)), f"cannot be read: {error}") from None


def is_file(path: str | Path) -> bool:
    """Whether there is a file of this name; NetworkError where that cannot be seen, for lack of permission say."""
    return stat.S_ISREG(_mode(path))


def is_folder(path: str | Path) -> bool:
    """Whether there is a folder of this name; NetworkError where that cannot be seen."""
    return stat.S_ISDIR(_mode(path))


def _mode(path: str | Path) -> int:
    """What Python's own questions ask; some versions let an OSError out, others take it for a no."""
    try:
        return Path(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last: a zero byte in its name
        return 0
    except OSError as error:
        raise unreadable(path, error) from None


def make_folder(path: str | Path) -> Path:
    """Make a folder and what it lies in; NetworkError where that cannot be."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from None
    return folder


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal; NetworkError naming it where it cannot be read."""
    return _digest(path, "sha256")


def md5(path: str | Path) -> str:
    """MD5 of a file, in hexadecimal: what old archives publish; tells damage, not malice."""
    return _digest(path, "md5")


def _digest(path: str | Path, kind: str) -> str:
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: str | Path, error: OSError) -> NetworkError:
    """What to raise where something cannot be read."""
    return NetworkError.at(path, f"cannot be read: {error.strerror or error}")


def unwritable(path: str | Path, error: OSError) -> NetworkError:
    """What to raise where something cannot be written."""
    want = "name a place you may write to"
    return NetworkError.at(path, f"cannot be written: {error.strerror or error}", want=want)
