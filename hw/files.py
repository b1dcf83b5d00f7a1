"""Files that come from people and files that go to them: strict CSV and TOML in, all-or-nothing writes out.

Every refusal is one `InputError` line that names the file, the line and the column.
"""

from __future__ import annotations

import csv
import errno
import io
import math
import os
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hw.errors import InputError

Row = tuple[int, dict[str, str]]  # line in the file (1 is the header), column -> text


def atomic_write_files(files: Mapping[Path, bytes]) -> None:
    """Write several files, each all or nothing, and none where one of them cannot be written.

    Every temporary file lies in its target's folder and is written out before the first is renamed over its
    target. Raises InputError naming the path where the folder is missing or cannot be written.
    """
    mask = os.umask(0)
    os.umask(mask)
    staged: dict[Path, Path] = {}
    target = Path()
    try:
        for target, data in files.items():
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
            staged[target] = Path(temporary)
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            # mkstemp makes the file private; give it what an ordinary open() would have
            staged[target].chmod(0o666 & ~mask)
        for target in list(staged):
            staged[target].replace(target)
            del staged[target]
    except OSError as error:
        raise InputError.at(
            target,
            f"cannot be written: {error.strerror or error}",
            want="name a file in a folder you may write to",
        ) from None
    finally:
        for temporary_path in staged.values():
            temporary_path.unlink(missing_ok=True)


def atomic_write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` so that readers see the old file or the new one, never half of one.

    Raises InputError naming the path where it cannot be written.
    """
    atomic_write_files({Path(path): data})


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8, line ends as they are) to `path`, all or nothing; see `atomic_write_bytes`."""
    atomic_write_bytes(path, text.encode("utf-8"))


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file; InputError naming it where it is missing or unreadable."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError.at(path, f"cannot be read: {error.strerror or error}") from None


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file (a byte-order mark is skipped); InputError where it cannot be read."""
    data = read_bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError.at(path, "is not UTF-8 text", line=line, want="save it as UTF-8") from None


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file; InputError naming it where it cannot be read or is none."""
    text = read_text(path)
    try:
        tables = tomllib.loads(text)
        repr(tables)  # a refusal shows the value: hexadecimal digits are read however many, and not written
    except RecursionError:
        raise InputError.at(path, "not a TOML file: nested too deeply") from None
    except ValueError as error:  # a whole number of thousands of digits, besides what is no TOML
        raise InputError.at(path, f"not a TOML file: {error}") from None
    return tables


def read_table(path: str | Path, required: Sequence[str], *, others: bool = False) -> list[Row]:
    """The rows of a CSV whose header holds exactly the `required` columns, in any order.

    Returns (line number, {column: stripped text}) per row; blank lines are skipped. Raises InputError on a
    missing, unknown or duplicate column, a row with too few or too many cells, and a file without rows.
    With `others` further columns are allowed and returned too.
    """
    text = read_text(path)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError.at(path, "holds a NUL byte", line=line, want="a plain CSV file")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    rows: list[Row] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            cells = [cell.strip() for cell in cells]
            if header is None:
                header = cells
                _check_header(path, reader.line_num, header, required, others)
                continue
            if len(cells) != len(header):
                raise InputError.at(
                    path,
                    f"{len(cells)} cells",
                    line=reader.line_num,
                    want=f"the header has {len(header)} columns",
                )
            rows.append((reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise InputError.at(path, f"is not a CSV file: {error}", line=reader.line_num) from None
    if header is None:
        raise InputError.at(path, "is empty", want=f"the first line names the columns {', '.join(required)}")
    if not rows:
        raise InputError.at(path, "has a header but no rows")
    return rows


def _check_header(path: str | Path, line: int, header: Sequence[str], required: Sequence[str], others: bool) -> None:
    """InputError where the header is not the required columns, each once; with `others`, where it lacks one."""
    want = f"the columns are {', '.join(required)}"
    for i, name in enumerate(header):
        if name not in required and not others:
            raise InputError.at(path, "unknown column", line=line, column=name, want=want)
        if name in header[:i]:
            raise InputError.at(path, "duplicate column", line=line, column=name, want=want)
    for name in required:
        if name not in header:
            raise InputError.at(path, "missing column", line=line, column=name, want=want)


def number(
    path: str | Path,
    line: int,
    column: str,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
) -> float:
    """The finite number a cell holds, within [low, high]; InputError naming the cell where it is not."""
    try:
        # float() would also take "1_000", which no other CSV reader does
        value = math.nan if "_" in text else float(text)
    except ValueError:
        raise InputError.at(
            path, "not a number", line=line, column=column, value=text, want=_range(low, high)
        ) from None
    if not math.isfinite(value):
        problem = "not a number" if "_" in text else "not a finite number"
        raise InputError.at(path, problem, line=line, column=column, value=text, want=_range(low, high))
    if low is not None and value < low:
        raise InputError.at(path, "too low", line=line, column=column, value=text, want=_range(low, high))
    if high is not None and value > high:
        raise InputError.at(path, "too high", line=line, column=column, value=text, want=_range(low, high))
    return value


def whole(
    path: str | Path, line: int, column: str, text: str, *, low: int | None = None, high: int | None = None
) -> int:
    """The whole number a cell holds, within [low, high]; InputError naming the cell where it is not."""
    value = number(path, line, column, text, low=low, high=high)
    if value != int(value):
        raise InputError.at(path, "not a whole number", line=line, column=column, value=text, want=_range(low, high))
    return int(value)


def _range(low: float | None, high: float | None) -> str:
    """In words, what would be right."""
    if low is not None and high is not None:
        return f"a number from {low:g} to {high:g}"
    if low is not None:
        return f"a number of at least {low:g}"
    if high is not None:
        return f"a number of at most {high:g}"
    return "a finite number"
