"""What every kind of measurement file gives `fit_board.py`: predictions with their errors, and sections of a fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hw.fitfile import Model
from hw.simulated.fit import F

PARTS = 6
FEW = 12  # so many workloads and fewer: each is held back alone
SPLIT = "{} rotating folds by {}; each is predicted by a fit that has not seen it"
OnFold = Callable[[int, int], None]  # folds done, of how many


@dataclass(frozen=True, kw_only=True)
class Group:
    """One line of a table of errors."""

    by: str
    value: str
    rows: int
    errors: Mapping[str, float]


class Result(Protocol):
    """Predictions beside measurements."""

    @property
    def section(self) -> str:
        """Of the fit file."""

    @property
    def title(self) -> str:
        """What was predicted."""

    @property
    def sentence(self) -> str:
        """How well, in words."""

    @property
    def headings(self) -> Mapping[str, str]:
        """Errors of a group, and what a table calls them; `_k` are kelvins, the others fractions."""

    @property
    def groups(self) -> Sequence[Group]:
        """The errors over all rows, and by what tells rows apart."""

    @property
    def summary(self) -> Mapping[str, float | int]:
        """The keys of the JSON file; `rows` is one of them."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """One section of a fit: its parameters, predictions of what each fold had not seen, and their errors."""

    section: str
    model: Model
    result: Result
    errors: dict[str, float]
    split: str  # how workloads were held back


@dataclass(frozen=True, kw_only=True)
class Task:
    """One kind of measurement file of a board: which sections it gives, and how it is fitted and judged."""

    sections: tuple[str, ...]
    fit: Callable[[Path, OnFold], list[Fitted]]
    judge: Callable[[Path, Mapping[str, Model]], list[Result]]  # the models of `sections`


def grouped(off: Mapping[str, F], labels: Mapping[str, NDArray[np.str_]]) -> list[Group]:
    """Means of errors, (rows,) each, over all rows and by each label's values, numbers by size and before words."""
    every = np.ones(len(next(iter(off.values()))), bool)
    groups = [("all", "", every)]
    groups += [(by, str(v), names == v) for by, names in labels.items() for v in sorted(np.unique(names), key=_natural)]
    return [
        Group(by=by, value=value, rows=int(rows.sum()), errors={e: float(x[rows].mean()) for e, x in off.items()})
        for by, value, rows in groups
    ]


def _natural(label: str) -> tuple[float, str]:
    try:
        return float(label), ""
    except ValueError:
        return float("inf"), str(label)
