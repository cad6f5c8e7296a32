# SPDX-License-Identifier: BSD-3-Clause
"""Launches of the kernel of means of bins."""

import numpy as np

from stackalign.backends._protocol import Array, BinArrays, real_kind

from ._runtime import MAX_PIXELS, THREADS, Runtime, mask_args

__all__ = ["bin_mean"]


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
