"""Files of a kernel under a root: the one place that reads and writes them, and the one that knows their units.

A number is asked for with the unit in which the kernel writes it (`KHZ`, `MILLI_C`, ...) and comes out in SI units.
"""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path

from hw.errors import BoardError, Flaky, Missing, Refused

# one of the kernel's units in SI units; deg C stay deg C
HZ = 1.0
KHZ = 1e3
MEGAHERTZ = 1e6  # for messages only
MILLI_C = 1e-3
MILLIWATT = 1e-3
MICROWATT = 1e-6
MILLIVOLT = 1e-3
MILLIAMPERE = 1e-3
MICROJOULE = 1e-6
MILLISECOND = 1e-3
MICROSECOND = 1e-6
PERMILLE = 1e-3
WATT = 1.0

_GONE = (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR)
_AGAIN = (errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.ETIMEDOUT, errno.EREMOTEIO)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


class Sysfs:
    """The files below a root ("/" on a machine, a folder in a test); paths are given without a leading slash."""

    def __init__(self, root: str | Path = "/", *, transcript: list[str] | None = None) -> None:
        """`transcript`: every write is appended to it as `path = text`, also the refused ones."""
        self.root = Path(root)
        self._transcript = transcript

    def path(self, path: str) -> Path:
        """Where the file lies."""
        return self.root / path

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        return self.path(path).exists()

    def find(self, pattern: str) -> list[str]:
        """The paths that fit a pattern, in the order of the numbers in them (`zone2` before `zone10`)."""
        found = [str(p.relative_to(self.root)) for p in self.root.glob(pattern)]
        return sorted(found, key=lambda p: [(part.isdigit(), part.zfill(12)) for part in re.split(r"(\d+)", p)])

    def read(self, path: str) -> str:
        """The text of a file, without white space around it.

        Raises Missing where there is no such file, Refused without permission, Flaky where it does not answer now.
        """
        try:
            return self.path(path).read_bytes().decode("utf-8", "replace").strip()
        except OSError as error:
            raise self._error(path, error, "read", "r") from None

    def write(self, path: str, text: str) -> None:
        """Write a text in one go, with a line end.

        Raises Missing where there is no such file, Refused without permission or where the kernel does not take the
        value, Flaky where it may take it later.
        """
        if self._transcript is not None:
            self._transcript.append(f"{path} = {text}")
        try:
            # never created: a path that is not there is an error, not a new file
            handle = os.open(self.path(path), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
            try:
                os.write(handle, f"{text}\n".encode())
            finally:
                os.close(handle)
        except OSError as error:
            raise self._error(path, error, f"written ({text})", "w") from None

    def check_writable(self, paths: Iterable[str]) -> None:
        """Raise as `write` would for want of permission, without writing: one message for all files."""
        denied = [path for path in dict.fromkeys(paths) if not os.access(self.path(path), os.W_OK)]
        gone = [path for path in denied if not self.exists(path)]
        if gone:
            raise self._error(gone[0], OSError(errno.ENOENT, ""), "written", "w")
        if denied:
            rest = "".join(f" {self.path(path)}" for path in denied[1:])
            raise Refused(f"{self._error(denied[0], OSError(errno.EACCES, ''), 'written', 'w')}{rest}")

    def number(self, path: str, unit: float) -> float:
        """The number in a file, in SI units. Raises as `read`; Flaky where it holds no finite number."""
        return self._number(path, self.read(path), unit)

    def numbers(self, path: str, unit: float) -> tuple[float, ...]:
        """The numbers in a file, in SI units, in their order. Raises as `number`."""
        return tuple(self._number(path, word, unit) for word in self.read(path).split())

    def _number(self, path: str, text: str, unit: float) -> float:
        try:
            # float() would also take "1_000", which no kernel writes
            value = math.nan if "_" in text else float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise Flaky(f"{self.path(path)}: {text[:40]!r} is no number")
        # a kernel's unit is a power of ten: dividing keeps 614400 kHz an exact 6.144e8 Hz and 53 mW an exact 0.053 W
        return value * unit if unit >= 1 else value / round(1 / unit)

    def _error(self, path: str, error: OSError, what: str, mode: str) -> BoardError:
        where, code = self.path(path), error.errno
        if code in _DENIED:
            return Refused(f"{where}: no permission to be {what}; run as root, or: sudo chmod o+{mode} {where}")
        if code in _GONE:
            return Missing(f"{where}: there is no such file")
        kind = Flaky if code in _AGAIN else Refused
        return kind(f"{where}: cannot be {what}: {error.strerror or error}")


def kernel_text(value: float, unit: float) -> str:
    """A value in SI units as the kernel writes it: a whole number of its units."""
    return str(round(value / unit if unit >= 1 else value * round(1 / unit)))


def in_mhz(freqs_hz: Iterable[float]) -> str:
    """Frequencies as people write them, for a message: MHz, with commas."""
    return ", ".join(f"{f / MEGAHERTZ:g}" for f in freqs_hz)
