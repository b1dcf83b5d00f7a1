"""What `fit_board.py` fits and judges, as one list: how each kind of file is read, fitted, predicted and summed up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.boardfile import load_board
from hw.errors import InputError
from hw.fitfile import Model
from hw.measured import Measurements
from hw.simulated import fit_a57, fit_gpu, fit_heat, fit_power
from hw.simulated.fit import F, ape, folds

PARTS = 6
FEW = 12  # so many workloads and fewer: each is held back alone
SPLIT = "{} rotating folds by {}; each is predicted by a fit that has not seen it"


@dataclass(frozen=True, kw_only=True)
class RailTask:
    """A rail's power: two predictions of one fit, per row."""

    section: str
    title: str
    read: Callable[[Path], Measurements]
    fit: Callable[[Measurements, NDArray[np.bool_]], Any]
    predict: Callable[[Measurements, Any], F]  # power_mape
    predict_class: Callable[[Measurements, Any], F]  # class_power_mape
    watts: str
    mhz: str
    name: str
    models: tuple[str, str]  # what the two predictions are called
    groups: Mapping[str, Callable[[Measurements], NDArray[np.str_]]]
    keep: Callable[[Measurements], Sequence[str]] = lambda _: ()


@dataclass(frozen=True, kw_only=True)
class Group:
    """One line of the table of errors."""

    by: str
    value: str
    rows: int
    power_mape: float
    class_power_mape: float


@dataclass(frozen=True, kw_only=True)
class RailResult:
    """Predictions of a rail's power and their errors; arrays of (rows,)."""

    task: RailTask
    data: Measurements
    measured_w: F
    predicted_w: F
    class_w: F
    groups: list[Group]

    @property
    def summary(self) -> dict[str, float | int]:
        """The keys of the JSON file."""
        off, by_class = ape(self.predicted_w, self.measured_w), ape(self.class_w, self.measured_w)
        return {
            "power_mape": float(off.mean()),
            "class_power_mape": float(by_class.mean()),
            "power_p95_ape": float(np.quantile(off, 0.95)),
            "rows": len(off),
        }


@dataclass(frozen=True, kw_only=True)
class HeatResult:
    """Predicted temperatures of whole runs."""

    runs: list[fit_heat.Run]
    aside: list[str]
    predicted_c: list[F]

    @property
    def per_run_k(self) -> list[float]:
        """Root mean squared error (K) of each run."""
        pairs = zip(self.predicted_c, self.runs, strict=True)
        return [float(np.sqrt(np.mean((p - run.hottest_c) ** 2))) for p, run in pairs]

    @property
    def summary(self) -> dict[str, float | int]:
        """The keys of the JSON file; the error is over all samples alike."""
        off = np.concatenate([p - run.hottest_c for p, run in zip(self.predicted_c, self.runs, strict=True)])
        return {"temp_rmse_k": float(np.sqrt(np.mean(off**2))), "rows": len(off)}


def _megahertz(column: str) -> Callable[[Measurements], NDArray[np.str_]]:
    return lambda data: np.array([f"{x:g}" for x in data[column]])


def _alone(kinds: NDArray[np.str_], names: NDArray[np.str_]) -> list[str]:
    """Workloads that are all there is of a class: held back, none would be left to fit; they stay among the seen."""
    of_class = [np.unique(names[kinds == kind]) for kind in np.unique(kinds)]
    return sorted({str(found[0]) for found in of_class if len(found) == 1})


A15 = RailTask(
    section="a15",
    title="A15 rail",
    read=fit_power.read_power,
    fit=fit_power.fit_power,
    predict=fit_power.by_counters,
    predict_class=fit_power.by_class,
    watts="Power A15",
    mhz="Frequency A15",
    name="Workload Name",
    models=("counter model", "class model"),
    groups={
        "frequency, MHz": _megahertz("Frequency A15"),
        "copies": fit_power.copies,
        "class": fit_power.classes,
        "workload": lambda data: data.texts["Workload Name"],
    },
    keep=lambda data: _alone(fit_power.classes(data), data.texts["Workload Name"]),
)
A57 = RailTask(
    section="a57",
    title="A57 rail, 5 V side",
    read=fit_a57.read_a57,
    fit=fit_a57.fit_a57,
    predict=fit_a57.by_supply,
    predict_class=fit_a57.by_clock,
    watts="Power[W]",
    mhz="CPU Frequency (MHz)",
    name="Benchmark",
    models=("clock and supply voltage", "clock alone"),
    groups={"frequency, MHz": _megahertz("CPU Frequency (MHz)"), "workload": lambda data: data.texts["Benchmark"]},
)
GPU = RailTask(
    section="gpu",
    title="GPU rail",
    read=fit_gpu.read_gpu,
    fit=fit_gpu.fit_gpu,
    predict=fit_gpu.by_counters,
    predict_class=fit_gpu.by_class,
    watts="P_w",
    mhz="f_mhz",
    name="benchmark",
    models=("counter model", "class model"),
    groups={
        "frequency, MHz": _megahertz("f_mhz"),
        "class": fit_gpu.classes,
        "workload": lambda data: data.texts["benchmark"],
    },
    keep=lambda data: _alone(fit_gpu.classes(data), data.texts["benchmark"]),
)


def judge_rail(task: RailTask, data: Measurements, model: Model) -> RailResult:
    """The errors of a given model on the whole file."""
    return _result(task, data, task.predict(data, model), task.predict_class(data, model))


def fit_rail(
    task: RailTask, data: Measurements, on_fold: Callable[[int, int], None]
) -> tuple[Model, RailResult, dict[str, float], str]:
    """The fit to all rows, and predictions of each row by a fit that had not seen its workload.

    Returns the model, those predictions, mean and worst fold of their errors, and how the split was made.
    """
    every = np.ones(len(data), bool)
    names, keep = data.texts[task.name], task.keep(data)
    model: Model = task.fit(data, every)
    count = len(np.unique(names)) - len(keep)
    if count < 2:
        want = "at least two that can be held back in turn, or nothing tells how a fit does on work it has not seen"
        raise InputError.at(data.path, "holds too few workloads", column=task.name, value=count, want=want)
    predicted, class_w, watts = task.predict(data, model), task.predict_class(data, model), data[task.watts]
    splits = list(folds(names, count if count <= FEW else PARTS, keep))
    off: list[tuple[float, float]] = []
    for i, held in enumerate(splits):
        blind = task.fit(data, ~held)
        predicted[held], class_w[held] = task.predict(data, blind)[held], task.predict_class(data, blind)[held]
        off.append(
            (float(ape(predicted, watts)[held].mean()), float(ape(class_w, watts)[held].mean())),
        )
        on_fold(i + 1, len(splits))
    result = _result(task, data, predicted, class_w)
    unseen = np.any(splits, axis=0)
    worst = np.max(off, axis=0)
    errors = {
        "power_mape": float(np.mean([a for a, _ in off])),
        "power_mape_worst": float(worst[0]),
        "class_power_mape": float(np.mean([b for _, b in off])),
        "class_power_mape_worst": float(worst[1]),
        "power_p95_ape": float(np.quantile(ape(predicted, watts)[unseen], 0.95)),
    }
    split = SPLIT.format(len(splits), "workload")
    return model, result, errors, split + (f"; always seen: {', '.join(keep)}" if keep else "")


def read_heat(path: Path, board: str) -> tuple[list[fit_heat.Run], list[str]]:
    """Runs with the fan full on, and the names of those left aside."""
    return fit_heat.read_runs(path, load_board(board).spec.clock("a15"))


def judge_heat(runs: list[fit_heat.Run], aside: list[str], model: fit_heat.HeatModel) -> HeatResult:
    """The errors of a given model on these runs."""
    return HeatResult(runs=runs, aside=aside, predicted_c=[fit_heat.predict_heat(run, model) for run in runs])


def fit_runs(
    path: Path, runs: list[fit_heat.Run], aside: list[str], on_fold: Callable[[int, int], None]
) -> tuple[fit_heat.HeatModel, HeatResult, dict[str, float], str]:
    """As `fit_rail`, for temperatures: what is held back are the runs of one day's list at all its frequencies."""
    families = np.array([run.name.rpartition("_")[0] or run.name for run in runs])
    count = len(np.unique(families))
    if count < 4:
        want = "at least four: a run's ambient has three parameters of its own"
        raise InputError.at(path, "holds too few groups of runs", column="run", value=count, want=want)
    model = fit_heat.fit_heat(runs)
    predicted = [fit_heat.predict_heat(run, model) for run in runs]
    worst = 0.0
    splits = list(folds(families, PARTS))
    for i, held in enumerate(splits):
        blind = fit_heat.fit_heat([run for run, out in zip(runs, held, strict=True) if not out])
        for j in np.flatnonzero(held):
            predicted[j] = fit_heat.predict_heat(runs[j], blind)
        worst = max(worst, fit_heat.rmse_k([runs[j] for j in np.flatnonzero(held)], blind))
        on_fold(i + 1, len(splits))
    result = HeatResult(runs=runs, aside=aside, predicted_c=predicted)
    errors = {"temp_rmse_k": float(result.summary["temp_rmse_k"]), "temp_rmse_k_worst": worst}
    return model, result, errors, SPLIT.format(len(splits), "group of runs (same programs, other clock)")


def _result(task: RailTask, data: Measurements, predicted_w: F, class_w: F) -> RailResult:
    watts = data[task.watts]
    off, by_class = ape(predicted_w, watts), ape(class_w, watts)
    table = [Group(by="all", value="", rows=len(off), power_mape=off.mean(), class_power_mape=by_class.mean())]
    for by, label in task.groups.items():
        labels = label(data)
        for value in sorted(np.unique(labels), key=_natural):
            rows = labels == value
            table.append(
                Group(
                    by=by,
                    value=str(value),
                    rows=int(rows.sum()),
                    power_mape=float(off[rows].mean()),
                    class_power_mape=float(by_class[rows].mean()),
                )
            )
    return RailResult(task=task, data=data, measured_w=watts, predicted_w=predicted_w, class_w=class_w, groups=table)


def _natural(label: str) -> tuple[float, str]:
    """Numbers by value, then words."""
    try:
        return float(label), ""
    except ValueError:
        return float("inf"), str(label)
