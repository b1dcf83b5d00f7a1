"""Helper processes that do not outlive whoever started them, also after a kill -9: they end when their pipe closes.

`start_python` starts one of ours. `python -m hw.real.guard run COMMAND...` stands between us and a program that knows
nothing of this; `... remove ROOT GROUP` removes a cgroup at the end; `... restore ROOT PID` puts back a board that its
controller left changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hw.errors import PowerbandError, Refused
from hw.real.cgroup import remove_group
from hw.real.sysfs import Sysfs

CLONE = Path(__file__).resolve().parents[2]  # where our packages lie
PR_SET_PDEATHSIG = 1
ENDING_S = 1.0  # a program has so long between being asked to end and being killed
POLL_S = 0.05
YIELD_S = 0.5  # so long a supervisor, who says what happened, has for putting a board back before a guard does


def start_python(words: Sequence[str], *, stdout: int = subprocess.DEVNULL, stderr: int | None = None) -> Pipes:
    """Start `python words...`, which finds our packages, with a pipe on its standard input that is its life line.

    It has a session of its own: Ctrl-C in a terminal is for the command, which then ends it. Raises Refused where it
    cannot be started.
    """
    path = os.pathsep.join(p for p in (str(CLONE), os.environ.get("PYTHONPATH", "")) if p)
    try:
        return subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
    except OSError as error:
        raise Refused(f"{sys.executable}: cannot be started: {error.strerror}") from None


def start_guarded(command: Sequence[str]) -> Pipes:
    """Start a program that ends, with all its children, when the pipe that comes back is closed, or with us."""
    return start_python(["-m", "hw.real.guard", "run", *command])


def start_remover(sysfs: Sysfs, group: str) -> Pipes:
    """Whoever removes this cgroup when the pipe that comes back is closed, or with us."""
    return start_python(["-m", "hw.real.guard", "remove", str(sysfs.root.absolute()), group])


def start_restorer(root: Path) -> Pipes:
    """Whoever puts the board with this root back when this process ends without having done so itself.

    To be started once the state is saved and before the first change.
    """
    return start_python(["-m", "hw.real.guard", "restore", str(root.absolute()), str(os.getpid())])


def end(process: Pipes, seconds: float = ENDING_S) -> None:
    """Close the life line of a process of `start_python` and wait for its end; killed where it takes longer."""
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


Pipes = subprocess.Popen[bytes]


def _die_with_parent() -> None:
    """Between fork and exec in the guard, which has one thread: should the guard be killed, so is the program."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _run(command: Sequence[str]) -> int:
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    except OSError:
        return 127
    while child.poll() is None and not _closed(POLL_S):
        pass
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)  # also what the program left behind
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(ENDING_S)
    return child.returncode if child.returncode is not None else 1


def _remove(root: str, group: str) -> int:
    while not _closed(None):
        pass
    for _ in range(round(5 * ENDING_S / POLL_S)):
        try:
            remove_group(Sysfs(root), group)
            return 0
        except Exception:  # nobody is left who could read about it
            time.sleep(POLL_S)
    return 1


def _restore(root: str, pid: int) -> int:
    from hw.real.state import rescue_dead, state_file  # here, for this guard alone, and before there is any hurry

    while not _closed(None):
        pass
    if not state_file(root).exists():
        return 0  # our owner put everything back
    time.sleep(YIELD_S)
    what = f"guard: the controller (process {pid}) is gone"
    try:
        saved = rescue_dead(root, pid)
    except (PowerbandError, OSError) as error:
        _say(f"{what}; the board was NOT put back: {error}")
        return 1
    if saved is not None:
        _say(f"{what}; {saved.board} was put back")
    return 0


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone
        print(line, file=sys.stderr, flush=True)


def _closed(timeout_s: float | None) -> bool:
    """Whether the other end of standard input is closed, after waiting so long for that (None: for ever)."""
    ready = select.select([0], [], [], timeout_s)[0]
    return bool(ready) and not os.read(0, 4096)


def main(words: Sequence[str]) -> int:
    """Guard; the exit status."""
    if words[:1] == ["run"]:
        return _run(words[1:])
    if words[:1] == ["restore"]:
        return _restore(words[1], int(words[2]))
    return _remove(*words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
