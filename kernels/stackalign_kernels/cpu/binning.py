# SPDX-License-Identifier: BSD-3-Clause
"""Means of the valid pixels of blocks."""

import math

import numpy as np

from ._jit import borrowing, exact


@exact
def _add_row(pixels, mask, use_mask, sums, counts):
    for x in range(pixels.size):
        v = np.float64(pixels[x])
        ok = (mask[x] or not use_mask) and math.isfinite(v)
        sums[x] += v if ok else 0.0
        counts[x] += 1 if ok else 0


@exact
def bin_rows(images, mask, use_mask, fy, fx, start, stop, means, counts):
    """Rows start..stop of all results (N, h, w), one after the other: columns are added first, then along x."""
    used = means.shape[2] * fx
    _rows(images, mask, use_mask, fy, fx, start, stop, np.empty(used), np.empty(used, np.int32), means, counts)


@borrowing
def _rows(images, mask, use_mask, fy, fx, start, stop, sums, numbers, means, counts):
    """See `bin_rows`, which has made the arrays."""
    height, width = means.shape[1], means.shape[2]
    used = sums.size
    for item in range(start, stop):
        n = item // height
        y = item % height
        frame = n if mask.shape[0] > 1 else 0
        sums[:] = 0.0
        numbers[:] = 0
        for i in range(y * fy, y * fy + fy):
            _add_row(images[n, i, :used], mask[frame, i, :used], use_mask, sums, numbers)
        for x in range(width):
            total = 0.0
            count = 0
            for j in range(x * fx, x * fx + fx):
                total += sums[j]
                count += numbers[j]
            counts[n, y, x] = count
            means[n, y, x] = total / np.float64(count) if count > 0 else np.nan
