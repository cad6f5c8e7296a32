"""Centres of rings: where the distance to the centre explains most of an image."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

__all__ = ["RingScore", "ring_candidates"]

FloatArray = NDArray[np.float64]

STEPS = 24
"""Centres along the longer side at which a coarse image is looked at first."""
LEAST_PIXELS = 4
"""Rings of fewer pixels say nothing."""


class RingScore:
    """Score of centres of one image (H, W): the share of its variance that the distance to the centre explains.

    It is corrected for the number of rings, so that noise scores 0, and multiplied by the square root of the share of
    the variance that lies within full reach, so that a few arcs at a corner do not win.
    """

    def __init__(self, image: FloatArray, valid: NDArray[np.bool_]) -> None:
        self.shape = image.shape
        self._y, self._x = (a.astype(np.float64) for a in np.nonzero(valid))
        values = image[valid]
        self._values = values - values.mean()
        self._total = float((self._values**2).sum())

    def __call__(self, center: FloatArray) -> float:
        """Score a centre (row, col)."""
        if self._total <= 0.0:
            return 0.0
        radius = np.hypot(self._y - center[0], self._x - center[1])
        low = radius.astype(np.int64)
        part = radius - low
        # Pixels are shared between the two rings next to them: the score is smooth in the centre.
        n_rings = int(low.max()) + 2
        count = np.bincount(low, 1.0 - part, n_rings) + np.bincount(low + 1, part, n_rings)
        total = np.bincount(low, (1.0 - part) * self._values, n_rings)
        total += np.bincount(low + 1, part * self._values, n_rings)
        some = count > LEAST_PIXELS
        explained = float((total[some] ** 2 / count[some]).sum()) / self._total
        expected = some.sum() / len(self._values)
        return (explained - expected) / (1.0 - expected)

    def climb(self, center: FloatArray, step: float, last: float) -> tuple[FloatArray, float]:
        """Walk uphill from a centre with steps that shrink from `step` to `last`."""
        best, score = np.array(center, np.float64), self(center)
        while step >= last:
            moved = True
            while moved:
                moved = False
                for dy, dx in ((-step, 0.0), (step, 0.0), (0.0, -step), (0.0, step)):
                    there = best + (dy, dx)
                    if not ((there >= 0) & (there <= np.array(self.shape) - 1)).all():
                        continue
                    found = self(there)
                    if found > score + 1e-12:
                        best, score, moved = there, found, True
            step /= 2
        return best, score


def ring_candidates(score: RingScore, count: int) -> list[tuple[FloatArray, float]]:
    """Best centres of a coarse image, from a grid over all of it."""
    height, width = score.shape
    step = max(1.0, max(height, width) / STEPS)
    rows, columns = np.arange(0.5 * step, height, step), np.arange(0.5 * step, width, step)
    grid = np.array([[score(np.array([y, x])) for x in columns] for y in rows])
    peaks = np.argwhere((maximum_filter(grid, 3, mode="nearest") == grid) & (grid > 0))
    order = np.argsort(-grid[tuple(peaks.T)], kind="stable")[:count]
    return [score.climb(np.array([rows[y], columns[x]]), 0.5 * step, 0.5) for y, x in peaks[order]]
