"""Resampling with Numba kernels: allocation, element types and threads."""

import numpy as np
from numpy.typing import NDArray

from .._protocol import Array, BinArrays, real_kind
from .._spline import coefficients, fill, real_planes
from .._threads import run

__all__ = ["bin_mean", "resample_affine"]


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
    out = np.empty((len(matrices), *shape), planes.dtype)
    largest = np.finfo(planes.dtype).max

    def task(start: int, stop: int) -> None:
        affine_resample.resample(planes, matrices, order, largest, start, stop, out)

    run(task, len(matrices) * -(-shape[0] // affine_resample.BLOCK), workers)
    return out


def bin_mean(images: Array, mask: Array | None, factors: tuple[int, int], workers: int, /) -> BinArrays:
    """See `Backend.bin_mean`."""
    from stackalign_kernels.cpu import binning

    n, height, width = images.shape
    fy, fx = factors
    result = BinArrays(
        np.empty((n, height // fy, width // fx), real_kind(images.dtype)),
        np.empty((n, height // fy, width // fx), np.int64),
    )
    # Numba wants an array in any case: an unused mask is one byte, repeated by strides.
    valid = np.broadcast_to(np.True_, (1, height, width)) if mask is None else mask

    def task(start: int, stop: int) -> None:
        binning.bin_rows(images, valid, mask is not None, fy, fx, start, stop, *result)

    run(task, n * (height // fy), workers)
    return result
