"""Arrays that backends take and return: their types, and the tuples in which several results come."""

from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "KERNEL_DTYPES",
    "Array",
    "BinArrays",
    "BinSums",
    "Lags",
    "PeakArrays",
    "ScoreArrays",
    "StackSums",
    "SummaryArrays",
    "WindowArrays",
    "real_kind",
    "sum_kind",
]

Array = Any
"""An array of the backend's home: ``numpy.ndarray`` or ``cupy.ndarray``."""

KERNEL_DTYPES = ("uint8", "uint16", "uint32", "int16", "int32", "float32", "float64")


def sum_kind(dtype: np.dtype[Any]) -> type[np.generic]:
    """Type of the sum of many pixels: float64 for floating point, and int64, which is exact, for integers."""
    return np.float64 if dtype.kind == "f" else np.int64


def real_kind(dtype: np.dtype[Any]) -> type[np.floating[Any]]:
    """Type of interpolated and averaged pixels: float64 for float64, float32 for all other types."""
    return np.float64 if dtype == np.float64 else np.float32


class SummaryArrays(NamedTuple):
    """One row per pattern, all of the backend's home.

    ``total`` is int64 for integer patterns and float64 otherwise. ``minimum`` and ``maximum`` are float64 over the
    valid pixels (NaN when there is none). ``centers`` is (N, 2) float64: the centres given, or the centroids; the
    middle of the frame ``((H-1)/2, (W-1)/2)`` where the total is 0. ``radii`` is (N, F) int64.
    """

    total: Array
    minimum: Array
    maximum: Array
    n_valid: Array
    centers: Array
    radii: Array


class WindowArrays(NamedTuple):
    """Windows (N, h, w) in the dtype of the patterns, and the sum of the valid pixels in each (int64 or float64)."""

    windows: Array
    sums: Array


class ScoreArrays(NamedTuple):
    """Scores (B, K) float64 in [-1, 1], and the number of pixels that each is made of, (B, K) int64."""

    scores: Array
    overlap: Array


class Lags(NamedTuple):
    """Window of shifts of the moving image's content, both ends included."""

    low_y: int
    low_x: int
    high_y: int
    high_x: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a map of these lags."""
        return self.high_y - self.low_y + 1, self.high_x - self.low_x + 1


class PeakArrays(NamedTuple):
    """The highest score of each map, all of the backend's home.

    ``lags`` (N, 2) int64, ``peaks`` (N,) float32, ``overlap`` (N,) int64, ``neighbours`` (N, 2*REACH+1, 2*REACH+1)
    float32 and ``rings`` (N, larger side of the window) float32.
    """

    lags: Array
    peaks: Array
    overlap: Array
    neighbours: Array
    rings: Array


class BinArrays(NamedTuple):
    """Means (N, h, w) in the `real_kind` of the images, NaN in a bin without valid pixels, and the counts, int64."""

    means: Array
    counts: Array


class BinSums(NamedTuple):
    """Of each bin of each image, (N, B) float64: sum of weights, mean, weighted sum of squared deviations from it."""

    bin_weight: Array
    bin_mean: Array
    bin_m2: Array


class StackSums(NamedTuple):
    """Per-pixel statistics over the first axis, each (H, W): count int64, the others float64.

    ``mean`` is the float64 sum in order of the frames divided by the count (0 where the count is 0), ``m2`` the sum of
    squared deviations from that mean; ``minimum`` and ``maximum`` are NaN where the count is 0.
    """

    count: Array
    minimum: Array
    maximum: Array
    mean: Array
    m2: Array
