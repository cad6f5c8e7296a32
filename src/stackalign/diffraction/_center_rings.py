"""Centres of rings: where the distance to the centre explains most of an image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from stackalign._types import FloatArray

__all__ = ["RingScore", "ring_candidates"]


STEPS = 24
"""Centres along the longer side at which a coarse image is looked at first."""
ENOUGH = 10000
"""Pixels of which every other one says as much: centres are only found roughly here."""
LEAST_PIXELS = 4
"""Rings of fewer pixels say nothing."""


class RingScore:
    """Score of centres of images (H, W): the share of their variance that the distance to the centre explains.

    It is corrected for the number of rings, so that noise scores 0. The images show the same in several ways, and are
    scored one by one.
    """

    def __init__(self, images: Sequence[NDArray[np.floating]], valid: NDArray[np.bool_]) -> None:
        self.shape = valid.shape
        if np.count_nonzero(valid) > ENOUGH:
            valid = valid & (np.add.outer(*(np.arange(n) for n in valid.shape)) % 2 == 0)
        self._y, self._x = (a.astype(np.float64) for a in np.nonzero(valid))
        self._rough = self._y.astype(np.float32), self._x.astype(np.float32)
        self._values = [(image[valid] - image[valid].mean(dtype=np.float64)).astype(np.float64) for image in images]
        self._totals = [float((values**2).sum()) for values in self._values]
        self._known: dict[tuple[int, float, float], float] = {}

    def whole(self, center: FloatArray, which: Sequence[int]) -> list[float]:
        """Scores of some of the images at a centre (row, col), of rings of whole pixels: faster, but rough."""
        y, x = (a - np.float32(c) for a, c in zip(self._rough, center, strict=True))
        y *= y
        x *= x
        y += x
        ring = (np.sqrt(y, out=y) + np.float32(0.5)).astype(np.intp)
        count = np.bincount(ring)
        return [self._share(count, np.bincount(ring, self._values[k]), self._totals[k]) for k in which]

    def _share(self, count: NDArray[Any], sums: NDArray[Any], total: float) -> float:
        if total <= 0.0:
            return 0.0
        some = count > LEAST_PIXELS
        explained = float((sums[some] ** 2 / count[some]).sum()) / total
        expected = some.sum() / len(self._y)
        return float((explained - expected) / (1.0 - expected))

    def smooth(self, center: FloatArray, which: int) -> float:
        """Score of one image, pixels shared between the two rings next to them: continuous in the centre."""
        key = which, float(center[0]), float(center[1])
        if key not in self._known:
            self._known[key] = self._smooth(center, which)
        return self._known[key]

    def _smooth(self, center: FloatArray, which: int) -> float:
        radius = np.sqrt((self._y - center[0]) ** 2 + (self._x - center[1]) ** 2)
        low = radius.astype(np.intp)
        part = radius - low
        n_rings = int(low.max(initial=0)) + 2
        values = self._values[which]
        count = np.bincount(low, minlength=n_rings).astype(np.float64)
        sums = np.bincount(low, values, n_rings)
        for total, outer in ((count, part), (sums, part * values)):
            moved = np.bincount(low, outer, n_rings)
            total -= moved
            total[1:] += moved[:-1]
        return self._share(count, sums, self._totals[which])

    def climb(self, center: FloatArray, which: int, step: float, last: float) -> tuple[FloatArray, float]:
        """Walk uphill from a centre with steps that shrink from `step` to `last`."""
        best, score = np.array(center, np.float64), self.smooth(center, which)
        while step >= last:
            moved = True
            while moved:
                moved = False
                for dy, dx in ((-step, 0.0), (step, 0.0), (0.0, -step), (0.0, step)):
                    there = best + np.array((dy, dx))
                    if not ((there >= 0) & (there <= np.array(self.shape) - 1)).all():
                        continue
                    higher = self.smooth(there, which)
                    if higher > score + 1e-12:
                        best, score, moved = there, higher, True
            step /= 2
        return best, score


def ring_candidates(score: RingScore, which: Sequence[int], count: int) -> list[list[tuple[FloatArray, float]]]:
    """Best centres of each of some coarse images, from a grid over all of it."""
    height, width = score.shape
    step = max(1.0, max(height, width) / STEPS)
    rows, columns = (_grid(n, step) for n in (height, width))
    grids = np.array([[score.whole(np.array([y, x]), which) for x in columns] for y in rows])
    candidates = []
    for k, grid in zip(which, np.moveaxis(grids, 2, 0), strict=True):
        peaks = np.argwhere((maximum_filter(grid, 3, mode="nearest") == grid) & (grid > 0))
        order = np.argsort(-grid[tuple(peaks.T)], kind="stable")[:count]
        candidates.append([score.climb(np.array([rows[y], columns[x]]), k, 0.5 * step, 0.5) for y, x in peaks[order]])
    return candidates


def _grid(length: int, step: float) -> FloatArray:
    """Places a step apart; the middle of a side that is shorter than half a step."""
    places = np.arange(0.5 * step, length, step)
    return places if places.size else np.array([0.5 * (length - 1)])
