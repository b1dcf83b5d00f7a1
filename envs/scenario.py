"""A scenario: a time line of demand, background load and ambient temperature, and the CSV that holds it.

One line per change: a row holds until the next `t_s`, the last row ends the scenario (only its time counts).
Columns: `t_s, rate_hz, deadline_s, accuracy_min, energy_budget_j, goal`, `load_<unit>` for every unit of the
board in its order (busy cores of a CPU cluster, 0..1 for a GPU), `mem_gbps, ambient_c`.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.errors import InputError
from hw.files import Row, atomic_write_text, number, read_table
from hw.types import AMBIENT_C, BUDGET_J, DEADLINE_S, GOALS, MEM_GBPS, RATE_HZ, BoardSpec, Demand, Load, Unit

Floats = npt.NDArray[np.float64]

LONGEST_S = 1e9  # 32 years
_EPS_S = 1e-9
_EPS_INTERVALS = 1e-6  # a time over interval_s may come out a rounding error above the whole number that it is
_PER_ROW = ("rate_hz", "deadline_s", "accuracy_min", "energy_budget_j", "mem_gbps", "ambient_c")


@dataclass(frozen=True, kw_only=True, eq=False)
class Scenario:
    """A time line; every array has one entry per row and is read-only.

    Shapes: (m+1,) for m rows in force and the one that ends them; `load` is (m+1, units) in the order of
    `spec.units`, in busy cores (0..1 for a GPU). Raises InputError where shapes disagree, a row is missing,
    the first one is not at 0 or a goal is none; `check_scenario` is for all else.
    """

    name: str
    family: str  # of the generator; "file" where a person wrote it
    t_s: Floats
    rate_hz: Floats
    deadline_s: Floats
    accuracy_min: Floats
    energy_budget_j: Floats
    goal: npt.NDArray[np.int8]  # index into hw.types.GOALS
    load: Floats
    mem_gbps: Floats
    ambient_c: Floats

    def __post_init__(self) -> None:
        goals = np.asarray(self.goal)
        if not np.isin(goals, range(len(GOALS))).all():
            want = ", ".join(f"{i} ({name})" for i, name in enumerate(GOALS))
            raise InputError(f"scenario {self.name!r}: unknown goal among {np.unique(goals).tolist()}; one of {want}")
        for column in ("t_s", *_PER_ROW, "load", "goal"):
            copy = np.array(getattr(self, column), dtype=np.int8 if column == "goal" else np.float64)
            copy.setflags(write=False)
            object.__setattr__(self, column, copy)
        rows = self.t_s.shape
        if len(rows) != 1 or rows[0] < 2:
            raise InputError(f"scenario {self.name!r}: one row; it needs a first and one that ends it")
        for column in (*_PER_ROW, "goal", "load"):
            shape = getattr(self, column).shape
            if shape[:1] != rows or len(shape) != (2 if column == "load" else 1):
                raise InputError(f"scenario {self.name!r}: {column} has shape {shape}; t_s has {rows}")
        if self.t_s[0] != 0:
            raise InputError(f"scenario {self.name!r}: its first row is at {self.t_s[0]:g} s; it must be at 0")

    @property
    def checksum(self) -> str:
        """SHA-256 of all columns."""
        columns = (getattr(self, column).tobytes() for column in ("t_s", *_PER_ROW, "goal", "load"))
        return hashlib.sha256(b"".join(columns)).hexdigest()

    @property
    def duration_s(self) -> float:
        """From the first row, at 0, to the row that ends it."""
        return float(self.t_s[-1])

    def n_intervals(self, interval_s: float) -> int:
        """How many control intervals of `interval_s` the scenario lasts (rounded, at least one)."""
        return max(1, round(self.duration_s / interval_s))

    def changes(self, interval_s: float) -> dict[int, int]:
        """The control intervals that begin with another row in force, the first among them, and which row that is.

        A row is in force from the first interval that starts at or after its time, so of rows within one interval the
        last one counts. A row that would only start after the end has its interval there, and is never in force.
        """
        starts = np.ceil(self.t_s[:-1] / interval_s - _EPS_INTERVALS).astype(int)
        return {k: row for row, k in enumerate(starts.tolist())}

    def demand(self, row: int) -> Demand:
        """What the application asks while `row` is in force."""
        return Demand(
            rate_hz=float(self.rate_hz[row]),
            deadline_s=float(self.deadline_s[row]),
            accuracy_min=float(self.accuracy_min[row]),
            energy_budget_j=float(self.energy_budget_j[row]),
            goal=GOALS[self.goal[row]],
        )

    def background(self, row: int, spec: BoardSpec) -> Load:
        """The load while `row` is in force; InputError where the scenario is for another number of units."""
        busy: list[float] = self.load[row].tolist()
        if len(busy) != len(spec.units):
            raise InputError(f"scenario {self.name!r}: load for {len(busy)} units; {spec.name} has {len(spec.units)}")
        return Load(
            busy={unit.name: cores for unit, cores in zip(spec.units, busy, strict=True)},
            mem_gbps=float(self.mem_gbps[row]),
            ambient_c=float(self.ambient_c[row]),
        )

    def backgrounds(self, spec: BoardSpec) -> Iterator[Load]:
        """The loads of all rows but the last, which is the end; raises as `background`."""
        return (self.background(row, spec) for row in range(len(self.t_s) - 1))


def columns(spec: BoardSpec) -> tuple[str, ...]:
    """The columns of a scenario file for this board, in the order in which they are written."""
    demand = ("t_s", "rate_hz", "deadline_s", "accuracy_min", "energy_budget_j", "goal")
    return (*demand, *(f"load_{unit.name}" for unit in spec.units), "mem_gbps", "ambient_c")


def max_load(unit: Unit) -> float:
    """How much background work fits on a unit: its cores, or 1 for a GPU."""
    return 1.0 if unit.kind == "gpu" else float(unit.cores)


def load_scenario(path: str | Path, spec: BoardSpec) -> Scenario:
    """The scenario in a CSV file, named by the file.

    Raises InputError (file, line, column, value) for a missing, unknown or duplicate column, a cell that is
    not a finite number, times that do not start at 0 and grow, a rate, deadline, budget or memory traffic outside
    its bounds in `hw.types`, an accuracy outside 0..1, an unknown goal, a load outside 0..the unit's cores, an
    ambient temperature outside -40..85, fewer than two rows, less than one control interval.
    """
    return _parse(path, read_table(path, columns(spec)), spec, name=Path(path).stem, family="file")


def save_scenario(scenario: Scenario, path: str | Path, spec: BoardSpec) -> None:
    """Write the CSV, all or nothing; what `load_scenario` would refuse is refused here, with its words."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns(spec))
    writer.writerows(_checked(scenario, path, spec))
    atomic_write_text(path, text.getvalue())


def check_scenario(scenario: Scenario, spec: BoardSpec) -> None:
    """InputError for what `load_scenario` would refuse of this scenario's file, with its words and line numbers."""
    _checked(scenario, f"scenario {scenario.name!r}", spec)


def _checked(scenario: Scenario, path: str | Path, spec: BoardSpec) -> list[list[str]]:
    """The rows as text, each cell of which a file may hold."""
    lines = [_cells(scenario, row, spec) for row in range(len(scenario.t_s))]
    table = [(i + 2, dict(zip(columns(spec), cells, strict=True))) for i, cells in enumerate(lines)]
    _parse(path, table, spec, name=scenario.name, family=scenario.family)
    return lines


def _cells(scenario: Scenario, row: int, spec: BoardSpec) -> list[str]:
    """One row as text; repr() of a float reads back as the same float."""
    demand, load, t_s = scenario.demand(row), scenario.background(row, spec), float(scenario.t_s[row])
    asked = (t_s, demand.rate_hz, demand.deadline_s, demand.accuracy_min, demand.energy_budget_j)
    background = (*load.busy.values(), load.mem_gbps, load.ambient_c)
    return [*(repr(x) for x in asked), demand.goal, *(repr(x) for x in background)]


def _parse(path: str | Path, rows: Sequence[Row], spec: BoardSpec, *, name: str, family: str) -> Scenario:
    """The scenario in a table of text, every cell checked."""
    values: dict[str, list[Any]] = {column: [] for column in columns(spec)}
    for line, cells in rows:

        def num(
            column: str, low: float | None, high: float | None = None, line: int = line, cells: Any = cells
        ) -> float:
            return number(path, line, column, cells[column], low=low, high=high)

        t_s = num("t_s", 0.0, LONGEST_S)
        earlier = values["t_s"][-1] if values["t_s"] else None
        if earlier is None and t_s != 0:
            raise InputError.at(
                path, "late start", line=line, column="t_s", value=cells["t_s"], want="the first row is at 0"
            )
        if earlier is not None and t_s <= earlier:
            raise InputError.at(
                path,
                "repeated time" if t_s == earlier else "unsorted time",
                line=line,
                column="t_s",
                value=cells["t_s"],
                want=f"later than the row before ({earlier:g})",
            )
        values["t_s"].append(t_s)
        for column, bounds in (("rate_hz", RATE_HZ), ("deadline_s", DEADLINE_S), ("energy_budget_j", BUDGET_J)):
            values[column].append(num(column, *bounds))
        values["accuracy_min"].append(num("accuracy_min", 0.0, 1.0))
        if cells["goal"] not in GOALS:
            raise InputError.at(
                path,
                "unknown goal",
                line=line,
                column="goal",
                value=cells["goal"],
                want=f"one of {', '.join(GOALS)}",
            )
        values["goal"].append(GOALS.index(cells["goal"]))
        for unit in spec.units:
            values[f"load_{unit.name}"].append(num(f"load_{unit.name}", 0.0, max_load(unit)))
        values["mem_gbps"].append(num("mem_gbps", *MEM_GBPS))
        values["ambient_c"].append(num("ambient_c", *AMBIENT_C))
    last = rows[-1][0]
    if len(rows) < 2:
        raise InputError.at(path, "only one row", line=last, want="the last row ends the one before it")
    if values["t_s"][-1] < spec.interval_s - _EPS_S:
        raise InputError.at(
            path,
            "shorter than one control interval",
            line=last,
            column="t_s",
            value=rows[-1][1]["t_s"],
            want=f"an end at {spec.interval_s:g} or later",
        )
    load = np.array([values[f"load_{unit.name}"] for unit in spec.units]).T
    table = {column: np.array(values[column]) for column in ("t_s", *_PER_ROW, "goal")}
    return Scenario(name=name, family=family, load=load, **table)
