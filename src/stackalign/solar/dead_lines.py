"""Columns and rows without data: lost telemetry that was filled with one number."""

import numpy as np
from numpy.typing import NDArray

from stackalign._types import FloatArray

__all__ = ["find_dead_lines"]


def find_dead_lines(image: FloatArray) -> NDArray[np.bool_]:
    """Find columns and rows that hold one number from end to end in an image that varies, True = dead.

    So lost telemetry appears where it is filled with zeros instead of NaN.

    Parameters
    ----------
    image : numpy.ndarray
        (ny, nx), NaN is invalid.
    """
    dead = np.zeros(image.shape, np.bool_)
    valid = np.isfinite(image)
    for axis in (0, 1):
        low = np.where(valid, image, np.inf).min(axis=axis, keepdims=True)
        high = np.where(valid, image, -np.inf).max(axis=axis, keepdims=True)
        dead |= (low == high) & (valid.sum(axis=axis, keepdims=True) > 1)
    return dead & valid
