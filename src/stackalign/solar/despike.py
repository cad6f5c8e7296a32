"""Pixels that are no measurement: hits of cosmic rays, hot pixels, columns and rows without data."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stackalign._types import FloatArray

__all__ = ["find_dead_lines", "find_spikes"]


LIMIT = 8.0
"""Robust deviations from the median of the 3 x 3 neighbourhood: one pixel in 1e15 of Gaussian noise."""

STANDING = 2.5
"""Times the range of the middle half of its neighbours by which a spike stands out."""

LOCAL = 5
"""Side of the window in which the deviation is measured where structure is fine, by a median."""


def find_spikes(image: FloatArray) -> NDArray[np.bool_]:
    """Find pixels that stand alone, True = spike.

    A pixel is one when it is farther from the median of its valid neighbours than `LIMIT` times the deviation of such
    differences, that of the whole image or of the surroundings, whichever is larger: the crest of a loop and the edge
    of a bright point have neighbours that differ as much.

    Parameters
    ----------
    image : numpy.ndarray
        (ny, nx), NaN is invalid.
    """
    valid = np.isfinite(image)
    if valid.sum() < 100:
        return np.zeros(image.shape, np.bool_)
    filled = np.where(valid, image, np.median(image[valid]))
    difference = np.where(valid, filled - ndimage.median_filter(filled, 3, mode="nearest"), 0.0)
    size = np.abs(difference)
    known = size[valid]
    overall = 1.4826 * float(np.median(known))
    if not overall > 0:
        # More than half of the pixels are the median of their neighbours: an image of whole numbers, or without noise.
        overall = 1.2533 * float(np.mean(np.minimum(known, np.quantile(known, 0.9))))
    if not overall > 0:
        return np.zeros(image.shape, np.bool_)
    spike: NDArray[np.bool_] = valid & (size > LIMIT * overall)
    if not spike.any():
        return spike
    y, x = np.nonzero(spike)
    half = LOCAL // 2
    around = np.pad(np.where(valid, size, np.nan), half, constant_values=np.nan)
    shifts = [(i, j) for i in range(LOCAL) for j in range(LOCAL) if (i, j) != (half, half)]
    neighbours = np.stack([around[y + i, x + j] for i, j in shifts])
    known_there = np.isfinite(neighbours).any(axis=0)
    local = np.zeros(len(y))
    local[known_there] = 1.4826 * np.nanmedian(neighbours[:, known_there], axis=0)
    spike[y, x] = size[y, x] > LIMIT * local
    # On a smooth crest the median is that of its flanks, which differ among themselves by as much.
    if not spike.any():
        return spike
    y, x = np.nonzero(spike)
    beside = np.pad(np.where(valid, image, np.nan), 1, constant_values=np.nan)
    eight = np.stack([beside[y + i, x + j] for i in range(3) for j in range(3) if (i, j) != (1, 1)])
    some = np.isfinite(eight).sum(axis=0) >= 3
    spike[y[~some], x[~some]] = False
    if not some.any():
        return spike
    low, high = np.nanpercentile(eight[:, some], (25, 75), axis=0)
    spike[y[some], x[some]] = size[y[some], x[some]] > STANDING * (high - low)
    return spike


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
