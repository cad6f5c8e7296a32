# SPDX-License-Identifier: BSD-3-Clause
"""Sums for a Gauss-Newton step on the masked normalised cross-correlation, in one pass over the images.

A sample of the moving image is v, its derivatives along the axes of the moving image are gy and gx: the differences of
the bilinear cell that it lies in. From their products with 1, x and x^2 along a row, and with y and y^2 beyond, follow
the sums that a linearization with respect to the six numbers of a pull matrix needs. They are listed at
`stackalign.backends._protocol.Backend.linearize_affine`.

Along a row sums are float32, in lanes; beyond, float64 in a fixed order.
"""

import math

import numpy as np

from ._jit import exact, fast

BLOCK = 32
"""Rows of the reference per partial sum where the image is not divided into tiles."""

SUMS = 42

KEPT = 4
"""Stretched rows of the moving image that are kept. A row of the reference needs two neighbours among them."""


@exact
def _axis_table(scale, offset, n, size, i0, i1, cell, w):
    """Taps, cell and weight for q = scale * p + offset, p = 0 .. n-1, on an axis of `size` pixels; the valid range.

    A tap of weight 0 is not a tap: the second index then repeats the first. The cell, for the derivative, is that
    between the first tap and the next pixel, and for the last pixel the one before it.
    """
    first, last = n, 0
    for p in range(n):
        q = scale * np.float64(p) + offset
        if 0.0 <= q <= np.float64(size - 1):
            k = np.int32(math.floor(q))
            f = np.float32(q - np.float64(k))
            i0[p] = k
            i1[p] = k if f == np.float32(0.0) else k + 1
            cell[p] = min(k, max(size - 2, 0))
            w[p] = f
            first = min(first, p)
            last = p + 1
        else:
            i0[p] = 0
            i1[p] = 0
            cell[p] = 0
            w[p] = np.float32(0.0)
    return first, max(first, last)


@exact
def _runs(i0, i1, cell, xa, xb, starts):
    """Starts of runs in which the taps and the cell move on by one from pixel to pixel, so that they are slices."""
    n = 0
    for x in range(xa, xb):
        if (
            x == xa
            or i0[x] != i0[x - 1] + 1
            or i1[x] - i0[x] != i1[x - 1] - i0[x - 1]
            or cell[x] - i0[x] != cell[x - 1] - i0[x - 1]
        ):
            starts[n] = x
            n += 1
    starts[n] = xb
    return n


@fast
def _blend(a, b, w, out):
    for x in range(out.size):
        out[x] = a[x] + w[x] * (b[x] - a[x])


@fast
def _difference(a, b, out):
    """Differences b - a, 0 where that is not a number: beside exact hits, and where no sample is valid."""
    for x in range(out.size):
        d = b[x] - a[x]
        out[x] = d if d == d else np.float32(0.0)


@fast
def _blend_and_difference(a, b, w, values, slopes):
    for x in range(values.size):
        d = b[x] - a[x]
        values[x] = a[x] + w[x] * d
        slopes[x] = d if d == d else np.float32(0.0)


@fast
def _stretch_row(row, i0, i1, cell, w, starts, n, step, values, slopes):
    """Interpolate one row along x, and its derivative along x, run by run."""
    for k in range(n):
        first, last = starts[k], starts[k + 1]
        size = last - first
        p = np.int64(i0[first])
        q = np.int64(i1[first])
        if q > p:
            _blend_and_difference(
                row[p : p + size], row[q : q + size], w[first:last], values[first:last], slopes[first:last]
            )
        else:
            c = np.int64(cell[first])
            _blend(row[p : p + size], row[q : q + size], w[first:last], values[first:last])
            _difference(row[c : c + size], row[c + step : c + step + size], slopes[first:last])


@fast
def _blend_rows(a, b, w, out):
    for x in range(out.size):
        out[x] = a[x] + w * (b[x] - a[x])


@fast
def _take(y_slopes, x_slopes, v, gy, gx):
    """Copy given derivatives; where one is not a number, neither is the sample."""
    for j in range(v.size):
        p = y_slopes[j]
        q = x_slopes[j]
        s = p + q
        v[j] = v[j] if s == s else s
        gy[j] = p
        gx[j] = q


@fast
def _valid(r, v, gy, gx, rm):
    """Six sums of a row; what is invalid in either image becomes 0 in all of them."""
    n = np.float32(0.0)
    sr = np.float32(0.0)
    sv = np.float32(0.0)
    srr = np.float32(0.0)
    svv = np.float32(0.0)
    srv = np.float32(0.0)
    zero = np.float32(0.0)
    for x in range(r.size):
        p = r[x] * v[x]
        ok = p == p
        q = r[x] if ok else zero
        s = v[x] if ok else zero
        rm[x] = q
        v[x] = s
        gy[x] = gy[x] if ok else zero
        gx[x] = gx[x] if ok else zero
        n += np.float32(1.0) if ok else zero
        sr += q
        sv += s
        srr += q * q
        svv += s * s
        srv += q * s
    return n, sr, sv, srr, svv, srv


@fast
def _valid_between(r, a, b, slope_a, slope_b, w, rm, v, gy, gx):
    """`_valid` of samples between two stretched rows, of which both have weight: all in one pass."""
    n = np.float32(0.0)
    sr = np.float32(0.0)
    sv = np.float32(0.0)
    srr = np.float32(0.0)
    svv = np.float32(0.0)
    srv = np.float32(0.0)
    zero = np.float32(0.0)
    for x in range(r.size):
        d = b[x] - a[x]
        s = a[x] + w * d
        p = r[x] * s
        ok = p == p
        q = r[x] if ok else zero
        s = s if ok else zero
        rm[x] = q
        v[x] = s
        gy[x] = d if ok else zero
        gx[x] = slope_a[x] + w * (slope_b[x] - slope_a[x]) if ok else zero
        n += np.float32(1.0) if ok else zero
        sr += q
        sv += s
        srr += q * q
        svv += s * s
        srv += q * s
    return n, sr, sv, srr, svv, srv


@fast
def _firsts(rm, v, gy, gx, x):
    """Sums of gy, gy * x, gx and gx * x, each times 1, r and v."""
    a0 = np.float32(0.0)
    a1 = np.float32(0.0)
    a2 = np.float32(0.0)
    a3 = np.float32(0.0)
    b0 = np.float32(0.0)
    b1 = np.float32(0.0)
    b2 = np.float32(0.0)
    b3 = np.float32(0.0)
    c0 = np.float32(0.0)
    c1 = np.float32(0.0)
    c2 = np.float32(0.0)
    c3 = np.float32(0.0)
    for j in range(gy.size):
        t = x[j]
        p = gy[j]
        q = gx[j]
        pt = p * t
        qt = q * t
        r = rm[j]
        s = v[j]
        a0 += p
        a1 += pt
        a2 += q
        a3 += qt
        b0 += r * p
        b1 += r * pt
        b2 += r * q
        b3 += r * qt
        c0 += s * p
        c1 += s * pt
        c2 += s * q
        c3 += s * qt
    return a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3


@fast
def _squares(gy, gx, x):
    """Sums of gy^2, gy * gx and gx^2, each times 1, x and x^2."""
    a0 = np.float32(0.0)
    a1 = np.float32(0.0)
    a2 = np.float32(0.0)
    b0 = np.float32(0.0)
    b1 = np.float32(0.0)
    b2 = np.float32(0.0)
    c0 = np.float32(0.0)
    c1 = np.float32(0.0)
    c2 = np.float32(0.0)
    for j in range(gy.size):
        t = x[j]
        yy = gy[j] * gy[j]
        yx = gy[j] * gx[j]
        xx = gx[j] * gx[j]
        a0 += yy
        b0 += yx
        c0 += xx
        yy *= t
        yx *= t
        xx *= t
        a1 += yy
        b1 += yx
        c1 += xx
        a2 += yy * t
        b2 += yx * t
        c2 += xx * t
    return a0, a1, a2, b0, b1, b2, c0, c1, c2


@exact
def _add_row(y, r, v, gy, gx, x, rm, out):
    """Add a row (or a tile's part of one) at the height y, from the middle of the reference, to the 42 sums."""
    _add_sums(y, _valid(r, v, gy, gx, rm), v, gy, gx, x, rm, out)


@exact
def _add_sums(y, six, v, gy, gx, x, rm, out):
    """Add the six sums of a row, and those of its derivatives, which are 0 where a pixel is not valid."""
    n, sr, sv, srr, svv, srv = six
    if n == np.float32(0.0):
        return
    out[0] += n
    out[1] += sr
    out[2] += sv
    out[3] += srr
    out[4] += svv
    out[5] += srv
    a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3 = _firsts(rm, v, gy, gx, x)
    _add_linear(y, a0, a1, a2, a3, out, 6)
    _add_linear(y, b0, b1, b2, b3, out, 12)
    _add_linear(y, c0, c1, c2, c3, out, 18)
    d0, d1, d2, e0, e1, e2, f0, f1, f2 = _squares(gy, gx, x)
    _add_square(y, d0, d1, d2, out, 24)
    _add_square(y, e0, e1, e2, out, 30)
    _add_square(y, f0, f1, f2, out, 36)


@exact
def _add_linear(y, gy, gyx, gx, gxx, out, k):
    out[k] += y * gy
    out[k + 1] += gyx
    out[k + 2] += gy
    out[k + 3] += y * gx
    out[k + 4] += gxx
    out[k + 5] += gx


@exact
def _add_square(y, s0, s1, s2, out, k):
    out[k] += y * y * s0
    out[k + 1] += y * s1
    out[k + 2] += y * s0
    out[k + 3] += s2
    out[k + 4] += s1
    out[k + 5] += s0


@exact
def separable(reference, moving, slopes_given, given, problems, matrices, block, tile, start, stop, partial):
    """Sums of the work items start..stop, an item being one block of rows of one problem; diagonal matrices.

    Parameters
    ----------
    reference, moving : (B, H, W) and (B, Hm, Wm) float32
    slopes_given : (B, 2, H, W) float32
        Derivatives along y and x to be used in place of those of the samples, if `given`.
    given : bool
    problems : (C,) int64
        The problem of each matrix.
    matrices : (C, 2, 3) float64
    block, tile : int
        Rows of a block, columns of a tile.
    partial : (C, blocks, tiles, 42) float64
        Output.
    """
    height, width = reference.shape[1], reference.shape[2]
    moving_height, moving_width = moving.shape[1], moving.shape[2]
    blocks = partial.shape[1]
    i0 = np.empty(width, np.int32)
    i1 = np.empty(width, np.int32)
    cell = np.empty(width, np.int32)
    wx = np.empty(width, np.float32)
    starts = np.empty(width + 1, np.int64)
    values = np.empty((KEPT, width), np.float32)
    slopes = np.empty((KEPT, width), np.float32)
    held = np.full(KEPT, np.int64(-1))
    v, gy, gx, rm, x = _buffers(width)
    step = np.int64(1) if moving_width > 1 else np.int64(0)
    known = np.int64(-1)
    xa, xb, n_runs = 0, 0, 0
    for item in range(start, stop):
        c = item // blocks
        k = problems[c]
        m = matrices[c]
        y_first = (item % blocks) * block
        if c != known:
            known = c
            held[:] = -1
            xa, xb = _axis_table(m[1, 1], m[1, 2], width, moving_width, i0, i1, cell, wx)
            n_runs = _runs(i0, i1, cell, xa, xb, starts)
        partial[c, item % blocks] = 0.0
        if xb <= xa:
            continue
        for y in range(y_first, min(y_first + block, height)):
            q = m[0, 0] * np.float64(y) + m[0, 2]
            if not (0.0 <= q <= np.float64(moving_height - 1)):
                continue
            y0 = np.int64(math.floor(q))
            w = np.float32(q - np.float64(y0))
            y1 = y0 if w == np.float32(0.0) else y0 + 1
            above = min(y0, max(moving_height - 2, 0))
            below = min(above + 1, moving_height - 1)
            for row in (y0, y1, above, below):
                slot = row % KEPT
                if held[slot] != row:
                    held[slot] = row
                    _stretch_row(moving[k, row], i0, i1, cell, wx, starts, n_runs, step, values[slot], slopes[slot])
            a, b = y0 % KEPT, y1 % KEPT
            if tile >= width and not given and w > np.float32(0.0):
                six = _valid_between(
                    reference[k, y, xa:xb],
                    values[a, xa:xb],
                    values[b, xa:xb],
                    slopes[a, xa:xb],
                    slopes[b, xa:xb],
                    w,
                    rm[xa:xb],
                    v[xa:xb],
                    gy[xa:xb],
                    gx[xa:xb],
                )
                level = np.float64(y) - 0.5 * np.float64(height - 1)
                _add_sums(level, six, v[xa:xb], gy[xa:xb], gx[xa:xb], x[xa:xb], rm[xa:xb], partial[c, item % blocks, 0])
                continue
            _blend_rows(values[a, xa:xb], values[b, xa:xb], w, v[xa:xb])
            if given:
                _take(slopes_given[k, 0, y, xa:xb], slopes_given[k, 1, y, xa:xb], v[xa:xb], gy[xa:xb], gx[xa:xb])
            else:
                _blend_rows(slopes[a, xa:xb], slopes[b, xa:xb], w, gx[xa:xb])
                _difference(values[above % KEPT, xa:xb], values[below % KEPT, xa:xb], gy[xa:xb])
            _add_tiles(height, y, reference[k, y], v, gy, gx, x, rm, xa, xb, tile, partial[c, item % blocks])


@exact
def _buffers(width):
    """Rows for samples, derivatives and the masked reference, and x from the middle of the reference."""
    x = np.empty(width, np.float32)
    for j in range(width):
        x[j] = np.float32(np.float64(j) - 0.5 * np.float64(width - 1))
    return (
        np.empty(width, np.float32),
        np.empty(width, np.float32),
        np.empty(width, np.float32),
        np.empty(width, np.float32),
        x,
    )


@exact
def _add_tiles(height, y, r, v, gy, gx, x, rm, xa, xb, tile, out):
    """Add the valid range xa..xb of a row to the tiles that it crosses."""
    level = np.float64(y) - 0.5 * np.float64(height - 1)
    for t in range(xa // tile, (xb - 1) // tile + 1):
        a, b = max(xa, t * tile), min(xb, t * tile + tile)
        _add_row(level, r[a:b], v[a:b], gy[a:b], gx[a:b], x[a:b], rm[a:b], out[t])


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
def _cells(height, width, qy, dy, qx, dx, first, corner, fy, fx, on_y, on_x):
    """Flat index of each cell's first pixel, both weights, and whether the first tap is the cell's second pixel.

    Without contraction: a fused multiply-add would put a position that rounds to a whole number beside it.
    """
    bottom = np.float64(height - 1)
    right = np.float64(width - 1)
    last_y = np.float64(max(height - 2, 0))
    last_x = np.float64(max(width - 2, 0))
    row = np.uint32(width)
    for j in range(corner.size):
        x = np.float64(first + j)
        y = qy + dy * x
        u = qx + dx * x
        y = y if y > 0.0 else 0.0
        y = y if y < bottom else bottom
        u = u if u > 0.0 else 0.0
        u = u if u < right else right
        y0 = np.floor(y)
        u0 = np.floor(u)
        cy = y0 if y0 < last_y else last_y
        cx = u0 if u0 < last_x else last_x
        fy[j] = np.float32(y - y0)
        fx[j] = np.float32(u - u0)
        on_y[j] = np.float32(y0 - cy)
        on_x[j] = np.float32(u0 - cx)
        corner[j] = np.uint32(np.int32(cy)) * row + np.uint32(np.int32(cx))


@fast
def _sample_row(image, corner, down, right, fy, fx, on_y, on_x, v, gy, gx):
    """Samples and derivatives of a row, by the taps that have weight and by the cell."""
    zero = np.float32(0.0)
    half = np.float32(0.5)
    for j in range(v.size):
        k = corner[j]
        p00 = image[k]
        p01 = image[k + right]
        p10 = image[k + down]
        p11 = image[k + down + right]
        wy = fy[j]
        wx = fx[j]
        # Along x: the row above and the row below, sampled; a tap of weight 0 is no tap.
        low = on_x[j] > half
        a0 = p01 if low else p00
        a1 = p11 if low else p10
        upper = a0 + wx * (p01 - p00) if wx > zero else a0
        lower = a1 + wx * (p11 - p10) if wx > zero else a1
        first = lower if on_y[j] > half else upper
        v[j] = first + wy * (lower - upper) if wy > zero else first
        d = lower - upper
        gy[j] = d if d == d else zero
        s0 = p01 - p00
        s1 = p11 - p10
        s0 = s0 if s0 == s0 else zero
        s1 = s1 if s1 == s1 else zero
        s = s1 if on_y[j] > half else s0
        gx[j] = s + wy * (s1 - s0) if wy > zero else s


@exact
def general(reference, moving, slopes_given, given, problems, matrices, block, tile, start, stop, partial):
    """The sums of `separable` for any matrix."""
    height, width = reference.shape[1], reference.shape[2]
    moving_height, moving_width = moving.shape[1], moving.shape[2]
    blocks = partial.shape[1]
    flat = moving.reshape(moving.shape[0], moving_height * moving_width)
    corner = np.empty(width, np.uint32)
    fy = np.empty(width, np.float32)
    fx = np.empty(width, np.float32)
    on_y = np.empty(width, np.float32)
    on_x = np.empty(width, np.float32)
    v, gy, gx, rm, x = _buffers(width)
    right = np.uint32(1) if moving_width > 1 else np.uint32(0)
    down = np.uint32(moving_width) if moving_height > 1 else np.uint32(0)
    for item in range(start, stop):
        c = item // blocks
        k = problems[c]
        m = matrices[c]
        y_first = (item % blocks) * block
        partial[c, item % blocks] = 0.0
        for y in range(y_first, min(y_first + block, height)):
            qy = m[0, 0] * np.float64(y) + m[0, 2]
            qx = m[1, 0] * np.float64(y) + m[1, 2]
            xa, xb = _span(m[0, 1], qy, np.float64(moving_height), width)
            xc, xd = _span(m[1, 1], qx, np.float64(moving_width), width)
            xa, xb = max(xa, xc), min(xb, xd)
            if xb <= xa:
                continue
            n = xb - xa
            _cells(
                moving_height,
                moving_width,
                qy,
                m[0, 1],
                qx,
                m[1, 1],
                xa,
                corner[:n],
                fy[:n],
                fx[:n],
                on_y[:n],
                on_x[:n],
            )
            _sample_row(
                flat[k], corner[:n], down, right, fy[:n], fx[:n], on_y[:n], on_x[:n], v[xa:xb], gy[xa:xb], gx[xa:xb]
            )
            if given:
                _take(slopes_given[k, 0, y, xa:xb], slopes_given[k, 1, y, xa:xb], v[xa:xb], gy[xa:xb], gx[xa:xb])
            _add_tiles(height, y, reference[k, y], v, gy, gx, x, rm, xa, xb, tile, partial[c, item % blocks])
