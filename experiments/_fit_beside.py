"""What `fit_board.py` fits and judges beside the A15 rail, of the same runs: volts, other rails, and contention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from hw.simulated.fit import B, F

IDLE_GPU_W = 0.25  # a GPU that draws more at the median has work


def _laws(path: Path) -> list[Law[Any]]:
    """What the file can tell of: a rail needs its column, contention needs programs alone and beside copies."""
    data = fit_power.read_power(path)
    laws: list[Law[Any]] = [
        _of_runs("volts", "Volts of the A15", data, "Voltage A15", fit_rest.fit_volts, fit_rest.volts),
    ]
    memory, idle = _metered(data, "Power Memory"), _metered(data, "Power GPU")
    if memory is not None:
        laws.append(_of_runs("mem", "Memory rail", memory, "Power Memory", fit_rest.fit_memory, fit_rest.memory_w))
    if idle is not None and np.median(idle["Power GPU"]) <= IDLE_GPU_W:
        laws.append(_of_runs("idle_gpu", "GPU rail, idle", idle, "Power GPU", fit_rest.fit_idle, fit_rest.idle_w))
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


def _of_runs(
    section: str,
    title: str,
    data: Measurements,
    column: str,
    fit: Callable[[Measurements, B], Any],
    predict: Callable[[Measurements, Any], F],
) -> Law[Any]:
    """A law of what stands in one column of the runs."""
    return Law(
        section=section,
        title=title,
        error=f"{section}_mape",
        measured=data[column],
        by="workload",
        labels={"frequency, MHz": _plain(data["Frequency A15"]), "workload": data.texts["Workload Name"]},
        fit=partial(fit, data),
        predict=partial(predict, data),
    )


def _metered(data: Measurements, column: str) -> Measurements | None:
    """The rows in which a meter saw something; None where it never did, or the file has no such column."""
    if column not in data.numbers or not (data[column] > 0.0).any():
        return None
    return data.rows(data[column] > 0.0)


def _plain(values: NDArray[np.float64]) -> NDArray[np.str_]:
    return np.array([f"{x:g}" for x in values])


def fit_beside(path: Path, on_fold: OnFold) -> list[Fitted]:
    """The laws of what two names or more tell of; InputError for a file that is no such measurement."""
    laws = [law for law in _laws(path) if len(np.unique(law.labels[law.by])) > 1]
    return [fit_held_back(law, path, on_fold) for law in laws]


def judge_beside(path: Path, models: Mapping[str, Model]) -> list[Result]:
    """The errors of these laws on what the file can tell of."""
    return [law.result(law.predict(models[law.section])) for law in _laws(path) if law.section in models]


BESIDE = Task(sections=("volts", "mem", "idle_gpu", "contention"), fit=fit_beside, judge=judge_beside)
