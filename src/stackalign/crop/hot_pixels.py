"""Single pixels that stand alone far above everything around them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["hot_pixel"]

HOT_RATIO = 20.0
"""A hot pixel exceeds its neighbours and the typical lit pixel by this factor; a focused probe spreads over several."""


def hot_pixel(pattern: NDArray[Any], mask: NDArray[np.bool_] | None) -> tuple[int, int] | None:
    """Find a single pixel that stands alone far above everything around it.

    Parameters
    ----------
    pattern : numpy.ndarray
        (H, W).
    mask : numpy.ndarray, optional
        (H, W) boolean, True = valid.

    Returns
    -------
    tuple of int or None
        (y, x) of the brightest valid pixel if it exceeds `HOT_RATIO` times its brightest neighbour and the median of
        the pixels that are not zero; None otherwise. Single counts on an empty detector are their own median.
    """
    values = pattern
    if mask is not None or pattern.dtype.kind == "f":
        valid = np.isfinite(pattern) if mask is None else np.isfinite(pattern) & mask
        values = np.where(valid, pattern, pattern.dtype.type(0))
    y, x = np.unravel_index(int(values.argmax()), values.shape)
    peak = float(values[y, x])
    around = np.sort(values[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2], axis=None).astype(np.float64)
    if around.size > 1 and peak <= HOT_RATIO * around[-2]:
        return None  # the usual case, decided by nine pixels
    lit = values[values > 0]
    return (int(y), int(x)) if lit.size > 1 and peak > HOT_RATIO * float(np.median(lit)) else None
