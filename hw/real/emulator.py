"""A board that is not there: its files (`hw.real.tree`) moved by the simulator, in a process of its own.

    python -m hw.real.emulator --board xu3 --dir tree

makes one for whoever writes a driver. Its time is stepped: sensors move when a worker serves an interval, which is
asked for on the socket `emulator.sock` in that folder (`hw.real.emulated` does); clocks follow their files at once.
One line of JSON in, one out: `{"do": "serve", "rate_hz": 10, "deadline_s": 0.1}`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import selectors
import shutil
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hw.boardcheck import KERNELS
from hw.boardfile import load_board
from hw.boardmodel import BoardModel
from hw.errors import BoardError, Flaky, InputError, PowerbandError, Refused
from hw.profile import load_profile, open_profile
from hw.real.state import state_file
from hw.real.tree import FAULTS, Tree
from hw.simulated.board import idle_telemetry
from hw.simulated.simulator import Interval, Simulator
from hw.types import Profile

SOCKET = "emulator.sock"
PROFILE = "profile.csv"
POLL_S = 0.005  # how soon a write shows to those who do not ask: a kernel takes as long for a change of clock
LINGER_S = 3.0  # after its owner's death: so long a supervisor may take to put the settings back
WORKER_FAULT = "worker_dead"


class Emulator:
    """The board's physics between its files and its socket."""

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
        twin, one = self._simulator.fork(0, 1), np.ones(1, np.float32)
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


class Server:
    """Serves an emulator on its socket until its owner is gone."""

    def __init__(self, emulator: Emulator, root: Path, *, owned: bool) -> None:
        """`owned`: it ends with the process at the other end of standard input, and removes the tree."""
        self._emulator, self._root, self._owned = emulator, root, owned
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(str(root / SOCKET))
        except OSError as error:
            raise InputError.at(root, f"no socket here: {error}", want="a folder with a short path") from None
        self._listener.listen()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        if owned:
            self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, None)

    def run(self) -> None:
        """Answer, and between the questions watch the files."""
        while True:
            events = self._selector.select(POLL_S)
            if not events:  # whoever asks has the files looked at where it matters
                self._emulator.tree.look()
            for key, _ in events:
                if key.fileobj is self._listener:
                    connection, _ = self._listener.accept()
                    self._selector.register(connection, selectors.EVENT_READ, connection.makefile("rwb"))
                elif key.data is None:
                    if not os.read(sys.stdin.fileno(), 1):
                        return self._linger()
                elif not self._talk(key.data):
                    self._selector.unregister(key.fileobj)
                    with contextlib.suppress(OSError):  # an answer that nobody took
                        key.data.close()

    def _talk(self, stream: Any) -> bool:
        """Answer one line; False where there is nobody any more."""
        try:
            line = stream.readline()
            if not line:
                return False
            stream.write(json.dumps(self._answer(line)).encode() + b"\n")
            stream.flush()
        except OSError:
            return False
        return True

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            return self._emulator.answer(json.loads(line))
        except BoardError as error:
            return {"error": str(error), "kind": type(error).__name__}
        except (ValueError, TypeError, KeyError) as error:
            return {"error": f"not understood: {error}", "kind": "Refused"}

    def _linger(self) -> None:
        """The owner is gone; where it flew, somebody may be about to put its settings back."""
        end = time.monotonic() + LINGER_S
        while state_file(self._root).exists() and time.monotonic() < end:
            self._emulator.tree.look()
            time.sleep(POLL_S)


def serve_owner() -> None:
    """As `hw.real.emulated` starts it, with folder, board file and kernel; says `ready`, or what is wrong."""
    root, file, kernel = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    try:
        model = load_board(file)
        profile = load_profile(root / PROFILE, model.spec)
        server = Server(Emulator(root, model, profile, kernel=kernel), root, owned=True)
        print("ready", flush=True)
        server.run()
    except PowerbandError as error:
        print(error, flush=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _make_room(folder: Path) -> None:
    """A folder without a tree: that of an emulator that has ended is removed.

    Raises InputError where one runs there, or the folder holds something else in a tree's place.
    """
    file = folder / SOCKET
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, contextlib.suppress(OSError):
        connection.connect(str(file))
        raise InputError.at(folder, "an emulator runs there", want="end that one, or name another folder")
    tree = [folder / name for name in ("sys", "proc") if (folder / name).exists()]
    if tree and not file.exists():
        raise InputError.at(tree[0], "is no emulator's", want="an empty folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in tree:
            shutil.rmtree(path)
        file.unlink(missing_ok=True)
    except OSError as error:
        raise InputError.at(folder, f"cannot be written: {error.strerror}", want="name another folder") from None


def main() -> None:
    """Make a tree and serve it until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Emulate a board's files, for whoever writes a driver.")
    parser.add_argument("--board", required=True, help="a board's name, or a .toml file with a table [real]")
    parser.add_argument("--profile", help="a profile's name or .csv file (default: the board's own)")
    parser.add_argument("--kernel", choices=KERNELS, help="whose file names (default: as the board file says)")
    parser.add_argument("--dir", required=True, type=Path, help="folder for the tree; made where it is missing")
    args = parser.parse_args()
    try:
        model = load_board(args.board)
        _make_room(args.dir)
        emulator = Emulator(args.dir, model, open_profile(model, args.profile), kernel=args.kernel)
        server = Server(emulator, args.dir, owned=False)
        print(f"{model.spec.name} in {args.dir}; Ctrl-C ends it", flush=True)
        server.run()
    except PowerbandError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
