"""LinuxBoard: a machine behind the Board interface, by its files and with the worker and the load it is given.

Building one reads; the first `reset` takes the machine over, and from then on it is put back whatever happens.
"""

from __future__ import annotations

import time as wall
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from hw.boardmodel import BoardModel, RealModel
from hw.errors import Refused
from hw.knobs import check_knobs
from hw.real.clocks import ClockDriver, Cpufreq, Devfreq
from hw.real.guard import Pipes, end, start_restorer
from hw.real.identity import check_online, check_present, check_table
from hw.real.interfaces import LoadGenerator, Served, TimeSource, Worker
from hw.real.meters import Meter, find_source
from hw.real.sensors import Usage, Zones, fans
from hw.real.state import Hold
from hw.real.sysfs import Sysfs
from hw.simulated.sensor import rails_error_j
from hw.types import Clock, Demand, Knobs, Load, Profile, Telemetry

NOTHING = Served(
    frames=0,
    served=0,
    missed=0,
    dropped=0,
    latency_mean_s=None,
    latency_p95_s=None,
    labelled=0,
    right=0,
    confidence=None,
)


class LinuxBoard:
    """A board that runs Linux."""

    def __init__(
        self,
        model: BoardModel,
        profile: Profile,
        *,
        worker: Worker,
        load: LoadGenerator,
        time: TimeSource,
        sysfs: Sysfs,
        shadow: bool = False,
    ) -> None:
        """Look for everything that the board file names; nothing is written.

        `shadow`: the clocks stay the kernel's governors', whatever is asked; what they are at is what was granted.
        Raises InputError for a board file without a table [real], Missing where a clock or a sensor is not there,
        Refused where the kernel's frequencies are not the file's or a core is off. A meter may be missing.
        """
        self.spec, self.profile, self._real = model.spec, profile, model.need_real()
        self._sysfs, self._time, self._worker, self._load = sysfs, time, worker, load
        self._shadow = shadow
        self._cpus = {u.name: model.cpus.get(u.name, []) for u in model.spec.units}
        check_present(sysfs, model.spec.name, model.cpus)
        check_online(sysfs, model.cpus)
        self._clocks: dict[str, ClockDriver] = {}
        for clock in self.spec.clocks:
            self._clocks[clock.name] = driver = self._driver(clock, self._real)
            check_table(clock, driver, str(model.path))
        self._zones = Zones(sysfs, self._real.zones)
        self._usage = Usage(sysfs, model.cpus, self._real.gpu_load)
        self._source = find_source(sysfs, self._real)
        self._meter = Meter(self._source, time)
        self._hold = Hold(sysfs, model.spec.name)
        self._guard: Pipes | None = None  # who does it where we are killed
        self._sensor = model.sensor
        self._energy_j: Mapping[str, float] | None = None
        self._granted: Knobs | None = None
        self._placed: tuple[int, str, int] | None = None
        self._read_s = time.now_s()
        self._closed = False
        self.overhead_s = 0.0  # of the last interval: time that setting and reading took, on the wall

    @property
    def root(self) -> Path:
        """Of the machine's files."""
        return self._sysfs.root

    @property
    def awaited(self) -> Sequence[int]:
        """Processes without whose answers no interval ends; none on a real machine."""
        return ()

    @property
    def metered(self) -> bool:
        """Whether it has a power meter, or a model in its place; one that gives no reading now is one."""
        return self._source is not None

    @property
    def record(self) -> dict[str, object]:
        """What was found on this machine: kernel, paths, governors, meter, fans; for whoever writes a report."""
        kernel = "proc/sys/kernel/osrelease"
        return {
            "kernel": self._sysfs.read(kernel) if self._sysfs.exists(kernel) else "unknown",
            "clocks": {name: driver.record() for name, driver in self._clocks.items()},
            "zones": self._zones.paths,
            "meter": f"{self._real.meter} at {self._source.where}" if self._source else "none: energy is missing",
            "meter_trouble": self._meter.trouble,
            "fans": fans(self._sysfs),
        }

    def reset(self, *, seed: int | None = None) -> Telemetry:
        """Take the machine over where that is not done yet, and bring it to its start; a seed says nothing to it.

        Raises Refused where another controller holds the machine or a file may not be written: then nothing was.
        """
        if self._closed:
            raise Refused(f"{self.spec.name}: this board was closed")
        if self._hold.saved is None:
            self._take()
        big = self.spec.big_unit
        lowest = {c.name: c.freqs_hz[0] for c in self.spec.clocks}
        knobs = Knobs(rung=1, unit=big.name, cores=big.cores, freqs_hz=lowest)
        self._worker.pause()
        self._load.set(Load(busy={u.name: 0.0 for u in self.spec.units}))
        granted, throttled = self._set(knobs)
        self._granted, self._energy_j = granted, None
        self._start_reading()
        self._time.sleep(self.spec.interval_s)
        return self._read(knobs, granted, throttled, NOTHING)

    def prepare(self, loads: Iterable[Load]) -> None:
        """Start what these loads will need, so that no interval waits for it. Raises as `inject`."""
        self._load.prepare(loads)

    def inject(self, load: Load) -> None:
        """Background work from now on; Refused where the board has no such unit or fewer cores."""
        known = {u.name: u.cores for u in self.spec.units}
        for name, cores in load.busy.items():
            if not 0 <= cores <= known.get(name, -1):
                raise Refused(f"load {cores!r} on {name!r}: {self.spec.name} has no such unit with that many cores")
        self._load.set(load)

    def step(self, knobs: Knobs, demand: Demand) -> Telemetry:
        """Set the knobs, let the worker serve one interval, read.

        A frequency between two steps is asked for as the nearest one. Raises Refused for a rung, unit or core count
        that the board does not have, Flaky where worker, clock or thermal zone does not answer.
        """
        check_knobs(knobs, self.spec, len(self.profile.rungs))
        if self._hold.saved is None or self._granted is None:
            raise Refused(f"{self.spec.name}: reset comes first, and nothing after the machine was put back")
        now_s, interval_s = self._time.now_s(), self.spec.interval_s
        if now_s > self._read_s + interval_s / 2:  # somebody took his time: that was no interval
            self._start_reading()
        began_s = wall.perf_counter()
        granted, throttled = self._set(knobs)
        self.overhead_s = wall.perf_counter() - began_s
        # intervals follow each other without a gap: what deciding and setting took is part of this one
        left_s = self._read_s + interval_s - self._time.now_s()
        served = self._worker.serve(demand, max(0.0, left_s))
        began_s = wall.perf_counter()
        telemetry = self._read(knobs, granted, throttled, served)
        self.overhead_s += wall.perf_counter() - began_s
        return telemetry

    def close(self) -> None:
        """Put the machine back as it was found and end worker, load and meter; twice is fine.

        Raises Flaky where a setting could not be put back.
        """
        self._closed = True
        with ExitStack() as last_comes_first:
            last_comes_first.callback(self._worker.close)
            last_comes_first.callback(self._load.close)
            last_comes_first.callback(self._meter.close)
            last_comes_first.callback(self._end_guard)
            last_comes_first.callback(self._hold.release)

    def _driver(self, clock: Clock, real: RealModel) -> ClockDriver:
        cpus = [n for u in self.spec.units if u.clock == clock.name for n in self._cpus[u.name]]
        if cpus:
            return Cpufreq(self._sysfs, cpus[0], self._time.sleep)
        return Devfreq(self._sysfs, real.devfreq[clock.name], self._time.sleep)

    def _take(self) -> None:
        """Save every file that may change, then take the clocks over and start the meter."""
        self._hold.take(self._state)
        try:
            if self._hold.saved is not None and self._hold.saved.values:
                self._guard = start_restorer(self._sysfs.root)
            for clock in self.spec.clocks if not self._shadow else ():
                self._clocks[clock.name].take(clock.freqs_hz[0], clock.max_hz)
                self._hold.correct(self._clocks[clock.name].hidden(clock.max_hz))
            self._meter.start()
        except BaseException:
            self._hold.release()
            self._end_guard()
            raise

    def _end_guard(self) -> None:
        if self._guard is not None:
            end(self._guard)
            self._guard = None

    def _state(self) -> dict[str, str]:
        """What is to be put back, once every file that will be written may be."""
        drivers = [] if self._shadow else list(self._clocks.values())
        switches = self._source.files if self._source else ()
        self._sysfs.check_writable([*(path for driver in drivers for path in driver.files), *switches])
        values = {path: text for driver in drivers for path, text in driver.state().items()}
        return values | {path: self._sysfs.read(path) for path in switches}

    def _set(self, knobs: Knobs) -> tuple[Knobs, bool]:
        """The knobs that were granted, and whether a clock is lower than asked."""
        granted, throttled = {}, False
        for clock in self.spec.clocks:
            asked_hz = clock.freqs_hz[clock.nearest(knobs.freqs_hz[clock.name])]
            driver = self._clocks[clock.name]
            shown_hz = driver.granted_hz() if self._shadow else driver.set(asked_hz)
            granted[clock.name] = clock.freqs_hz[clock.nearest(shown_hz)]
            throttled = throttled or (granted[clock.name] < asked_hz and not self._shadow)
        place = (knobs.rung, knobs.unit, knobs.cores)
        if place != self._placed:
            self._worker.set(knobs.rung, self._cpus[knobs.unit][: knobs.cores], knobs.cores)
            self._placed = place
        return Knobs(rung=knobs.rung, unit=knobs.unit, cores=knobs.cores, freqs_hz=granted), throttled

    def _start_reading(self) -> None:
        self._meter.take()
        self._usage.shares()
        self._read_s = self._time.now_s()

    def _read(self, asked: Knobs, granted: Knobs, throttled: bool, served: Served) -> Telemetry:
        """What the interval that just ended measured."""
        reading = self._meter.take()
        mean, peak = self._usage.shares()
        now_s = self._time.now_s()
        seconds, self._read_s = now_s - self._read_s, now_s
        switched, self._granted = granted != self._granted, granted
        energy_j = reading.energy_j
        return Telemetry(
            interval_s=seconds,
            asked=asked,
            granted=granted,
            frames=served.frames,
            served=served.served,
            missed=served.missed,
            dropped=served.dropped,
            latency_mean_s=served.latency_mean_s,
            latency_p95_s=served.latency_p95_s,
            accuracy=served.right / served.labelled if served.labelled else None,
            labelled=served.labelled,
            confidence=served.confidence,
            profile_accuracy=self.profile.rung(granted.rung).accuracy,
            energy_j=None if energy_j is None else {rail: energy_j[rail] for rail in self.spec.rails},
            temp_c=self._zones.temps_c(),
            utilisation={u.name: mean[u.name] for u in self.spec.units},
            peak_utilisation={u.name: peak[u.name] for u in self.spec.units},
            throttled=throttled,
            switched=switched,
            sensor_age_s=reading.age_s,
            energy_error_j=self._energy_error_j(energy_j, seconds),
        )

    def _energy_error_j(self, energy_j: Mapping[str, float] | None, seconds: float) -> float | None:
        """Standard error of the energy over all rails, whose meters err independently; by the board file's meter."""
        before, self._energy_j = self._energy_j or energy_j, energy_j
        if energy_j is None or before is None:
            return None
        return rails_error_j(
            energy_j,
            before,
            window_s=self._sensor.window_s,
            step_w=self._sensor.step_w,
            gain_std=self._sensor.gain_std,
            interval_s=seconds,
        )
