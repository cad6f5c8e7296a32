"""Resampling with Numba kernels: allocation, element types and threads."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._protocol import Array
from stackalign.backends._spline import coefficients, fill, real_planes
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

    if order == 3:
        from scipy.ndimage import spline_filter1d

        planes = coefficients(np, spline_filter1d, fill, images, mask)
    else:
        planes = real_planes(np, images, mask)
    planes = read_only(planes)
    out = np.empty((len(matrices), *shape), planes.dtype)
    largest = np.finfo(planes.dtype).max

    def task(start: int, stop: int) -> None:
        affine_resample.resample(planes, matrices, order, largest, start, stop, out)

    run(task, len(matrices) * -(-shape[0] // affine_resample.BLOCK), workers)
    return out


def first_calls(dtype: np.dtype[Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls, without `workers`, for which all kernels of this file are compiled for a type of pixels."""
    yield "resample_affine", (np.ones((1, 8, 8), dtype), None, np.eye(2, 3)[None], (8, 8), 1)
