"""Scoring candidates on the host: what the kernels share."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._grid import on_grid
from stackalign.backends._groups import Candidates, batch, flatten, group
from stackalign.backends._protocol import Array, ScoreArrays
from stackalign.backends._threads import run

__all__ = ["first_calls", "score_affine"]

MAX_PIXELS = 2**31 - 1
"""Of a moving image of `score_affine`, whose kernels count pixels with 32 bits."""


def score_affine(reference: Array, moving: Array, matrices: NDArray[np.float64], workers: int, /) -> ScoreArrays:
    """See `Backend.score_affine`."""
    from stackalign_kernels.cpu import affine_ncc

    height, width = moving.shape[1:]
    if height * width > MAX_PIXELS:
        msg = f"images may have at most {MAX_PIXELS} pixels, got {height} x {width}: score them in parts"
        raise ValueError(msg)
    candidates = flatten(on_grid(matrices, reference.shape, moving.shape))
    total = len(candidates.matrices)
    partial = _score_sums(reference, moving, candidates, workers)
    scores, overlap = np.empty(total), np.empty(total)
    affine_ncc.finish(partial, scores, overlap)
    shape = matrices.shape[:2]
    return ScoreArrays(scores.reshape(shape), np.rint(overlap).astype(np.int64).reshape(shape))


def _score_sums(reference: Array, moving: Array, candidates: Candidates, workers: int) -> NDArray[np.float64]:
    """Sums of each candidate over each block of rows."""
    from stackalign_kernels.cpu import _affine_ncc_general, _affine_rows, affine_ncc

    blocks = -(-reference.shape[1] // _affine_rows.BLOCK)
    partial = np.empty((len(candidates.matrices), blocks, 6))
    if candidates.diagonal.size:
        groups = group(candidates)
        batches = batch(groups.problem, affine_ncc.BATCH)
        whole = np.ones(len(reference), np.bool_)
        for planes in (reference, moving):
            affine_ncc.without_nan(planes, whole)

        def separable(start: int, stop: int) -> None:
            affine_ncc.separable(reference, moving, whole, *groups, batches, start, stop, partial)

        run(separable, (len(batches) - 1) * blocks, workers)
    if candidates.others.size:
        chosen = candidates.others
        problem, matrices = candidates.problem[chosen], candidates.matrices[chosen]
        some = np.empty((len(chosen), blocks, 6))

        def general(start: int, stop: int) -> None:
            _affine_ncc_general.general(reference, moving, problem, matrices, start, stop, some)

        run(general, len(chosen) * blocks, workers)
        partial[chosen] = some
    return partial


def first_calls(dtype: np.dtype[Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls, without `workers`, for which all kernels of this file are compiled for a type of pixels."""
    plane = np.ones((1, 8, 8), np.float32)  # whatever the images were
    diagonal, turned = [[1, 0, 0], [0, 1, 0]], [[1, 0.1, 0], [-0.1, 1, 0]]
    yield "score_affine", (plane, plane, np.array([[diagonal, turned]], np.float64))
