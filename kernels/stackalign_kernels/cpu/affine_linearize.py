# SPDX-License-Identifier: BSD-3-Clause
"""One pass over a masked normalised cross-correlation and its derivatives: the sums that Gauss-Newton asks for.

Planes are as in `affine_ncc`. The bilinear surface has its exact derivatives in hand: the difference of two rows, and
the slopes of two rows. Within a row of the reference y is a constant, so that a row needs sums with the powers of x
alone, in float32 lanes; y comes in where they are added up in float64. A work item is a band of rows of one problem.

Where the matrix is diagonal, rows of the moving image are stretched along x first, values and slopes, and each serves
the rows above and below it.
"""

import math

import numpy as np

from ._jit import exact, fast

BAND = 32
"""Rows of the reference per partial sum."""

KEPT = 4
"""Stretched rows of the moving image that are kept: a row of the reference meets up to three that are neighbours."""

NOT_A_NUMBER = np.float32(np.nan)


@exact
def _axis_table(scale, offset, n, size, i0, w):
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
def _runs(i0, w, xa, xb, starts):
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
def _edges(previous, here, following, slope):
    for x in range(slope.size):
        slope[x] = _edge(previous[x], here[x], following[x])


@fast
def _copy(a, out):
    for x in range(out.size):
        out[x] = a[x]


@fast
def _stretch_row(row, i0, w, starts, n, value, slope):
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
            _edges(row[p - 1 : q - 1], row[p:q], row[p + 1 : q + 1], slope[first:last])


@fast
def _above(a, slope, out):
    """The row that lies one pixel further along a slope."""
    for x in range(out.size):
        out[x] = a[x] + slope[x]


@fast
def _given(a, b, w, gy, gx, value, out):
    """Samples, and the rows that lie one pixel further along given slopes: not a number where one of these is not."""
    for x in range(out.size):
        v = a[x] + w * (b[x] - a[x])
        value[x] = v
        out[x] = v + gy[x] if gx[x] == gx[x] else gx[x]


@fast
def _take(gy, gx, value, steep, slope):
    """Given slopes in place of those of the samples; where one is not a number, neither is the sample."""
    for x in range(value.size):
        both = gy[x] + gx[x]
        value[x] = value[x] if both == both else both
        steep[x] = gy[x]
        slope[x] = gx[x]


@fast
def _diagonal_sums(r, a, b, da, db, x, w):
    """Sums of a row of which gy is wanted with x**0 alone: those of a diagonal matrix."""
    zero, one = np.float32(0.0), np.float32(1.0)
    n, sr, sv, srr, svv, srv = zero, zero, zero, zero, zero, zero
    y, ry, vy, yy = zero, zero, zero, zero
    g, rg, vg, h, rh, vh = zero, zero, zero, zero, zero, zero
    yg, yh, gg, gh, hh = zero, zero, zero, zero, zero
    for j in range(r.size):
        gy = b[j] - a[j]
        v = a[j] + w * gy
        gx = da[j] + w * (db[j] - da[j])
        p = r[j] * v
        ok = p == p
        v = v if ok else zero
        q = r[j] if ok else zero
        gy = gy if ok else zero
        gx = gx if ok else zero
        hx = gx * x[j]
        n += one if ok else zero
        sr += q
        sv += v
        srr += q * q
        svv += v * v
        srv += q * v
        y += gy
        ry += q * gy
        vy += v * gy
        g += gx
        rg += q * gx
        vg += v * gx
        h += hx
        rh += q * hx
        vh += v * hx
        yy += gy * gy
        yg += gy * gx
        yh += gy * hx
        gg += gx * gx
        gh += gx * hx
        hh += hx * hx
    return n, sr, sv, srr, svv, srv, y, ry, vy, g, rg, vg, h, rh, vh, yy, yg, yh, gg, gh, hh


@fast
def _general_sums(r, v_row, gy_row, gx_row, x):
    """Sums of a row with x**0, x**1 and x**2."""
    zero, one = np.float32(0.0), np.float32(1.0)
    n, sr, sv, srr, svv, srv = zero, zero, zero, zero, zero, zero
    y, ry, vy, k, rk, vk = zero, zero, zero, zero, zero, zero
    g, rg, vg, h, rh, vh = zero, zero, zero, zero, zero, zero
    yy, yk, kk, yg, yh, kh, gg, gh, hh = zero, zero, zero, zero, zero, zero, zero, zero, zero
    for j in range(r.size):
        v = v_row[j]
        p = r[j] * v
        ok = p == p
        v = v if ok else zero
        q = r[j] if ok else zero
        gy = gy_row[j] if ok else zero
        gx = gx_row[j] if ok else zero
        ky = gy * x[j]
        hx = gx * x[j]
        n += one if ok else zero
        sr += q
        sv += v
        srr += q * q
        svv += v * v
        srv += q * v
        y += gy
        ry += q * gy
        vy += v * gy
        k += ky
        rk += q * ky
        vk += v * ky
        g += gx
        rg += q * gx
        vg += v * gx
        h += hx
        rh += q * hx
        vh += v * hx
        yy += gy * gy
        yk += gy * ky
        kk += ky * ky
        yg += gy * gx
        yh += gy * hx
        kh += ky * hx
        gg += gx * gx
        gh += gx * hx
        hh += hx * hx
    return n, sr, sv, srr, svv, srv, y, ry, vy, k, rk, vk, g, rg, vg, h, rh, vh, yy, yk, kk, yg, yh, kh, gg, gh, hh


@exact
def _add_diagonal(out, at, s):
    """Add the sums of a row at height `at` (from the middle) to the 42 of the protocol."""
    for i in range(6):
        out[i] += s[i]
    for weight in range(3):
        first = 6 + 6 * weight
        gy = np.float64(s[6 + weight])
        out[first] += at * gy
        out[first + 2] += gy
        out[first + 4] += s[12 + weight]
        out[first + 5] += s[9 + weight]
    yy = np.float64(s[15])
    out[24] += at * at * yy
    out[26] += at * yy
    out[29] += yy
    out[31] += at * s[17]
    out[32] += at * s[16]
    out[34] += s[17]
    out[35] += s[16]
    out[39] += s[20]
    out[40] += s[19]
    out[41] += s[18]


@exact
def _add_general(out, at, s):
    for i in range(6):
        out[i] += s[i]
    for weight in range(3):
        for axis in range(2):
            first = 6 + 6 * weight + 3 * axis
            g = np.float64(s[6 + 6 * axis + weight])
            out[first] += at * g
            out[first + 1] += s[9 + 6 * axis + weight]
            out[first + 2] += g
    for pair in range(3):
        first = 24 + 6 * pair
        g, h, hh = np.float64(s[18 + 3 * pair]), np.float64(s[19 + 3 * pair]), np.float64(s[20 + 3 * pair])
        out[first] += at * at * g
        out[first + 1] += at * h
        out[first + 2] += at * g
        out[first + 3] += hh
        out[first + 4] += h
        out[first + 5] += g


@exact
def _columns(width):
    """Coordinates along x, from the middle; exact in float32."""
    x = np.empty(width, np.float32)
    for j in range(width):
        x[j] = np.float32(np.float64(j) - 0.5 * np.float64(width - 1))
    return x


@exact
def diagonal(reference, moving, given, matrices, height_of_tile, width_of_tile, start, stop, partial):
    """Sums of the work items start..stop, an item being one band of rows of one problem.

    Parameters
    ----------
    reference, moving : (B, H, W), (B, Hm, Wm) float32
    given : (B, 2, H, W) float32
        Slopes to be used in place of those of the samples; none for none.
    matrices : (B, 2, 3) float64
    height_of_tile, width_of_tile : int
    partial : (B, tiles down, bands of a tile, tiles across, 42) float64
        Output, zeros before.
    """
    height, width = reference.shape[1], reference.shape[2]
    moving_height, moving_width = moving.shape[1], moving.shape[2]
    down, bands = partial.shape[1], partial.shape[2]
    coordinate = _columns(width)
    i0 = np.empty(width, np.int32)
    wx = np.empty(width, np.float32)
    starts = np.empty(width + 1, np.int64)
    values = np.empty((KEPT, width), np.float32)
    slopes = np.empty((KEPT, width), np.float32)
    held = np.full(KEPT, -1, np.int64)
    nothing = np.full(width, NOT_A_NUMBER, np.float32)
    steep = np.empty(width, np.float32)
    beyond = np.empty(width, np.float32)
    problem = np.int64(-1)
    xa, xb, n_runs = 0, 0, 0
    for item in range(start, stop):
        k = item // (down * bands)
        tile, band = item // bands % down, item % bands
        m = matrices[k]
        if k != problem:
            problem = k
            xa, xb = _axis_table(m[1, 1], m[1, 2], width, moving_width, i0, wx)
            n_runs = _runs(i0, wx, xa, xb, starts)
            held[:] = -1
        first = tile * height_of_tile + band * BAND
        last = min(first + BAND, (tile + 1) * height_of_tile, height)
        if xb <= xa:
            continue
        for y in range(first, last):
            q = m[0, 0] * np.float64(y) + m[0, 2]
            if not (0.0 <= q <= np.float64(moving_height - 1)):
                continue
            y0 = np.int64(math.floor(q))
            w = np.float32(q - np.float64(y0))
            on_edge = w == np.float32(0.0)
            for row in range(y0 - 1 if on_edge else y0, y0 + 2):
                if 0 <= row < moving_height and held[row % KEPT] != row:
                    held[row % KEPT] = row
                    _stretch_row(moving[k, row], i0, wx, starts, n_runs, values[row % KEPT], slopes[row % KEPT])
            a, da = values[y0 % KEPT], slopes[y0 % KEPT]
            if on_edge:
                above = values[(y0 - 1) % KEPT] if y0 > 0 else nothing
                below = values[(y0 + 1) % KEPT] if y0 + 1 < moving_height else nothing
                _edges(above[xa:xb], a[xa:xb], below[xa:xb], steep[xa:xb])
                _above(a[xa:xb], steep[xa:xb], beyond[xa:xb])
                b, db = beyond, da
            else:
                b, db = values[(y0 + 1) % KEPT], slopes[(y0 + 1) % KEPT]
            if given.shape[0] > 0:
                gy, gx = given[k, 0, y], given[k, 1, y]
                _given(
                    a[xa:xb], a[xa:xb] if on_edge else b[xa:xb], w, gy[xa:xb], gx[xa:xb], steep[xa:xb], beyond[xa:xb]
                )
                a, b, da, db, w = steep, beyond, gx, gx, np.float32(0.0)
            at = np.float64(y) - 0.5 * np.float64(height - 1)
            for t in range(xa // width_of_tile, (xb - 1) // width_of_tile + 1):
                i, j = max(xa, t * width_of_tile), min(xb, (t + 1) * width_of_tile)
                s = _diagonal_sums(reference[k, y, i:j], a[i:j], b[i:j], da[i:j], db[i:j], coordinate[i:j], w)
                _add_diagonal(partial[k, tile, band, t], at, s)


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
def _row_taps(height, width, qy, dy, qx, dx, first, base, below, beside, fy, fx):
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
def _gather_row(image, base, below, beside, fy, fx, value, gy, gx):
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
def _mend_edges(image, base, fy, fx, gy, gx):
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


@exact
def general(reference, moving, given, matrices, height_of_tile, width_of_tile, start, stop, partial):
    """Sums of the work items start..stop with any matrix; parameters as of `diagonal`."""
    height, width = reference.shape[1], reference.shape[2]
    moving_height, moving_width = moving.shape[1], moving.shape[2]
    down, bands = partial.shape[1], partial.shape[2]
    flat = moving.reshape(moving.shape[0], moving_height * moving_width)
    coordinate = _columns(width)
    base = np.empty(width, np.uint32)
    below = np.empty(width, np.uint32)
    beside = np.empty(width, np.uint32)
    fy = np.empty(width, np.float32)
    fx = np.empty(width, np.float32)
    values = np.empty(width, np.float32)
    steep = np.empty(width, np.float32)
    slopes = np.empty(width, np.float32)
    for item in range(start, stop):
        k = item // (down * bands)
        tile, band = item // bands % down, item % bands
        m = matrices[k]
        first = tile * height_of_tile + band * BAND
        last = min(first + BAND, (tile + 1) * height_of_tile, height)
        for y in range(first, last):
            qy = m[0, 0] * np.float64(y) + m[0, 2]
            qx = m[1, 0] * np.float64(y) + m[1, 2]
            xa, xb = _span(m[0, 1], qy, np.float64(moving_height), width)
            xc, xd = _span(m[1, 1], qx, np.float64(moving_width), width)
            xa, xb = max(xa, xc), min(xb, xd)
            if xb <= xa:
                continue
            n = xb - xa
            taps = (base[:n], below[:n], beside[:n], fy[:n], fx[:n])
            v, gy, gx = values[:n], steep[:n], slopes[:n]
            edges = _row_taps(moving_height, moving_width, qy, m[0, 1], qx, m[1, 1], xa, *taps)
            _gather_row(flat[k], *taps, v, gy, gx)
            if given.shape[0] > 0:
                _take(given[k, 0, y, xa:xb], given[k, 1, y, xa:xb], v, gy, gx)
            elif edges > 0:
                _mend_edges(moving[k], taps[0], taps[3], taps[4], gy, gx)
            at = np.float64(y) - 0.5 * np.float64(height - 1)
            for t in range(xa // width_of_tile, (xb - 1) // width_of_tile + 1):
                i, j = max(xa, t * width_of_tile), min(xb, (t + 1) * width_of_tile)
                p, q = i - xa, j - xa
                s = _general_sums(reference[k, y, i:j], v[p:q], gy[p:q], gx[p:q], coordinate[i:j])
                _add_general(partial[k, tile, band, t], at, s)
