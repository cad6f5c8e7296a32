# SPDX-License-Identifier: BSD-3-Clause
"""Launches of the kernel of statistics over the frames of a stack."""

import numpy as np

from stackalign.backends._protocol import Array, StackSums

from ._runtime import THREADS, Runtime, mask_args

__all__ = ["stack_statistics"]


def stack_statistics(rt: Runtime, stack: Array, mask: Array | None, workers: int) -> StackSums:
    """See `Backend.stack_statistics`."""
    n, height, width = stack.shape
    pixels = height * width
    sums = StackSums(
        count=rt.xp.empty((height, width), np.int64),
        minimum=rt.xp.empty((height, width), np.float64),
        maximum=rt.xp.empty((height, width), np.float64),
        mean=rt.xp.empty((height, width), np.float64),
        m2=rt.xp.empty((height, width), np.float64),
    )
    kernel = rt.get_function("statistics", "stack_statistics", stack.dtype)
    kernel(
        (-(-pixels // THREADS),),
        (THREADS,),
        (stack, *mask_args(rt, mask), np.int64(n), np.int64(pixels), *sums),
    )
    return sums
