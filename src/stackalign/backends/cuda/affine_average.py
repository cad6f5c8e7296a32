# SPDX-License-Identifier: BSD-3-Clause
"""Launches of the kernel of means over transforms, for CuPy on a GPU and for NumPy where kernels run on the host."""

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._protocol import LEAST_WEIGHT, Array, real_kind

from ._runtime import MAX_GRID_Y, Runtime, mask_args

__all__ = ["affine_average"]

WARPS = 8


def affine_average(
    rt: Runtime, images: Array, mask: Array | None, matrices: NDArray[np.float64], workers: int
) -> Array:
    """See `Backend.affine_average`."""
    kind = np.dtype(real_kind(images.dtype))
    n, height, width = images.shape
    out = rt.xp.empty((n, height, width), kind)
    kernel = rt.get_function("affine_average", "affine_average", images.dtype)
    on_device = rt.xp.asarray(matrices)
    for first in range(0, n, MAX_GRID_Y):
        kernel(
            (-(-height // WARPS) * -(-width // 32), min(MAX_GRID_Y, n - first)),
            (32 * WARPS,),
            (
                images,
                *mask_args(rt, mask),
                np.int64(first),
                np.int32(height),
                np.int32(width),
                on_device,
                np.int32(matrices.shape[1]),
                np.int32(len(matrices) == 1),
                kind.type(LEAST_WEIGHT),
                out,
            ),
        )
    return out
