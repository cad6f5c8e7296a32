"""The linearization sums, written out in float64: the specification of the kernels."""

import numpy as np
from numpy.typing import NDArray

from ._protocol import LINEAR_SUMS, Array

__all__ = ["linearize_affine"]


def linearize_affine(
    reference: Array, moving: Array, slopes: Array | None, matrices: NDArray[np.float64], tile: int, workers: int, /
) -> Array:
    """See `Backend.linearize_affine`."""
    height, width = reference.shape[1:]
    rows, columns = (tile, tile) if tile else (height, width)
    found = []
    for k, (r, image, m) in enumerate(zip(reference, moving, matrices, strict=True)):
        v, gy, gx = _sampled(image.astype(np.float64), m, (height, width))
        if slopes is not None:
            gy, gx = slopes[k].astype(np.float64)
        valid = np.isfinite(r) & np.isfinite(v) & np.isfinite(gy) & np.isfinite(gx)
        y = np.arange(height)[:, None] - 0.5 * (height - 1)
        x = np.arange(width)[None, :] - 0.5 * (width - 1)
        one = np.ones_like(v)
        linear = [gy * y, gy * x, gy, gx * y, gx * x, gx]
        powers = [y * y * one, y * x, y * one, x * x * one, x * one, one]
        products = [g * p for g in (gy * gy, gy * gx, gx * gx) for p in powers]
        terms = [one, r, v, r * r, v * v, r * v, *linear, *(r * j for j in linear), *(v * j for j in linear), *products]
        masked = [np.where(valid, term, 0.0) for term in terms]
        assert len(masked) == LINEAR_SUMS
        found.append(
            [
                [term[top : top + rows, left : left + columns].sum() for term in masked]
                for top in range(0, height, rows)
                for left in range(0, width, columns)
            ]
        )
    return np.array(found, np.float64)


def _sampled(
    image: NDArray[np.float64], m: NDArray[np.float64], shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Samples, NaN where not valid, and their derivatives along the axes of the moving image."""
    y, x = np.arange(shape[0], dtype=np.float64)[:, None], np.arange(shape[1], dtype=np.float64)[None, :]
    qy = (m[0, 0] * y + m[0, 2]) + m[0, 1] * x
    qx = (m[1, 0] * y + m[1, 2]) + m[1, 1] * x
    last = np.array(image.shape) - 1
    inside = (qy >= 0) & (qy <= last[0]) & (qx >= 0) & (qx <= last[1])
    y0, y1, cy, wy = _axis(qy, int(last[0]))
    x0, x1, cx, wx = _axis(qx, int(last[1]))
    cy1, cx1 = np.minimum(cy + 1, last[0]), np.minimum(cx + 1, last[1])

    def along_x(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        first: NDArray[np.float64] = image[rows, x0]
        return first + wx * (image[rows, x1] - first)

    def slope_x(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        slope: NDArray[np.float64] = np.nan_to_num(image[rows, cx1] - image[rows, cx])
        return slope

    upper, lower = along_x(y0), along_x(y1)
    v = np.where(inside, upper + wy * (lower - upper), np.nan)
    left, right = slope_x(y0), slope_x(y1)
    return v, np.nan_to_num(along_x(cy1) - along_x(cy)), left + wy * (right - left)


def _axis(
    q: NDArray[np.float64], last: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Both taps, the first pixel of the cell for the derivative, and the weight, which is rounded to float32."""
    clipped = np.clip(q, 0.0, last)
    first = np.floor(clipped)
    weight = (clipped - first).astype(np.float32).astype(np.float64)
    low = first.astype(np.int64)
    return low, np.where(weight == 0, low, low + 1), np.minimum(low, max(last - 1, 0)), weight
