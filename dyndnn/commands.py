"""Commands as they come on standard input: lines, and the bytes that follow some of them."""

from __future__ import annotations

import os
import select
import time

MAX_LINE = 2**16


class Over(Exception):
    """Standard input ended, or said quit."""


class Commands:
    """Lines, and the bytes that follow some of them, as they come on standard input."""

    def __init__(self) -> None:
        self._buffer = b""

    def line(self, timeout_s: float | None) -> str | None:
        """The next line, or None where none came in time (None: wait for it); Over at the end."""
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            self._buffer = self._buffer[:MAX_LINE]  # no command is longer: what is left of it will be refused
            left_s = None if end_s is None else max(0.0, end_s - time.monotonic())
            if not select.select([0], [], [], left_s)[0]:
                return None
            self._read()
        text, _, self._buffer = self._buffer.partition(b"\n")
        line = text.decode("utf-8", "replace").strip()
        if line == "quit":
            raise Over
        return line

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        while len(self._buffer) < size:
            self._read()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _read(self) -> None:
        part = os.read(0, 2**20)
        if not part:
            raise Over
        self._buffer += part
