"""Scores of affine candidates, as the protocol specifies them: two passes over the pixels that are valid in both."""

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._grid import on_grid
from stackalign.backends._protocol import FLAT, Array, ScoreArrays

from .affine_resample import sample_affine

__all__ = ["score_affine"]


def _pearson(r: NDArray[np.float64], v: NDArray[np.float64]) -> float:
    """Two-pass coefficient; 0 where there is nothing to correlate."""
    if r.size == 0:
        return 0.0
    dr, dv = r - r.mean(), v - v.mean()
    rr, vv = (dr * dr).sum(), (dv * dv).sum()
    if not (rr > FLAT * (r * r).sum() and vv > FLAT * (v * v).sum()):
        return 0.0
    return float(np.clip((dr * dv).sum() / np.sqrt(rr * vv), -1.0, 1.0))


def score_affine(reference: Array, moving: Array, matrices: NDArray[np.float64], workers: int, /) -> ScoreArrays:
    """See `Backend.score_affine`."""
    matrices = on_grid(matrices, reference.shape, moving.shape)
    problems, candidates = matrices.shape[:2]
    scores = np.zeros((problems, candidates))
    overlap = np.zeros((problems, candidates), np.int64)
    for b in range(problems):
        for k in range(candidates):
            v = sample_affine(moving[b], matrices[b, k], reference.shape[1:])
            both = np.isfinite(v) & np.isfinite(reference[b])
            overlap[b, k] = both.sum()
            scores[b, k] = _pearson(reference[b][both].astype(np.float64), v[both].astype(np.float64))
    return ScoreArrays(scores, overlap)
