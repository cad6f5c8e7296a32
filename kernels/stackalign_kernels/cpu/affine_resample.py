# SPDX-License-Identifier: BSD-3-Clause
"""Images sampled through pull matrices, orders 0, 1 and 3, and means over bins.

Planes are float32 or float64 with NaN (or infinity) where a pixel is invalid; for order 3 they hold the coefficients of
the cubic B-spline. A work item is one block of rows of one output, whatever thread takes it. Coordinates are exact
float64; a tap of weight 0 is no tap: its index then repeats a tap that counts. What is not finite in the end is NaN.
"""

import math

import numpy as np

from ._jit import exact, fast

BLOCK = 32
"""Rows of an output per work item."""


@exact
def _span(slope, offset, size, n):
    """Range of x in 0 .. n-1 with 0 <= slope * x + offset <= size - 1, exactly as that expression rounds."""
    if slope == 0.0:
        return (0, n) if 0.0 <= offset <= size - 1.0 else (0, 0)
    a = (0.0 - offset) / slope
    b = (size - 1.0 - offset) / slope
    low = np.int64(min(max(math.floor(min(a, b)) - 1.0, 0.0), np.float64(n)))
    high = np.int64(min(max(math.ceil(max(a, b)) + 2.0, 0.0), np.float64(n)))
    while low < high and not (0.0 <= offset + slope * np.float64(low) <= size - 1.0):
        low += 1
    while high > low and not (0.0 <= offset + slope * np.float64(high - 1) <= size - 1.0):
        high -= 1
    return low, high


@exact
def _clear(out):
    for x in range(out.size):
        out[x] = np.nan


@fast
def _finite(out, largest):
    """Replace what is not finite by NaN."""
    for x in range(out.size):
        v = out[x]
        out[x] = v if abs(v) <= largest else out.dtype.type(np.nan)


# --- order 0 ---------------------------------------------------------------------------------------------------------


@exact
def _nearest_row(image, row, qy, dy, qx, dx, first, base, out):
    # Positions are not negative, where the integer part is the floor; that conversion is much the faster one.
    for j in range(out.size):
        x = np.float64(first + j)
        base[j] = np.uint32(np.int32((qy + dy * x) + 0.5)) * row + np.uint32(np.int32((qx + dx * x) + 0.5))
    for j in range(out.size):
        out[j] = image[base[j]]


# --- order 1 ---------------------------------------------------------------------------------------------------------


@exact
def _row_taps(row, qy, dy, qx, dx, first, base, below, beside, fy, fx):
    """Flat indices of the four taps and both weights for x = first, first + 1, ...

    Apart from the loads, so that this half vectorises on every machine. Indices are unsigned: Numba would test each
    signed one for being negative. Positions are not negative, so that the integer part is the floor.
    """
    for j in range(base.size):
        x = np.float64(first + j)
        y = qy + dy * x
        u = qx + dx * x
        y0 = np.int32(y)
        u0 = np.int32(u)
        fy[j] = y - np.float64(y0)
        fx[j] = u - np.float64(u0)
        k = np.uint32(y0) * row + np.uint32(u0)
        base[j] = k
        # Asked of the weights as they are stored: one that is rounded to 0 has no tap either.
        below[j] = k + (row if fy[j] > 0 else np.uint32(0))
        beside[j] = np.uint32(1) if fx[j] > 0 else np.uint32(0)


@fast
def _gather_row(image, base, below, beside, fy, fx, largest, out):
    for j in range(out.size):
        a = image[base[j]]
        c = image[below[j]]
        b = image[base[j] + beside[j]]
        d = image[below[j] + beside[j]]
        top = a + fx[j] * (b - a)
        low = c + fx[j] * (d - c)
        v = top + fy[j] * (low - top)
        out[j] = v if abs(v) <= largest else out.dtype.type(np.nan)


@exact
def _axis_table(scale, offset, first, i0, i1, w):
    """Taps and weights for q = scale * x + offset, x = first, first + 1, ..."""
    for j in range(i0.size):
        q = scale * np.float64(first + j) + offset
        k = np.floor(q)
        w[j] = q - k
        i0[j] = np.int32(k)
        i1[j] = i0[j] + (1 if w[j] > 0 else 0)


@exact
def _runs(i0, i1, starts):
    """Starts of runs in which the taps stay neighbours, and their number: a run is read as a slice."""
    n = 0
    for x in range(i0.size):
        if x == 0 or i0[x] != i0[x - 1] + 1 or i1[x] - i0[x] != i1[x - 1] - i0[x - 1]:
            starts[n] = x
            n += 1
    starts[n] = i0.size
    return n


@fast
def _blend(a, b, w, out):
    for x in range(out.size):
        out[x] = a[x] + w[x] * (b[x] - a[x])


@fast
def _blend_rows(a, b, w, largest, out):
    for x in range(out.size):
        v = a[x] + w * (b[x] - a[x])
        out[x] = v if abs(v) <= largest else out.dtype.type(np.nan)


@exact
def _stretch_row(row, i0, i1, w, starts, n, out):
    """Interpolate one row along x, run by run."""
    for k in range(n):
        first, last = starts[k], starts[k + 1]
        p = np.int64(i0[first])
        q = np.int64(i1[first])
        _blend(row[p : p + last - first], row[q : q + last - first], w[first:last], out[first:last])


@exact
def _linear_diagonal(plane, m, largest, y_first, out):
    """Rows of an output under a diagonal matrix: each row of the plane is stretched once, then rows are blended."""
    width = out.shape[1]
    xa, xb = _span(m[1, 1], m[1, 2], np.float64(plane.shape[1]), width)
    n_x = xb - xa
    i0 = np.empty(n_x, np.int32)
    i1 = np.empty(n_x, np.int32)
    wx = np.empty(n_x, plane.dtype)
    wy = np.empty(1, plane.dtype)
    starts = np.empty(n_x + 1, np.int64)
    kept = np.empty((2, n_x), plane.dtype)
    which = np.full(2, -1, np.int64)  # the rows of the plane that are kept
    _axis_table(m[1, 1], m[1, 2], xa, i0, i1, wx)
    n_runs = _runs(i0, i1, starts)
    for i in range(out.shape[0]):
        q = m[0, 0] * np.float64(y_first + i) + m[0, 2]
        if n_x <= 0 or not (0.0 <= q <= np.float64(plane.shape[0] - 1)):
            _clear(out[i])
            continue
        y0 = np.int64(math.floor(q))
        wy[0] = q - np.float64(y0)
        y1 = y0 + 1 if wy[0] > 0 else y0
        upper = 0 if which[0] == y0 else (1 if which[1] == y0 else (1 if which[0] == y1 else 0))
        if which[upper] != y0:
            which[upper] = y0
            _stretch_row(plane[y0], i0, i1, wx, starts, n_runs, kept[upper])
        lower = upper if y1 == y0 else 1 - upper
        if which[lower] != y1:
            which[lower] = y1
            _stretch_row(plane[y1], i0, i1, wx, starts, n_runs, kept[lower])
        _clear(out[i, :xa])
        _clear(out[i, xb:])
        _blend_rows(kept[upper], kept[lower], wy[0], largest, out[i, xa:xb])


# --- order 3 ---------------------------------------------------------------------------------------------------------


@exact
def _cubic_taps(q, dq, first, n, size, step, taps, weights):
    """Mirrored indices times `step` and weights of the taps -1, 0, 1, 2, for x = first .. first + n - 1.

    They are the first n of each row of `taps` and `weights`, which come whole: parts of rows have unknown strides, and
    loops over them take twice as long.

    A tap of weight 0 repeats one that counts: the pixel itself, which has weight in any case but that of a fraction
    rounded to 1, and then the next one.
    """
    one = weights.dtype.type(1)
    two = weights.dtype.type(2)
    three = weights.dtype.type(3)
    four = weights.dtype.type(4)
    sixth = one / weights.dtype.type(6)
    last = np.int32(size - 1)
    for j in range(n):
        x = q + dq * np.float64(first + j)
        k = np.int32(x)
        weights[3, j] = x - np.float64(k)
        f = weights[3, j]
        g = one - f
        weights[0, j] = g * g * g * sixth
        weights[1, j] = (f * f * (f - two) * three + four) * sixth
        weights[2, j] = (g * g * (g - two) * three + four) * sixth
        weights[3, j] = f * f * f * sixth
        for t in range(4):
            taps[t, j] = np.uint32(k + np.int32(t - 1)) * step
    begin, end = q + dq * np.float64(first), q + dq * np.float64(first + n - 1)
    if min(begin, end) < 1.0 or max(begin, end) >= np.float64(size - 2):  # some taps lie beyond the border
        for j in range(n):
            k = np.int32(q + dq * np.float64(first + j))
            for t in range(4):
                i = abs(k + np.int32(t - 1))
                i = abs(np.int32(2) * last - i) if i > last else i
                taps[t, j] = np.uint32(min(i, last)) * step
    for t in range(0, 4, 3):
        for j in range(n):
            if weights[t, j] == 0:
                taps[t, j] = taps[1, j] if t == 3 else taps[2, j]


@exact
def _cubic_row(image, ty, wy, tx, wx, out):
    for j in range(out.size):
        v = out.dtype.type(0)
        for t in range(4):
            k = ty[t, j]
            v += wy[t, j] * (
                wx[0, j] * image[k + tx[0, j]]
                + wx[1, j] * image[k + tx[1, j]]
                + wx[2, j] * image[k + tx[2, j]]
                + wx[3, j] * image[k + tx[3, j]]
            )
        out[j] = v


@fast
def _cubic_stretch(row, tx, wx, out):
    """Interpolate a row of coefficients along x."""
    for j in range(out.size):
        out[j] = (
            wx[0, j] * row[tx[0, j]] + wx[1, j] * row[tx[1, j]] + wx[2, j] * row[tx[2, j]] + wx[3, j] * row[tx[3, j]]
        )


@fast
def _cubic_blend(a, b, c, d, w, largest, out):
    for j in range(out.size):
        v = w[0] * a[j] + w[1] * b[j] + w[2] * c[j] + w[3] * d[j]
        out[j] = v if abs(v) <= largest else out.dtype.type(np.nan)


@exact
def _cubic_diagonal(plane, m, largest, y_first, out):
    """Rows of an output through a diagonal matrix: each row of coefficients is interpolated along x once."""
    height, width = plane.shape
    xa, xb = _span(m[1, 1], m[1, 2], np.float64(width), out.shape[1])
    n_x = max(xb - xa, 0)
    tx, wx = np.empty((4, n_x), np.uint32), np.empty((4, n_x), plane.dtype)
    ty, wy = np.empty((4, 1), np.uint32), np.empty((4, 1), plane.dtype)
    _cubic_taps(m[1, 2], m[1, 1], xa, n_x, width, np.uint32(1), tx, wx)
    kept = np.empty((4, n_x), plane.dtype)
    which = np.full(4, -1, np.int64)  # the row of the plane in each place, row modulo 4
    for i in range(out.shape[0]):
        q = m[0, 0] * np.float64(y_first + i) + m[0, 2]
        if n_x == 0 or not (0.0 <= q <= np.float64(height - 1)):
            _clear(out[i])
            continue
        _cubic_taps(q, 0.0, 0, 1, height, np.uint32(1), ty, wy)
        for t in range(4):
            y = np.int64(ty[t, 0])
            if which[y % 4] != y:
                which[y % 4] = y
                _cubic_stretch(plane[y], tx, wx, kept[y % 4])
        _clear(out[i, :xa])
        _clear(out[i, xb:])
        a, b, c, d = kept[ty[0, 0] % 4], kept[ty[1, 0] % 4], kept[ty[2, 0] % 4], kept[ty[3, 0] % 4]
        _cubic_blend(a, b, c, d, wy[:, 0].copy(), largest, out[i, xa:xb])


# --- all orders ------------------------------------------------------------------------------------------------------


@exact
def resample(planes, matrices, order, largest, start, stop, out):
    """Work items start..stop.

    Parameters
    ----------
    planes : (1 or M, H, W)
        With NaN where a pixel is invalid; coefficients for order 3.
    matrices : (M, 2, 3) float64
    order : int
        0, 1 or 3.
    largest : scalar of the planes' type
        The largest finite number.
    out : (M, h, w)
        Of the planes' type.
    """
    height, width = planes.shape[1], planes.shape[2]
    flat = planes.reshape(planes.shape[0], height * width)
    blocks = (out.shape[1] + BLOCK - 1) // BLOCK
    size = out.shape[2]
    base = np.empty(size, np.uint32)
    below = np.empty(size, np.uint32)
    beside = np.empty(size, np.uint32)
    fy = np.empty(size, planes.dtype)
    fx = np.empty(size, planes.dtype)
    ty, tx = np.empty((4, size), np.uint32), np.empty((4, size), np.uint32)
    wy, wx = np.empty((4, size), planes.dtype), np.empty((4, size), planes.dtype)
    for item in range(start, stop):
        k = item // blocks
        p = k if planes.shape[0] > 1 else 0
        m = matrices[k]
        y_first = item % blocks * BLOCK
        y_last = min(y_first + BLOCK, out.shape[1])
        if order == 1 and m[0, 1] == 0.0 and m[1, 0] == 0.0:
            _linear_diagonal(planes[p], m, largest, y_first, out[k, y_first:y_last])
            continue
        if order == 3 and m[0, 1] == 0.0 and m[1, 0] == 0.0:
            _cubic_diagonal(planes[p], m, largest, y_first, out[k, y_first:y_last])
            continue
        for y in range(y_first, y_last):
            qy = m[0, 0] * np.float64(y) + m[0, 2]
            qx = m[1, 0] * np.float64(y) + m[1, 2]
            xa, xb = _span(m[0, 1], qy, np.float64(height), size)
            xc, xd = _span(m[1, 1], qx, np.float64(width), size)
            xa = max(xa, xc)
            xb = max(xa, min(xb, xd))
            _clear(out[k, y, :xa])
            _clear(out[k, y, xb:])
            n = xb - xa
            if n == 0:
                continue
            row = out[k, y, xa:xb]
            if order == 0:
                _nearest_row(flat[p], np.uint32(width), qy, m[0, 1], qx, m[1, 1], xa, base[:n], row)
            elif order == 1:
                taps = (base[:n], below[:n], beside[:n], fy[:n], fx[:n])
                _row_taps(np.uint32(width), qy, m[0, 1], qx, m[1, 1], xa, *taps)
                _gather_row(flat[p], *taps, largest, row)
            else:
                _cubic_taps(qy, m[0, 1], xa, n, height, np.uint32(width), ty, wy)
                _cubic_taps(qx, m[1, 1], xa, n, width, np.uint32(1), tx, wx)
                _cubic_row(flat[p], ty, wy, tx, wx, row)
            if order != 1:
                _finite(row, largest)
