# SPDX-License-Identifier: BSD-3-Clause
"""Launches of the correlation kernels, for CuPy on a GPU and for NumPy where kernels run on the host."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._grid import LONGEST, Grid, grid_of, on_grid, to_integers
from stackalign.backends._groups import Candidates, flatten, group
from stackalign.backends._protocol import Array, ScoreArrays

from ._runtime import MAX_GRID_Y, MAX_PIXELS, Runtime, uploaded

__all__ = ["MAX_PARTIAL_BYTES", "check_size", "score_affine"]

KERNELS = "affine_ncc"
TILE = 32
"""Rows and columns of the reference that a warp takes."""
WARPS = 4
SUMS = 6
MEMBERS = 16
"""Most candidates that one warp takes, one after the other: the rows that they share are then stretched once more per
16 candidates, but a few large groups still fill a GPU."""
ABOUT_BLOCKS = 32
"""Blocks that share the tiles of a candidate that is summed about its means."""
MAX_PARTIAL_BYTES = 1 << 28


def check_size(*planes: Array) -> None:
    """Refuse images whose pixels 32 bits cannot count."""
    for plane in planes:
        height, width = plane.shape[1:]
        if height * width > MAX_PIXELS:
            msg = f"images may have at most {MAX_PIXELS} pixels on a GPU, got {height} x {width}"
            raise ValueError(msg)
        if max(height, width) > LONGEST:
            msg = f"images may have at most {LONGEST} pixels along an axis on a GPU, got {height} x {width}"
            raise ValueError(msg)


class _Call(NamedTuple):
    """What every launch of a call needs; the arrays are on the device."""

    rt: Runtime
    reference: Array
    moving: Array
    bits: int
    problem: Array
    matrices: Array
    pivots: Array
    result: ScoreArrays

    @property
    def n_tiles(self) -> int:
        height, width = map(int, self.reference.shape[1:])
        return -(-height // TILE) * -(-width // TILE)

    @property
    def images(self) -> tuple[Any, ...]:
        """What every kernel that reads pixels begins with."""
        numbers = map(np.int32, (*self.reference.shape[1:], *self.moving.shape[1:], self.bits))
        return (self.reference, self.moving, *numbers)


def score_affine(
    rt: Runtime, reference: Array, moving: Array, matrices: NDArray[np.float64], workers: int
) -> ScoreArrays:
    """See `Backend.score_affine`. Planes are float32, so the kernels have no element type."""
    check_size(reference, moving)
    grid = grid_of(reference.shape, moving.shape)
    candidates = flatten(on_grid(matrices, reference.shape, moving.shape))
    total = len(candidates.matrices)
    parts = _parts(candidates, grid)
    whole = to_integers(candidates.matrices, grid)
    problem, flat, others, *on_device = uploaded(rt, candidates.problem, whole, candidates.others, *parts)
    call = _Call(
        rt,
        reference,
        moving,
        grid.bits,
        problem,
        flat,
        rt.xp.empty((total, 2), np.float32),
        ScoreArrays(rt.xp.empty(total, np.float64), rt.xp.empty(total, np.int64)),
    )
    if parts:
        _separable(call, parts[-1], tuple(on_device))
    if candidates.others.size:
        _general(call, others)
    shape = matrices.shape[:2]
    return ScoreArrays(call.result.scores.reshape(shape), call.result.overlap.reshape(shape))


def _at_most(n_tiles: int) -> int:
    """Candidates per launch: their partial sums take some memory, and a grid has a largest height."""
    return max(MEMBERS, min(MAX_PARTIAL_BYTES // (n_tiles * SUMS * 8), MAX_GRID_Y))


def _split(bounds: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut groups into parts of at most `MEMBERS`; return the group of each part, and where the parts begin."""
    parts = -(-np.diff(bounds) // MEMBERS)
    owner = np.repeat(np.arange(len(parts)), parts)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(parts) - parts, parts)
    return owner, np.append(bounds[owner] + rank * MEMBERS, bounds[-1:])


def _parts(candidates: Candidates, grid: Grid) -> tuple[NDArray[Any], ...]:
    """Candidates with a diagonal matrix by what they share, in parts of at most `MEMBERS`; nothing where there is none.

    Of each part the problem, and the scale and offset along x in units of the grid; the candidates in the order of the
    parts; and where the parts begin.
    """
    if not candidates.diagonal.size:
        return ()
    groups = group(candidates)
    owner, bounds = _split(groups.bounds)
    return groups.problem[owner], to_integers(groups.columns[owner], grid), groups.members, bounds


def _separable(call: _Call, bounds: NDArray[np.int64], parts: tuple[Array, ...]) -> None:
    """Score the candidates of `_parts`, which are on the device."""
    rt, n_tiles = call.rt, call.n_tiles
    problem, columns, members, starts = parts
    kernel = rt.get_function(KERNELS, "affine_ncc_separable", None)
    part = 0
    while part < len(bounds) - 1:
        stop = int(np.searchsorted(bounds, bounds[part] + _at_most(n_tiles), side="right")) - 1
        first, count = int(bounds[part]), int(bounds[stop] - bounds[part])
        partial = rt.xp.empty((count, n_tiles, SUMS), np.float64)
        where = (members, starts, np.int32(n_tiles), np.int64(part), partial)
        kernel(
            (-(-n_tiles // WARPS), stop - part),
            (32 * WARPS,),
            (*call.images, problem, columns, call.matrices, *where),
        )
        _finish(call, partial, members, first)
        part = stop


def _general(call: _Call, members: Array) -> None:
    rt, n_tiles, total = call.rt, call.n_tiles, int(members.size)
    kernel = rt.get_function(KERNELS, "affine_ncc_general", None)
    for first in range(0, total, _at_most(n_tiles)):
        count = min(_at_most(n_tiles), total - first)
        partial = rt.xp.empty((count, n_tiles, SUMS), np.float64)
        where = (members, np.int32(n_tiles), np.int64(first), partial)
        kernel((-(-n_tiles // WARPS), count), (32 * WARPS,), (*call.images, call.problem, call.matrices, *where))
        _finish(call, partial, members, first)


def _finish(call: _Call, partial: Array, members: Array, first: int) -> None:
    """Make the scores of members[first:] of their partial sums, after a second look where the kernel asks for one.

    Which candidates need it stays on the device: the blocks of the others end at once, and are few.
    """
    count, n_tiles = map(int, partial.shape[:2])
    finish = call.rt.get_function(KERNELS, "affine_ncc_finish", None)
    about = call.rt.get_function(KERNELS, "affine_ncc_about", None)
    threads, warps = (32 * WARPS,), (-(-count // WARPS),)
    some = (partial, np.int32(n_tiles), members, np.int64(first), np.int32(count))
    finish(warps, threads, (*some, np.int32(0), call.pivots, *call.result))
    where = (members, np.int32(n_tiles), np.int64(first), call.pivots, partial)
    blocks = min(-(-n_tiles // WARPS), ABOUT_BLOCKS)
    about((blocks, count), threads, (*call.images, call.problem, call.matrices, *where))
    finish(warps, threads, (*some, np.int32(1), call.pivots, *call.result))
