"""Which bins the pixels of an image belong to, in the two orders that backends need: by pixel, and by bin."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["WEIGHT_STEP", "BinTable"]

WEIGHT_STEP = 2.0**-24
"""Weights are multiples of this, from 0 to 1, so that float64 sums of them are exact in any order."""


@dataclass(frozen=True, eq=False)
class BinTable:
    """Entries of pixels in bins, on the host.

    Parameters
    ----------
    labels : numpy.ndarray
        (P, K) int32: the bins of each of the P pixels of an image, n_bins standing for none.
    weights : numpy.ndarray, optional
        (P, K) float32 multiples of `WEIGHT_STEP` in [0, 1]; 1 by default.
    n_bins : int
    """

    labels: NDArray[np.int32]
    weights: NDArray[np.float32] | None
    n_bins: int
    at_home: dict[Any, Any] = field(default_factory=dict, repr=False)
    """What a backend has copied to a device, for the next call."""

    @cached_property
    def totals(self) -> NDArray[np.float64]:
        """Sum of the weights of each bin if all pixels are valid; the last number is for those in no bin."""
        weights = None if self.weights is None else self.weights.ravel()
        return np.bincount(self.labels.ravel(), weights, self.n_bins + 1).astype(np.float64)

    @cached_property
    def segments(self) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32] | None]:
        """Entries by bin, each in the order of the pixels: where bins start and end (n_bins + 1), pixels, weights."""
        flat = self.labels.ravel()
        starts = np.zeros(self.n_bins + 2, np.int64)
        np.cumsum(np.bincount(flat, minlength=self.n_bins + 1), out=starts[1:])
        order = np.argsort(flat, kind="stable")[: starts[self.n_bins]]
        weights = None if self.weights is None else self.weights.ravel()[order]
        return starts[:-1], (order // self.labels.shape[1]).astype(np.int32), weights

    @cached_property
    def pivots(self) -> NDArray[np.int64]:
        """(3, n_bins) the first, the middle and the last pixel of each bin, -1 in an empty one."""
        flat = self.labels.ravel()
        k = self.labels.shape[1]
        last = np.full(self.n_bins + 1, -1, np.int64)
        last[flat] = np.arange(flat.size)  # the last assignment wins
        first = np.full(self.n_bins + 1, -1, np.int64)
        first[flat[::-1]] = np.arange(flat.size - 1, -1, -1)
        middle = np.full(self.n_bins + 1, -1, np.int64)
        half = flat.size // 2
        middle[flat[half:][::-1]] = np.arange(flat.size - 1, half - 1, -1)
        bins: NDArray[np.int64] = np.stack([first, middle, last])[:, :-1] // k
        return bins
