"""Standardised planes: the specification in array expressions, and what its kernels share."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._protocol import Array

__all__ = ["FLAT_DEVIATION", "RIDGE", "factors", "half_weights", "standardise"]

TRUNCATE = 4.0
"""Radius of the Gaussian, in sigmas."""

RIDGE = 0.02
"""Added to the mean square distance of the valid pixels, in sigmas squared, where a plane is fitted: a slope that the
few pixels around do not tell is taken as 0, and one that they do tell loses 2 %."""

FLAT_DEVIATION = 1e-12
"""A constant image keeps a rounding error of its mean as deviation, relative to it: that is not structure."""


def half_weights(smooth: float, group: int = 1) -> tuple[int, NDArray[np.float64]]:
    """Radius, and weights (3, 1 + n) at distances 0, 1, 2, ..., n zero-filled to a multiple of `group`.

    They are the Gaussian's times the powers 0, 1 and 2 of the distance in sigmas.
    """
    radius = int(TRUNCATE * smooth + 0.5)
    at = np.arange(radius + 1) / smooth
    gauss = np.exp(-0.5 * at * at)
    gauss /= 2.0 * gauss.sum() - gauss[0]
    weights = np.zeros((3, 1 + -(-radius // group) * group))
    weights[:, : radius + 1] = gauss * at ** np.arange(3)[:, None]
    return radius, weights


def factors(xp: Any, moments: Array) -> Array:
    """Return what scales images with moments (B, 3), pixels, mean and deviation, to a deviation of 1 or 0."""
    mean, deviation = moments[:, 1], moments[:, 2]
    flat = deviation <= FLAT_DEVIATION * xp.abs(mean)
    return xp.where(flat, 0.0, 1.0 / xp.where(flat, 1.0, deviation))


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
    flat = deviation <= FLAT_DEVIATION * xp.abs(mean)
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
