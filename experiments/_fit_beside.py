"""What `fit_board.py` fits and judges beside the A15 rail, of the same runs: volts, other rails, and contention."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments._fit_law import Law, fit_held_back
from experiments._fit_result import Fitted, OnFold, Result, Task
from hw.fitfile import Model
from hw.measured import Measurements
from hw.simulated import fit_contention, fit_power, fit_rest

IDLE_GPU_W = 0.25  # a GPU that draws more at the median has work


def _laws(path: Path) -> list[Law[Any]]:
    """What the file can tell of: a rail needs its column, contention needs programs alone and beside copies."""
    data = fit_power.read_power(path)
    laws: list[Law[Any]] = [
        Law(
            section="volts",
            title="Volts of the A15",
            error="volts_mape",
            measured=data["Voltage A15"],
            by="workload",
            labels=_labels(data),
            fit=partial(fit_rest.fit_volts, data),
            predict=partial(fit_rest.volts_at, data["Frequency A15"]),
        )
    ]
    if (memory := _metered(data, "Power Memory")) is not None:
        laws.append(
            Law(
                section="mem",
                title="Memory rail",
                error="mem_mape",
                measured=memory["Power Memory"],
                by="workload",
                labels=_labels(memory),
                fit=partial(fit_rest.fit_memory, memory),
                predict=partial(fit_rest.memory_w, memory),
            )
        )
    idle = _metered(data, "Power GPU")
    if idle is not None and np.median(idle["Power GPU"]) <= IDLE_GPU_W:
        laws.append(
            Law(
                section="idle_gpu",
                title="GPU rail, idle",
                error="idle_gpu_mape",
                measured=idle["Power GPU"],
                by="workload",
                labels=_labels(idle),
                fit=partial(fit_rest.fit_idle, idle),
                predict=partial(fit_rest.idle_w, idle),
            )
        )
    beside = fit_contention.beside_copies(data)
    if len(beside):
        labels = {
            "frequency, MHz": _plain(beside.mhz),
            "copies": _plain(beside.others + 1.0),
            "workload": beside.names,
        }
        laws.append(
            Law(
                section="contention",
                title="Slow-down of one of several copies",
                error="contention_mape",
                measured=beside.slower,
                by="workload",
                labels=labels,
                fit=partial(fit_contention.fit_contention, beside),
                predict=partial(fit_contention.slow_down, beside),
            )
        )
    return laws


def _metered(data: Measurements, column: str) -> Measurements | None:
    """The rows in which a meter saw something; None where it never did, or the file has no such column."""
    if column not in data.numbers or not (data[column] > 0.0).any():
        return None
    return data.rows(data[column] > 0.0)


def _labels(data: Measurements) -> Mapping[str, NDArray[np.str_]]:
    return {"frequency, MHz": _plain(data["Frequency A15"]), "workload": data.texts["Workload Name"]}


def _plain(values: NDArray[np.float64]) -> NDArray[np.str_]:
    return np.array([f"{x:g}" for x in values])


def fit_beside(path: Path, on_fold: OnFold) -> list[Fitted]:
    """The laws of what the file can tell of; InputError for a file that is no such measurement."""
    return [fit_held_back(law, path, on_fold) for law in _laws(path)]


def judge_beside(path: Path, models: Mapping[str, Model]) -> list[Result]:
    """The errors of these laws on what the file can tell of."""
    return [law.result(law.predict(models[law.section])) for law in _laws(path) if law.section in models]


BESIDE = Task(sections=("volts", "mem", "idle_gpu", "contention"), fit=fit_beside, judge=judge_beside)
