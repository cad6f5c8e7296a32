"""Resampling, as the protocol specifies it: NumPy, slow and readable."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._protocol import Array
from stackalign.backends._spline import coefficients, fill, real_planes

__all__ = ["is_inside", "positions", "resample_affine", "sample_affine", "taps"]


def positions(matrix: NDArray[np.float64], shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the pixels of a reference of this shape lie in the moving image."""
    y = np.arange(shape[0], dtype=np.float64)[:, None]
    x = np.arange(shape[1], dtype=np.float64)[None, :]
    m = matrix
    return (m[0, 0] * y + m[0, 2]) + m[0, 1] * x, (m[1, 0] * y + m[1, 2]) + m[1, 1] * x


def is_inside(qy: NDArray[np.float64], qx: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which positions lie in an image of this shape."""
    within: NDArray[np.bool_] = (qy >= 0) & (qy <= shape[0] - 1) & (qx >= 0) & (qx <= shape[1] - 1)
    return within


def taps(q: NDArray[np.float64], size: int, kind: Any) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """Two indices and the weight of the second; a tap of weight 0 repeats the first."""
    inside = np.clip(q, 0.0, size - 1.0)
    first = np.floor(inside)
    weight = (inside - first).astype(kind)
    low = first.astype(np.int64)
    return low, np.where(weight == 0, low, low + 1), weight


def sample_affine(moving: NDArray[Any], matrix: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[Any]:
    """Sample an image with NaN as its mask at the pixels of a reference of this shape; NaN where it is not valid."""
    qy, qx = positions(matrix, shape)
    y0, y1, wy = taps(qy, moving.shape[0], moving.dtype)
    x0, x1, wx = taps(qx, moving.shape[1], moving.dtype)
    top = moving[y0, x0] + wx * (moving[y0, x1] - moving[y0, x0])
    low = moving[y1, x0] + wx * (moving[y1, x1] - moving[y1, x0])
    sampled: NDArray[Any] = np.where(is_inside(qy, qx, moving.shape), top + wy * (low - top), moving.dtype.type(np.nan))
    return sampled


def _nearest(plane: NDArray[Any], matrix: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[Any]:
    qy, qx = positions(matrix, shape)
    inside = is_inside(qy, qx, plane.shape)
    y, x = (np.where(inside, np.floor(q + 0.5), 0.0).astype(np.int64) for q in (qy, qx))
    return np.where(inside, plane[y, x], plane.dtype.type(np.nan))


def _cubic_taps(q: NDArray[np.float64], size: int, kind: Any) -> list[tuple[NDArray[np.int64], NDArray[Any]]]:
    """Mirrored index and weight of the four taps."""
    inside = np.clip(q, 0.0, size - 1.0)
    first = np.floor(inside)
    f = (inside - first).astype(kind)
    g = 1 - f
    weights = (g * g * g / 6, (f * f * (f - 2) * 3 + 4) / 6, (g * g * (g - 2) * 3 + 4) / 6, f * f * f / 6)
    period = max(2 * size - 2, 1)
    indices = [np.abs(first.astype(np.int64) + offset) % period for offset in (-1, 0, 1, 2)]
    return [(np.where(i > size - 1, period - i, i), w.astype(kind)) for i, w in zip(indices, weights, strict=True)]


def _cubic(plane: NDArray[Any], matrix: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[Any]:
    """Sum over the taps of coefficients with NaN as their mask."""
    qy, qx = positions(matrix, shape)
    result = np.zeros(shape, plane.dtype)
    for y, wy in _cubic_taps(qy, plane.shape[0], plane.dtype):
        row = np.zeros(shape, plane.dtype)
        for x, wx in _cubic_taps(qx, plane.shape[1], plane.dtype):
            row = row + np.where((wx == 0) | (wy == 0), 0, wx * plane[y, x])
        result = result + wy * row
    return np.where(is_inside(qy, qx, plane.shape), result, plane.dtype.type(np.nan))


def resample_affine(
    images: Array,
    mask: Array | None,
    matrices: NDArray[np.float64],
    shape: tuple[int, int],
    order: int,
    workers: int,
    /,
) -> Array:
    """See `Backend.resample_affine`."""
    from scipy.ndimage import spline_filter1d

    planes = coefficients(np, spline_filter1d, fill, images, mask) if order == 3 else real_planes(np, images, mask)
    sample = {0: _nearest, 1: sample_affine, 3: _cubic}[order]
    out = np.empty((len(matrices), *shape), planes.dtype)
    with np.errstate(invalid="ignore", over="ignore"):  # infinite pixels
        for k, matrix in enumerate(matrices):
            out[k] = sample(planes[k if len(planes) > 1 else 0], matrix, shape)
    out[~np.isfinite(out)] = np.nan
    return out
