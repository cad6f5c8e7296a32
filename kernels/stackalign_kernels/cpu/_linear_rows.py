# SPDX-License-Identifier: BSD-3-Clause
"""Rows of the moving image, sampled with their slopes along both axes: along x by a table, or with any matrix."""

import math

import numpy as np

from ._jit import exact, fast

NOT_A_NUMBER = np.float32(np.nan)


@exact
def axis_table(scale, offset, n, size, i0, w):
    """First tap and weight for q = scale * p + offset, p = 0 .. n-1, on an axis of `size` pixels; the valid range."""
    first, last = n, 0
    for p in range(n):
        q = scale * np.float64(p) + offset
        i0[p] = 0
        w[p] = np.float32(0.0)
        if 0.0 <= q <= np.float64(size - 1):
            k = np.int32(math.floor(q))
            i0[p] = k
            w[p] = np.float32(q - np.float64(k))
            first = min(first, p)
            last = p + 1
    return first, max(first, last)


@exact
def tap_runs(i0, w, xa, xb, starts):
    """Starts of runs in which taps are neighbours and weights are all zero or all not; their number."""
    zero = np.float32(0.0)
    n = 0
    for x in range(xa, xb):
        if x == xa or i0[x] != i0[x - 1] + 1 or (w[x] == zero) != (w[x - 1] == zero):
            starts[n] = x
            n += 1
    starts[n] = xb
    return n


@fast
def _blend(a, b, w, value, slope):
    for x in range(value.size):
        d = b[x] - a[x]
        slope[x] = d
        value[x] = a[x] + w[x] * d


@fast
def _edge(previous, here, following):
    """Slope where the surface has an edge: the mean of those differences that are not NaN, 0 without any."""
    zero, one, half = np.float32(0.0), np.float32(1.0), np.float32(0.5)
    back = here - previous
    ahead = following - here
    some = back == back
    more = ahead == ahead
    total = (back if some else zero) + (ahead if more else zero)
    return total * (half if some and more else one)


@fast
def edge_slopes(previous, here, following, slope):
    for x in range(slope.size):
        slope[x] = _edge(previous[x], here[x], following[x])


@fast
def _copy(a, out):
    for x in range(out.size):
        out[x] = a[x]


@fast
def stretch_row(row, i0, w, starts, n, value, slope):
    """Values and slopes of one row along x, run by run."""
    width = row.size
    for k in range(n):
        first, last = starts[k], starts[k + 1]
        p = np.int64(i0[first])
        q = p + last - first
        if w[first] != np.float32(0.0):
            _blend(row[p:q], row[p + 1 : q + 1], w[first:last], value[first:last], slope[first:last])
            continue
        _copy(row[p:q], value[first:last])
        # The outermost pixels lack a neighbour.
        if p == 0:
            slope[first] = _edge(NOT_A_NUMBER, row[0], row[1] if width > 1 else NOT_A_NUMBER)
            p += 1
            first += 1
        if q == width and p < q:
            slope[last - 1] = _edge(row[q - 2], row[q - 1], NOT_A_NUMBER)
            q -= 1
            last -= 1
        if p < q:
            edge_slopes(row[p - 1 : q - 1], row[p:q], row[p + 1 : q + 1], slope[first:last])


@fast
def row_along(a, slope, out):
    """The row that lies one pixel further along a slope."""
    for x in range(out.size):
        out[x] = a[x] + slope[x]


@fast
def given_rows(a, b, w, gy, gx, value, out):
    """Samples, and the rows that lie one pixel further along given slopes: not a number where one of these is not."""
    for x in range(out.size):
        v = a[x] + w * (b[x] - a[x])
        value[x] = v
        out[x] = v + gy[x] if gx[x] == gx[x] else gx[x]


@fast
def take_slopes(gy, gx, value, steep, slope):
    """Given slopes in place of those of the samples; where one is not a number, neither is the sample."""
    for x in range(value.size):
        both = gy[x] + gx[x]
        value[x] = value[x] if both == both else both
        steep[x] = gy[x]
        slope[x] = gx[x]


@exact
def row_taps(height, width, qy, dy, qx, dx, first, base, below, beside, fy, fx):
    """Flat indices of the taps and both weights for x = first, first + 1, ...; the number of weights that are zero.

    Apart from the loads, so that this half vectorises on every machine. Indices are unsigned: Numba would test each
    signed one for being negative. A fused multiply-add would miss weights of zero, and their slopes with them.
    """
    bottom = np.float64(height - 1)
    right = np.float64(width - 1)
    row = np.uint32(width)
    edges = np.int32(0)
    for j in range(base.size):
        x = np.float64(first + j)
        y = qy + dy * x
        u = qx + dx * x
        y = y if y > 0.0 else 0.0
        y = y if y < bottom else bottom
        u = u if u > 0.0 else 0.0
        u = u if u < right else right
        y0 = np.floor(y)
        u0 = np.floor(u)
        wy = np.float32(y - y0)
        wx = np.float32(u - u0)
        k = np.uint32(np.int32(y0)) * row + np.uint32(np.int32(u0))
        base[j] = k
        below[j] = k + (row if wy > np.float32(0.0) else np.uint32(0))
        beside[j] = np.uint32(1) if wx > np.float32(0.0) else np.uint32(0)
        edges += np.int32(0) if wy > np.float32(0.0) and wx > np.float32(0.0) else np.int32(1)
        fy[j] = wy
        fx[j] = wx
    return edges


@fast
def gather_row(image, base, below, beside, fy, fx, value, gy, gx):
    for j in range(value.size):
        a = image[base[j]]
        c = image[below[j]]
        upper = image[base[j] + beside[j]] - a
        lower = image[below[j] + beside[j]] - c
        top = a + fx[j] * upper
        step = c + fx[j] * lower - top
        value[j] = top + fy[j] * step
        gy[j] = step
        gx[j] = upper + fy[j] * (lower - upper)


@exact
def _pixel(image, y, x):
    inside = 0 <= y < image.shape[0] and 0 <= x < image.shape[1]
    return image[y, x] if inside else NOT_A_NUMBER


@exact
def _value_along(image, y, x, w):
    """A row interpolated along x."""
    a = _pixel(image, y, x)
    return a if w == np.float32(0.0) else a + w * (_pixel(image, y, x + 1) - a)


@exact
def _slope_along(image, y, x, w):
    a, b = _pixel(image, y, x), _pixel(image, y, x + 1)
    return _edge(_pixel(image, y, x - 1), a, b) if w == np.float32(0.0) else b - a


@exact
def mend_edges(image, base, fy, fx, gy, gx):
    """Slopes of the samples of which a weight is zero."""
    zero = np.float32(0.0)
    for j in range(base.size):
        if fy[j] > zero and fx[j] > zero:
            continue
        y, x = np.int64(base[j]) // image.shape[1], np.int64(base[j]) % image.shape[1]
        top = _slope_along(image, y, x, fx[j])
        if fy[j] > zero:
            gx[j] = top + fy[j] * (_slope_along(image, y + 1, x, fx[j]) - top)
        else:
            gx[j] = top
            above, here = _value_along(image, y - 1, x, fx[j]), _value_along(image, y, x, fx[j])
            gy[j] = _edge(above, here, _value_along(image, y + 1, x, fx[j]))
