# SPDX-License-Identifier: BSD-3-Clause
"""Planes fitted about each pixel of a row, from moments along x and then across rows."""

import numpy as np

from ._jit import exact, fast

GROUP = 3
"""Pairs of taps that are added in one pass over a row; lists of taps are filled up to a multiple with weights of 0."""

MOMENTS = 5
"""Of a row: the mask with weights 1, t and t^2, the values with 1 and t, where t is the distance in sigmas."""

ACROSS_ROW = (0, 0, 1, 0, 2, 1, 3, 3, 4)
ACROSS_POWER = (0, 1, 0, 2, 0, 1, 0, 1, 0)
"""Moments about a pixel: of n, y, x, yy, xx, yx, then of the values with 1, y and x; the power is that of y."""


@fast
def _middle(row, weight, out):
    for x in range(out.size):
        out[x] = weight * row[x]


@fast
def _pairs(a1, b1, a2, b2, a3, b3, w1, w2, w3, sign, out):
    """Add taps in pairs on both sides; the weights are even (sign 1) or odd (-1)."""
    for x in range(out.size):
        out[x] += w1 * (a1[x] + sign * b1[x]) + w2 * (a2[x] + sign * b2[x]) + w3 * (a3[x] + sign * b3[x])


@fast
def moments_along(row, pad, w, sign, out):
    """Correlate along a row, which has `pad` zeros on both sides; `w` are the weights at distances 0, 1, 2, ..."""
    n = out.size
    _middle(row[pad : pad + n], w[0], out)
    for k in range(1, w.size, GROUP):
        i, j = pad + k, pad - k
        _pairs(
            row[i : i + n],
            row[j : j + n],
            row[i + 1 : i + 1 + n],
            row[j - 1 : j - 1 + n],
            row[i + 2 : i + 2 + n],
            row[j - 2 : j - 2 + n],
            w[k],
            w[k + 1],
            w[k + 2],
            sign,
            out,
        )


@fast
def _across(rows, slots, w, sign, out):
    """Correlate across rows: slots[0] is the middle one, slots[2k - 1] and slots[2k] those k below and k above."""
    _middle(rows[slots[0]], w[0], out)
    for k in range(1, w.size, GROUP):
        s = slots[2 * k - 1 : 2 * k + 2 * GROUP - 1]
        _pairs(
            rows[s[0]], rows[s[1]], rows[s[2]], rows[s[3]], rows[s[4]], rows[s[5]], w[k], w[k + 1], w[k + 2], sign, out
        )


@fast
def _invert(n, y, x, yy, xx):
    """Means of the valid pixels' places in sigmas, and of their squares, from sums; n becomes 1 / n."""
    for j in range(n.size):
        c = 1.0 / n[j] if n[j] > 0.0 else 0.0
        y[j] *= c
        x[j] *= c
        yy[j] *= c
        xx[j] *= c
        n[j] = c


@fast
def _covariances(n, y, x, yy, xx, yx, ridge):
    for j in range(n.size):
        yy[j] = yy[j] - y[j] * y[j] + ridge
        xx[j] = xx[j] - x[j] * x[j] + ridge
        yx[j] = yx[j] * n[j] - y[j] * x[j]


@fast
def _slopes(yy, xx, yx, along_y, along_x):
    """Slopes of the plane in place of the covariances of the values with their places."""
    for j in range(yy.size):
        p = along_y[j]
        q = along_x[j]
        c = 1.0 / (yy[j] * xx[j] - yx[j] * yx[j])
        along_y[j] = (xx[j] * p - yx[j] * q) * c
        along_x[j] = (yy[j] * q - yx[j] * p) * c


@fast
def _with_values(n, y, x, mean, along_y, along_x):
    for j in range(n.size):
        m = mean[j] * n[j]
        mean[j] = m
        along_y[j] = along_y[j] * n[j] - y[j] * m
        along_x[j] = along_x[j] * n[j] - x[j] * m


@fast
def _plane(given, mean, along_y, along_x, y, x, offset, out):
    """Value of the plane at each pixel, NaN where `given`, the pixel, is."""
    for j in range(out.size):
        v = mean[j] - along_y[j] * y[j] - along_x[j] * x[j] + offset
        out[j] = v if given[j] == given[j] else np.nan


@exact
def fit_row(given, ring, slots, weights, ridge, offset, work, out):
    """Fit planes along one row from the moments of the rows around it."""
    n, y, x, yy, xx, yx = work[0], work[1], work[2], work[3], work[4], work[5]
    mean, along_y, along_x = work[6], work[7], work[8]
    # One call in a loop: nine of them would take seconds to compile.
    for i in range(9):
        power = ACROSS_POWER[i]
        _across(ring[ACROSS_ROW[i]], slots, weights[power], -1.0 if power == 1 else 1.0, work[i])
    _invert(n, y, x, yy, xx)
    _covariances(n, y, x, yy, xx, yx, ridge)
    _with_values(n, y, x, mean, along_y, along_x)
    _slopes(yy, xx, yx, along_y, along_x)
    _plane(given, mean, along_y, along_x, y, x, offset, out)


@fast
def _fit_column_of_whole(ring, slots, w, c, x, slope, j):
    """Share of the slope along x in the value of a pixel whose surroundings are whole."""
    total = w[0] * ring[4, slots[0], j]
    for k in range(1, w.size):
        total += w[k] * (ring[4, slots[2 * k - 1], j] + ring[4, slots[2 * k], j])
    return (total * c - x * slope) * x


@fast
def _whole(mean, along_y, inverse, c, y, yy, offset, out):
    for j in range(out.size):
        m = mean[j] * (inverse[j] * c)
        out[j] = m - (along_y[j] * (inverse[j] * c) - y * m) * (y / yy) + offset


@exact
def fit_whole_row(ring, slots, weights, full, level, radius, ridge, offset, work, out):
    """Do as `_fit_row` where all pixels around are valid, and the moments of the mask are products.

    `full` are the moments of the mask along a row, `level` those across the rows. Away from the borders those with t
    vanish, and the value of the plane is the mean.
    """
    width = out.size
    mean, along_y, inverse = work[0], work[1], work[2]
    _across(ring[3], slots, weights[0], 1.0, mean)
    c = 1.0 / level[0]
    y = level[1] * c
    if y != 0.0:
        _across(ring[3], slots, weights[1], -1.0, along_y)
    else:
        along_y[:] = 0.0
    for x in range(width):
        inverse[x] = 1.0 / full[0, x]
    _whole(mean, along_y, inverse, c, y, level[2] * c - y * y + ridge, offset, out)
    for x in range(width):
        if x >= radius and x < width - radius:
            continue
        s = full[1, x] * inverse[x]
        xx = full[2, x] * inverse[x] - s * s + ridge
        total = _fit_column_of_whole(ring, slots, weights[0], c * inverse[x], s, mean[x] * (c * inverse[x]), x)
        out[x] -= total / xx
