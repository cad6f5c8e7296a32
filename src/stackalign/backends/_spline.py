"""Planes that are interpolated, written once against the array's own namespace where that is possible."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._protocol import Array, real_kind

__all__ = ["coefficients", "fill", "real_planes"]


def real_planes(xp: Any, images: Array, mask: Array | None) -> Array:
    """Images in their `real_kind` with NaN where the mask is False; the images themselves where nothing changes."""
    planes = images.astype(real_kind(images.dtype), copy=False)
    return planes if mask is None else xp.where(mask, planes, planes.dtype.type(np.nan))


def _fill_lines(lines: NDArray[np.float64]) -> None:
    valid = np.isfinite(lines)
    for k in np.flatnonzero(valid.any(axis=1) & ~valid.all(axis=1)):
        holes = np.flatnonzero(~valid[k])
        known = np.flatnonzero(valid[k])
        lines[k, holes] = np.interp(holes, known, lines[k, known])


def fill(planes: NDArray[np.float64]) -> None:
    """Fill what is not finite in host planes as the protocol says under "Resampled values"."""
    for plane in planes:
        _fill_lines(plane)
        _fill_lines(plane.T)
        if not np.isfinite(plane[0, 0]):
            plane[...] = 0.0


def coefficients(
    xp: Any,
    spline_filter1d: Callable[..., Array],
    fill_holes: Callable[[Array], None],
    images: Array,
    mask: Array | None,
) -> Array:
    """Cubic B-spline coefficients of images in their `real_kind`, NaN where a pixel is not valid.

    `spline_filter1d` is that of `scipy.ndimage` or of its CuPy twin, `fill_holes` fills float64 planes in place.
    """
    planes = real_planes(xp, images, mask)
    invalid = ~xp.isfinite(planes)
    work = planes.astype(xp.float64)
    if bool(invalid.any()):
        fill_holes(work)
    for axis in (2, 1):
        if work.shape[axis] > 1:
            work = spline_filter1d(work, 3, axis=axis, output=xp.float64, mode="mirror")
    return xp.where(invalid, np.nan, work).astype(planes.dtype)
