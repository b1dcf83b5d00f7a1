"""What every fit of board parameters shares: non-negative least squares on relative errors, folds.

The laws themselves are in the files `fit_*.py` beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

F = NDArray[np.float64]
B = NDArray[np.bool_]
SOFT = 0.01  # relative errors below this all count alike: there lies the meters' noise
ROUNDS = 12
SETTLED = 1e-4  # of the largest coefficient


def nnls(a: F, b: F) -> F:
    """The c >= 0 that minimises `|a c - b|`: (rows, k), (rows,) -> (k,). Lawson and Hanson's active set, 1974.

    Columns are scaled to length 1 first; k is small, so the passive set is solved by its normal equations. Our own,
    since `hw` leans on NumPy alone.
    """
    scale = np.sqrt(np.einsum("ij,ij->j", a, a))
    scale[scale == 0.0] = 1.0
    gram, target = (a / scale).T @ (a / scale), (a / scale).T @ b
    k = len(target)
    c = np.zeros(k)
    passive = np.zeros(k, bool)
    tiny = 1e-10 * max(1.0, float(np.abs(target).max()))
    for _ in range(10 * k):
        gradient = target - gram @ c
        gradient[passive] = -np.inf
        best = int(np.argmax(gradient))
        if gradient[best] <= tiny:
            break
        passive[best] = True
        while True:
            trial = np.zeros(k)
            trial[passive] = np.linalg.lstsq(gram[np.ix_(passive, passive)], target[passive], rcond=None)[0]
            negative = passive & (trial <= 0.0)
            if not negative.any():
                break
            step = (c[negative] / (c[negative] - trial[negative] + 1e-300)).min()
            c += step * (trial - c)
            passive &= c > 1e-12
            c[~passive] = 0.0
        c = trial
    unscaled: F = c / scale
    return unscaled


def fit_relative(terms: F, watts: F, weights: F | None = None) -> F:
    """Non-negative coefficients (k,) of `terms` (rows, k) that keep mean |prediction - watts| / watts low.

    Absolute relative errors by iteratively reweighted least squares: a few odd rows do not pull the rest along.
    """
    base = 1.0 / watts if weights is None else weights / watts
    scale = base
    c = np.zeros(terms.shape[1])
    for _ in range(ROUNDS):
        before, c = c, nnls(terms * scale[:, None], watts * scale)
        if np.abs(c - before).max() <= SETTLED * np.abs(c).max():
            break
        off = np.abs(terms @ c - watts) / watts
        scale = base / np.sqrt(np.maximum(off, SOFT))
    return c


def ape(predicted: F, measured: F) -> F:
    """Absolute relative errors, (rows,)."""
    return np.abs(predicted - measured) / measured


def folds(names: NDArray[np.str_], parts: int, keep: Sequence[str] = ()) -> Iterator[B]:
    """Rotating splits by name: masks (rows,) of what is held back, each name but those in `keep` just once.

    Names are dealt out in an order that their spelling decides and that is not sorted, so neighbours in the
    alphabet (variants of one program, as a rule) do not all fall together.
    """
    rng = np.random.default_rng(0)
    dealt = rng.permutation([n for n in np.unique(names) if n not in keep])
    for part in range(min(parts, len(dealt))):
        yield np.isin(names, dealt[part::parts])
