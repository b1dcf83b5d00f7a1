"""Bounds on arrays, fast: NumPy's maximum and minimum are slow against a scalar and quick against an array."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.floating[Any])


@lru_cache(maxsize=256)
def filled(value: float, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An array of this value, not to be written to; the same one each time."""
    array = np.full(shape, value, np.float32)
    array.setflags(write=False)
    return array


def at_least(x: NDArray[T], low: float, out: NDArray[T] | None = None) -> NDArray[T]:
    """`max(x, low)` of any shape; a NaN stays one. The bound is rounded to single precision."""
    bounded: NDArray[T] = np.maximum(x, filled(low, x.shape), out=out)
    return bounded


def at_most(x: NDArray[T], high: float, out: NDArray[T] | None = None) -> NDArray[T]:
    """`min(x, high)` likewise."""
    bounded: NDArray[T] = np.minimum(x, filled(high, x.shape), out=out)
    return bounded
