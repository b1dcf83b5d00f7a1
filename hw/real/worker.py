"""The process that serves inferences, seen from outside: what it is told, and what its lines say of the frames.

Behind it stands `dyndnn.serve` or, where no network is installed, a busy loop (`hw.real.workplan` starts both).
Both bring the frames in by a clock of their own, so nothing that a controller does delays an arrival.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from hw.errors import Flaky, Refused
from hw.real.guard import end, start_python
from hw.real.interfaces import Served
from hw.real.tally import Record, tally
from hw.types import Demand

START_S = 30.0  # a slow board loads NumPy, the weights and a GPU's programs in so long
SILENCE_S = 10.0  # no frame takes so long: a worker that says nothing of one that is due hangs
PIPE_BYTES = 2**20  # of lines that nobody reads while a controller thinks; Linux' own 64 KiB are 300 frames
MAX_RATE_HZ = 1e6


class ProcessWorker:
    """A worker in a process of its own; see `hw.real.interfaces.Worker`.

    A frame counts in the interval in which it is served or dropped: what still waits at the end of one counts later.
    A rate of infinity in a demand means one frame after the other. Where the process died, the call that notices
    raises Flaky, and the next one starts it again.
    """

    def __init__(
        self,
        words: Sequence[str],
        rungs: int,
        *,
        images: int = 1,
        told: str,
        on_start: Callable[[int], None] | None = None,
        owned: Sequence[Path] = (),
    ) -> None:
        """Start `python words...`, which serves a ladder of so many rungs, held until the first interval.

        `images`: pictures in a frame. `told`: what it is, for a record. `on_start` hears of every process of it.
        `owned`: files that go with it. Raises Flaky where it does not start.
        """
        self.rungs, self.images, self._told = rungs, images, told
        self.frames: list[Record] = []  # served in the last interval, as the worker told them
        self.rounds: tuple[int, ...] = ()  # of a busy loop, per rung
        self.gpu = ""  # which GPU the network is on too; "": none
        self._words, self._on_start, self._owned = list(words), on_start, owned
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._buffer = b""
        self._place: tuple[int, tuple[int, ...], int] = (1, (), 1)  # rung, CPUs, threads
        self._sent: dict[str, str] = {}
        self._right = 0.0  # see `tally`
        self._since_s = 0.0  # frames that arrived before count in no interval
        self._closed = False
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    @property
    def told(self) -> str:
        """What it is, for a record."""
        return f"{self._told}, GPU {self.gpu}" if self.gpu else self._told

    @property
    def pids(self) -> list[int]:
        """Its processes: the one that was started, first, and its helpers; none where it is not there."""
        return [] if self._process is None else [self._process.pid, *_children(self._process.pid)]

    def set(self, rung: int, cpus: Sequence[int], threads: int) -> None:
        """From the next frame on: this rung, on these CPUs at once, with so many threads; no CPUs: on the GPU.

        The threads that hand a GPU its work may run anywhere. Raises Refused where the worker has no such rung or may
        not run there, Flaky where it died.
        """
        if not 1 <= rung <= self.rungs:
            raise Refused(f"rung {rung!r}: this worker has rungs 1 to {self.rungs}")
        if threads < 1:
            raise Refused(f"{threads!r} threads: a worker has at least 1")
        self._alive()
        if not cpus and not self.gpu:
            want = "want a network, started with its GPU"
            raise Refused(f"on a GPU: this worker runs on CPUs alone ({self._told}); {want}")
        if tuple(cpus) != self._place[1]:
            self._pin(cpus)
        self._place = (rung, tuple(cpus), threads)
        self._say(**self._placed())

    def serve(self, demand: Demand, seconds: float) -> Served:
        """Let it serve for `seconds`; returns when they are over. Raises Flaky where it died or hangs."""
        now_s = time.monotonic()
        end_s, self._since_s = now_s + seconds, min(self._since_s, now_s)
        self._alive()
        if demand.rate_hz > 0:
            rate = "none" if math.isinf(demand.rate_hz) else f"{min(demand.rate_hz, MAX_RATE_HZ):.9g}"
            self._say(deadline=_deadline(demand), rate=rate, hold="off")
        else:
            self._say(hold="on")
        records = [r for r in self._listen(end_s) if r.get("arrived_s", now_s) >= self._since_s]
        due_s = SILENCE_S + (1 / demand.rate_hz if demand.rate_hz > 0 else math.inf)
        if time.monotonic() - self._heard_s > due_s:
            self._stop()
            raise Flaky(f"the worker has said nothing for {due_s:.0f} s; it was ended")
        self.frames = [r for r in records if "latency_s" in r]
        served, self._right = tally(records, self._right)
        return served

    def pause(self) -> None:
        """No frames arrive until the next interval; what waits is served, and counts in none. Flaky where it died."""
        self._alive()
        self._say(hold="on")
        self._since_s, self._right = math.inf, 0.0

    def close(self) -> None:
        """End it; twice is fine."""
        self._closed = True
        self._stop()
        for path in self._owned:
            path.unlink(missing_ok=True)

    def _start(self) -> None:
        self._stop()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (read when the process has died)
        self._process = start_python(self._words, stdout=subprocess.PIPE, stderr=self._errors.fileno())
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):  # where the system allows less
            fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(self._process.stdout.fileno(), False)
        end_s = time.monotonic() + START_S
        ready: list[Record] = []
        while not ready:
            ready = self._read(end_s)
            if not ready and time.monotonic() >= end_s:
                self._stop()
                raise Flaky(f"the worker did not start within {START_S:.0f} s")
        if "rounds" in ready[0]:  # the same work again, should it be started again, whatever the clock is then
            self.rounds = tuple(ready[0]["rounds"])
            self._words = [*self._words[:2], "--rounds", ",".join(map(str, self.rounds))]
        self.gpu = str(ready[0].get("gpu", ""))
        self._heard_s = time.monotonic()
        if self._place[1]:
            self._pin(self._place[1])
        for pid in self.pids if self._on_start is not None else ():
            self._on_start(pid)  # type: ignore[misc]
        self._say(hold="on", **self._placed())

    def _placed(self) -> dict[str, str]:
        """Its place as settings. On a GPU it is not told of threads: the CPU's network would be loaded for them."""
        rung, cpus, threads = self._place
        if not self.gpu:
            return {"rung": str(rung), "threads": str(threads)}
        if not cpus:
            return {"rung": str(rung), "gpu": "on"}
        return {"rung": str(rung), "threads": str(threads), "gpu": "off"}

    def _alive(self) -> None:
        """Start it again where the last call found it dead."""
        if self._closed:
            raise Refused("the worker is closed")
        if self._process is None:
            self._start()

    def _stop(self) -> None:
        if self._process is not None:
            end(self._process)
        if self._errors is not None:
            self._errors.close()
        self._process, self._errors, self._buffer, self._sent = None, None, b"", {}

    def _dead(self) -> Flaky:
        """Why it is gone, and make ready to start it again."""
        assert self._process is not None and self._errors is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        status = self._process.poll()
        self._errors.seek(0)
        said = self._errors.read()[-2000:].decode("utf-8", "replace").strip().splitlines()
        self._stop()
        how = f"signal {-status}" if status is not None and status < 0 else f"exit status {status}"
        return Flaky(f"the worker died ({how})" + (f": {said[-1].strip()}" if said else ""))

    def _pin(self, cpus: Sequence[int]) -> None:
        """Move every thread of it to these CPUs, at once; none: wherever it may run."""
        assert self._process is not None
        wanted = set(cpus) or os.sched_getaffinity(0)
        try:
            for pid in self.pids:
                for task in Path(f"/proc/{pid}/task").iterdir():
                    with contextlib.suppress(ProcessLookupError):  # a thread that has just ended
                        os.sched_setaffinity(int(task.name), wanted)
        except FileNotFoundError:
            raise self._dead() from None
        except (OSError, ValueError) as error:
            text = ",".join(map(str, cpus))
            raise Refused(f"cores {text}: the worker may not run there: {error}") from None

    def _say(self, **settings: str) -> None:
        """Send the settings that changed, all in one piece, so that they hold from the same frame on."""
        changed = {word: value for word, value in settings.items() if self._sent.get(word) != value}
        if not changed:
            return
        assert self._process is not None and self._process.stdin is not None
        try:
            os.write(
                self._process.stdin.fileno(), "".join(f"{word} {value}\n" for word, value in changed.items()).encode()
            )
        except OSError:
            raise self._dead() from None
        self._sent |= changed
        if "hold" in changed:
            self._heard_s = time.monotonic()  # it had nothing to say before

    def _listen(self, end_s: float) -> list[Record]:
        """What it says of frames until then."""
        records: list[Record] = []
        while True:
            for record in self._read(end_s):
                self._heard_s = time.monotonic()
                if "frame" in record:
                    records.append(record)
                elif "error" in record:
                    raise Refused(f"the worker refused: {record['error']}")
            if time.monotonic() >= end_s:
                return records

    def _read(self, end_s: float) -> list[Record]:
        """The next lines, as soon as there are some, or none at that time; Flaky where the process died."""
        assert self._process is not None and self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], max(0.0, end_s - time.monotonic()))[0]:
            return []
        part = os.read(self._process.stdout.fileno(), PIPE_BYTES)
        if not part:
            raise self._dead()
        *lines, self._buffer = (self._buffer + part).split(b"\n")
        try:
            return [json.loads(line) for line in lines]
        except ValueError:
            self._stop()
            raise Flaky(f"the worker wrote what is no record: {lines[0][:60]!r}; it was ended") from None


def _children(pid: int) -> list[int]:
    """Processes that it started; they start none."""
    with contextlib.suppress(OSError):  # it ended, or the kernel does not list them (CONFIG_PROC_CHILDREN)
        return [int(n) for task in Path(f"/proc/{pid}/task").iterdir() for n in (task / "children").read_text().split()]
    return []


def _deadline(demand: Demand) -> str:
    return "none" if math.isinf(demand.deadline_s) else f"{demand.deadline_s:.9g}"
