"""What every kind of measurement file gives `fit_board.py`: predictions with their errors, and sections of a fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hw.fitfile import Model

PARTS = 6
FEW = 12  # so many workloads and fewer: each is held back alone
SPLIT = "{} rotating folds by {}; each is predicted by a fit that has not seen it"
OnFold = Callable[[int, int], None]  # folds done, of how many


class Result(Protocol):
    """Predictions beside measurements."""

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
