"""Standardised planes, written once against the array's own namespace: done once per image, not hot."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ._protocol import Array

__all__ = ["standardise"]

TRUNCATE = 4.0
"""Radius of the Gaussian, in sigmas."""

RIDGE = 0.02
"""Added to the mean square distance of the valid pixels, in sigmas squared, where a plane is fitted: a slope that the
few pixels around do not tell is taken as 0, and one that they do tell loses 2 %."""


def standardise(xp: Any, correlate1d: Callable[..., Array], images: Array, mask: Array | None, smooth: float) -> Array:
    """See `Backend.standardise`; `correlate1d` is that of `scipy.ndimage` or of its CuPy twin."""
    values = images.astype(xp.float64)
    valid = xp.isfinite(values)
    if mask is not None:
        valid = valid & mask
    values = xp.where(valid, values, 0.0)
    count = xp.maximum(valid.sum(axis=(1, 2), keepdims=True), 1)
    if smooth > 0.0:
        mean = values.sum(axis=(1, 2), keepdims=True) / count
        values = _fitted_planes(xp, correlate1d, xp.where(valid, values - mean, 0.0), valid, smooth)
        values = xp.where(valid, values + mean, 0.0)
    mean = values.sum(axis=(1, 2), keepdims=True) / count
    centred = xp.where(valid, values - mean, 0.0)
    deviation = xp.sqrt((centred * centred).sum(axis=(1, 2), keepdims=True) / count)
    # A constant image keeps a rounding error of its mean as variance: that is not structure.
    flat = deviation <= 1e-12 * xp.abs(mean)
    scaled = xp.where(flat, 0.0, centred / xp.where(flat, 1.0, deviation))
    return xp.where(valid, scaled, xp.nan).astype(xp.float32)


def _fitted_planes(xp: Any, correlate1d: Callable[..., Array], values: Array, valid: Array, smooth: float) -> Array:
    """Value at each pixel of the plane that fits the valid pixels around it best, weighted by a Gaussian.

    It is normalised convolution of first order (Knutsson & Westin, CVPR 1993, 515).
    A weighted mean alone would be that of a place beside the pixel wherever the pixels around it are missing on one
    side: next to holes the content would seem shifted, by the holes of each image differently.
    """
    radius = int(TRUNCATE * smooth + 0.5)
    at = np.arange(-radius, radius + 1) / smooth
    gauss = np.exp(-0.5 * at * at)
    gauss /= gauss.sum()
    weights = [xp.asarray(gauss * at**power) for power in range(3)]

    def moment(x: Array, power: int, axis: int) -> Array:
        return correlate1d(x, weights[power], axis=axis, mode="constant", cval=0.0)

    across = [moment(valid.astype(xp.float64), power, 2) for power in range(3)]
    n = xp.where(valid, moment(across[0], 0, 1), 1.0)
    y, x = moment(across[0], 1, 1) / n, moment(across[1], 0, 1) / n
    yy = moment(across[0], 2, 1) / n - y * y + RIDGE
    xx = moment(across[2], 0, 1) / n - x * x + RIDGE
    yx = moment(across[1], 1, 1) / n - y * x
    rows = [moment(values, power, 2) for power in range(2)]
    mean = moment(rows[0], 0, 1) / n
    along_y = moment(rows[0], 1, 1) / n - y * mean
    along_x = moment(rows[1], 0, 1) / n - x * mean
    determinant = yy * xx - yx * yx
    slope_y = (xx * along_y - yx * along_x) / determinant
    slope_x = (yy * along_x - yx * along_y) / determinant
    return mean - slope_y * y - slope_x * x
