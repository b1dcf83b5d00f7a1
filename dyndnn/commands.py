"""Commands as they come on standard input: lines, and the bytes that follow some of them."""

from __future__ import annotations

import os
import select
import time

from dyndnn.errors import NetworkError

MAX_LINE = 2**16


class Over(Exception):
    """Standard input ended, or said quit."""


class Commands:
    """Lines, and the bytes that follow some of them, as they come on standard input."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def line(self, timeout_s: float | None) -> str | None:
        """The next line, or None where none came in time (None: wait for it); Over at the end."""
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            del self._buffer[MAX_LINE:]  # no command is longer: what is left of it will be refused
            left_s = None if end_s is None else max(0.0, end_s - time.monotonic())
            if not select.select([0], [], [], left_s)[0]:
                return None
            if not self._read():
                if not self._buffer:
                    raise Over
                self._buffer += b"\n"  # the last line may lack its end
        end = self._buffer.index(b"\n")
        line = self._buffer[:end].decode("utf-8", "replace").strip()
        del self._buffer[: end + 1]
        if line == "quit":
            raise Over
        return line

    def take(self, size: int) -> bytes:
        """The next `size` bytes; NetworkError where there are no more so many."""
        while len(self._buffer) < size:
            if not self._read():
                found = len(self._buffer)
                self._buffer.clear()
                want = f"{size}, as its line says"
                raise NetworkError.at("standard input", f"ended after {found} bytes of a frame", want=want)
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _read(self) -> bool:
        """Take in what is there, or wait for it; false at the end."""
        part = os.read(0, 2**20)
        self._buffer += part
        return bool(part)
