"""What `fit_board.py` fits and judges of power: how a rail's file is read, fitted, predicted and summed up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments._fit_result import FEW, PARTS, SPLIT, Fitted, Group, OnFold, Result, Task, grouped
from hw.boardfile import load_board
from hw.errors import InputError
from hw.fitfile import Model
from hw.measured import Measurements
from hw.simulated import fit_a57, fit_gpu, fit_power
from hw.simulated.fit import F, ape, folds


@dataclass(frozen=True, kw_only=True)
class Rail:
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
class RailResult:
    """Predictions of a rail's power; arrays of (rows,)."""

    rail: Rail
    data: Measurements
    measured_w: F
    predicted_w: F
    class_w: F

    @property
    def section(self) -> str:
        """Of the fit file."""
        return self.rail.section

    @property
    def title(self) -> str:
        """What was predicted."""
        return self.rail.title

    @property
    def sentence(self) -> str:
        """How well, in words."""
        (first, second), s = self.rail.models, self.summary
        return (
            f"{s['rows']} rows. Mean absolute error of the {first} {100 * s['power_mape']:.1f} % "
            f"(95 % of the rows within {100 * s['power_p95_ape']:.1f} %), of the {second} "
            f"{100 * s['class_power_mape']:.1f} %."
        )

    @property
    def headings(self) -> dict[str, str]:
        """The two models."""
        return dict(zip(("power_mape", "class_power_mape"), self.rail.models, strict=True))

    @property
    def groups(self) -> list[Group]:
        """The errors over all rows, and by the rail's groups."""
        by_class = ape(self.class_w, self.measured_w)
        off = {"power_mape": ape(self.predicted_w, self.measured_w), "class_power_mape": by_class}
        return grouped(off, {by: label(self.data) for by, label in self.rail.groups.items()})

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


def _megahertz(column: str) -> Callable[[Measurements], NDArray[np.str_]]:
    return lambda data: np.array([f"{x:g}" for x in data[column]])


def _alone(kinds: NDArray[np.str_], names: NDArray[np.str_]) -> list[str]:
    """Workloads that are all there is of a class: held back, none would be left to fit; they stay among the seen."""
    of_class = [np.unique(names[kinds == kind]) for kind in np.unique(kinds)]
    return sorted({str(found[0]) for found in of_class if len(found) == 1})


A15 = Rail(
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
A57 = Rail(
    section="a57",
    title="A57 rail, 5 V side",
    read=lambda path: fit_a57.read_a57(path, load_board("jetson_nano").spec.clock("a57")),
    fit=fit_a57.fit_a57,
    predict=fit_a57.by_supply,
    predict_class=fit_a57.by_clock,
    watts="Power[W]",
    mhz="CPU Frequency (MHz)",
    name="Benchmark",
    models=("clock and supply voltage", "clock and temperature"),
    groups={"frequency, MHz": _megahertz("CPU Frequency (MHz)"), "workload": lambda data: data.texts["Benchmark"]},
)
GPU = Rail(
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


def judge_rail(rail: Rail, path: Path, models: Mapping[str, Model]) -> list[Result]:
    """The errors of a given model on a whole file."""
    data, model = rail.read(path), models[rail.section]
    return [_result(rail, data, rail.predict(data, model), rail.predict_class(data, model))]


def fit_rail(rail: Rail, path: Path, on_fold: OnFold) -> list[Fitted]:
    """The fit to all rows; predictions are of each row by a fit that had not seen its workload, but for those kept.

    Raises InputError for a file that is no such measurement, or has too few workloads to hold any back.
    """
    data = rail.read(path)
    every = np.ones(len(data), bool)
    names, keep = data.texts[rail.name], rail.keep(data)
    model: Model = rail.fit(data, every)
    count = len(np.unique(names)) - len(keep)
    if count < 2:
        want = "at least two that can be held back in turn, or nothing tells how a fit does on work it has not seen"
        raise InputError.at(path, "holds too few workloads", column=rail.name, value=count, want=want)
    predicted, class_w, watts = rail.predict(data, model), rail.predict_class(data, model), data[rail.watts]
    splits = list(folds(names, count if count <= FEW else PARTS, keep))
    off: list[tuple[float, float]] = []
    for i, held in enumerate(splits):
        blind = rail.fit(data, ~held)
        predicted[held], class_w[held] = rail.predict(data, blind)[held], rail.predict_class(data, blind)[held]
        off.append(
            (float(ape(predicted, watts)[held].mean()), float(ape(class_w, watts)[held].mean())),
        )
        on_fold(i + 1, len(splits))
    unseen = np.any(splits, axis=0)
    worst = np.max(off, axis=0)
    errors = {
        "power_mape": float(np.mean([a for a, _ in off])),
        "power_mape_worst": float(worst[0]),
        "class_power_mape": float(np.mean([b for _, b in off])),
        "class_power_mape_worst": float(worst[1]),
        "power_p95_ape": float(np.quantile(ape(predicted, watts)[unseen], 0.95)),
    }
    split = SPLIT.format(len(splits), "workload") + (f"; always seen: {', '.join(keep)}" if keep else "")
    result = _result(rail, data, predicted, class_w)
    return [Fitted(section=rail.section, model=model, result=result, errors=errors, split=split)]


def _result(rail: Rail, data: Measurements, predicted_w: F, class_w: F) -> RailResult:
    return RailResult(rail=rail, data=data, measured_w=data[rail.watts], predicted_w=predicted_w, class_w=class_w)


def rail_task(rail: Rail) -> Task:
    """The rail as `fit_board.py` takes it."""
    return Task(sections=(rail.section,), fit=partial(fit_rail, rail), judge=partial(judge_rail, rail))
