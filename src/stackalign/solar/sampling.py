"""Values of an image between its pixels."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from stackalign._types import FloatArray

__all__ = ["high_pass", "map_by_rows", "masked_blur", "sample"]


MARGIN = 16
"""Pixels around the points that a spline must know: what lies beyond weighs less than 0.268**16, 1e-9."""

STRIDE = 8
"""Rows from one whose coordinates are computed to the next."""

LEAST_WEIGHT = 0.02
"""Share of a Gaussian's weight on valid pixels from which on their mean is taken for the background."""

STRAIGHT = 1e-3
"""Fourth difference of these, in pixels, up to which a cubic goes between; it is wrong by a twentieth of that."""


def map_by_rows(mapping: Callable[[FloatArray], FloatArray], points: FloatArray) -> FloatArray:
    """Map points (rows, ..., 2) that are evenly spaced along their rows by a mapping that is nearly smooth.

    It is computed for some rows and interpolated between them by cubics, but around what is no cubic, as the limb, and
    what is not known, there it is computed for all.
    """
    n_rows = points.shape[0]
    nodes = np.arange(0, n_rows, STRIDE)
    if len(nodes) < 6:
        return mapping(points)
    known = mapping(points[nodes])
    with np.errstate(invalid="ignore"):
        straight = np.abs(np.diff(known, 4, axis=0)) < STRAIGHT
    curved: NDArray[np.bool_] = ~np.all(straight.reshape(len(nodes) - 4, -1), axis=1)
    rows = np.arange(n_rows)
    first = np.clip(rows // STRIDE - 1, 0, len(nodes) - 4)
    last_window = len(curved) - 1
    exact = curved[np.clip(first - 1, 0, last_window)] | curved[np.minimum(first, last_window)] | (rows > nodes[-1])
    at = rows / STRIDE - first
    result = np.zeros(points.shape)
    for j in range(4):
        others = [k for k in range(4) if k != j]
        weight = np.prod([(at - k) / (j - k) for k in others], axis=0)
        result += weight.reshape(-1, *[1] * (points.ndim - 1)) * known[first + j]
    if exact.any():
        result[exact] = mapping(points[exact])
    return result


def sample(image: NDArray[Any], valid: NDArray[np.bool_], points: ArrayLike, *, order: int = 3) -> FloatArray:
    """Interpolate an image at points.

    Parameters
    ----------
    image : array
        (ny, nx).
    valid : array
        Boolean, True = valid.
    points : array_like
        (..., 2) pixels (x, y); NaN gives NaN.
    order : {1, 3}
        Bilinear, or the cubic spline through the pixels' values.

    Returns
    -------
    numpy.ndarray
        (...) float64; NaN outside the image, and where a bilinear tap of non-zero weight is invalid.
    """
    if order not in (1, 3):
        msg = f"order must be 1 (bilinear) or 3 (cubic spline), got {order}"
        raise ValueError(msg)
    p = np.asarray(points, np.float64)
    x, y = p[..., 0].ravel(), p[..., 1].ravel()
    ny, nx = image.shape
    with np.errstate(invalid="ignore"):
        inside = (x >= 0) & (x <= nx - 1) & (y >= 0) & (y <= ny - 1)
    result = np.full(x.shape, np.nan)
    if not inside.any():
        return result.reshape(p.shape[:-1])
    x, y = x[inside], y[inside]
    box = tuple(slice(max(0, int(v.min()) - MARGIN), min(n, int(v.max()) + MARGIN + 2)) for v, n in ((y, ny), (x, nx)))
    known = valid[box] & np.isfinite(image[box])
    coordinates = np.stack([y - box[0].start, x - box[1].start])
    # A point on the last pixel is interpolated between it and nothing: of weight 0, by "nearest".
    weight = ndimage.map_coordinates(known.astype(np.float64), coordinates, order=1, mode="nearest")
    whole = weight > 1.0 - 1e-6
    values = np.full(len(x), np.nan)
    if whole.any():
        patch = _filled(image[box], known)
        values[whole] = ndimage.map_coordinates(patch, coordinates[:, whole], order=order, mode="mirror")
    result[inside] = values
    return result.reshape(p.shape[:-1])


def _filled(image: NDArray[Any], known: NDArray[np.bool_]) -> FloatArray:
    """The image with each unknown pixel as its nearest known one, so that a spline does not ring at holes."""
    patch = np.where(known, image, 0).astype(np.float64)
    if not known.all():
        nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
        patch = patch[tuple(nearest)]
    return patch


def masked_blur(image: NDArray[Any], valid: NDArray[np.bool_], sigma: tuple[float, float]) -> FloatArray:
    """Gaussian of sigma (y, x) over the valid pixels alone; invalid ones come out as NaN."""
    weight = ndimage.gaussian_filter(valid.astype(np.float64), sigma, mode="constant")
    total = ndimage.gaussian_filter(np.where(valid, image, 0).astype(np.float64), sigma, mode="constant")
    blurred: FloatArray = np.divide(total, weight, out=np.full(image.shape, np.nan), where=valid & (weight > 0))
    return blurred


def high_pass(image: FloatArray, weights: NDArray[np.bool_], sigma: tuple[float, float]) -> FloatArray:
    """The image less the Gaussian mean of sigma (y, x) over its pixels of weight; NaN where there are none near."""
    weight = ndimage.gaussian_filter(weights.astype(np.float64), sigma, mode="constant")
    total = ndimage.gaussian_filter(np.where(weights, image, 0.0), sigma, mode="constant")
    smooth = np.divide(total, weight, out=np.full(image.shape, np.nan), where=weight > LEAST_WEIGHT)
    rest: FloatArray = image - smooth
    return rest
