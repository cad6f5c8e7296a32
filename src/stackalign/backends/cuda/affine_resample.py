# SPDX-License-Identifier: BSD-3-Clause
"""Launches of the resampling kernels, for CuPy on a GPU and for NumPy where kernels run on the host."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._runtime import MAX_PIXELS, THREADS, Runtime, mask_args
from .._protocol import Array, BinArrays, real_kind
from .._spline import coefficients

__all__ = ["bin_mean", "resample_affine"]

KERNELS = "affine_resample"
WARPS = 8
MAX_GRID_Y = 65535


def resample_affine(
    rt: Runtime,
    spline_filter1d: Callable[..., Array],
    images: Array,
    mask: Array | None,
    matrices: NDArray[np.float64],
    shape: tuple[int, int],
    order: int,
    workers: int,
) -> Array:
    """See `Backend.resample_affine`; `spline_filter1d` is that of CuPy, or of SciPy on the host."""
    kind = np.dtype(real_kind(images.dtype))
    if order == 3:
        planes = coefficients(rt.xp, spline_filter1d, lambda p: _fill(rt, p, kind), images, mask)
        source: tuple[object, ...] = (planes,)
    else:
        planes = images
        source = (images, *mask_args(rt, mask))
    n, height, width = planes.shape
    out = rt.xp.empty((len(matrices), *shape), kind)
    entry = {0: "resample_nearest", 1: "resample_linear", 3: "resample_cubic"}[order]
    kernel = rt.get_function(KERNELS, entry, planes.dtype)
    on_device = rt.xp.asarray(matrices)
    for first in range(0, len(matrices), MAX_GRID_Y):
        kernel(
            (-(-shape[0] // WARPS) * -(-shape[1] // 32), min(MAX_GRID_Y, len(matrices) - first)),
            (32 * WARPS,),
            (
                *source,
                np.int64(n),
                np.int32(height),
                np.int32(width),
                on_device,
                np.int64(first),
                np.int32(shape[0]),
                np.int32(shape[1]),
                out,
            ),
        )
    return out


def _fill(rt: Runtime, planes: Array, kind: np.dtype[Any]) -> None:
    """Fill float64 planes in place: along rows, then along columns, then with 0.

    Of `kind` are the results of the call: its module is the one that is compiled anyway.
    """
    n, height, width = map(int, planes.shape)
    kernel = rt.get_function(KERNELS, "resample_fill", kind)
    for lines, between, length, step in ((height, width, width, 1), (width, 1, height, width)):
        kernel(
            (-(-n * lines // THREADS),),
            (THREADS,),
            (
                planes,
                np.int64(n),
                np.int64(height * width),
                np.int32(lines),
                np.int64(between),
                np.int32(length),
                np.int64(step),
            ),
        )
    planes[~rt.xp.isfinite(planes)] = 0.0


def bin_mean(rt: Runtime, images: Array, mask: Array | None, factors: tuple[int, int], workers: int) -> BinArrays:
    """See `Backend.bin_mean`."""
    n, height, width = images.shape
    shape = (n, height // factors[0], width // factors[1])
    result = BinArrays(rt.xp.empty(shape, real_kind(images.dtype)), rt.xp.empty(shape, np.int64))
    bins = result.means.size
    if bins > MAX_PIXELS * THREADS:
        msg = f"at most {MAX_PIXELS * THREADS} bins fit one call on a GPU, got {bins}; pass fewer images at a time"
        raise ValueError(msg)
    kernel = rt.get_function("binning", "bin_mean", images.dtype)
    kernel(
        (-(-bins // THREADS),),
        (THREADS,),
        (
            images,
            *mask_args(rt, mask),
            np.int64(bins),
            np.int32(height),
            np.int32(width),
            *map(np.int32, factors),
            *result,
        ),
    )
    return result
