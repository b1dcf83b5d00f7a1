"""Noise that is counted off: a Weyl sequence through an integer hash. It costs no memory, and a copy hears the same."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

F = NDArray[np.float32]
U = NDArray[np.uint32]

STEP = np.array(0x9E3779B9, np.uint32)  # what a count goes up by: the golden ratio
# the integer hash "lowbias32" (C. Wellons, hash-prospector): shift, multiply, shift, multiply, shift
_MIXING = tuple(
    (np.array(shift, np.uint32), np.array(factor, np.uint32)) for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B))
)
_BITS = 12  # of the 32: a normal number; the rest: a uniform one
_LAST_SHIFT, _TOP, _REST = (np.array(k, np.uint32) for k in (16, 32 - _BITS, 2 ** (32 - _BITS) - 1))
_UNIFORM_STEP = np.array(2.0 ** -(32 - _BITS), np.float32)
# the normal distribution in 4096 equally likely steps, from -3.7 to 3.7: a look-up a draw
_NORMALS = np.array([NormalDist().inv_cdf((k + 0.5) / 2**_BITS) for k in range(2**_BITS)], dtype=np.float32)


def mixed(count: U) -> U:
    """32 even bits from each count, any shape."""
    x = count
    for shift, factor in _MIXING:
        fresh = x >> shift
        fresh ^= x
        fresh *= factor
        x = fresh
    x ^= x >> _LAST_SHIFT
    return x


def normal(bits: U) -> F:
    """A standard normal number from the top bits of each."""
    found: NDArray[Any] = _NORMALS.take((bits >> _TOP).astype(np.intp), mode="clip")
    return found


def uniform(bits: U) -> F:
    """A number from 0 to below 1 from the other bits of each."""
    share = (bits & _REST).astype(np.float32)
    share *= _UNIFORM_STEP
    return share
