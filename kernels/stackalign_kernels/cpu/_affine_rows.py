# SPDX-License-Identifier: BSD-3-Clause
"""What the kernels of `affine_ncc` for diagonal and for all other matrices share: one row of an image."""

import math

import numpy as np

from ._jit import exact, inlined
from ._lanes import row_sums

BLOCK = 32
"""Rows of the reference per partial sum."""

SOME = 32
"""Pixels of a row that tell where its pixels are."""

SHORT = 32
"""Rows of up to so many pixels are summed in float64: by chance, a few pixels may all be far from what is typical."""

ROOM = 16
"""Sums that fit one or two registers, in which `row_sums` writes them."""

_count = row_sums([(), (0,)], 0, masked=True)


@exact
def span(slope, offset, size, n):
    """Range of x in 0 .. n-1 with 0 <= slope * x + offset <= size - 1, exactly as that expression rounds."""
    if slope == 0.0:
        return (0, n) if 0.0 <= offset <= size - 1.0 else (0, 0)
    a = (0.0 - offset) / slope
    b = (size - 1.0 - offset) / slope
    low = np.int64(min(max(math.floor(min(a, b)) - 1.0, 0.0), np.float64(n)))
    high = np.int64(min(max(math.ceil(max(a, b)) + 2.0, 0.0), np.float64(n)))
    # Rounding moves the ends: far, where the slope is tiny.
    while low < high and not (0.0 <= offset + slope * np.float64(low) <= size - 1.0):
        low += 1
    while high > low and not (0.0 <= offset + slope * np.float64(high - 1) <= size - 1.0):
        high -= 1
    if low < high:
        while low > 0 and 0.0 <= offset + slope * np.float64(low - 1) <= size - 1.0:
            low -= 1
        while high < n and 0.0 <= offset + slope * np.float64(high) <= size - 1.0:
            high += 1
    return low, high


@inlined
def typical(image, row, width, first, size, sums):
    """Mean of some pixels of the row at image.flat[row], or of all of them where these have no value, or 0."""
    _count((image,), (row + first,), size, (), sums, 0)
    if sums[0] == 0.0:
        _count((image,), (row,), width, (), sums, 0)
    return np.float32(sums[1] / sums[0]) if sums[0] > 0.0 else np.float32(0.0)


@inlined
def pivot(image, row, width, first, last, kept, kept_for, place, sums):
    """A number that the pixels first..last of a row are not far from: the mean of some in the middle.

    About it, float32 sums of squares lose nothing, however far from zero an overlap is. It is kept, because candidates
    with nearly the same range share it.
    """
    size = last - first
    if size >= 2 * SOME:
        first = (first + last) // (2 * SOME) * SOME
        size = SOME
    elif size > SHORT:
        # One of few places, the first of them in the middle of the row, so that candidates share them.
        moved = (first + last - width + SOME // 2) // SOME * (SOME // 2)
        first = max(0, min((width - SOME) // 2 + moved, width - SOME))
        size = SOME
    key = (row + first) * (2 * SOME) + size
    if kept_for[place] != key:
        kept_for[place] = key
        kept[place] = typical(image, row, width, first, size, sums)
    return kept[place]
