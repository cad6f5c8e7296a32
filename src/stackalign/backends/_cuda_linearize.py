"""Launches of the linearization kernels, for CuPy on a GPU and for NumPy where kernels run on the host."""

import numpy as np
from numpy.typing import NDArray

from ._cuda_correlate import check_size
from ._cuda_ops import Runtime
from ._protocol import LINEAR_SUMS, Array

__all__ = ["linearize_affine"]

KERNELS = "affine_linearize"
TILE = 32
"""Side of the tiles into which an image is divided where the caller wants one sum of all."""
WARPS = 4
GROUPS = 6
MAX_PROBLEMS = 65535


def linearize_affine(
    rt: Runtime,
    reference: Array,
    moving: Array,
    slopes: Array | None,
    matrices: NDArray[np.float64],
    tile: int,
    workers: int,
) -> Array:
    """See `Backend.linearize_affine`."""
    check_size(reference, moving)
    problems = len(matrices)
    height, width = map(int, reference.shape[1:])
    side = tile or TILE
    across = -(-width // side)
    n_tiles = across * -(-height // side)
    partial = rt.xp.empty((problems, n_tiles, LINEAR_SUMS), np.float64)
    kernel = rt.get_function(KERNELS, "affine_linearize_tiles", None)
    on_device = rt.xp.asarray(np.ascontiguousarray(matrices))
    for first in range(0, problems, MAX_PROBLEMS):
        some = slice(first, min(first + MAX_PROBLEMS, problems))
        kernel(
            (-(-n_tiles // WARPS), some.stop - first),
            (32 * WARPS,),
            (
                reference[some],
                moving[some],
                rt.xp.empty(1, np.float32) if slopes is None else slopes[some],  # CuPy passes no null pointers
                np.int32(slopes is not None),
                *map(np.int32, (height, width, *moving.shape[1:])),
                on_device[some],
                np.int32(side),
                np.int32(across),
                np.int32(n_tiles),
                partial[some],
            ),
        )
    if tile:
        return partial
    total = rt.xp.empty((problems, 1, LINEAR_SUMS), np.float64)
    finish = rt.get_function(KERNELS, "affine_linearize_finish", None)
    finish((problems,), (LINEAR_SUMS * GROUPS,), (partial, np.int32(n_tiles), total))
    return total
