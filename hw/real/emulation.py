"""An emulator from the side of whoever flies its board: its process, the connection to it, and its time."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

from hw.boardmodel import BoardModel
from hw.errors import BoardError, Flaky, InputError, Missing, Refused
from hw.profile import save_profile
from hw.real.emulator import LINGER_S, PROFILE, SOCKET
from hw.real.guard import Pipes, end, start_python
from hw.types import Profile

START = "from hw.real.emulator import serve_owner; serve_owner()"
SHORT_S = 0.05  # a sleep below it is a driver's, waiting for a file; it takes no time of the board's
_ERRORS: dict[str, type[BoardError]] = {kind.__name__: kind for kind in (Missing, Refused, Flaky)}


class SteppedTime:
    """Time that stands still until it is moved; then every thread that was due has had its turn before it goes on."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._turn = threading.Condition()
        self._due_s: dict[int, float] = {}  # thread -> when it wants to be woken
        self._running: set[int] = set()  # woken, and not waiting again

    def now_s(self) -> float:
        """Seconds since the start of the emulation."""
        return self._now_s

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """Wait until it is so much later; True as soon as `stop` is set."""
        me = threading.get_ident()
        with self._turn:
            self._running.discard(me)
            until_s = self._due_s[me] = self._now_s + seconds
            self._turn.notify_all()
            while self._now_s < until_s and not stop.is_set():
                self._turn.wait(0.02)  # nobody tells of `stop`
            if stop.is_set():
                self._due_s.pop(me, None)
                self._running.discard(me)
                self._turn.notify_all()
        return stop.is_set()

    def advance(self, to_s: float) -> None:
        """Move time on, and let whoever is due do what is to be done."""
        with self._turn:
            self._now_s = to_s
            due = {thread for thread, at_s in self._due_s.items() if at_s <= self._now_s}
            for thread in due:
                del self._due_s[thread]
            self._running |= due
            self._turn.notify_all()
            while self._running:
                self._turn.wait(0.02)
                self._running &= {t.ident for t in threading.enumerate() if t.ident is not None}  # one may have died


class Emulation:
    """An emulator in a process of its own, or a connection to one that runs; with its time for those who fly it."""

    def __init__(self, root: Path, process: Pipes | None, interval_s: float) -> None:
        """`process`: None where it belongs to somebody else. Flaky where nobody answers."""
        self.root, self._process, self._interval_s = root, process, interval_s
        self._time = SteppedTime()
        self._intervals = 0
        self._lock = threading.Lock()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(root / SOCKET))
        except OSError as error:
            connection.close()
            raise Flaky(f"{root / SOCKET}: no emulator answers: {error.strerror or error}") from None
        self._stream: Any = connection.makefile("rwb")
        connection.close()  # the stream holds it

    @classmethod
    def start(cls, model: BoardModel, profile: Profile, *, kernel: str | None = None) -> Emulation:
        """A fresh tree in a folder of its own, gone with `close` or soon after this process; by the model's file.

        `kernel`: whose file names, "mainline" or "vendor"; by default what the board file says.
        Raises InputError for a board file without a table [real], Flaky where the process does not come up.
        """
        kernel = kernel or model.need_real().kernel
        root = Path(tempfile.mkdtemp(prefix=f"{model.spec.name}-"))
        save_profile(profile, root / PROFILE)
        words = ["-c", START, str(root), str(model.path.absolute()), kernel]
        process = start_python(words, stdout=subprocess.PIPE, stderr=None)
        assert process.stdout is not None
        try:
            said = process.stdout.readline().decode().strip()
            if said != "ready":
                raise InputError(said) if said else Flaky("the emulator's process did not start")
            return cls(root, process, model.spec.interval_s)
        except BaseException:
            end(process, 2 * LINGER_S)
            shutil.rmtree(root, ignore_errors=True)
            raise

    @classmethod
    def attach(cls, root: str | Path, model: BoardModel) -> Emulation:
        """A connection to the emulator of this tree, whose process stays. Flaky where nobody answers."""
        return cls(Path(root), None, model.spec.interval_s)

    @property
    def pid(self) -> int | None:
        """Of the emulator's process, where it is one's own."""
        return None if self._process is None else self._process.pid

    def ask(self, do: str, **details: Any) -> dict[str, Any]:
        """One question. Raises what the emulated board would, Flaky where its process is gone."""
        with self._lock:
            try:
                self._stream.write(json.dumps({"do": do, **details}).encode() + b"\n")
                self._stream.flush()
                line = self._stream.readline()
            except (OSError, ValueError):
                line = b""
        if not line:
            raise Flaky(f"the emulator of {self.root} is gone")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise _ERRORS[answer["kind"]](answer["error"])
        return answer

    def play(self, ticks: int) -> None:
        """Let an interval pass, one meter value after the other."""
        for k in range(ticks):
            self.ask("tick", k=k)
            self._time.advance((self._intervals + (k + 1) / ticks) * self._interval_s)
        self._intervals += 1

    def fault(self, kind: str, on: bool = True) -> None:
        """Break or mend something of the emulated board: see `hw.real.tree.FAULTS`, and `worker_dead`."""
        self.ask("fault", kind=kind, on=on)

    # ---- time, worker and load: what a LinuxBoard is given ----

    def now_s(self) -> float:
        """Seconds since the start."""
        return self._time.now_s()

    def sleep(self, seconds: float) -> None:
        """Let an idle interval pass; where it is a short wait, only let the kernel's side look at its files."""
        if seconds < SHORT_S:
            self.ask("look")
        else:
            self.play(self.ask("idle")["ticks"])

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """For a thread beside the one that flies; True as soon as `stop` is set."""
        return self._time.wait(seconds, stop)

    def close(self) -> None:
        """End the connection, and with it an emulator of one's own; twice is fine."""
        with contextlib.suppress(OSError):
            self._stream.close()
        if self._process is not None:
            end(self._process, 2 * LINGER_S)
            shutil.rmtree(self.root, ignore_errors=True)
            self._process = None
