"""Means over transforms, as the protocol specifies them: NumPy, slow and readable."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._protocol import LEAST_WEIGHT, Array
from stackalign.backends._spline import real_planes

from .affine_resample import is_inside, positions, taps

__all__ = ["affine_average"]


def affine_average(images: Array, mask: Array | None, matrices: NDArray[np.float64], workers: int, /) -> Array:
    """See `Backend.affine_average`."""
    planes = real_planes(np, images, mask)
    rows = [_average(plane, matrices[k if len(matrices) > 1 else 0]) for k, plane in enumerate(planes)]
    return np.stack(rows)


def _average(plane: NDArray[Any], matrices: NDArray[np.float64]) -> NDArray[Any]:
    total, weight = np.zeros_like(plane), np.zeros_like(plane)
    valid = np.isfinite(plane)
    values = np.where(valid, plane, 0)
    one = plane.dtype.type(1)
    for matrix in matrices:
        qy, qx = positions(matrix, plane.shape)
        y0, y1, fy = taps(qy, plane.shape[0], plane.dtype)
        x0, x1, fx = taps(qx, plane.shape[1], plane.dtype)
        here = is_inside(qy, qx, plane.shape)
        for y, wy in ((y0, one - fy), (y1, fy)):
            for x, wx in ((x0, one - fx), (x1, fx)):
                w = np.where(here & valid[y, x], wy * wx, 0)
                total += w * values[y, x]
                weight += w
    enough = weight >= LEAST_WEIGHT
    mean = total / np.where(enough, weight, one)
    result: NDArray[Any] = np.where(enough & np.isfinite(mean), mean, plane.dtype.type(np.nan))
    return result
