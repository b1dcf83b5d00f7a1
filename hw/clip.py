"""Numbers and bounds for arrays, fast.

NumPy reckons with an array without dimensions faster than with a Python number or an `np.float32`, and `np.clip` takes
longer to find its ufunc than the ufunc takes to bound a thousand numbers on both sides.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

try:
    from numpy._core import umath
except ImportError:  # before NumPy 2
    from numpy.core import umath  # type: ignore[no-redef]

T = TypeVar("T", bound=np.number[Any])
Bound = NDArray[np.number[Any]]

_clip = umath.clip  # type: ignore[attr-defined]


def constant(value: float) -> NDArray[np.float32]:
    """A number as an array without dimensions."""
    return np.array(value, np.float32)


ZERO, HALF, ONE = constant(0.0), constant(0.5), constant(1.0)
_LOWEST, _HIGHEST = constant(-np.inf), constant(np.inf)


def at_least(x: NDArray[T], low: Bound, out: NDArray[T] | None = None) -> NDArray[T]:
    """`max(x, low)` of any shape; a NaN stays one."""
    bounded: NDArray[T] = _clip(x, low, _HIGHEST, out)
    return bounded


def at_most(x: NDArray[T], high: Bound, out: NDArray[T] | None = None) -> NDArray[T]:
    """`min(x, high)` likewise."""
    bounded: NDArray[T] = _clip(x, _LOWEST, high, out)
    return bounded


def within(x: NDArray[T], low: Bound, high: Bound, out: NDArray[T] | None = None) -> NDArray[T]:
    """Both, in one pass."""
    bounded: NDArray[T] = _clip(x, low, high, out)
    return bounded
