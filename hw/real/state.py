"""A machine is left as it was found: its settings are on disk before the first change, and put back after the last.

`Hold` does it for a controller; `restore` for whoever comes after one that died: a supervisor, the next start.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from hw.errors import Flaky, InputError, PowerbandError, Refused
from hw.files import atomic_write_text, read_text
from hw.real.lock import FOLDER, Lock
from hw.real.settings import put_back
from hw.real.sysfs import Sysfs

STATE = "state.json"
BOOT_ID = "proc/sys/kernel/random/boot_id"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
RESCUE_S = 10.0  # so long is tried to put a dead controller's board back
RETRY_S = 0.01


@dataclass(frozen=True, kw_only=True)
class SavedState:
    """Settings of a machine as they were found, and who changed them."""

    board: str
    root: str  # of the files
    pid: int
    boot_id: str
    when: str  # UTC
    values: Mapping[str, str]  # path below the root -> text


def state_file(root: str | Path) -> Path:
    """Where the settings of the machine with this root are kept while a controller has changed them."""
    return Path(root) / FOLDER / STATE


def load_state(file: str | Path) -> SavedState:
    """Read a saved state; InputError where the file is missing or is none."""
    try:
        raw: dict[str, Any] = json.loads(read_text(file))
        saved = SavedState(**raw)
        texts = isinstance(saved.values, dict) and all(isinstance(v, str) for v in saved.values.values())
        if not texts or not all(isinstance(raw[f.name], str) for f in fields(saved) if f.name not in ("pid", "values")):
            raise TypeError
        # whoever restores is root: what is written are settings of the machine where the file lies, nothing else
        root = Path(file).absolute().parents[len(Path(FOLDER).parts)]
        if Path(saved.root).resolve() != root.resolve() or not all(map(_is_setting, saved.values)):
            raise ValueError
    except (ValueError, TypeError, IndexError):
        want = "look at the board's governor yourself, then delete the file"
        raise InputError.at(file, "is no saved state of a board", want=want) from None
    return saved


def _is_setting(path: str) -> bool:
    return path.startswith("sys/") and ".." not in path.split("/")


def restore(file: str | Path) -> SavedState:
    """Put a machine's settings back and delete the file; what was saved.

    Whether the one who saved it still flies is the caller's business. Where the machine was booted since, the kernel's
    settings are new and nothing is written. Raises InputError for a file that is none, Flaky where settings could not
    be put back; the file stays then.
    """
    saved = load_state(file)
    left = _put_back(Sysfs(saved.root), saved)
    if left:
        raise Flaky(f"{saved.board}: not put back: {'; '.join(left)}; kept in {file}")
    Path(file).unlink(missing_ok=True)
    return saved


def _put_back(sysfs: Sysfs, saved: SavedState) -> list[str]:
    """What could not be put back, a phrase each; nothing is written where the machine was booted since."""
    return put_back(sysfs, saved.values) if saved.boot_id == sysfs.read(BOOT_ID) else []


def rescue(root: str | Path, pid: int | None = None) -> SavedState | None:
    """Put back what a dead controller left on the machine with this root; None where it left nothing.

    `pid`: only what that process left. Raises Refused where a controller holds the machine or this user may not put it
    back, and what `restore` raises.
    """
    try:
        return _rescue(root, pid)
    except PermissionError as error:
        where = error.filename or state_file(root)
        raise Refused(f"{where}: another user's controller kept the board's state there; run as root") from None


def _rescue(root: str | Path, pid: int | None) -> SavedState | None:
    file = state_file(root)
    if not file.exists() or pid not in (None, load_state(file).pid):
        return None
    lock = Lock(root, load_state(file).board)
    lock.take()
    try:  # another one may have been faster
        return restore(file) if file.exists() and pid in (None, load_state(file).pid) else None
    finally:
        lock.release()


def rescue_dead(root: str | Path, pid: int) -> SavedState | None:
    """As `rescue`, of what this process left, which has just died: its lock outlives it by a moment.

    Raises what `rescue` does once that was tried for `RESCUE_S`.
    """
    until_s = time.monotonic() + RESCUE_S
    while True:
        try:
            return rescue(root, pid)
        except (PowerbandError, OSError):
            if time.monotonic() > until_s:
                raise
        time.sleep(RETRY_S)


class Hold:
    """One controller's hold on a machine: nobody else's meanwhile, and everything put back at its end.

    At its end means: `release`, the end of the process, SIGTERM, SIGINT or SIGHUP (with a handler of the program's own
    it is put back at once, and held until the program ends). After SIGKILL the file is there for `restore`, and the
    next hold begins with it.
    """

    def __init__(self, sysfs: Sysfs, board: str) -> None:
        self._sysfs, self._board = sysfs, board
        self.file = state_file(sysfs.root)
        self._lock = Lock(sysfs.root, board)
        self._pid = os.getpid()
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
        self.saved: SavedState | None = None

    def take(self, read: Callable[[], Mapping[str, str]]) -> None:
        """Lock the machine, put back what a dead controller left, save what `read` returns: all before any change.

        Raises Refused where another controller holds it or the state cannot be kept or is of other files than settings,
        and what `restore` raises.
        """
        folder = self.file.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock.take()
        except OSError as error:
            grant = f"run as root, or: sudo install -d -o $(id -un) {folder}"
            raise Refused(f"{folder}: cannot keep the board's state there: {error.strerror}; {grant}") from None
        try:
            if self.file.exists():
                restore(self.file)
            saved = SavedState(
                board=self._board,
                root=str(self._sysfs.root.absolute()),
                pid=os.getpid(),
                boot_id=self._sysfs.read(BOOT_ID),
                when=datetime.now(UTC).isoformat(timespec="seconds"),
                values=dict(read()),
            )
            for path in saved.values:
                if not _is_setting(path):  # `restore` would refuse the whole file
                    raise Refused(f"{self._board}: {path} is no setting that can be put back; name it below sys/")
            self._write(saved)
        except BaseException:
            self._lock.release()
            raise
        self._pid, self.saved = os.getpid(), saved
        atexit.register(self._at_end)
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # started by nohup
                    self._before[number] = signal.signal(number, self._on_signal)

    def correct(self, values: Mapping[str, str]) -> None:
        """These texts are what is to be put back, not what `read` had found: the kernel had hidden them."""
        assert self.saved is not None  # the caller has taken it
        if values:
            self.saved = replace(self.saved, values={**self.saved.values, **values})
            self._write(self.saved)

    def release(self) -> None:
        """Put everything back and let go; twice is fine. Flaky where settings could not be put back (kept in file)."""
        if self.saved is None or self._pid != os.getpid():
            return
        # nothing is marked as done before it is: a signal in the middle of this does it all once more; and by memory,
        # since the file may be damaged by now, or gone where a supervisor was here before
        left = _put_back(self._sysfs, self.saved)
        if left:
            try:
                self._write(self.saved)
                kept = f"kept in {self.file}"
            except InputError as error:
                kept = str(error)
            raise Flaky(f"{self._board}: not put back: {'; '.join(left)}; {kept}")
        self.file.unlink(missing_ok=True)
        self.saved = None
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}
        atexit.unregister(self._at_end)
        self._lock.release()

    def _write(self, saved: SavedState) -> None:
        atomic_write_text(self.file, json.dumps(asdict(saved), indent=1) + "\n")

    def _at_end(self) -> None:
        try:
            self.release()
        except PowerbandError as error:
            print(f"error: {error}", file=sys.stderr)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        before = self._before.get(number)
        if callable(before):
            # the program may go on, and first with the write that this interrupted: so it is held, and put back again
            # at its end, which also tells what could not be
            if self.saved is not None and self._pid == os.getpid():
                with contextlib.suppress(PowerbandError):
                    _put_back(self._sysfs, self.saved)
            before(number, frame)
            return
        self._at_end()
        if before is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
