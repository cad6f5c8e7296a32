# SPDX-License-Identifier: BSD-3-Clause
"""Launches of the resampling kernels, for CuPy on a GPU and for NumPy where kernels run on the host."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._protocol import Array, real_kind
from stackalign.backends._spline import coefficients

from ._runtime import MAX_GRID_Y, THREADS, Runtime, mask_args

__all__ = ["resample_affine"]

KERNELS = "affine_resample"
WARPS = 8


def resample_affine(
    rt: Runtime,
    images: Array,
    mask: Array | None,
    matrices: NDArray[np.float64],
    shape: tuple[int, int],
    order: int,
    workers: int,
) -> Array:
    """See `Backend.resample_affine`."""
    kind = np.dtype(real_kind(images.dtype))
    if order == 3:
        planes = coefficients(rt.xp, rt.ndimage.spline_filter1d, lambda p: _fill(rt, p, kind), images, mask)
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
