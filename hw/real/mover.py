"""An emulated board's physics, between its files and its socket: the simulator moves the files (`hw.real.tree`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hw.boardmodel import BoardModel
from hw.errors import Flaky, Refused
from hw.real.tree import FAULTS, Tree
from hw.simulated.board import idle_telemetry
from hw.simulated.interval import Interval
from hw.simulated.simulator import Simulator
from hw.types import Profile

WORKER_FAULT = "worker_dead"


class Emulator:
    """What moves the files of one board, and answers for it."""

    def __init__(self, root: Path, model: BoardModel, profile: Profile, *, kernel: str | None = None) -> None:
        """Write the tree, as the board file's kernel has it or as another. InputError for a file without [real]."""
        real = model.need_real()
        self._model, self._profile = model, profile
        self._real = replace(real, kernel=kernel or real.kernel)
        self.tree = Tree(root, model, self._real)
        self._simulator = Simulator(model, profile, 1)
        self._rung, self._placement = 1, 0
        self._worker_dead = False
        values = max(1, int(model.spec.interval_s / model.sensor.window_s))
        self.ticks = values  # per interval: one meter value each
        self._shares: list[dict[str, float]] = []  # rails' power (W), tick by tick, as the meters will show it
        self.reset(0)

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Do what one line asks for. Raises BoardError where a board would."""
        known: dict[str, Callable[..., dict[str, Any] | None]] = {
            "reset": self.reset,
            "load": self.load,
            "worker": self.worker,
            "look": self.tree.look,
            "idle": self.idle,
            "serve": self.serve,
            "tick": self.tick,
            "fault": self.fault,
        }
        do = known.get(str(asked.pop("do", None)))
        if do is None:
            raise Refused(f"the emulator is asked for one of {', '.join(known)}")
        return do(**asked) or {}

    def reset(self, seed: int | None) -> None:
        """A board at its start: idle and cool. Its settings are as they are."""
        self._simulator.reset([0], seeds=[seed])
        for clock in self.tree.clocks.values():
            clock.cap_hz, clock.busy = math.inf, 0.0
        self.tree.show_heat(self._simulator.start_temp_c, self._model.thermal.fan_duty[0])
        self.idle()
        self.tick(0)

    def load(self, busy: dict[str, float], mem_gbps: float, ambient_c: float) -> None:
        """Background work from now on."""
        cores = np.array([[busy.get(u.name, 0.0)] for u in self._model.units], np.float32)
        self._simulator.inject(cores, np.array([mem_gbps], np.float32), np.array([ambient_c], np.float32))

    def worker(self, rung: int, cpus: list[int]) -> None:
        """Where the network runs; Refused where there is no such rung or those CPUs are not of one unit."""
        if not 1 <= rung <= len(self._profile.rungs):
            raise Refused(f"rung {rung}: this ladder has rungs 1 to {len(self._profile.rungs)}")
        units = [u for u in self._model.units if not cpus or set(cpus) <= set(self._real.cpus.get(u.name, []))]
        unit = next((u for u in units if (u.kind == "cpu") == bool(cpus)), None)
        if unit is None or (unit.name, len(cpus) or 1) not in self._model.spec.placements:
            raise Refused(f"CPUs {cpus}: no unit of {self._model.spec.name} has them")
        self._rung, self._placement = rung, self._model.spec.placements.index((unit.name, len(cpus) or 1))

    def idle(self) -> dict[str, Any]:
        """An interval in which nothing runs and nothing moves, as after a reset."""
        energy_j = idle_telemetry(self._simulator).energy_j or {}
        self._spread({rail: joules / self._model.spec.interval_s for rail, joules in energy_j.items()})
        nothing = dict.fromkeys((u.name for u in self._model.units), 0.0)
        self.tree.look()
        self.tree.show_work(nothing, nothing, self._model.spec.interval_s)
        return {"ticks": self.ticks}

    def serve(self, rate_hz: float, deadline_s: float) -> dict[str, Any]:
        """One interval at the clocks in force; what became of its frames."""
        if self._worker_dead:
            raise Flaky("the worker died")
        self.tree.look()
        simulator, spec = self._simulator, self._model.spec
        steps = [c.nearest(self.tree.clocks[c.name].freq_hz) for c in spec.clocks]
        knobs = np.array([[self._rung - 1], [self._placement], *([s] for s in steps)], np.intp)
        interval = simulator.step(knobs, np.array([rate_hz], np.float32), np.array([deadline_s], np.float32))
        self._show(interval)
        served = int(interval.served[0])
        right = round(float(simulator.accuracy(interval)[0]) * served) if served else 0
        latencies = [float(x[0]) if served else None for x in (interval.latency_mean_s, interval.latency_p95_s)]
        return {
            "ticks": self.ticks,
            "frames": int(interval.frames[0]),
            "served": served,
            "missed": int(interval.missed[0]),
            "dropped": int(interval.dropped[0]),
            "latency_mean_s": latencies[0],
            "latency_p95_s": latencies[1],
            "labelled": served,
            "right": right,
        }

    def tick(self, k: int) -> None:
        """The meters show value `k` of the interval."""
        seconds = self._model.spec.interval_s / self.ticks
        self.tree.show_power(self._shares[k], seconds)

    def fault(self, kind: str, on: bool = True) -> None:
        """Break something, or mend it: `sensor_gone`, `clock_stuck`, `hot`, `worker_dead`, ..."""
        if kind == WORKER_FAULT:
            self._worker_dead = on
        elif kind not in FAULTS:
            raise Refused(f"fault {kind!r}: known are {', '.join((*FAULTS, WORKER_FAULT))}")
        elif on:
            self.tree.faults.add(kind)
        else:
            self.tree.faults.discard(kind)
        if kind == "hot":
            self.tree.show_heat(self._simulator.start_temp_c, 1.0)

    def _show(self, interval: Interval) -> None:
        """Everything but the meters, which move tick by tick."""
        model, spec = self._model, self._model.spec
        mean, peak = (
            dict(zip((u.name for u in spec.units), shares[:, 0].tolist(), strict=True))
            for shares in (interval.utilisation, interval.peak_utilisation)
        )
        self.tree.show_work(mean, peak, spec.interval_s)
        duty = model.thermal.fan_duty[int(interval.fan[0])]
        self.tree.show_heat(float(interval.temp_c[0]), min(max(duty, 0.0), 1.0))
        highest = [len(c.freqs_hz) - 1 for c in spec.clocks]
        for clock, cap in zip(spec.clocks, self._granted(highest), strict=True):
            mine = self.tree.clocks[clock.name]
            mine.cap_hz = clock.freqs_hz[cap]
            mine.busy = max(peak[u.name] for u in spec.units if u.clock == clock.name)
        self.tree.look()
        watts = interval.energy_j[:, 0] / spec.interval_s
        self._spread(dict(zip(spec.rails, watts.tolist(), strict=True)))

    def _granted(self, steps: list[int]) -> list[int]:
        """What the thermal governor would leave of these clocks in the next interval, tried on a twin."""
        twin, one = self._simulator.fork(np.zeros(1, np.intp)), np.ones(1, np.float32)
        knobs = np.array([[0], [0], *([s] for s in steps)], np.intp)
        return [int(s) for s in twin.step(knobs, one, one).granted[2:, 0]]

    def _spread(self, watts: dict[str, float]) -> None:
        """An interval's mean as the values that a meter shows one after the other, each in the meter's steps."""
        step_w, n = self._model.sensor.step_w, self.ticks
        self._shares = [{} for _ in range(n)]
        for rail, mean_w in watts.items():
            quanta = round(mean_w * n / step_w) if step_w > 0 else 0
            for k, share in enumerate(self._shares):
                share[rail] = step_w * (quanta * (k + 1) // n - quanta * k // n) if step_w > 0 else mean_w
