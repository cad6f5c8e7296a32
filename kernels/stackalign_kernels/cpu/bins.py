# SPDX-License-Identifier: BSD-3-Clause
"""Sums of the pixels of an image over bins that a table assigns.

Values are counted from a pivot, one pixel of the bin: the difference of two sums of squares then loses nothing that
matters, and one sweep is enough. `sums` has rows of three numbers: weight of invalid pixels, sum, sum of squares. Its
last row is that of pixels in no bin, which saves a branch. Integers of up to 16 bits need no pivot: sums are exact.
"""

import math

import numpy as np

from ._jit import exact

BLOCK = 32768
"""Pixels whose labels stay in the second-level cache."""


@exact
def pivot_values(images, mask, use_mask, pivots, out):
    """Value of the first valid one of three pixels of each bin; 0 where none is."""
    for n in range(images.shape[0]):
        for b in range(pivots.shape[1]):
            for k in range(3):
                p = pivots[k, b]
                if p >= 0 and (not use_mask or mask[n if mask.shape[0] > 1 else 0, p]):
                    v = np.float64(images[n, p])
                    if math.isfinite(v):
                        out[n, b] = v
                        break


@exact
def _add_block(r, m, use_mask, bins, pivots, sums):
    for x in range(r.size):
        b = bins[x]
        v = np.float64(r[x])
        if (not use_mask or m[x]) and math.isfinite(v):
            d = v - pivots[b]
            sums[b, 1] += d
            sums[b, 2] += d * d
        else:
            sums[b, 0] += 1.0


@exact
def add(images, mask, use_mask, labels, pivots, first, last, start, stop, sums):
    """Pixels start..stop of the images first..last whose pixels have one bin each and weight 1.

    Blocks of pixels are taken from one image after the other, so that their labels are read from memory once.
    """
    for begin in range(start, stop, BLOCK):
        end = min(begin + BLOCK, stop)
        for n in range(first, last):
            valid = mask[n if mask.shape[0] > 1 else 0, begin:end]
            _add_block(images[n, begin:end], valid, use_mask, labels[begin:end], pivots[n], sums[n])


@exact
def _add_integers(r, bins, even, odd):
    # Neighbours often share a bin, and the second would wait for the sum of the first.
    half = r.size // 2
    for x in range(half):
        b = bins[2 * x]
        c = bins[2 * x + 1]
        v = np.int64(r[2 * x])
        w = np.int64(r[2 * x + 1])
        even[b, 0] += v
        even[b, 1] += v * v
        odd[c, 0] += w
        odd[c, 1] += w * w
    if r.size > 2 * half:
        v = np.int64(r[2 * half])
        even[bins[2 * half], 0] += v
        even[bins[2 * half], 1] += v * v


@exact
def add_integers(images, labels, first, last, start, stop, sums):
    """As `add`, for integers of up to 16 bits that are all valid.

    `sums`, (N, 2, bins + 1, 2) int64, are those of values and of squares, of every other pixel.
    """
    for begin in range(start, stop, BLOCK):
        end = min(begin + BLOCK, stop)
        for n in range(first, last):
            _add_integers(images[n, begin:end], labels[begin:end], sums[n, 0], sums[n, 1])


@exact
def add_weighted(image, mask, use_mask, labels, weights, weighted, pivots, start, stop, sums):
    """Pixels start..stop of an image whose pixels have several bins."""
    for x in range(start, stop):
        v = np.float64(image[x])
        ok = (mask[x] or not use_mask) and math.isfinite(v)
        for k in range(labels.shape[1]):
            b = labels[x, k]
            w = np.float64(weights[x, k]) if weighted else 1.0
            if ok:
                d = v - pivots[b]
                sums[b, 1] += w * d
                sums[b, 2] += w * d * d
            else:
                sums[b, 0] += w
