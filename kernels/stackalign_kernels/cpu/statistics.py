# SPDX-License-Identifier: BSD-3-Clause
"""Statistics of each pixel over the first axis of a stack."""

import math

import numpy as np

from ._jit import exact

MOST_INTEGERS = 32767
"""Frames whose sum of 16-bit numbers fits into 32 bits, and that sum squared into 64."""


@exact
def _first_sweep(r, m, use_mask, count, low, high, total):
    for x in range(r.size):
        v = np.float64(r[x])
        ok = (m[x] or not use_mask) and math.isfinite(v)
        total[x] += v if ok else 0.0
        count[x] += 1 if ok else 0
        low[x] = v if ok and v < low[x] else low[x]
        high[x] = v if ok and v > high[x] else high[x]


@exact
def _second_sweep(r, m, use_mask, mean, m2):
    for x in range(r.size):
        v = np.float64(r[x])
        ok = (m[x] or not use_mask) and math.isfinite(v)
        d = v - mean[x] if ok else 0.0
        m2[x] += d * d


@exact
def pixels(stack, mask, use_mask, start, stop, count, low, high, mean, m2):
    """Count, extrema, mean and sum of squared deviations of the pixels start..stop of stack (N, H*W), mask likewise.

    Two sweeps over a band of pixels that stays in cache: squares of deviations from the mean do not cancel, as the
    difference of two sums of squares does.
    """
    low[start:stop] = np.inf
    high[start:stop] = -np.inf
    count[start:stop] = 0
    mean[start:stop] = 0.0
    m2[start:stop] = 0.0
    c, a, b, t, q = count[start:stop], low[start:stop], high[start:stop], mean[start:stop], m2[start:stop]
    for n in range(stack.shape[0]):
        _first_sweep(stack[n, start:stop], mask[n if mask.shape[0] > 1 else 0, start:stop], use_mask, c, a, b, t)
    for x in range(stop - start):
        if c[x] > 0:
            t[x] /= c[x]
        else:
            a[x] = np.nan
            b[x] = np.nan
    for n in range(stack.shape[0]):
        _second_sweep(stack[n, start:stop], mask[n if mask.shape[0] > 1 else 0, start:stop], use_mask, t, q)


@exact
def _sweep_integers(r, low, high, total, squares):
    for x in range(r.size):
        v = np.int32(r[x])
        low[x] = min(low[x], v)
        high[x] = max(high[x], v)
        total[x] += v
        squares[x] += np.int64(v) * np.int64(v)


@exact
def _sweep_masked_integers(r, m, count, low, high, total, squares):
    for x in range(r.size):
        v = np.int32(r[x])
        ok = m[x]
        count[x] += 1 if ok else 0
        low[x] = v if ok and v < low[x] else low[x]
        high[x] = v if ok and v > high[x] else high[x]
        w = v if ok else np.int32(0)
        total[x] += w
        squares[x] += np.int64(w) * np.int64(w)


@exact
def pixels_of_integers(stack, mask, use_mask, start, stop, count, low, high, mean, m2):
    """As `pixels`, for at most `MOST_INTEGERS` frames of integers of up to 16 bits: sums are exact.

    With a mask too: one that hides nothing must not change a bit.
    """
    n = stack.shape[0]
    size = stop - start
    a = np.full(size, np.int32(2**31 - 1), np.int32)
    b = np.full(size, np.int32(-(2**31)), np.int32)
    total = np.zeros(size, np.int32)
    squares = np.zeros(size, np.int64)
    count[start:stop] = 0 if use_mask else n
    c = count[start:stop]
    for k in range(n):
        if use_mask:
            m = mask[k if mask.shape[0] > 1 else 0, start:stop]
            _sweep_masked_integers(stack[k, start:stop], m, c, a, b, total, squares)
        else:
            _sweep_integers(stack[k, start:stop], a, b, total, squares)
    for x in range(size):
        t = np.int64(total[x])
        seen = np.int64(c[x])
        if seen == 0:
            low[start + x] = np.nan
            high[start + x] = np.nan
            mean[start + x] = 0.0
            m2[start + x] = 0.0
        else:
            low[start + x] = a[x]
            high[start + x] = b[x]
            mean[start + x] = np.float64(t) / seen
            m2[start + x] = np.float64(seen * squares[x] - t * t) / seen
