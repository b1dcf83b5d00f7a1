"""A real machine around a board's driver: its clock on the wall, and a board opened with its own worker and load."""

from __future__ import annotations

import time
from threading import Event

from hw.boardmodel import BoardModel
from hw.errors import InputError
from hw.real.board import LinuxBoard
from hw.real.loadgen import ProcessLoad
from hw.real.sysfs import Sysfs
from hw.real.worker import ProcessWorker
from hw.types import Profile


class WallTime:
    """The machine's own time; see `hw.real.interfaces.TimeSource`."""

    def now_s(self) -> float:
        """Seconds since some fixed moment, the same in every process."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(max(0.0, seconds))

    def wait(self, seconds: float, stop: Event) -> bool:
        """Let time pass; True as soon as `stop` is set."""
        return stop.wait(max(0.0, seconds))


def open_machine(
    model: BoardModel, profile: Profile, worker: ProcessWorker, *, shadow: bool = False, sysfs: Sysfs | None = None
) -> LinuxBoard:
    """The board of that model, which is the machine that this runs on, with that worker, which it then owns.

    Raises what `LinuxBoard` does, the worker closed; no setting is changed before `reset`.
    """
    try:
        model.need_real()
        gpus = [unit.name for unit in model.spec.units if unit.kind == "gpu"]
        if len(gpus) > 1:
            want = "one: network and load go to the one that Vulkan names first"
            raise InputError.at(model.path, "more than one GPU", value=", ".join(gpus), want=want)
        load = ProcessLoad(model.cpus, gpu="".join(gpus))
        sysfs = sysfs or Sysfs("/")
        return LinuxBoard(model, profile, worker=worker, load=load, time=WallTime(), sysfs=sysfs, shadow=shadow)
    except BaseException:
        worker.close()
        raise
