"""Telemetry as CSV, one row per interval; light, for it flies along."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from hw.errors import InputError
from hw.files import atomic_write_text
from hw.types import BoardSpec, Demand, Knobs, Telemetry


def write_telemetry(path: Path, spec: BoardSpec, demands: Sequence[Demand], record: Sequence[Telemetry]) -> None:
    """A whole flight, all or nothing. Raises InputError where the file cannot be written."""
    text, t_s = io.StringIO(), 0.0
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns(spec))
    for demand, telemetry in zip(demands, record, strict=True):
        t_s += telemetry.interval_s
        writer.writerow(_cells(t_s, demand, telemetry, telemetry.asked, spec))
    atomic_write_text(path, text.getvalue())


class FlightLog:
    """Rows under the file's own name from the first one on: whatever ends a flight, they are there.

    Raises InputError where the file cannot be written; what it held before is kept until the first row.
    """

    def __init__(self, path: str | Path, spec: BoardSpec) -> None:
        self.path, self.rows = Path(path), 0
        self._spec, self._t_s = spec, 0.0
        self._size, self._new = 0, not self.path.exists()
        check_target(self.path)
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise _refused(self.path, error) from None

    def write(self, demand: Demand, telemetry: Telemetry, asked: Knobs | None) -> None:
        """The row of the next interval; whole or, where the disk is full, not at all.

        `asked`: what stands there as asked, None where that is missing. Raises InputError where it cannot be written.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not self.rows:
            writer.writerow(columns(self._spec))
        t_s = self._t_s + telemetry.interval_s
        writer.writerow(_cells(t_s, demand, telemetry, asked, self._spec))
        data = text.getvalue().encode()
        try:
            if not self.rows:
                os.ftruncate(self._file, 0)
            done = 0
            while done < len(data):
                done += os.write(self._file, data[done:])
        except OSError as error:
            os.ftruncate(self._file, self._size)
            os.lseek(self._file, self._size, os.SEEK_SET)
            raise _refused(self.path, error) from None
        self._size, self._t_s = self._size + len(data), t_s
        self.rows += 1

    def close(self) -> None:
        """Close it; a new file without a row is removed."""
        os.close(self._file)
        if self._new and not self.rows:
            self.path.unlink(missing_ok=True)


def check_target(path: Path) -> None:
    """Raise InputError where telemetry cannot go there: no folder for it, what is there is no file of a disk, or a file
    cannot be written there.

    A row that cannot be written whole is taken back, and that is not possible in a pipe or a device.
    """
    if not path.parent.is_dir():
        raise _refused(path, FileNotFoundError(0, "its folder is missing"))
    if path.is_dir():
        raise _refused(path, IsADirectoryError(0, "this is a folder"))
    if path.exists() and not path.is_file():
        raise _refused(path, OSError(0, "this is a pipe or a device"))
    new = not path.exists()
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
        if new:
            path.unlink()
    except OSError as error:
        raise _refused(path, error) from None


def _refused(path: Path, error: OSError) -> InputError:
    want = "name a file in a folder you may write to, on a disk that is not full"
    return InputError.at(path, f"cannot be written: {error.strerror or error}", want=want)


def columns(spec: BoardSpec) -> list[str]:
    """The header: time at the end of the interval, demand, knobs asked and granted, what was measured."""
    clocks = [f"{c.name}_hz" for c in spec.clocks]
    return [
        *("t_s", "rate_hz", "deadline_s", "accuracy_min", "energy_budget_j", "goal"),
        *(f"{which}_{name}" for which in ("asked", "granted") for name in ("rung", "unit", "cores", *clocks)),
        *("frames", "served", "missed", "dropped", "latency_mean_s", "latency_p95_s"),
        *("accuracy", "labelled", "confidence", "profile_accuracy"),
        *(f"energy_{rail}_j" for rail in spec.rails),
        *(f"temp_{node}_c" for node in spec.thermal_nodes),
        *(f"utilisation_{unit.name}" for unit in spec.units),
        *(f"peak_utilisation_{unit.name}" for unit in spec.units),
        *("throttled", "switched", "sensor_age_s", "energy_error_j"),
    ]


def _cells(t_s: float, demand: Demand, telemetry: Telemetry, asked: Knobs | None, spec: BoardSpec) -> Iterator[object]:
    """One row in the order of `columns`; missing is None, which a csv.writer leaves empty."""

    def knobs(of: Knobs | None) -> Iterator[object]:
        yield from (None, None, None) if of is None else (of.rung, of.unit, of.cores)
        yield from (None if of is None else of.freqs_hz[clock.name] for clock in spec.clocks)

    t = telemetry
    yield round(t_s, 9)
    yield from (demand.rate_hz, demand.deadline_s, demand.accuracy_min, demand.energy_budget_j, demand.goal)
    yield from knobs(asked)
    yield from knobs(t.granted)
    yield from (t.frames, t.served, t.missed, t.dropped, t.latency_mean_s, t.latency_p95_s)
    yield from (t.accuracy, t.labelled, t.confidence, t.profile_accuracy)
    yield from (None if t.energy_j is None else t.energy_j.get(rail) for rail in spec.rails)
    yield from (t.temp_c.get(node) for node in spec.thermal_nodes)
    yield from (t.utilisation.get(unit.name) for unit in spec.units)
    yield from (t.peak_utilisation.get(unit.name) for unit in spec.units)
    yield from (int(t.throttled), int(t.switched), t.sensor_age_s, t.energy_error_j)
