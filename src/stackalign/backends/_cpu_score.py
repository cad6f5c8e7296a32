"""Scoring candidates on the host: what the kernels share, and who is summed once more."""

import numpy as np
from numpy.typing import NDArray

from ._first_use import announced
from ._groups import Candidates, flatten, group, take
from ._protocol import Array, ScoreArrays
from ._threads import run

__all__ = ["score_affine"]

MAX_PIXELS = 2**31 - 1
"""Of a moving image of `score_affine`, whose kernels count pixels with 32 bits."""


@announced("affine_ncc")
def score_affine(reference: Array, moving: Array, matrices: NDArray[np.float64], workers: int, /) -> ScoreArrays:
    """See `Backend.score_affine`."""
    from stackalign_kernels.cpu import affine_ncc

    height, width = moving.shape[1:]
    if height * width > MAX_PIXELS:
        msg = f"images may have at most {MAX_PIXELS} pixels, got {height} x {width}: score them in parts"
        raise ValueError(msg)
    candidates = flatten(matrices)
    total = len(candidates.matrices)
    scores, overlap, far = np.empty(total), np.empty(total), np.empty(total, np.bool_)
    pivots = np.zeros((total, 2), np.float32)
    partial = _score_sums(reference, moving, candidates, pivots, workers)
    affine_ncc.finish(partial, pivots, scores, overlap, far)
    # float32 loses digits where an overlap is far from 0, though its images are not: these are summed again.
    again = np.flatnonzero(far)
    if again.size:
        chosen = take(candidates, again)
        partial = _score_sums(reference, moving, chosen, pivots[again], workers)
        better = np.empty(again.size)
        affine_ncc.finish(partial, pivots[again], better, np.empty(again.size), np.empty(again.size, np.bool_))
        scores[again] = better
    shape = matrices.shape[:2]
    return ScoreArrays(scores.reshape(shape), np.rint(overlap).astype(np.int64).reshape(shape))


def _score_sums(
    reference: Array, moving: Array, candidates: Candidates, pivots: NDArray[np.float32], workers: int
) -> NDArray[np.float64]:
    """Sums of each candidate over each block of rows, about its pivots."""
    from stackalign_kernels.cpu import affine_ncc

    blocks = -(-reference.shape[1] // affine_ncc.BLOCK)
    partial = np.empty((len(candidates.matrices), blocks, 6))
    if candidates.diagonal.size:
        groups = group(candidates)
        whole = ~(np.isnan(reference).any(axis=(1, 2)) | np.isnan(moving).any(axis=(1, 2)))

        def separable(start: int, stop: int) -> None:
            affine_ncc.separable(reference, moving, whole, *groups, pivots, start, stop, partial)

        run(separable, len(groups.problem) * blocks, workers)
    if candidates.others.size:
        chosen = candidates.others
        problem, matrices, about = candidates.problem[chosen], candidates.matrices[chosen], pivots[chosen]
        some = np.empty((len(chosen), blocks, 6))

        def general(start: int, stop: int) -> None:
            affine_ncc.general(reference, moving, problem, matrices, about, start, stop, some)

        run(general, len(chosen) * blocks, workers)
        partial[chosen] = some
    return partial
