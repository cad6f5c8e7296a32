# SPDX-License-Identifier: BSD-3-Clause
"""Planes centred and scaled, and smoothed by fitting a plane about each pixel, for correlation.

Every row has sums of its own, and the rows of an image are added in their order: the answer does not depend on how
rows are divided among threads, nor images among calls.
"""

import math

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
def _load(row, mask, out):
    """Row in float64, NaN where a pixel is invalid."""
    for x in range(out.size):
        v = np.float64(row[x])
        out[x] = v if mask[x] and math.isfinite(v) else np.nan


@fast
def _load_unmasked(row, out):
    for x in range(out.size):
        v = np.float64(row[x])
        out[x] = v if math.isfinite(v) else np.nan


@fast
def _sum(row):
    n = 0.0
    total = 0.0
    for x in range(row.size):
        v = row[x]
        ok = v == v
        n += 1.0 if ok else 0.0
        total += v if ok else 0.0
    return n, total


@fast
def _squares(row, mean):
    total = 0.0
    for x in range(row.size):
        d = row[x] - mean
        total += d * d if d == d else 0.0
    return total


@exact
def _row_sums(row, out):
    """Number of valid pixels, their mean and the sum of the squares of their deviations from it."""
    n, total = _sum(row)
    out[0] = n
    out[1] = total / n if n > 0.0 else 0.0
    out[2] = _squares(row, out[1])


@fast
def _scale(row, mean, factor, out):
    for x in range(out.size):
        out[x] = np.float32((row[x] - mean) * factor)


@exact
def load(images, mask, use_mask, keep, start, stop, values, sums):
    """Sums of the rows start..stop, counted through all images; their valid pixels, if `keep`.

    Parameters
    ----------
    images : (B, H, W)
    mask : (1 or B, H, W) bool
    values : (B, H, W) float64
        Output if `keep`, NaN where a pixel is invalid.
    sums : (B, H, 3) float64
        Output, see `_row_sums`.
    """
    height, width = images.shape[1], images.shape[2]
    buffer = np.empty(width)
    for item in range(start, stop):
        b, y = item // height, item % height
        row = values[b, y] if keep else buffer
        if use_mask:
            _load(images[b, y], mask[b if mask.shape[0] > 1 else 0, y], row)
        else:
            _load_unmasked(images[b, y], row)
        _row_sums(row, sums[b, y])


@exact
def moments(sums, out):
    """Pixels, mean and deviation (B, 3) of images from the sums (B, H, 3) of their rows, which are added in order."""
    for b in range(sums.shape[0]):
        n = 0.0
        total = 0.0
        for y in range(sums.shape[1]):
            n += sums[b, y, 0]
            total += sums[b, y, 0] * sums[b, y, 1]
        mean = total / max(n, 1.0)
        squares = 0.0
        for y in range(sums.shape[1]):
            d = sums[b, y, 1] - mean
            squares += sums[b, y, 2] + sums[b, y, 0] * d * d
        out[b, 0] = n
        out[b, 1] = mean
        out[b, 2] = math.sqrt(squares / max(n, 1.0))


@exact
def scale(images, mask, use_mask, means, factors, start, stop, out):
    """Centre and scale the rows start..stop as float32, NaN where a pixel is invalid."""
    height, width = images.shape[1], images.shape[2]
    buffer = np.empty(width)
    for item in range(start, stop):
        b, y = item // height, item % height
        if use_mask:
            _load(images[b, y], mask[b if mask.shape[0] > 1 else 0, y], buffer)
        else:
            _load_unmasked(images[b, y], buffer)
        _scale(buffer, means[b], factors[b], out[b, y])


@fast
def _centre(row, mean, values, valid):
    """Deviations from the mean and the mask as numbers, both 0 where a pixel is invalid."""
    for x in range(row.size):
        d = row[x] - mean
        ok = d == d
        values[x] = d if ok else 0.0
        valid[x] = 1.0 if ok else 0.0


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
def _along(row, pad, w, sign, out):
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
def _fit_row(given, ring, slots, weights, ridge, offset, work, out):
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
def _fit_whole_row(ring, slots, weights, full, level, radius, ridge, offset, work, out):
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


@exact
def _enter(row, mean, count, whole, full, weights, pad, padded, valid, ring, slot):
    """Put the moments of a row into the ring."""
    width = row.size
    _centre(row, mean, padded[pad : pad + width], valid[pad : pad + width])
    for i in range(2):
        _along(padded, pad, weights[i], -1.0 if i == 1 else 1.0, ring[3 + i, slot])
    if whole:
        return
    if count == width:
        ring[:3, slot] = full
    else:
        for i in range(3):
            _along(valid, pad, weights[i], -1.0 if i == 1 else 1.0, ring[i, slot])


@exact
def _surroundings(y, height, width, radius, weights, counts, slots, level):
    """Slots of the rows around a row, the moments `level` of those in the image, and whether they are whole.

    The slot past the ring is a row of zeros, for taps beyond the image and for those without weight.
    """
    size = 2 * radius + 1
    slots[:] = size
    slots[0] = y % size
    level[0] = weights[0, 0]
    level[1] = 0.0
    level[2] = 0.0
    whole = counts[y, 0] == width
    for k in range(1, radius + 1):
        if y + k < height:
            slots[2 * k - 1] = (y + k) % size
            level += weights[:, k]
            whole = whole and counts[y + k, 0] == width
        if y - k >= 0:
            slots[2 * k] = (y - k) % size
            level[0] += weights[0, k]
            level[1] -= weights[1, k]
            level[2] += weights[2, k]
            whole = whole and counts[y - k, 0] == width
    return whole


@exact
def fit(values, counts, means, wholes, weights, radius, ridge, start, stop, out, sums):
    """Replace each valid pixel of the rows start..stop by the plane that fits those around it, and sum the rows.

    Parameters
    ----------
    values : (B, H, W) float64
        NaN where a pixel is invalid.
    counts : (B, H, 3) float64
        The sums of the rows of `values`, of which the first is asked.
    means : (B,) float64
        Is subtracted before and added after.
    wholes : (B,) bool
        Images without an invalid pixel.
    weights : (3, 1 + n) float64
        Of a Gaussian, times 1, t and t^2, at distances 0, 1, 2, ..., with zeros up to a whole number of `GROUP`.
    ridge : float
        Added to the mean squares of distances.
    out : (B, H, W) float64
        Output, NaN where a pixel is invalid.
    sums : (B, H, 3) float64
        Output, see `_row_sums`.
    """
    height, width = values.shape[1], values.shape[2]
    pad = weights.shape[1] - 1
    size = 2 * radius + 1
    ring = np.zeros((MOMENTS, size + 1, width))
    work = np.empty((9, width))
    padded = np.zeros(width + 2 * pad)
    valid = np.zeros(width + 2 * pad)
    full = np.empty((3, width))
    slots = np.empty(2 * pad + 1, np.int64)
    level = np.empty(3)
    valid[pad : pad + width] = 1.0
    for i in range(3):
        _along(valid, pad, weights[i], -1.0 if i == 1 else 1.0, full[i])
    image = np.int64(-1)
    entered = np.int64(0)
    for item in range(start, stop):
        b, y = item // height, item % height
        if b != image:
            image = b
            entered = max(y - radius, 0)
        while entered < min(y + radius + 1, height):
            _enter(
                values[b, entered],
                means[b],
                counts[b, entered, 0],
                wholes[b],
                full,
                weights,
                pad,
                padded,
                valid,
                ring,
                entered % size,
            )
            entered += 1
        if counts[b, y, 0] == 0.0:
            out[b, y] = np.nan
        elif _surroundings(y, height, width, radius, weights, counts[b], slots, level):
            _fit_whole_row(ring, slots, weights, full, level, radius, ridge, means[b], work, out[b, y])
        else:
            _fit_row(values[b, y], ring, slots, weights, ridge, means[b], work, out[b, y])
        _row_sums(out[b, y], sums[b, y])
