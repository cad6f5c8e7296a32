# SPDX-License-Identifier: BSD-3-Clause
"""Launches of the kernel that copies windows."""

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._protocol import Array, WindowArrays, sum_kind

from ._runtime import THREADS, Runtime, mask_args

__all__ = ["crop_windows"]


def crop_windows(
    rt: Runtime,
    patterns: Array,
    mask: Array | None,
    corners: NDArray[np.int64],
    shape: tuple[int, int],
    out: Array | None,
    workers: int,
) -> WindowArrays:
    """See `Backend.crop_windows`."""
    n, height, width = patterns.shape
    windows = rt.xp.empty((n, *shape), patterns.dtype) if out is None else out
    sums = rt.xp.empty(n, sum_kind(patterns.dtype))
    kernel = rt.get_function("crop", "crop_windows", patterns.dtype)
    kernel(
        (min(n, rt.blocks),),
        (THREADS,),
        (
            patterns,
            *mask_args(rt, mask),
            np.int64(n),
            np.int32(height),
            np.int32(width),
            rt.xp.array(corners, np.int64),
            np.int32(shape[0]),
            np.int32(shape[1]),
            windows,
            sums,
        ),
    )
    return WindowArrays(windows, sums)
