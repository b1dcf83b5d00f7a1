"""The `host` board: this very machine, flown as any other board. What it is stands in its file (`hw.real.hostfile`)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from hw.boardfile import load_board
from hw.boardmodel import BoardModel
from hw.errors import BoardError, InputError
from hw.profile import load_profile
from hw.real.board import LinuxBoard
from hw.real.clocks import ClockDriver
from hw.real.hostfile import NAME, find_clock
from hw.real.hostpower import ModelledSource
from hw.real.loadgen import ProcessLoad
from hw.real.machine import WallTime
from hw.real.meters import Meter
from hw.real.quota import QuotaClock
from hw.real.sensors import Usage
from hw.real.sysfs import Sysfs
from hw.real.worker import ProcessWorker
from hw.real.workplan import WorkPlan, load_plan
from hw.types import Clock, Knobs, Profile


def measured_model(profile: str | Path | None) -> BoardModel:
    """The board file beside a profile that was measured on this machine; InputError where there is none."""
    path = Path(profile or "no profile")
    file = path.parent / f"{NAME}.toml"
    if path.suffix != ".csv" or not file.is_file():
        want = f"a .csv with {NAME}.toml beside it: python experiments/profile_board.py --board {NAME} --out DIR"
        raise InputError.at(path, "is no profile of this machine", want=want)
    return load_board(file)


def open_host(profile: str | Path, *, shadow: bool = False) -> HostBoard:
    """This machine by a profile that was measured on it: board file, clock and worker are those beside it.

    Where that profile's power is modelled, so is this board's. Raises InputError where one of the files is missing,
    and what `HostBoard` does.
    """
    path, model = Path(profile), measured_model(profile)
    found = load_profile(path, model.spec)
    modelled = found.provenance.get("power") == "modelled"
    return HostBoard(model, found, plan=load_plan(path.parent), power_model=modelled, shadow=shadow)


class HostBoard(LinuxBoard):
    """This machine; a `LinuxBoard` whose clock may be a quota and whose power may be modelled."""

    def __init__(
        self,
        model: BoardModel,
        profile: Profile,
        *,
        plan: WorkPlan,
        power_model: bool = False,
        shadow: bool = False,
        sysfs: Sysfs | None = None,
    ) -> None:
        """Start what serves the frames; no setting of the machine is changed before `reset`.

        `power_model`: energy is what the board file's made-up power law says of busy cores, whatever meter there is;
        its record says modelled. Raises what `LinuxBoard` does.
        """
        sysfs = sysfs or Sysfs("/")
        cpus = [n for numbers in model.cpus.values() for n in numbers]
        # full speed is called as when the profile was measured
        nominal_hz = model.spec.clocks[0].max_hz
        self.clock_kind, self._clock = find_clock(sysfs, cpus, model.need_real().clock, nominal_hz=nominal_hz)
        self._quota = self._clock if isinstance(self._clock, QuotaClock) else None
        self.worker = plan.start(self._quota.adopt if self._quota is not None else None, threads=len(cpus))
        load, time = ProcessLoad(model.cpus), WallTime()
        try:
            super().__init__(model, profile, worker=self.worker, load=load, time=time, sysfs=sysfs, shadow=shadow)
            if power_model:
                self._source = ModelledSource(model, self._counter(), self._clock)
                self._meter = Meter(self._source, time)
        except BaseException:
            self.worker.close()
            raise
        self._usage = self._counter()

    @property
    def record(self) -> dict[str, object]:
        """What was found on this machine, what serves and what makes load."""
        source = self._source
        meter = {"meter": source.where} if isinstance(source, ModelledSource) else {}
        assert isinstance(self._load, ProcessLoad)
        return {**super().record, **meter, "worker": self.worker.told, "load": self._load.told}

    def close(self) -> None:
        """Put the machine back as it was found, end worker and load, and remove the cgroup; twice is fine."""
        try:
            super().close()
        finally:
            if self._quota is not None:
                self._quota.close()

    def _driver(self, clock: Clock, real: object) -> ClockDriver:
        return self._clock

    def _counter(self) -> Usage:
        """Of its own for whoever asks how busy the cores were since it last asked."""
        if self._quota is not None:
            return _SlowedUsage(self._sysfs, self._cpus, self.worker, self._quota)
        return Usage(self._sysfs, self._cpus, {})

    def _set(self, knobs: Knobs) -> tuple[Knobs, bool]:
        if self._quota is not None:
            self._quota.spread(knobs.cores)
        return super()._set(knobs)


class _SlowedUsage(Usage):
    """Utilisation as it would be on a core with a slower clock: what a quota keeps from the worker counts as busy.

    Without that a worker that is held back all the time would look idle, and no governor would ever raise its clock.
    """

    def __init__(
        self, sysfs: Sysfs, cpus: Mapping[str, Sequence[int]], worker: ProcessWorker, quota: QuotaClock
    ) -> None:
        super().__init__(sysfs, cpus, {})
        self._worker, self._quota = worker, quota
        self._ticks = self._worked()
        self._time = WallTime()
        self._looked_s = self._time.now_s()

    def shares(self) -> tuple[dict[str, float], dict[str, float]]:
        """See `Usage.shares`."""
        mean, peak = super().shares()
        ticks, now_s = self._worked(), self._time.now_s()
        elapsed_s = max(now_s - self._looked_s, 1e-3)
        worked = max(0, ticks - self._ticks) / os.sysconf("SC_CLK_TCK") / elapsed_s  # cores
        self._ticks, self._looked_s = ticks, now_s
        kept = worked * (self._quota.freqs_hz[-1] / self._quota.granted_hz() - 1.0)
        for unit, cpus in self._cpus.items():
            mean[unit] = min(1.0, mean[unit] + kept / len(cpus))
            peak[unit] = min(1.0, peak[unit] + kept / self._quota.cores)
        return mean, peak

    def _worked(self) -> int:
        """CPU time of the worker so far, in the kernel's ticks."""
        ticks = 0
        for pid in self._worker.pids:
            try:
                words = self._sysfs.read(f"proc/{pid}/stat").rpartition(")")[2].split()
            except BoardError:
                continue  # it has just died; that is told elsewhere
            ticks += int(words[11]) + int(words[12])
        return ticks
