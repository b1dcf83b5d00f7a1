"""What `fit_board.py` fits and judges of power on any board: the rails of its units, by the simulator's own law."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from experiments._fit_law import Law, fit_held_back
from experiments._fit_result import Fitted, OnFold, Result, Task
from hw.boardfile import load_board
from hw.boardmodel import UnitModel
from hw.fitfile import Model
from hw.simulated import fit_unit

PREFIX = "power_"


def _laws(board_file: Path, path: Path) -> list[tuple[UnitModel, Law[fit_unit.UnitPower]]]:
    board = load_board(board_file)
    data = fit_unit.read_units(path, board)
    laws: list[tuple[UnitModel, Law[fit_unit.UnitPower]]] = []
    for unit in board.units:
        if unit.name not in data.texts["unit"]:
            continue
        rows = data.rows(data.texts["unit"] == unit.name)
        law = Law(
            section=f"{PREFIX}{unit.name}",
            title=f"Rail of {unit.name}",
            error="power_mape",
            measured=rows["watts"],
            by="workload",
            labels={
                "frequency, MHz": np.array([f"{x:g}" for x in rows["mhz"]]),
                "busy cores": np.array([f"{round(x)}" for x in rows["busy"]]),
                "workload": rows.texts["workload"],
            },
            fit=partial(fit_unit.fit_unit, rows, unit),
            predict=partial(fit_unit.unit_w, rows, unit),
        )
        laws.append((unit, law))
    return laws


def fit_units(board_file: Path, path: Path, on_fold: OnFold) -> list[Fitted]:
    """A law per unit that the file tells of; InputError for a file that is no such measurement."""
    return [fit_held_back(law, path, on_fold) for _, law in _laws(board_file, path)]


def judge_units(board_file: Path, path: Path, models: Mapping[str, Model]) -> list[Result]:
    """The errors of what the board file itself says."""
    return [law.result(law.predict(fit_unit.of_board(unit))) for unit, law in _laws(board_file, path)]


def unit_task(board_file: Path) -> Task:
    """The units of this board file as `fit_board.py` takes them; nothing of them stands in a fit file."""
    return Task(sections=(), fit=partial(fit_units, board_file), judge=partial(judge_units, board_file))
