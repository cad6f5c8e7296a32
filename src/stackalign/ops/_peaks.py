"""From the scores around a peak to its place and its rivals: a few numbers per image, on the host."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["offsets", "second_scores"]


def offsets(neighbours: NDArray[Any]) -> NDArray[np.float64]:
    """Return the peak's place (N, 2) within half a pixel of the middle of (N, 2r+1, 2r+1) scores."""
    n, side = neighbours.shape[:2]
    r = side // 2
    out = np.zeros((n, 2))
    z = neighbours.astype(np.float64)
    for axis, (a, b) in enumerate(((z[:, r - 1, r], z[:, r + 1, r]), (z[:, r, r - 1], z[:, r, r + 1]))):
        curvature = 2 * z[:, r, r] - a - b
        ok = curvature > 0
        out[ok, axis] = 0.5 * (b - a)[ok] / curvature[ok]
    return np.clip(out, -0.5, 0.5)


def second_scores(rings: NDArray[Any]) -> NDArray[np.float64]:
    """Return the highest score beyond the first ring of each peak at which the scores rise; 0 where they never do."""
    rises = (rings[:, 1:] > rings[:, :-1]) & (rings[:, :-1] > -2)
    outside = np.logical_or.accumulate(rises, axis=1)
    highest: NDArray[np.float64] = np.where(outside, rings[:, 1:], 0.0).max(axis=1, initial=0.0).astype(np.float64)
    return highest
