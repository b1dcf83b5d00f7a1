"""One controller at a time: a machine's lock, which dies with the process that holds it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from hw.errors import Refused

FOLDER = "run/powerband"  # below the root; on a machine it is empty after a boot, as the kernel's settings are
LOCK = "lock"
_held: set[Path] = set()  # a process is not refused a lock that is its own, so it has to remember


class Lock:
    """The lock on the machine with this root. A record lock: it is this process's own, whatever children it has."""

    def __init__(self, root: str | Path, board: str) -> None:
        """`board` names the machine in messages."""
        self._path, self._board = Path(root) / FOLDER / LOCK, board
        self._handle: int | None = None

    def take(self) -> None:
        """Take it. Refused where somebody has it, this process included, or it is another user's.

        Raises OSError where its folder is not there or not this user's.
        """
        if self._path in _held:
            raise Refused(f"{self._board}: this process flies it already; close that board first")
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except PermissionError:
            if not self._path.exists() or not os.access(self._path.parent, os.W_OK):
                raise  # it is the folder that is not ours
            grant = f"run as root, or: sudo chown $(id -un) {self._path}"
            raise Refused(f"{self._path}: this lock is another user's; {grant}") from None
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = os.read(handle, 200).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise Refused(f"{self._board}: another controller holds this board ({holder}); end it first") from None
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()}, board {self._board}\n".encode())
        _held.add(self._path)
        self._handle = handle

    def release(self) -> None:
        """Let go; twice is fine."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
            _held.discard(self._path)
