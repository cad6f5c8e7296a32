"""Resampling with Numba kernels: allocation, element types and threads."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._protocol import Array
from stackalign.backends._spline import fill, real_planes
from stackalign.backends._threads import run
from stackalign.backends.cpu._arguments import read_only

__all__ = ["first_calls", "resample_affine"]


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
    from stackalign_kernels.cpu import affine_resample

    planes = read_only(_coefficients(images, mask, workers) if order == 3 else real_planes(np, images, mask))
    out = np.empty((len(matrices), *shape), planes.dtype)
    largest = np.finfo(planes.dtype).max

    def task(start: int, stop: int) -> None:
        affine_resample.resample(planes, matrices, order, largest, start, stop, out)

    run(task, len(matrices) * -(-shape[0] // affine_resample.BLOCK), workers)
    return out


def _coefficients(images: Array, mask: Array | None, workers: int) -> Array:
    """Cubic B-spline coefficients in the `real_kind` of the images, NaN where a pixel is not valid."""
    from stackalign_kernels.cpu import _spline

    planes = real_planes(np, images, mask)
    n, height, width = planes.shape
    invalid = ~np.isfinite(planes)
    holes = bool(invalid.any())
    source = planes
    if holes:
        source = planes.astype(np.float64)
        fill(source)
    source = read_only(source)
    work, out = np.empty(planes.shape), np.empty_like(planes)
    run(lambda a, b: _spline.along_x(source, a, b, work), -(-n * height // _spline.LANES), workers)
    run(lambda a, b: _spline.along_y(work, a, b, out), n * -(-width // _spline.COLUMNS), workers)
    if holes:
        out[invalid] = np.nan
    return out


def first_calls(dtype: np.dtype[Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls, without `workers`, for which all kernels of this file are compiled for a type of pixels."""
    images, mask = np.ones((1, 8, 8), dtype), np.ones((1, 8, 8), np.bool_)
    holes = mask.copy()
    holes[0, 3, 4] = False
    for valid in (mask, holes):
        yield "resample_affine", (images, valid, np.eye(2, 3)[None], (8, 8), 3)
