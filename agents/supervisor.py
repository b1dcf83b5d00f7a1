"""A second process that watches a controller, and puts the board back when the controller no longer can.

Between them is a pipe. With every beat the controller promises when it will be heard of next; a promise that is not
kept, or the end of the pipe (the kernel closes it with the process, whatever ended that), is what the supervisor waits
for. It leans on the standard library and `hw` alone, so it starts at once.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from agents.watch import Fault
from hw.errors import Flaky, PowerbandError
from hw.real.guard import end, start_python
from hw.real.lock import FOLDER
from hw.real.state import rescue_dead

LOG = "log"  # beside the saved state
SLACK_S = 0.3  # beyond a promise: with intervals of 0.5 s, whoever hangs is ended 0.8 s after his last beat
FIRST_S = 5.0  # the first interval finds everything cold
START_S = 30.0  # a board may need so long before its first interval and after its last one


class Supervisor:
    """The supervising process, from the side of the controller that it watches."""

    def __init__(self, root: str | Path, awaited: Sequence[int] = ()) -> None:
        """Start it for the machine with this root, before anything of that is changed.

        `awaited`: processes whose answers the controller waits for, as an emulator. Raises Flaky where it does not
        start.
        """
        words = ["-m", "agents.supervisor", str(Path(root).absolute()), str(os.getpid()), *map(str, awaited)]
        self._process = start_python(words, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            end(self._process)
            raise Flaky("the supervisor did not start")
        self._pipe = self._process.stdin.fileno()
        os.set_blocking(self._pipe, False)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def beat(self, seconds: float) -> None:
        """Promise the next beat within so many seconds. Raises Fault where nobody listens any more."""
        try:
            os.write(self._pipe, f"{seconds:.3f}\n".encode())
        except BlockingIOError:
            raise Fault("the supervisor hangs") from None
        except OSError:
            raise Fault("the supervisor died") from None

    def close(self) -> None:
        """End it; the board was put back before. Twice is fine."""
        end(self._process)


def takes(stream: TextIO) -> bool:
    """Whether a line can be written there at once: not to a terminal that was stopped, or to whom nobody reads."""
    try:
        return bool(select.select([], [stream], [], 0.0)[1])
    except (OSError, ValueError, TypeError):  # no file of the system's
        return True


def tell(root: str | Path | None, text: str, *, wait: bool = True) -> None:
    """Say a line on standard error, and write it into the log of the machine with this root (None: no machine).

    `wait`: say it also where that takes until somebody reads.
    """
    line = " ".join(text.split())
    with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
        if wait or takes(sys.stderr):
            print(line, file=sys.stderr, flush=True)
    if root is None:
        return
    with contextlib.suppress(OSError), (Path(root) / FOLDER / LOG).open("a", encoding="utf-8") as log:
        log.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {line}\n")


def _starved_s(pids: Sequence[int]) -> float:
    """How long processes have waited for a core in their lives so far; 0 where the kernel does not count that."""
    total_s = 0.0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            total_s += int(Path(f"/proc/{pid}/schedstat").read_text(encoding="utf-8").split()[1]) / 1e9
    return total_s


def _wait(pid: int, awaited: Sequence[int]) -> str:
    """Until the controller has ended or is ended for its silence; which of them."""
    late = (pid, *awaited)
    promised_s, heard_s, starved_s = START_S, time.monotonic(), _starved_s(late)
    while True:
        # time in which it, or whom it waits for, wanted to run and got no core is the machine's fault and no silence
        left_s = heard_s + promised_s + _starved_s(late) - starved_s - time.monotonic()
        # looked at once more after the time is up: on a busy machine it may have been the supervisor who was late
        if select.select([0], [], [], max(0.0, left_s))[0] or select.select([0], [], [], 0.0)[0]:
            said = os.read(0, 65536)
            if not said:
                return "is gone"
            promised_s, heard_s, starved_s = float(said.split()[-1]), time.monotonic(), _starved_s(late)
        elif left_s <= 0:
            if os.getppid() == pid:  # else the number is somebody else's by now
                os.kill(pid, signal.SIGKILL)
            return f"was not heard of for {promised_s:.1f} s and was ended"


def main(root: str, pid: int, awaited: Sequence[int] = ()) -> None:
    """Supervise the controller that is the parent process; `awaited` as in `Supervisor`."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with its controller, who has handlers of its own
    print("ready", flush=True)
    what = f"supervisor: the controller (process {pid}) {_wait(pid, awaited)}"
    began_s = time.monotonic()
    try:
        saved = rescue_dead(root, pid)
    except (PowerbandError, OSError) as error:
        tell(root, f"{what}; the board was NOT put back: {error}")
        return
    if saved is not None:
        tell(root, f"{what}; {saved.board} was put back {time.monotonic() - began_s:.3f} s later")
    elif not what.endswith("is gone"):
        tell(root, f"{what}; the board was as found")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), [int(word) for word in sys.argv[3:]])
