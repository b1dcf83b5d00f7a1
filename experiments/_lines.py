"""Lines of a flight on standard output: none waits for a reader, or a supervisor would take the wait for a hang."""

from __future__ import annotations

import os
import sys

from agents.supervisor import takes
from experiments._cli import silence


class Lines:
    """What is said in flight; a line that nobody reads now is dropped, telemetry has it."""

    def __init__(self) -> None:
        self._terminal = _terminal()
        self._rest = b""  # of a line that the terminal took in part

    def say(self, text: str) -> None:
        """Say it, if that takes no waiting."""
        if self._terminal is None:
            if takes(sys.stdout):
                say(text)
            return
        line = f"{text}\n".encode()
        if self._rest:
            self._rest = self._offer(self._terminal, self._rest)
        if not self._rest:
            left = self._offer(self._terminal, line)
            self._rest = left if len(left) < len(line) else b""

    def close(self) -> None:
        """Say what is left of a line, waiting or not."""
        print(self._rest.decode(errors="replace"), end="", flush=True)
        self._rest = b""
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None

    def _offer(self, terminal: int, data: bytes) -> bytes:
        """What the terminal does not take now; it calls itself writable also where it takes less than a line."""
        try:
            return data[os.write(terminal, data) :]
        except OSError:
            return data


def say(text: str, end: str = "\n") -> None:
    """Print it at once: a pipe shows each interval as it ends. A reader that goes away does not end a flight."""
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        silence()


def _terminal() -> int | None:
    """The terminal on standard output, opened once more so that writing to it never waits; None where it is none."""
    try:
        name = os.ttyname(sys.stdout.fileno())
        return os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
