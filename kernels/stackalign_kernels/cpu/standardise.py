# SPDX-License-Identifier: BSD-3-Clause
"""Planes centred and scaled, and smoothed by fitting a plane about each pixel, for correlation.

Every row has sums of its own, and the rows of an image are added in their order: the answer does not depend on how
rows are divided among threads, nor images among calls.
"""

import math

import numpy as np

from ._jit import exact, fast
from ._plane_fits import MOMENTS, fit_row, fit_whole_row, moments_along


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


@exact
def _enter(row, mean, count, whole, full, weights, pad, padded, valid, ring, slot):
    """Put the moments of a row into the ring."""
    width = row.size
    _centre(row, mean, padded[pad : pad + width], valid[pad : pad + width])
    for i in range(2):
        moments_along(padded, pad, weights[i], -1.0 if i == 1 else 1.0, ring[3 + i, slot])
    if whole:
        return
    if count == width:
        ring[:3, slot] = full
    else:
        for i in range(3):
            moments_along(valid, pad, weights[i], -1.0 if i == 1 else 1.0, ring[i, slot])


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
        moments_along(valid, pad, weights[i], -1.0 if i == 1 else 1.0, full[i])
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
            fit_whole_row(ring, slots, weights, full, level, radius, ridge, means[b], work, out[b, y])
        else:
            fit_row(values[b, y], ring, slots, weights, ridge, means[b], work, out[b, y])
        _row_sums(out[b, y], sums[b, y])
