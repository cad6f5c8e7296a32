"""From the scores around a peak to its place and its rivals: a few numbers per image, on the host."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["offsets", "second_scores"]

WIDTH = 1.5
"""Weights of the fit fall to 1/e at this distance in pixels from the peak: narrow enough for peaks of single pixels,
and wide enough to average noise."""
ITERATIONS = 8


def offsets(neighbours: NDArray[Any]) -> NDArray[np.float64]:
    """Return the peak's place (N, 2) relative to the middle of (N, 2r+1, 2r+1) scores, at most 1 pixel away.

    A paraboloid is fitted by least squares with Gaussian weights that are centred on its own top: a symmetrical peak
    is then found without bias wherever it lies between pixels. Scores that are NaN take no part; the middle is kept
    where one of the 8 next to it is NaN, and where there is no peak.
    """
    n, side = neighbours.shape[:2]
    r = side // 2
    place = np.zeros((n, 2))
    near = neighbours[:, r - 1 : r + 2, r - 1 : r + 2]
    active = np.flatnonzero(np.isfinite(near).all(axis=(1, 2)))
    grid = np.indices((side, side)).reshape(2, -1).astype(np.float64) - r
    scores = neighbours.reshape(n, -1).astype(np.float64)
    for _ in range(ITERATIONS):
        z = scores[active]
        y, x = grid[:, None] - place[active].T[:, :, None]
        weight = np.where(np.isfinite(z), np.exp(-(y * y + x * x) / WIDTH**2), 0.0)
        terms = np.stack([np.ones_like(y), y, x, y * y, y * x, x * x], axis=-1)
        weighted = terms * weight[:, :, None]
        normal = np.einsum("nki,nkj->nij", weighted, terms)
        right = np.einsum("nki,nk->ni", weighted, np.where(np.isfinite(z), z, 0.0))
        _, gy, gx, yy, yx, xx = np.linalg.solve(normal, right[:, :, None])[:, :, 0].T
        determinant = 4 * yy * xx - yx * yx
        top = (yy < 0) & (determinant > 0)
        place[active[~top]] = 0.0
        active, gy, gx, yy, yx, xx, determinant = (a[top] for a in (active, gy, gx, yy, yx, xx, determinant))
        step = np.stack([yx * gx - 2 * xx * gy, yx * gy - 2 * yy * gx], axis=1) / determinant[:, None]
        place[active] = np.clip(place[active] + np.clip(step, -0.5, 0.5), -1.0, 1.0)
    return place


def second_scores(rings: NDArray[Any]) -> NDArray[np.float64]:
    """Return the highest score beyond the first ring of each peak at which the scores rise; 0 where they never do."""
    rises = (rings[:, 1:] > rings[:, :-1]) & (rings[:, :-1] > -2)
    outside = np.logical_or.accumulate(rises, axis=1)
    highest: NDArray[np.float64] = np.where(outside, rings[:, 1:], 0.0).max(axis=1, initial=0.0).astype(np.float64)
    return highest
