# SPDX-License-Identifier: BSD-3-Clause
"""Launches of the kernel of second moments."""

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._protocol import Array
from stackalign.backends.cuda._runtime import THREADS, Runtime, mask_args

__all__ = ["second_moments"]


def second_moments(
    rt: Runtime, patterns: Array, mask: Array | None, centers: NDArray[np.float64], workers: int, /
) -> Array:
    """See `Backend.second_moments`."""
    n, height, width = patterns.shape
    out = rt.xp.empty((n, 4), np.float64)
    kernel = rt.get_function("moments", "second_moments", patterns.dtype)
    kernel(
        (min(n, rt.blocks),),
        (THREADS,),
        (
            patterns,
            *mask_args(rt, mask),
            np.int64(n),
            np.int32(height),
            np.int32(width),
            rt.xp.array(centers, np.float64),
            out,
        ),
    )
    return out
