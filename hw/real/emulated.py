"""An emulated board: `LinuxBoard`, which flies a machine, given files that an emulator moves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hw.boardmodel import BoardModel
from hw.errors import PowerbandError
from hw.real.board import LinuxBoard
from hw.real.emulation import Emulation
from hw.real.interfaces import Served
from hw.real.sysfs import Sysfs
from hw.types import Demand, Load, Profile, Telemetry

_SERVED = ("frames", "served", "missed", "dropped", "latency_mean_s", "latency_p95_s", "labelled", "right")


class EmulatedWorker:
    """The emulated board's worker: the simulator's queue."""

    def __init__(self, emulation: Emulation) -> None:
        self._emulation = emulation

    def set(self, rung: int, cpus: Sequence[int], threads: int) -> None:
        """As `Worker.set`."""
        self._emulation.ask("worker", rung=rung, cpus=list(cpus))

    def serve(self, demand: Demand, seconds: float) -> Served:
        """As `Worker.serve`; always one whole interval of the board."""
        answer = self._emulation.ask("serve", rate_hz=demand.rate_hz, deadline_s=demand.deadline_s)
        self._emulation.play(answer["ticks"])
        return Served(confidence=None, **{key: answer[key] for key in _SERVED})

    def pause(self) -> None:
        """Nothing to hold: frames arrive while an interval is served."""

    def close(self) -> None:
        """Nothing to end: the emulation is the board's."""


class EmulatedLoad:
    """The emulated board's background load."""

    def __init__(self, emulation: Emulation) -> None:
        self._emulation = emulation

    def prepare(self, loads: Iterable[Load]) -> None:
        """Nothing to start."""

    def set(self, load: Load) -> None:
        """As `LoadGenerator.set`; the ambient temperature counts here."""
        self._emulation.ask("load", busy=dict(load.busy), mem_gbps=load.mem_gbps, ambient_c=load.ambient_c)

    def close(self) -> None:
        """Nothing to end: the emulation is the board's."""


class EmulatedBoard(LinuxBoard):
    """The driver of real boards on an emulated one; only this knows of a seed, and ends the emulation."""

    def __init__(
        self, model: BoardModel, profile: Profile, emulation: Emulation | None = None, *, shadow: bool = False
    ) -> None:
        """On an emulation of its own, or on one that is there. Raises as `Emulation.start` and `LinuxBoard`."""
        self.emulation = emulation or Emulation.start(model, profile)
        try:
            super().__init__(
                model,
                profile,
                worker=EmulatedWorker(self.emulation),
                load=EmulatedLoad(self.emulation),
                time=self.emulation,
                sysfs=Sysfs(self.emulation.root),
                shadow=shadow,
            )
        except PowerbandError:
            self.emulation.close()
            raise

    @property
    def awaited(self) -> Sequence[int]:
        """The emulator, where it is one's own."""
        return () if self.emulation.pid is None else (self.emulation.pid,)

    def reset(self, *, seed: int | None = None) -> Telemetry:
        """As `LinuxBoard.reset`, of the board with this seed; None goes on with the generator it has."""
        if not self._closed:
            if self._hold.saved is None:
                self._take()  # before its physics start anew: another controller may be flying it
            self.emulation.ask("reset", seed=seed)
        return super().reset(seed=seed)

    def close(self) -> None:
        """Put the settings back, then end the emulation; twice is fine."""
        try:
            super().close()
        finally:
            self.emulation.close()
