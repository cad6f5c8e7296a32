"""Values of an image between its pixels."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

__all__ = ["masked_blur", "sample"]

FloatArray = NDArray[np.float64]

MARGIN = 16
"""Pixels around the points that a spline must know: what lies beyond weighs less than 0.268**16, 1e-9."""


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
