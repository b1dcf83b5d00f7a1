"""Serves the frames of a source as a camera brings them, and obeys commands between two of them."""

from __future__ import annotations

import time

from dyndnn.arrivals import Arrivals
from dyndnn.commands import Commands, Over
from dyndnn.errors import NetworkError
from dyndnn.frames import Source
from dyndnn.network import Frame
from dyndnn.worker import Worker

ROUNDING_S = 1e-6  # arrival times are sums of periods


def camera(worker: Worker, source: Source, commands: Commands | None, limit: int | None, seconds: float | None) -> None:
    """Frames of a source, on a clock where there is a rate, else one after the other, until told to stop."""
    settings = worker.settings
    start_s = time.monotonic()
    end_s = float("inf") if seconds is None else start_s + seconds - ROUNDING_S
    arrivals = Arrivals(start_s, settings.rate_hz, hold=settings.hold)
    position = 0  # in the source, round and round
    loaded: Frame | NetworkError | None = None
    done = 0
    try:
        while limit is None or done < limit:
            if max(arrivals.next_s, time.monotonic()) >= end_s and arrivals.next_s < float("inf"):
                break
            # while waiting for its time: a camera has it in memory
            if loaded is None and settings.batch == 1:
                loaded = _load(source, position)
            if _obeyed(worker, commands, min(arrivals.next_s, end_s)):
                arrivals.turn(time.monotonic(), settings.rate_hz, hold=settings.hold)
                continue
            now_s = time.monotonic()
            if now_s < arrivals.next_s:
                break  # held to the end
            arrived_s = arrivals.take(now_s)
            if settings.batch > 1:
                worker.serve_batch(source, position, arrived_s)
            else:
                found = _load(source, position) if loaded is None else loaded
                _serve(worker, source, position, found, arrived_s, arrivals.pressing_s)
            position, done = (position + settings.batch) % len(source), done + 1
            loaded = None
    except Over:
        pass


def _load(source: Source, place: int) -> Frame | NetworkError:
    """A picture, or why it is none."""
    try:
        return source.load(place)
    except NetworkError as error:
        return error


def _serve(
    worker: Worker, source: Source, place: int, loaded: Frame | NetworkError, arrived_s: float, next_s: float
) -> None:
    name = source.names[place]
    if isinstance(loaded, NetworkError):
        worker.refuse(str(loaded), name)
    else:
        worker.serve(loaded, arrived_s, next_s=next_s, name=name, label=source.labels[place])


def _obeyed(worker: Worker, commands: Commands | None, until_s: float) -> bool:
    """Wait until then for a command, and obey it where one came; one that is there is obeyed in any case."""
    left_s = max(0.0, until_s - time.monotonic())
    if commands is None:
        time.sleep(left_s)
        return False
    line = commands.line(None if left_s == float("inf") else left_s)
    if line:
        worker.obey(line)
    return line is not None
