"""Sums of a linearization by Numba kernels."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._grid import on_grid
from stackalign.backends._protocol import LINEAR_SUMS, Array
from stackalign.backends._threads import run
from stackalign.backends._tiles import tiling
from stackalign.backends.cpu._arguments import read_only

__all__ = ["first_calls", "linearize_affine"]


def linearize_affine(
    reference: Array,
    moving: Array,
    slopes: Array | None,
    matrices: NDArray[np.float64],
    tile: int,
    diagonal: bool,
    workers: int,
    /,
) -> Array:
    """See `Backend.linearize_affine`."""
    from stackalign_kernels.cpu import affine_linearize

    matrices = on_grid(matrices, reference.shape, moving.shape)
    problems, height, width = reference.shape
    tiles = tiling((height, width), tile)
    bands = -(-min(tiles.height, height) // affine_linearize.BAND)
    partial = np.zeros((problems, tiles.down, bands, tiles.across, LINEAR_SUMS))
    of_reference = read_only(np.empty((0, 2, height, width), np.float32) if slopes is None else slopes)
    kernel = affine_linearize.diagonal if diagonal else affine_linearize.general

    def task(start: int, stop: int) -> None:
        kernel(reference, moving, of_reference, matrices, tiles.height, tiles.width, start, stop, partial)

    run(task, problems * tiles.down * bands, workers)
    total = partial[:, :, 0]
    for band in range(1, bands):
        total += partial[:, :, band]
    return total.reshape(problems, tiles.down * tiles.across, LINEAR_SUMS)


def first_calls(dtype: np.dtype[Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls, without `workers`, for which all kernels of this file are compiled for a type of pixels."""
    plane, identity = np.ones((1, 8, 8), np.float32), np.eye(2, 3)[None]  # whatever the images were
    for diagonal in (True, False):
        yield "linearize_affine", (plane, plane, None, identity, 0, diagonal)
