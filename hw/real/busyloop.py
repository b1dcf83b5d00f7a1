"""A busy loop that stands in for a network: `python -m hw.real.busyloop --seconds 0.02,0.04`, a rung per number.

Each rung is a fixed amount of work, measured once at the start: so many rounds of SHA-256 as take that long on one
core at full speed. It speaks the lines of `dyndnn.serve`, as far as `hw.real.worker` does. Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import queue
import select
import sys
import threading
import time
from collections import deque

BLOCK = bytes(2**14)  # fits the first cache; large enough that Python lets other threads run meanwhile
TRIES, TRY_S = 12, 5e-3


def rounds_per_s() -> float:
    """How many rounds one core does in a second of its time: the best of some tries, whatever else runs."""
    best, rounds = 0.0, 1
    for _ in range(TRIES):
        start_s = time.thread_time()
        _work(rounds)
        took_s = max(time.thread_time() - start_s, 1e-7)
        best = max(best, rounds / took_s) if took_s > TRY_S / 2 else best
        rounds = max(1, min(round(rounds * TRY_S / took_s), 1_000_000))
    return best or rounds / TRY_S


def _work(rounds: int) -> None:
    for _ in range(rounds):
        hashlib.sha256(BLOCK).digest()


class _Crew:
    """Threads that share a frame's rounds; a frame is done when the last of them is."""

    def __init__(self) -> None:
        self._todo: list[queue.SimpleQueue[int]] = []
        self._done: queue.SimpleQueue[None] = queue.SimpleQueue()

    def work(self, rounds: int, threads: int) -> None:
        while len(self._todo) < threads - 1:
            self._todo.append(queue.SimpleQueue())
            threading.Thread(target=self._serve, args=(self._todo[-1],), daemon=True).start()
        share = rounds // threads
        for todo in self._todo[: threads - 1]:
            todo.put(share)
        _work(rounds - share * (threads - 1))
        for _ in range(threads - 1):
            self._done.get()

    def _serve(self, todo: queue.SimpleQueue[int]) -> None:
        while True:
            _work(todo.get())
            self._done.put(None)


class Arrivals:
    """When frames arrive: steadily at a rate that may change or pause, or one as soon as the other is done."""

    def __init__(self) -> None:
        """No frame arrives until `turn`."""
        self._rate_hz = 0.0  # 0: none; infinity: one after the other
        self._next_s = math.inf
        self._waiting: deque[float] = deque()  # arrived before the rate changed

    @property
    def next_s(self) -> float:
        """When the next frame arrives or arrived (`time.monotonic`); infinity where none will."""
        return self._waiting[0] if self._waiting else self._next_s

    def turn(self, now_s: float, rate_hz: float) -> None:
        """From now on at this rate; what is left of a period, as a share of it, is left of the new one."""
        if rate_hz == self._rate_hz:
            return
        steady = 0.0 < self._rate_hz < math.inf
        while steady and self._next_s <= now_s:
            self._waiting.append(self._next_s)
            self._next_s += 1 / self._rate_hz
        left = (self._next_s - now_s) * self._rate_hz if steady else 0.0
        self._next_s = now_s + left / rate_hz if rate_hz > 0.0 else math.inf
        self._rate_hz = rate_hz

    def take(self, now_s: float) -> float:
        """Take the next frame; when it arrived."""
        if self._waiting:
            return self._waiting.popleft()
        if math.isinf(self._rate_hz):
            return now_s
        arrived_s, self._next_s = self._next_s, self._next_s + 1 / self._rate_hz
        return arrived_s


class _Loop:
    """Serves frames and obeys lines until standard input ends."""

    def __init__(self, rounds: list[int]) -> None:
        self._rounds = rounds
        self._rung, self._threads, self._frames = 0, 1, 0
        self._deadline_s, self._rate_hz, self._hold = math.inf, math.inf, True
        self._arrivals, self._crew = Arrivals(), _Crew()
        self._buffer = b""

    def run(self) -> None:
        while True:
            left_s = self._arrivals.next_s - time.monotonic()
            if select.select([0], [], [], None if math.isinf(left_s) else max(left_s, 0.0))[0]:
                part = os.read(0, 2**16)
                if not part:
                    return
                *lines, self._buffer = (self._buffer + part).split(b"\n")
                for line in lines:
                    self._obey(line.decode("utf-8", "replace"))
                self._arrivals.turn(time.monotonic(), 0.0 if self._hold else self._rate_hz)
            elif not math.isinf(left_s):
                self._serve()

    def _obey(self, line: str) -> None:
        word, _, value = line.strip().partition(" ")
        try:
            if word == "rung":
                self._rung = range(len(self._rounds))[int(value) - 1]
            elif word == "threads":
                self._threads = max(1, int(value))
            elif word == "deadline":
                self._deadline_s = math.inf if value == "none" else float(value)
            elif word == "rate":
                self._rate_hz = math.inf if value == "none" else float(value)
            elif word == "hold":
                self._hold = value == "on"
            else:
                raise ValueError
        except (ValueError, IndexError):
            _emit({"command": word, "error": f"{line.strip()[:80]!r} is not understood"})
        else:
            _emit({"command": word, "value": value})

    def _serve(self) -> None:
        start_s = time.monotonic()
        arrived_s = self._arrivals.take(start_s)
        self._frames += 1
        if start_s >= arrived_s + self._deadline_s:
            _emit({"frame": self._frames, "dropped": True, "arrived_s": arrived_s, "missed": True})
            return
        rung = self._rung
        self._crew.work(self._rounds[rung], self._threads)
        end_s = time.monotonic()
        times = {"arrived_s": arrived_s, "wait_s": start_s - arrived_s, "service_s": end_s - start_s}
        missed = end_s > arrived_s + self._deadline_s
        _emit({"frame": self._frames, "rung": rung + 1, **times, "latency_s": end_s - arrived_s, "missed": missed})


def _emit(record: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run until standard input ends; the exit status."""
    parser = argparse.ArgumentParser(description="Serve frames that are nothing but work.")
    work = parser.add_mutually_exclusive_group(required=True)
    work.add_argument("--seconds", help="of one core at full speed, per rung: 0.02,0.04")
    work.add_argument("--rounds", help="as the first line of an earlier start told them")
    args = parser.parse_args()
    if args.rounds:
        rounds = [int(n) for n in args.rounds.split(",")]
    else:
        speed = rounds_per_s()
        rounds = [max(1, round(float(s) * speed)) for s in args.seconds.split(",")]
    _emit(
        {"ready": "busy loop", "pid": os.getpid(), "rungs": [str(k + 1) for k in range(len(rounds))], "rounds": rounds}
    )
    try:
        _Loop(rounds).run()
    except (BrokenPipeError, KeyboardInterrupt):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
