"""What `fit_board.py` fits and judges of temperatures: the XU3's hottest CPU sensor over whole runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from experiments._fit_result import PARTS, SPLIT, Fitted, Group, OnFold, Result, Task
from hw.boardfile import load_board
from hw.errors import InputError
from hw.fitfile import Model
from hw.simulated import fit_heat
from hw.simulated.fit import F, folds

SECTION = "heat"


@dataclass(frozen=True, kw_only=True)
class HeatResult:
    """Predicted temperatures of whole runs."""

    runs: list[fit_heat.Run]
    aside: list[str]
    predicted_c: list[F]

    section = SECTION
    title = "Hottest CPU sensor, fan full on"
    headings: ClassVar[Mapping[str, str]] = {"temp_rmse_k": "rms error"}

    @property
    def sentence(self) -> str:
        """How well, in words."""
        n = len(self.aside)
        aside = f" Left aside: {n} run{'s' if n > 1 else ''} whose fan switches on its own." if n else ""
        return f"{len(self.runs)} runs, {self.summary['rows']} samples: {self.summary['temp_rmse_k']:.2f} K rms.{aside}"

    @property
    def groups(self) -> list[Group]:
        """The errors over all samples, and by run."""
        summary, each = self.summary, zip(self.runs, self.per_run_k, strict=True)
        runs = [Group(by="run", value=r.name, rows=len(r.t_s), errors={"temp_rmse_k": off}) for r, off in each]
        every = {"temp_rmse_k": float(summary["temp_rmse_k"])}
        return [Group(by="all", value="", rows=int(summary["rows"]), errors=every), *runs]

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


def read_heat(path: Path) -> tuple[list[fit_heat.Run], list[str]]:
    """Runs with the fan full on, and the names of those left aside."""
    return fit_heat.read_runs(path, load_board("xu3").spec.clock("a15"))


def judge_runs(path: Path, models: Mapping[str, Model]) -> list[Result]:
    """The errors of a given model on the runs of a file."""
    runs, aside = read_heat(path)
    model = models[SECTION]
    assert isinstance(model, fit_heat.HeatModel)
    return [HeatResult(runs=runs, aside=aside, predicted_c=[fit_heat.predict_heat(run, model) for run in runs])]


def fit_runs(path: Path, on_fold: OnFold) -> list[Fitted]:
    """The fit to all runs; what is held back are the runs of one list of programs at all its frequencies.

    Raises InputError for a file that is no such trace, or has too few groups of runs.
    """
    runs, aside = read_heat(path)
    sittings = np.array([run.sitting for run in runs])
    count = len(np.unique(sittings))
    if count < 4:
        want = "at least four: the ambient of one has three parameters"
        raise InputError.at(path, "holds too few groups of runs", column="run", value=count, want=want)
    model = fit_heat.fit_heat(runs)
    predicted = [fit_heat.predict_heat(run, model) for run in runs]
    worst = 0.0
    splits = list(folds(sittings, PARTS))
    for i, held in enumerate(splits):
        blind = fit_heat.fit_heat([run for run, out in zip(runs, held, strict=True) if not out])
        for j in np.flatnonzero(held):
            predicted[j] = fit_heat.predict_heat(runs[j], blind)
        worst = max(worst, fit_heat.rmse_k([runs[j] for j in np.flatnonzero(held)], blind))
        on_fold(i + 1, len(splits))
    result = HeatResult(runs=runs, aside=aside, predicted_c=predicted)
    errors = {"temp_rmse_k": float(result.summary["temp_rmse_k"]), "temp_rmse_k_worst": worst}
    split = SPLIT.format(len(splits), "group of runs (same programs, other clock)")
    return [Fitted(section=SECTION, model=model, result=result, errors=errors, split=split)]


TRACES = Task(sections=(SECTION,), fit=fit_runs, judge=judge_runs)
