"""What can be set about the worker of `dyndnn.serve`, and on which cores it runs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import ncnn

from dyndnn.errors import NetworkError

POWERSAVE = {"all": 0, "little": 1, "big": 2}  # clusters, as ncnn numbers them
MAX_RATE_HZ = 1e6
MAX_THREADS = 256
MAX_BATCH = 100_000


@dataclass(kw_only=True)
class Settings:
    """What may change between two frames."""

    rung: int = 0
    deadline_s: float | None = None  # from arrival to result
    rate_hz: float | None = None  # of a camera-like clock; None: as fast as they are served
    anytime: bool = False  # start at `rung`, upgrade while time is left
    hold: bool = False  # no frame of the clock arrives
    batch: int = 1  # pictures that make up a frame
    gpu: bool = False  # where frames are computed


def pin(text: str, others: Iterable[int] = ()) -> None:
    """Let every thread of this process, and of `others`, run on some cores only, such as `0-3,6`.

    NetworkError where it cannot be.
    """
    want = "cores such as 0-3,6"
    if not re.fullmatch(r"[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*", text):
        raise NetworkError.at("cpus", "not usable", value=text, want=want)
    ends = [[int(n) for n in part.split("-")] for part in text.split(",")]
    cores = {core for end in ends for core in range(end[0], end[-1] + 1)}
    try:
        _move(("self", *others), cores)
    except (OSError, ValueError) as error:
        raise NetworkError.at("cpus", f"refused: {error}", value=text, want=want) from None


def powersave(text: str, others: Iterable[int] = ()) -> None:
    """Hint which cluster ncnn's threads should run on; the processes `others` go where this one goes.

    NetworkError where it is no cluster.
    """
    want = f"one of {', '.join(POWERSAVE)}"
    if text not in POWERSAVE or ncnn.set_cpu_powersave(POWERSAVE[text]) != 0:
        raise NetworkError.at("powersave", "not usable", value=text, want=want)
    try:
        _move(others, os.sched_getaffinity(0))
    except OSError as error:
        raise NetworkError.at("powersave", f"refused: {error}", value=text, want=want) from None


def _move(processes: Iterable[int | str], cores: Iterable[int]) -> None:
    for process in processes:
        for task in Path(f"/proc/{process}/task").iterdir():  # a thread started earlier does not follow the first
            os.sched_setaffinity(int(task.name), cores)
