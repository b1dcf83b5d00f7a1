"""A machine is left as it was found: its settings are on disk before the first change, and put back after the last.

`Hold` does it for a controller; `restore` for whoever comes after one that died: a supervisor, the next start.
"""

from __future__ import annotations

import atexit
import fcntl
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

from hw.errors import BoardError, Flaky, InputError, PowerbandError, Refused
from hw.files import atomic_write_text, read_text
from hw.real.sysfs import Sysfs

FOLDER = "run/powerband"  # below the root; on a machine it is empty after a boot, as the kernel's settings are
STATE = "state.json"
LOCK = "lock"
BOOT_ID = "proc/sys/kernel/random/boot_id"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TRIES = 3
RESCUE_S = 10.0  # so long is tried to put a dead controller's board back
RETRY_S = 0.01
_LIMITS = {"scaling_min_freq": "scaling_max_freq", "min_freq": "max_freq"}
_held: set[Path] = set()  # a process is not refused a lock that is its own, so it has to remember


@dataclass(frozen=True, kw_only=True)
class SavedState:
    """Settings of a machine as they were found, and who changed them."""

    board: str
    root: str  # of the files
    pid: int
    boot_id: str
    when: str  # UTC
    values: Mapping[str, str]  # path below the root -> text


def put_back(sysfs: Sysfs, values: Mapping[str, str]) -> list[str]:
    """Bring files back to their texts; what could not be, a phrase each. Raises nothing.

    Governors first, so that the kernel is in charge again at once; then limits, in the order in which the lowest is
    never above the highest; a frequency that a person had set last: its governor must be there for it.
    A limit's file shows what is in force, which a hot kernel lowers, and keeps what was written for later: so a limit
    is always written, and is back once the kernel took it and shows no more.
    """
    left: dict[str, str] = {}
    for path in _in_order(sysfs, values):
        limit = path.rpartition("/")[2] in (*_LIMITS, *_LIMITS.values())
        for _ in range(TRIES):
            try:
                if limit or sysfs.read(path) != values[path]:
                    sysfs.write(path, values[path])
                shown = sysfs.read(path)
            except BoardError as error:
                left[path] = str(error)
                continue
            if shown == values[path] or (limit and _lower(shown, values[path])):
                left.pop(path, None)
                break
            left[path] = f"{sysfs.path(path)}: wrote {values[path]}, shows {shown}"
    return list(left.values())


def _lower(shown: str, written: str) -> bool:
    return shown.isdigit() and written.isdigit() and int(shown) < int(written)


def _in_order(sysfs: Sysfs, values: Mapping[str, str]) -> list[str]:
    def rank(path: str) -> int:
        name = path.rpartition("/")[2]
        return 0 if name.endswith("governor") else 2 if name == "scaling_setspeed" else 1

    order = sorted(values, key=rank)
    for low in values:
        folder, _, name = low.rpartition("/")
        high = f"{folder}/{_LIMITS.get(name)}"
        if high not in values:
            continue
        pair = [low, high] if _below(sysfs, values[high], low) else [high, low]
        places = sorted(order.index(path) for path in pair)
        for place, path in zip(places, pair, strict=True):
            order[place] = path
    return order


def _below(sysfs: Sysfs, text: str, path: str) -> bool:
    """Whether a limit is below what a file shows now; no, where that cannot be told."""
    try:
        return int(text) < int(sysfs.read(path))
    except (ValueError, BoardError):
        return False


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
    sysfs = Sysfs(saved.root)
    if saved.boot_id == sysfs.read(BOOT_ID):
        left = put_back(sysfs, saved.values)
        if left:
            raise Flaky(f"{saved.board}: not put back: {'; '.join(left)}; kept in {file}")
    Path(file).unlink(missing_ok=True)
    return saved


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
    hold = Hold(Sysfs(root), load_state(file).board)
    hold._acquire(file.parent / LOCK)
    try:  # another one may have been faster
        return restore(file) if file.exists() and pid in (None, load_state(file).pid) else None
    finally:
        hold._unlock()


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

    At its end means: `release`, the end of the process, SIGTERM, SIGINT or SIGHUP. After SIGKILL the file is there for
    `restore`, and the next hold begins with it.
    """

    def __init__(self, sysfs: Sysfs, board: str) -> None:
        self._sysfs, self._board = sysfs, board
        self.file = state_file(sysfs.root)
        self._lock: int | None = None
        self._pid = os.getpid()
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
        self.saved: SavedState | None = None

    def take(self, read: Callable[[], Mapping[str, str]]) -> None:
        """Lock the machine, put back what a dead controller left, save what `read` returns: all before any change.

        Raises Refused where another controller holds it or the state cannot be kept, and what `restore` raises.
        """
        folder = self.file.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._acquire(folder / LOCK)
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
            self._write(saved)
        except BaseException:
            self._unlock()
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
        # nothing is marked as done before it is: a signal in the middle of this does it all once more
        if self.file.exists():
            restore(self.file)
        else:  # a supervisor was here before
            put_back(self._sysfs, self.saved.values)
        self.saved = None
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}
        atexit.unregister(self._at_end)
        self._unlock()

    def _write(self, saved: SavedState) -> None:
        atomic_write_text(self.file, json.dumps(asdict(saved), indent=1) + "\n")

    def _at_end(self) -> None:
        try:
            self.release()
        except PowerbandError as error:
            print(f"error: {error}", file=sys.stderr)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        before = self._before.get(number)
        self._at_end()
        if callable(before):
            before(number, frame)
        elif before is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _acquire(self, path: Path) -> None:
        """Take the lock. A record lock: it is this process's own, whatever children it has, and dies with it."""
        if path in _held:
            raise Refused(f"{self._board}: this process flies it already; close that board first")
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except PermissionError:
            if not path.exists() or not os.access(path.parent, os.W_OK):
                raise  # it is the folder that is not ours
            grant = f"run as root, or: sudo chown $(id -un) {path}"
            raise Refused(f"{path}: this lock is another user's; {grant}") from None
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = os.read(handle, 200).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise Refused(f"{self._board}: another controller holds this board ({holder}); end it first") from None
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()}, board {self._board}\n".encode())
        _held.add(path)
        self._lock = handle

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
            _held.discard(self.file.parent / LOCK)


def held_by(root: str | Path) -> str | None:
    """Who holds the machine with this root ("process 123, board xu3"), or None; not for the process that holds it.

    None too where this user may not know: he is refused when he wants to hold it.
    """
    path = Path(root) / FOLDER / LOCK
    if not os.access(path, os.R_OK | os.W_OK):
        return None
    with path.open("r+", encoding="utf-8") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return stream.read().strip()
    return None
