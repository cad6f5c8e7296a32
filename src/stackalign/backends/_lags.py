"""Shifts between two images, and how long transforms must be to tell them apart: integers, alike on every backend.

A lag (dy, dx) moves the content of the moving image towards larger indices: reference pixel p meets moving pixel p - d.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._protocol import Array, Lags

__all__ = [
    "add_unsupported_rings",
    "anchor",
    "contained",
    "fast_length",
    "grown",
    "intersection",
    "lengths",
    "overlap_at",
    "possible",
    "supported",
    "widened",
]

STEPS = 64
"""Overlaps are rounded down to this fraction of the image, so that similar masks share the length of the transforms."""


def _with_enough(low: int, high: int, size: int, moving: int, least: float) -> tuple[int, int]:
    """First and last lag of an axis at which at least so many of its pixels meet; all where none has so many.

    A lag makes ``min(size, lag + moving) - max(0, lag)`` pixels meet: fewer and fewer away from a plateau.
    """
    pixels = max(1, math.ceil(least))
    if pixels > min(size, moving):
        return low, high
    return max(low, pixels - moving), min(high, size - pixels)


def possible(shape: tuple[int, int], moving: tuple[int, int]) -> Lags:
    """All lags at which the frames have a pixel in common."""
    return Lags(1 - moving[0], 1 - moving[1], shape[0] - 1, shape[1] - 1)


def intersection(a: Lags, b: Lags) -> Lags:
    """Lags that are in both."""
    return Lags(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))


def grown(lags: Lags, margin: int) -> Lags:
    """Lags and their neighbours up to a distance."""
    return Lags(lags[0] - margin, lags[1] - margin, lags[2] + margin, lags[3] + margin)


def widened(lags: Lags, margin: int, shape: tuple[int, int], moving: tuple[int, int]) -> Lags:
    """Lags and their neighbours up to a distance, as far as they are possible."""
    return intersection(grown(lags, margin), possible(shape, moving))


def contained(lags: Lags, shape: tuple[int, int], moving: tuple[int, int]) -> bool:
    """Tell whether the moving frame lies within the other one at all of these lags."""
    return intersection(lags, Lags(0, 0, shape[0] - moving[0], shape[1] - moving[1])) == lags


def anchor(lags: Lags) -> tuple[int, int]:
    """Return the lag nearest to 0."""
    return min(max(lags.low_y, 0), lags.high_y), min(max(lags.low_x, 0), lags.high_x)


def overlap_at(xp: Any, reference: Array, moving: Array, lag: tuple[int, int]) -> Array:
    """Count the pixels that are valid in both of masks (1 or N, D, H, W) at a lag, (N,)."""
    (height, width), (rows, columns) = reference.shape[2:], moving.shape[2:]
    y, x = lag
    here = reference[:, :, max(0, y) : min(height, y + rows), max(0, x) : min(width, x + columns)]
    there = moving[:, :, max(0, -y) : min(rows, height - y), max(0, -x) : min(columns, width - x)]
    return xp.count_nonzero(here & there, axis=(1, 2, 3))


def supported(lags: Lags, shape: tuple[int, int], moving: tuple[int, int], depth: int, least: float) -> Lags:
    """Leave out the rows and columns of lags at which even whole frames have fewer than `least` pixels in common.

    `least` is a share of an overlap that one of the lags has, so some are left.
    """
    area = shape[0] * shape[1] * depth
    least = math.floor(least / area * STEPS) / STEPS * area
    across = min(shape[1], moving[1]) * depth
    down = min(shape[0], moving[0]) * depth
    y = _with_enough(lags.low_y, lags.high_y, shape[0], moving[0], least / across)
    x = _with_enough(lags.low_x, lags.high_x, shape[1], moving[1], least / down)
    return Lags(y[0], x[0], y[1], x[1])


def _within_distance(lags: Lags, center: Lags, distance: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the lags whose larger distance to a centre is at most this."""
    rows = np.minimum(center[0] + distance, lags.high_y) - np.maximum(center[0] - distance, lags.low_y) + 1
    columns = np.minimum(center[1] + distance, lags.high_x) - np.maximum(center[1] - distance, lags.low_x) + 1
    count: NDArray[np.int64] = rows * columns
    return count


def add_unsupported_rings(rings: NDArray[np.float32], center: Lags, computed: Lags, lags: Lags) -> None:
    """Give rings of `Backend.masked_peaks` the score 0 of the lags that were left out."""
    distance = np.arange(len(rings))
    left_out = _within_distance(lags, center, distance) - _within_distance(computed, center, distance)
    outside = np.diff(left_out, prepend=0) > 0
    rings[outside] = np.maximum(rings[outside], np.float32(0.0))


def fast_length(n: int) -> int:
    """Smallest length of at least n that is a multiple of 4 without prime factors above 5: the fastest transforms."""
    length = -(-n // 4) * 4
    while True:
        rest = length
        for p in (2, 3, 5):
            while rest % p == 0:
                rest //= p
        if rest == 1:
            return length
        length += 4


def lengths(lags: Lags, shape: tuple[int, int], moving: tuple[int, int]) -> tuple[int, int]:
    """Length of the transforms, so that none of the lags meets another one around the end."""
    y = max(moving[0] + max(lags.high_y, 0), shape[0] - min(lags.low_y, 0))
    x = max(moving[1] + max(lags.high_x, 0), shape[1] - min(lags.low_x, 0))
    return fast_length(y), fast_length(x)
