"""Arrays as the simulator takes them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def f32(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """In single precision; a number is one board's."""
    return np.atleast_1d(np.asarray(values, np.float32))
