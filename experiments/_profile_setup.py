"""What a sweep measures and with what: the board, the ladder, and frames that are long enough for its clock."""

from __future__ import annotations

import importlib.util
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

from experiments._sweep import BACK_TO_BACK
from hw.boardfile import load_board
from hw.boardmodel import BoardModel
from hw.errors import InputError
from hw.files import atomic_write_text, read_text
from hw.ladderfile import LadderFile, find_ladder, ladder_names, read_ladder
from hw.real.board import LinuxBoard
from hw.real.host import HostBoard
from hw.real.hostfile import NAME as HOST
from hw.real.hostfile import host_text
from hw.real.hostpower import WINDOW_S
from hw.real.machine import open_machine
from hw.real.meters import find_source
from hw.real.quota import FULL_PERIODS, PERIOD_S
from hw.real.sensors import Usage
from hw.real.sysfs import Sysfs
from hw.real.worker import ProcessWorker
from hw.real.workplan import WORKER_FILE, WorkPlan, busy_loop, input_shape, load_plan, network, save_plan, work_seconds
from hw.types import Profile, Rung

STAND_IN = "alexnet-paper"  # whose work a busy loop does where no ladder is named
BUSY_S = 0.02  # of its smallest rung, on a clock that is one
SHORT_S = 0.1  # intervals of a sweep where no meter needs longer ones
PICTURES, PICTURES_S = 200, 5.0  # enough to see how long one takes undisturbed


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A sweep's board, ladder and worker."""

    model: BoardModel
    rungs: tuple[Rung, ...]  # of frames as they are served
    plan: WorkPlan
    clock: str  # of a host: cpufreq, quota or fixed; "" of a board
    power_model: bool

    @property
    def sensor_rate_hz(self) -> float:
        """How often its meter has a new value; 0 where it has none."""
        if self.power_model:
            return 1 / WINDOW_S
        source = None if self.model.real is None else find_source(Sysfs("/"), self.model.real)
        return 0.0 if source is None else 1 / source.window_s


def set_up(
    board: str, out: Path, *, ladder: str | None, frames: Path | None, clock: str, cores: int | None, power_model: bool
) -> Setup:
    """Look for everything, size a frame, and write board file and plan into `out`, or read what is there.

    Raises InputError for what cannot be measured, or where the folder's sweep is of something else.
    """
    sysfs = Sysfs("/")
    if board != HOST and (power_model or cores is not None or clock != "auto"):
        raise InputError(f"--power-model, --cores and --clock are for --board {HOST}")
    name, found = _ladder(ladder)
    if board == HOST:
        nominal_hz = _nominal_hz(out)
        text = host_text(sysfs, clock=clock, cores=cores, power_model=power_model, nominal_hz=nominal_hz)
        model = _host(text, out)
    else:
        model = load_board(board)
    serves = ladder is not None and importlib.util.find_spec("ncnn") is not None
    if model.spec.gpu is not None:
        _check_gpu(model, model.spec.gpu.name, serves)
    kind = model.real.clock if board == HOST and model.real is not None else ""
    if ladder is not None and not serves:
        print("ncnn is not installed: a busy loop does the ladder's work in its place.")
    plan = _plan(name, found, frames, kind, serves, out)
    if plan.rounds:
        rungs = tuple(replace(rung, macs=0.0, bytes=0.0) for rung in found.rungs)
    else:
        rungs = tuple(replace(r, macs=r.macs * plan.images, bytes=r.bytes * plan.images) for r in found.rungs)
    return Setup(model=model, rungs=rungs, plan=plan, clock=kind, power_model=power_model)


def open_setup(setup: Setup, profile: Profile) -> tuple[LinuxBoard, ProcessWorker]:
    """The board, and the worker that it is given. Raises what both do; no setting is changed before `reset`."""
    model = setup.model
    if model.real is not None and model.real.meter == "none":
        model = replace(model, spec=replace(model.spec, interval_s=SHORT_S))
    if model.spec.name == HOST:
        board = HostBoard(model, profile, plan=setup.plan, power_model=setup.power_model)
        return board, board.worker
    worker = setup.plan.start(gpu=model.spec.gpu is not None)
    return open_machine(model, profile, worker), worker


def other_work(model: BoardModel) -> float:
    """Share of its cores' time that the machine spends on other work now."""
    cpus = model.cpus
    usage = Usage(Sysfs("/"), cpus, {})
    time.sleep(1.0)
    mean, _ = usage.shares()
    return sum(mean[unit] * len(cpus[unit]) for unit in mean) / max(sum(map(len, cpus.values())), 1)


def _ladder(name: str | None) -> tuple[str, LadderFile]:
    """A ladder, and how it is called wherever one stands."""
    path = find_ladder(STAND_IN if name is None else name)
    if path is None:
        known = ", ".join(ladder_names()) or "none"
        raise InputError(f"unknown ladder {name or STAND_IN!r}; known: {known}, or a folder with ladder.json")
    found = read_ladder(path)
    called = name or STAND_IN
    return (called if called in ladder_names() else str(path.parent.absolute())), found


def _check_gpu(model: BoardModel, unit: str, serves: bool) -> None:
    """InputError where nothing could be measured on that GPU, before anything is."""
    if not serves:
        want = "name a network with --ladder, with ncnn installed; the busy loop in its place runs on CPUs alone"
        raise InputError.at(model.path, f"has a GPU, {unit!r}", want=want)
    from dyndnn.errors import NetworkError  # here: without a GPU nobody needs ncnn
    from dyndnn.gpu import close_gpu, open_gpu

    try:
        open_gpu(hardware=True)
    except NetworkError as error:
        raise InputError(str(error)) from None
    finally:
        close_gpu()


def _nominal_hz(out: Path) -> float | None:
    """What a sweep that is gone on with calls full speed: the kernel may tell another clock tomorrow."""
    path = out / f"{HOST}.toml"
    return load_board(path).spec.clocks[0].max_hz if path.exists() else None


def _host(text: str, out: Path) -> BoardModel:
    """This machine; its file is written beside its profile, and must be the same when a sweep goes on."""
    path = out / f"{HOST}.toml"
    if path.exists() and read_text(path) != text:
        raise InputError.at(path, "is of another machine, or of other options", want="name a new folder")
    atomic_write_text(path, text)
    return load_board(path)


def _plan(name: str, ladder: LadderFile, frames: Path | None, clock: str, serves: bool, out: Path) -> WorkPlan:
    """What serves: that of a sweep that goes on, or one of frames that are long enough for this clock."""
    pictures = "" if frames is None else str(frames.absolute())
    if (out / WORKER_FILE).exists():
        plan = load_plan(out)
        if (plan.ladder, plan.frames, not plan.rounds) != (name, pictures, serves):
            raise InputError.at(out / WORKER_FILE, "is of another ladder or other frames", want="name a new folder")
        return plan
    least_s = FULL_PERIODS * PERIOD_S if clock == "quota" else 0.0
    if serves:
        images = math.ceil(least_s / _picture_s(ladder, pictures)) if least_s else 1
        plan = WorkPlan(ladder=name, frames=pictures, images=images)
    else:
        worker = busy_loop(work_seconds([rung.macs for rung in ladder.rungs], least_s or BUSY_S))
        worker.close()
        plan = WorkPlan(ladder=name, frames=pictures, rounds=worker.rounds)
    save_plan(plan, out)
    return plan


def _picture_s(ladder: LadderFile, frames: str) -> float:
    """Time of one picture on the smallest rung: the shortest of many, which other work did not disturb."""
    worker = network(ladder.path, len(ladder.rungs), input_shape(ladder.path), frames=frames or None)
    took_s: list[float] = []
    try:
        end_s = time.monotonic() + PICTURES_S
        while len(took_s) < PICTURES and time.monotonic() < end_s:
            worker.serve(BACK_TO_BACK, SHORT_S)
            took_s += [float(frame["service_s"]) for frame in worker.frames]
    finally:
        worker.close()
    if not took_s:
        raise InputError.at(ladder.path, "no frame was served", want="pictures of the ladder's shape")
    return min(took_s)
