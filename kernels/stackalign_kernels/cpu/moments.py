# SPDX-License-Identifier: BSD-3-Clause
"""Second moments of patterns about their centres."""

import math

import numpy as np

from ._jit import borrowing, exact, fast


@exact
def _usable(r, m, use_mask, out):
    """Copy a row in float64 with its invalid pixels as 0."""
    for x in range(r.size):
        v = np.float64(r[x])
        out[x] = v if (m[x] or not use_mask) and math.isfinite(v) else 0.0


@fast
def _row_sums(r, dx):
    """Sums of p, p*dx and p*dx*dx: finite numbers alone, so that their order may be the processor's own."""
    s0 = 0.0
    s1 = 0.0
    s2 = 0.0
    for x in range(r.size):
        v = r[x]
        first = v * dx[x]
        s0 += v
        s1 += first
        s2 += first * dx[x]
    return s0, s1, s2


@exact
def second_moments(patterns, mask, use_mask, centers, start, stop, out):
    """Sums of p, p*dy*dy, p*dy*dx and p*dx*dx of the patterns start..stop, row by row."""
    width = patterns.shape[2]
    _patterns(patterns, mask, use_mask, centers, start, stop, np.empty(width), np.empty(width), out)


@borrowing
def _patterns(patterns, mask, use_mask, centers, start, stop, row, dx, out):
    """See `second_moments`, which has made the arrays."""
    height, width = patterns.shape[1], patterns.shape[2]
    for n in range(start, stop):
        m = mask[n if mask.shape[0] > 1 else 0]
        for x in range(width):
            dx[x] = np.float64(x) - centers[n, 1]
        out[n] = 0.0
        for y in range(height):
            _usable(patterns[n, y], m[y], use_mask, row)
            s0, s1, s2 = _row_sums(row, dx)
            dy = np.float64(y) - centers[n, 0]
            out[n, 0] += s0
            out[n, 1] += dy * dy * s0
            out[n, 2] += dy * s1
            out[n, 3] += s2
