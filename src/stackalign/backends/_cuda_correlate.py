# SPDX-License-Identifier: BSD-3-Clause
"""Launches of the correlation kernels, for CuPy on a GPU and for NumPy where kernels run on the host."""

import numpy as np
from numpy.typing import NDArray

from ._cuda_ops import MAX_PIXELS, Runtime
from ._groups import Candidates, Groups, flatten, group
from ._protocol import Array, ScoreArrays

__all__ = ["check_size", "score_affine"]

KERNELS = "affine_ncc"
TILE = 32
"""Rows and columns of the reference that a warp takes."""
WARPS = 4
SUMS = 6
MEMBERS = 16
"""Most candidates that one warp takes, one after the other: the rows that they share are then stretched once more per
16 candidates, but a few large groups still fill a GPU."""
MAX_PARTIAL_BYTES = 1 << 28
MAX_GRID_Y = 65535


def check_size(*planes: Array) -> None:
    """Refuse images whose pixels 32 bits cannot count."""
    for plane in planes:
        height, width = plane.shape[1:]
        if height * width > MAX_PIXELS:
            msg = f"images may have at most {MAX_PIXELS} pixels on a GPU, got {height} x {width}"
            raise ValueError(msg)


def score_affine(
    rt: Runtime, reference: Array, moving: Array, matrices: NDArray[np.float64], workers: int
) -> ScoreArrays:
    """See `Backend.score_affine`. Planes are float32, so the kernels have no element type."""
    check_size(reference, moving)
    candidates = flatten(matrices)
    result = ScoreArrays(
        rt.xp.empty(len(candidates.matrices), np.float64), rt.xp.empty(len(candidates.matrices), np.int64)
    )
    if candidates.diagonal.size:
        _separable(rt, reference, moving, group(candidates), result)
    if candidates.others.size:
        _general(rt, reference, moving, candidates, result)
    shape = matrices.shape[:2]
    return ScoreArrays(result.scores.reshape(shape), result.overlap.reshape(shape))


def _tiles(reference: Array) -> int:
    height, width = map(int, reference.shape[1:])
    return -(-height // TILE) * -(-width // TILE)


def _shapes(reference: Array, moving: Array) -> tuple[np.int32, np.int32, np.int32, np.int32]:
    return (*map(np.int32, reference.shape[1:]), *map(np.int32, moving.shape[1:]))  # type: ignore[return-value]


def _at_most(n_tiles: int) -> int:
    """Candidates per launch: their partial sums take some memory, and a grid has a largest height."""
    return max(MEMBERS, min(MAX_PARTIAL_BYTES // (n_tiles * SUMS * 8), MAX_GRID_Y))


def _split(bounds: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut groups into parts of at most `MEMBERS`; return the group of each part, and where the parts begin."""
    parts = -(-np.diff(bounds) // MEMBERS)
    owner = np.repeat(np.arange(len(parts)), parts)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(parts) - parts, parts)
    return owner, np.append(bounds[owner] + rank * MEMBERS, bounds[-1:])


def _separable(rt: Runtime, reference: Array, moving: Array, groups: Groups, result: ScoreArrays) -> None:
    n_tiles = _tiles(reference)
    owner, bounds = _split(groups.bounds)
    problem, columns, rows, members, starts = (
        rt.xp.asarray(a) for a in (groups.problem[owner], groups.columns[owner], groups.rows, groups.members, bounds)
    )
    kernel = rt.get_function(KERNELS, "affine_ncc_separable", None)
    part = 0
    while part < len(owner):
        stop = int(np.searchsorted(bounds, bounds[part] + _at_most(n_tiles), side="right")) - 1
        first, count = int(bounds[part]), int(bounds[stop] - bounds[part])
        partial = rt.xp.empty((count, n_tiles, SUMS), np.float64)
        kernel(
            (-(-n_tiles // WARPS), stop - part),
            (32 * WARPS,),
            (
                reference,
                moving,
                *_shapes(reference, moving),
                problem,
                columns,
                rows,
                members,
                starts,
                np.int32(n_tiles),
                np.int64(part),
                partial,
            ),
        )
        _finish(rt, partial, members, first, result)
        part = stop


def _general(rt: Runtime, reference: Array, moving: Array, candidates: Candidates, result: ScoreArrays) -> None:
    n_tiles, total = _tiles(reference), candidates.others.size
    problem, matrices, members = (
        rt.xp.asarray(a) for a in (candidates.problem, candidates.matrices, candidates.others)
    )
    kernel = rt.get_function(KERNELS, "affine_ncc_general", None)
    for first in range(0, total, _at_most(n_tiles)):
        count = min(_at_most(n_tiles), total - first)
        partial = rt.xp.empty((count, n_tiles, SUMS), np.float64)
        kernel(
            (-(-n_tiles // WARPS), count),
            (32 * WARPS,),
            (
                reference,
                moving,
                *_shapes(reference, moving),
                problem,
                matrices,
                members,
                np.int32(n_tiles),
                np.int64(first),
                partial,
            ),
        )
        _finish(rt, partial, members, first, result)


def _finish(rt: Runtime, partial: Array, members: Array, first: int, result: ScoreArrays) -> None:
    """Make the scores of members[first:] of their partial sums."""
    count, n_tiles = partial.shape[:2]
    kernel = rt.get_function(KERNELS, "affine_ncc_finish", None)
    kernel(
        (-(-count // WARPS),),
        (32 * WARPS,),
        (partial, np.int32(n_tiles), members, np.int64(first), np.int32(count), *result),
    )
