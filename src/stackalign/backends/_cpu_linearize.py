"""Launches of the linearization kernels on the CPU."""

import numpy as np
from numpy.typing import NDArray

from ._protocol import Array
from ._threads import run

__all__ = ["linearize_affine"]


def linearize_affine(
    reference: Array, moving: Array, slopes: Array | None, matrices: NDArray[np.float64], tile: int, workers: int, /
) -> Array:
    """See `Backend.linearize_affine`."""
    from stackalign_kernels.cpu import affine_linearize as kernels

    problems = len(matrices)
    height, width = reference.shape[1:]
    block, columns = (tile, tile) if tile else (kernels.BLOCK, width)
    blocks, tiles = -(-height // block), -(-width // columns)
    partial = np.empty((problems, blocks, tiles, kernels.SUMS))
    given = slopes is not None
    wanted_slopes = np.empty((1, 2, 1, 1), np.float32) if slopes is None else slopes
    diagonal = (matrices[:, 0, 1] == 0.0) & (matrices[:, 1, 0] == 0.0)
    for chosen, kernel in ((np.flatnonzero(diagonal), kernels.separable), (np.flatnonzero(~diagonal), kernels.general)):
        if not chosen.size:
            continue
        some = partial if len(chosen) == problems else np.empty((len(chosen), *partial.shape[1:]))
        wanted = np.ascontiguousarray(matrices[chosen])

        def task(start: int, stop: int, some: Array = some, chosen: Array = chosen, kernel: Array = kernel) -> None:
            kernel(reference, moving, wanted_slopes, given, chosen, wanted, block, columns, start, stop, some)  # noqa: B023 -- run at once

        run(task, len(chosen) * blocks, workers)
        if some is not partial:
            partial[chosen] = some
    if tile:
        return partial.reshape(problems, blocks * tiles, kernels.SUMS)
    total = np.zeros((problems, 1, kernels.SUMS))
    for b in range(blocks):  # in the order of the blocks, whatever NumPy does
        total += partial[:, b]
    return total
