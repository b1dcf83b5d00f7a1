"""One law beside measurements, and how well it does on names that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from experiments._fit_result import FEW, PARTS, SPLIT, Fitted, Group, OnFold, grouped
from hw.errors import InputError
from hw.fitfile import Model
from hw.simulated.fit import B, F, ape, folds

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, kw_only=True)
class LawResult:
    """Predictions by one law beside measurements; arrays of (rows,)."""

    section: str
    title: str
    error: str  # key of its relative error
    measured: F
    predicted: F
    labels: Mapping[str, NDArray[np.str_]]  # what tells rows apart

    @property
    def off(self) -> F:
        """Relative errors: above 0 where the law says more than was measured."""
        off: F = self.predicted / self.measured - 1.0
        return off

    @property
    def sentence(self) -> str:
        """How well, in words."""
        worst = int(np.abs(self.off).argmax())
        which = ", ".join(f"{by} {names[worst]}" for by, names in self.labels.items())
        return (
            f"{len(self.off)} rows. Mean absolute error {100 * self.summary[self.error]:.1f} %; "
            f"off most: {which}: {100 * self.off[worst]:+.0f} %."
        )

    @property
    def headings(self) -> dict[str, str]:
        """The one law."""
        return {self.error: "law"}

    @property
    def groups(self) -> list[Group]:
        """The errors over all rows, and by each label."""
        return grouped({self.error: np.abs(self.off)}, self.labels)

    @property
    def summary(self) -> dict[str, float | int]:
        """The keys of the JSON file."""
        return {self.error: float(np.abs(self.off).mean()), "rows": len(self.off)}


@dataclass(frozen=True, kw_only=True)
class Law(Generic[M]):
    """A law with what it was measured on; (rows,) all."""

    section: str
    title: str
    error: str  # key of its relative error
    measured: F
    by: str  # of the labels: what is held back
    labels: Mapping[str, NDArray[np.str_]]
    fit: Callable[[B], M]  # from the rows that it may see
    predict: Callable[[M], F]

    def result(self, predicted: F) -> LawResult:
        """Predictions of every row."""
        return LawResult(
            section=self.section,
            title=self.title,
            error=self.error,
            measured=self.measured,
            predicted=predicted,
            labels=self.labels,
        )


def fit_held_back(law: Law[M], path: Path, on_fold: OnFold) -> Fitted:
    """The fit to all rows; predictions are of each row by a fit that had not seen its name.

    Raises InputError where there are too few names to hold any back.
    """
    names = law.labels[law.by]
    count = len(np.unique(names))
    if count < 2:
        want = "at least two that can be held back in turn, or nothing tells how a fit does on what it has not seen"
        raise InputError.at(path, f"holds too few of {law.by} for {law.section}", value=count, want=want)
    predicted = np.zeros(len(names))
    splits = list(folds(names, count if count <= FEW else PARTS))
    for i, held in enumerate(splits):
        predicted[held] = law.predict(law.fit(~held))[held]
        on_fold(i + 1, len(splits))
    off = ape(predicted, law.measured)
    result = law.result(predicted)
    errors = {
        result.error: float(off.mean()),
        f"{result.error}_worst": max(float(off[held].mean()) for held in splits),
    }
    return Fitted(
        section=law.section,
        model=law.fit(np.ones(len(names), bool)),
        result=result,
        errors=errors,
        split=SPLIT.format(len(splits), law.by),
    )
