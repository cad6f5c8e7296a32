# SPDX-License-Identifier: BSD-3-Clause
"""Masked normalised cross-correlation from correlation planes: what stands before and after the Fourier transforms.

Planes are float32, their rows and columns shifts. Twin of ``cuda/masked_ncc.cu``.
"""

import math

import numpy as np

from stackalign_kernels.cpu._jit import exact, fast

__all__ = [
    "covered_sums",
    "highest",
    "maps",
    "moments",
    "multiplied",
    "overlap_moments",
    "ring_maxima",
    "standardised",
]


@fast
def _row_sum(row, valid):
    n = 0.0
    s = 0.0
    for j in range(row.size):
        v = np.float64(row[j])
        ok = valid[j] and abs(v) < math.inf
        n += 1.0 if ok else 0.0
        s += v if ok else 0.0
    return n, s


@fast
def _row_deviation(row, valid, mean):
    s = 0.0
    for j in range(row.size):
        v = np.float64(row[j])
        d = v - mean if valid[j] and abs(v) < math.inf else 0.0
        s += d * d
    return s


@exact
def moments(image, mask):
    """Return the number, mean and deviation of the valid pixels of (D, H, W); the deviation is 0 without variance."""
    n, s = 0.0, 0.0
    for d in range(image.shape[0]):
        for y in range(image.shape[1]):
            row_n, row_s = _row_sum(image[d, y], mask[d, y])
            n += row_n
            s += row_s
    if n == 0.0:
        return n, 0.0, 0.0
    mean = s / n
    s = 0.0
    for d in range(image.shape[0]):
        for y in range(image.shape[1]):
            s += _row_deviation(image[d, y], mask[d, y], mean)
    deviation = math.sqrt(s / n)
    return n, mean, deviation if deviation > 1e-12 * abs(mean) else 0.0


@fast
def _standardise_row(row, valid, mean, scale, out):
    for j in range(row.size):
        v = np.float64(row[j])
        out[j] = np.float32((v - mean) * scale if valid[j] and abs(v) < math.inf else 0.0)


@fast
def _square_row(row, out):
    s = 0.0
    t = 0.0
    for j in range(row.size):
        square = row[j] * row[j]
        out[j] = square
        s += np.float64(row[j])
        t += np.float64(square)
    return s, t


@fast
def _turn_row(row, out):
    last = row.size - 1
    for j in range(row.size):
        out[j] = row[last - j]


@exact
def standardised(image, mask, turned, mean, deviation, values, squares):
    """Write an image (H, W) and its square as float32, 0 where invalid; turned by 180 degrees if `turned`.

    Rows of `values` and `squares` may be longer; what follows the image is left alone. Returns the sums of both.
    """
    height, width = image.shape
    scale = 1.0 / deviation if deviation > 0.0 else 0.0
    row = np.empty(width, np.float32)
    s, t = 0.0, 0.0
    for y in range(height):
        k = height - 1 - y if turned else y
        _standardise_row(image[y], mask[y], mean, scale, row)
        if turned:
            _turn_row(row, values[k, :width])
        else:
            values[k, :width] = row
        row_s, row_t = _square_row(values[k, :width], squares[k, :width])
        s += row_s
        t += row_t
    return s, t


@fast
def _multiply_row(a, b, out):
    for j in range(out.size):
        out[j] = a[j] * b[j]


@fast
def _multiply_add_row(a, b, out):
    for j in range(out.size):
        out[j] += a[j] * b[j]


@exact
def multiplied(a, b, out):
    """Write the sum over D of the products of spectra (D, rows, columns)."""
    for y in range(out.shape[0]):
        _multiply_row(a[0, y], b[0, y], out[y])
        for d in range(1, a.shape[0]):
            _multiply_add_row(a[d, y], b[d, y], out[y])


@fast
def _difference(a, b, out):
    for j in range(out.size):
        out[j] = a[j] - b[j]


@exact
def _between(row, low, before, after, out):
    """Write ``row[min(last, lag + before)] - row[max(0, lag - after)]`` for each lag, as slices."""
    last = row.size - 1
    n = max(0, min(out.size, last - before - low + 1))
    out[:n] = row[low + before : low + before + n]
    out[n:] = row[last]
    n = max(0, min(out.size, after - low))
    _difference(out[n:], row[low - after + n : low - after + out.size], out[n:])


@exact
def covered_sums(planes, width, low, before, after, out):
    """Write the sums of planes (D, rows, columns) over what a frame without a mask covers of them, lag by lag.

    At a lag the frame covers ``max(0, lag - after) : min(size, lag + before)`` along each axis. Sums are differences of
    running sums in float64, so that a lag costs four numbers, however large the frame is. `low` is the first lag of
    `out`, float64; the planes have `width` columns, what follows them in a row is not read.
    """
    depth, height = planes.shape[:2]
    table = np.zeros((height + 1, width + 1))
    for y in range(height):
        total = 0.0
        for x in range(width):
            for d in range(depth):
                total += np.float64(planes[d, y, x])
            table[y + 1, x + 1] = table[y, x + 1] + total
    row = np.empty(width + 1)
    for k in range(out.shape[0]):
        lag = low[0] + k
        _difference(table[min(height, lag + before[0])], table[max(0, lag - after[0])], row)
        _between(row, low[1], before[1], after[1], out[k])


@fast
def _moments_row(overlap, sums, squares, n, mean, variance):
    for j in range(n.size):
        count = np.float64(round(np.float64(overlap[j])))
        some = max(count, 1.0)
        m = np.float64(sums[j]) / some
        n[j] = np.int32(count)
        mean[j] = np.float32(m)
        variance[j] = np.float32(np.float64(squares[j]) - m * np.float64(sums[j]))


@exact
def overlap_moments(overlap, sums, squares, n, mean, variance):
    """Round overlaps to integers; from sums over them, write means and sums of squared deviations."""
    for y in range(n.shape[0]):
        _moments_row(overlap[y], sums[y], squares[y], n[y], mean[y], variance[y])


@fast
def _score_row(n, mean_r, var_r, rv, v, vv, least, flat_r, flat_v, out):
    for j in range(out.size):
        mean_v = v[j] / np.float32(max(n[j], 1))
        covariance = rv[j] - mean_r[j] * v[j]
        var_v = vv[j] - mean_v * v[j]
        ok = n[j] >= least and var_r[j] > flat_r and var_v > flat_v
        s = covariance / np.float32(math.sqrt(var_r[j] * var_v if ok else np.float32(1.0)))
        s = min(np.float32(1.0), max(np.float32(-1.0), s))
        out[j] = s if ok else np.float32(0.0)


@exact
def maps(fixed, varying, column, least, flat, out):
    """Combine planes into the scores of a window of lags.

    `fixed` is (n, mean_r, var_r) of `overlap_moments` and `varying` (rv, v, vv), float32: rows those of `out`, columns
    beginning at `column`. A plane v or vv of one row is the same for all rows. Scores are 0 where n is below `least` or
    a variance not above its `flat`.
    """
    n, mean_r, var_r = fixed
    rv, v, vv = varying
    a, b = column, column + out.shape[1]
    for y in range(out.shape[0]):
        k = y if v.shape[0] > 1 else 0
        own = rv[y, a:b], v[k, a:b], vv[k, a:b]
        _score_row(n[y, a:b], mean_r[y, a:b], var_r[y, a:b], *own, least, flat[0], flat[1], out[y])


@fast
def _row_max(row):
    m = row[0]
    for j in range(row.size):
        m = max(m, row[j])
    return m


@fast
def _keep_larger(row, out):
    for j in range(row.size):
        out[j] = max(out[j], row[j])


@exact
def highest(scores):
    """Return row and column of the highest score of a map, the first of several."""
    best, row = scores[0, 0], 0
    for y in range(scores.shape[0]):
        m = _row_max(scores[y])
        if m > best:
            best, row = m, y
    for x in range(scores.shape[1]):
        if scores[row, x] == best:
            return row, x
    return row, 0


@exact
def ring_maxima(scores, row, column, out):
    """Write the highest score at each larger of the two distances |y - row|, |x - column|; -2 where a ring is empty."""
    height, width = scores.shape
    out[:] = np.float32(-2.0)
    beside = np.full(width, np.float32(-2.0))
    for y in range(height):
        d = abs(y - row)
        a, b = max(0, column - d), min(width, column + d + 1)
        out[d] = max(out[d], _row_max(scores[y, a:b]))
        if a > 0:
            _keep_larger(scores[y, :a], beside[:a])
        if b < width:
            _keep_larger(scores[y, b:], beside[b:])
    for x in range(width):
        d = abs(x - column)
        out[d] = max(out[d], beside[x])
