# SPDX-License-Identifier: BSD-3-Clause
"""Launches of the linearization kernels, for CuPy on a GPU and for NumPy where kernels run on the host."""

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._grid import grid_of, on_grid, to_integers
from stackalign.backends._protocol import LINEAR_SUMS, Array
from stackalign.backends._tiles import tiling

from ._runtime import MAX_GRID_Y, Runtime
from .affine_ncc import MAX_PARTIAL_BYTES, check_size

__all__ = ["linearize_affine"]

KERNELS = "affine_linearize"
UNIT = 32
"""Rows and columns of the reference that a warp takes."""
WARPS = 4


def linearize_affine(
    rt: Runtime,
    reference: Array,
    moving: Array,
    slopes: Array | None,
    matrices: NDArray[np.float64],
    tile: int,
    diagonal: bool,
    workers: int,
) -> Array:
    """See `Backend.linearize_affine`."""
    check_size(reference, moving)
    problems, height, width = map(int, reference.shape)
    # A tile need not be larger than the image; what it is cut into then has no empty parts.
    tiles = tiling((height, width), min(tile, max(height, width)))
    n_tiles = tiles.down * tiles.across
    units = -(-tiles.height // UNIT) * -(-tiles.width // UNIT)
    out = rt.xp.empty((problems, n_tiles, LINEAR_SUMS), np.float64)
    grid = grid_of(reference.shape, moving.shape)
    on_device = rt.xp.asarray(to_integers(on_grid(matrices, reference.shape, moving.shape), grid))
    sums = rt.get_function(KERNELS, "affine_linearize_diagonal" if diagonal else "affine_linearize_general", None)
    finish = rt.get_function(KERNELS, "affine_linearize_finish", None)
    at_most = max(1, min(MAX_PARTIAL_BYTES // (n_tiles * units * LINEAR_SUMS * 8), MAX_GRID_Y))
    for first in range(0, problems, at_most):
        count = min(at_most, problems - first)
        partial = rt.xp.empty((count, n_tiles, LINEAR_SUMS, units), np.float64)
        sums(
            (-(-n_tiles * units // WARPS), count),
            (32 * WARPS,),
            (
                reference,
                moving,
                rt.xp.empty(1, np.float32) if slopes is None else slopes,  # CuPy passes no null pointers
                np.int32(slopes is not None),
                *map(np.int32, (height, width, *moving.shape[1:])),
                on_device,
                np.int32(grid.bits),
                np.int32(tiles.height),
                np.int32(tiles.width),
                np.int32(units),
                np.int64(first),
                partial,
            ),
        )
        n_sums = count * n_tiles * LINEAR_SUMS
        finish(
            (-(-n_sums // WARPS),),
            (32 * WARPS,),
            (partial, np.int32(n_tiles), np.int32(units), np.int64(n_sums), np.int64(first), out),
        )
    return out
