# SPDX-License-Identifier: BSD-3-Clause
"""Masked normalised cross-correlation of a reference with affinely sampled moving images, fused, for many candidates.

Planes are float32 with NaN where a pixel is invalid, centred and scaled. A candidate is a pull matrix M: the moving
image is sampled at ``M[:, :2] @ p + M[:, 2]``, bilinearly. Each row of a block adds six sums (n, r, v, rr, vv, rv) in
float32 lanes, which are flushed to float64; a block writes its sums, and blocks are added in index order, so that the
answer does not depend on which thread took which block, nor on what else was in the call.

Candidates whose matrix is diagonal share the horizontal half of their interpolation where they agree in x: it is done
once per group and row of the moving image, and what is left per candidate are contiguous loads without a branch.
"""

import math

import numpy as np

from ._jit import exact, fast

BLOCK = 32
"""Rows of the reference per partial sum; 8 to 64 are equally fast."""

KEPT = 64
"""Rows of the moving image that are kept stretched: a block of rows at a scale of almost 2."""

CHUNK = 64
"""Pixels that a run is rounded up to: what a loop of vectors takes at once."""

FAR = 4.0
"""Square of a mean over the variance from which two rows are summed about their means: float32 keeps 24 bits."""

FLAT = 1e-5
"""Variance over mean square that rounding to float32 can feign: a constant rounds the same way in every term."""


U = np.uint64
"""Type of an index in inner loops: Numba tests a signed one for being negative, and a slice counts its references."""


@exact
def _axis_table(scale, offset, n, size, i0, i1, w):
    """Taps and weight for q = scale * p + offset, p = 0 .. n-1, on an axis of `size` pixels; return the valid range.

    A tap of weight 0 is not a tap: the second index then repeats the first, so that a NaN beside an exact hit does not
    matter, and the last pixel can be hit. Invalid positions are only at the ends, because q is monotone in p.
    """
    first, last = n, 0
    for p in range(n):
        q = scale * np.float64(p) + offset
        if 0.0 <= q <= np.float64(size - 1):
            k = np.int32(math.floor(q))
            f = np.float32(q - np.float64(k))
            i0[p] = k
            # Rounding the weight to float32 can give 1: the next pixel then has all of it.
            i1[p] = k if f == np.float32(0.0) else k + 1
            w[p] = f
            first = min(first, p)
            last = p + 1
        else:
            i0[p] = 0
            i1[p] = 0
            w[p] = np.float32(0.0)
    return first, max(first, last)


@exact
def _row_table(scale, offset, start, n, size, y0, y1, w):
    """`_axis_table` for p = start .. start + n - 1."""
    first, last = n, 0
    for j in range(n):
        q = scale * np.float64(start + j) + offset
        if 0.0 <= q <= np.float64(size - 1):
            k = np.int64(math.floor(q))
            f = np.float32(q - np.float64(k))
            y0[j] = k
            y1[j] = k if f == np.float32(0.0) else k + 1
            w[j] = f
            first = min(first, j)
            last = j + 1
    return first, max(first, last)


@exact
def _runs(i0, i1, xa, xb, starts):
    """Where the taps stop being neighbours: starts of runs in which i0 grows by one and i1 - i0 stays; their number.

    Near a scale of 1 a run is hundreds of pixels long and is read as a slice, an order of magnitude faster than pixel
    by pixel through indices.
    """
    n = 0
    for x in range(xa, xb):
        if x == xa or i0[x] != i0[x - 1] + 1 or i1[x] - i0[x] != i1[x - 1] - i0[x - 1]:
            starts[n] = x
            n += 1
    starts[n] = xb
    return n


@fast
def _blend(image, p, q, w, x, out, o, n):
    """Pixels p... and q... of an image by the weights x..., into o..., n of them."""
    for i in range(n):
        a = image[p + i]
        out[o + i] = a + w[x + i] * (image[q + i] - a)


@exact
def _stretch_row(image, row, end, i0, i1, w, starts, n, out, o):
    """Interpolate the row of an image between `row` and `end` along x, run by run, into out[o:]."""
    for k in range(n):
        first, last = starts[k], starts[k + 1]
        p, q = row + i0[first], row + i1[first]
        # Whole chunks, where the row is long enough, spare the pixels at the end of a run a loop of their own: the
        # next run overwrites what is too much.
        size = min((last - first + CHUNK - 1) // CHUNK * CHUNK, end - q)
        _blend(image, U(p), U(q), w, U(first), out, U(o + first), U(size))


@fast
def _masked_rows(fixed, r, second, s, rows, a, b, w, c, d, u, size):
    """Six sums over two rows, r with the blend of a and b, s with that of c and d; NaN leaves a pixel out."""
    zero, one = np.float32(0.0), np.float32(1.0)
    n, sr, sv, srr, svv, srv = zero, zero, zero, zero, zero, zero
    for x in range(size):
        v = rows[a + x] + w * (rows[b + x] - rows[a + x])
        ok = (fixed[r + x] == fixed[r + x]) & (v == v)
        v = v if ok else zero
        q = fixed[r + x] if ok else zero
        n += one if ok else zero
        sr += q
        sv += v
        srr += q * q
        svv += v * v
        srv += q * v
        v = rows[c + x] + u * (rows[d + x] - rows[c + x])
        ok = (second[s + x] == second[s + x]) & (v == v)
        v = v if ok else zero
        q = second[s + x] if ok else zero
        n += one if ok else zero
        sr += q
        sv += v
        srr += q * q
        svv += v * v
        srv += q * v
    return n, sr, sv, srr, svv, srv


@fast
def _masked_rows_about(fixed, r, second, s, rows, a, b, w, c, d, u, size, pr, pv):
    """What `_masked_rows` does, of the differences from `pr` and `pv`."""
    zero, one = np.float32(0.0), np.float32(1.0)
    n, sr, sv, srr, svv, srv = zero, zero, zero, zero, zero, zero
    for x in range(size):
        v = (rows[a + x] - pv) + w * (rows[b + x] - rows[a + x])
        q = fixed[r + x] - pr
        ok = (q == q) & (v == v)
        v = v if ok else zero
        q = q if ok else zero
        n += one if ok else zero
        sr += q
        sv += v
        srr += q * q
        svv += v * v
        srv += q * v
        v = (rows[c + x] - pv) + u * (rows[d + x] - rows[c + x])
        q = second[s + x] - pr
        ok = (q == q) & (v == v)
        v = v if ok else zero
        q = q if ok else zero
        n += one if ok else zero
        sr += q
        sv += v
        srr += q * q
        svv += v * v
        srv += q * v
    return n, sr, sv, srr, svv, srv


@fast
def _whole_rows(fixed, r, second, s, rows, a, b, w, c, d, u, size):
    """Sums of v, vv and rv over two rows without NaN."""
    zero = np.float32(0.0)
    sv, svv, srv = zero, zero, zero
    for x in range(size):
        v = rows[a + x] + w * (rows[b + x] - rows[a + x])
        sv += v
        svv += v * v
        srv += fixed[r + x] * v
        v = rows[c + x] + u * (rows[d + x] - rows[c + x])
        sv += v
        svv += v * v
        srv += second[s + x] * v
    return sv, svv, srv


@fast
def _row_squares(fixed, r, size):
    s = np.float32(0.0)
    q = np.float32(0.0)
    for x in range(size):
        s += fixed[r + x]
        q += fixed[r + x] * fixed[r + x]
    return s, q


@exact
def _far(n, s, q):
    """Tell whether the mean of s and q, the sum and the sum of squares, is so far from 0 that digits are lost."""
    return s * s * (1.0 + 1.0 / FAR) > n * q


@exact
def _add(sums, pivots, t):
    """Add the six sums of two rows about the pivots; False, and better pivots, if those are too far from the means."""
    n = np.float64(t[0])
    sr, sv, srr, svv, srv = np.float64(t[1]), np.float64(t[2]), np.float64(t[3]), np.float64(t[4]), np.float64(t[5])
    if _far(n, sr, srr) or _far(n, sv, svv):
        pr, pv = np.float32(pivots[0] + sr / n), np.float32(pivots[1] + sv / n)
        # A second look at a constant moves the pivot by no more than its last digits.
        if pivots[2] < 2.0:
            pivots[0], pivots[1] = pr, pv
            pivots[2] += 1.0
            return False
    pr, pv = pivots[0], pivots[1]
    sums[0] += n
    sums[1] += sr + n * pr
    sums[2] += sv + n * pv
    sums[3] += srr + pr * (2.0 * sr + n * pr)
    sums[4] += svv + pv * (2.0 * sv + n * pv)
    sums[5] += srv + pr * sv + pv * sr + n * pr * pv
    pivots[2] = 0.0
    return True


@exact
def _add_rows(sums, pivots, fixed, r, second, s, rows, a, b, w, c, d, u, size):
    """Add two rows to the sums, about pivots where their means are far from 0."""
    if pivots[0] == 0.0 and pivots[1] == 0.0:
        t = _masked_rows(fixed, r, second, s, rows, a, b, w, c, d, u, size)
        if _add(sums, pivots, t):
            return
    while True:
        pr, pv = np.float32(pivots[0]), np.float32(pivots[1])
        t = _masked_rows_about(fixed, r, second, s, rows, a, b, w, c, d, u, size, pr, pv)
        if _add(sums, pivots, t):
            return


@exact
def separable(reference, moving, whole, problem, columns, rows, members, bounds, start, stop, partial):
    """Sums of the work items start..stop, an item being one block of rows of one group of candidates.

    Parameters
    ----------
    reference, moving : (B, H, W), (B, Hm, Wm) float32
    whole : (B,) bool
        Neither image of the problem has a NaN.
    problem : (G,) int64
        Problem of each group.
    columns : (G, 2) float64
        Scale and offset along x, shared by a group.
    rows : (C, 2) float64
        Scale and offset along y of each candidate.
    members : (C,) int64
        Candidates, ordered by group.
    bounds : (G + 1,) int64
        Where the members of each group begin.
    partial : (C, blocks, 6) float64
        Output: n, r, v, rr, vv, rv.
    """
    height, width = reference.shape[1], reference.shape[2]
    moving_height, moving_width = moving.shape[1], moving.shape[2]
    blocks = partial.shape[1]
    fixed, image = reference.ravel(), moving.ravel()
    # Rows begin at different places of a page of memory, or reading one would wait for writing another.
    pitch = (width + CHUNK - 1) // CHUNK * CHUNK + CHUNK + 16
    i0 = np.empty(width, np.int32)
    i1 = np.empty(width, np.int32)
    wx = np.zeros(width + CHUNK, np.float32)
    starts = np.empty(width + 1, np.int64)
    n_runs = 0
    stretched = np.full((KEPT + 5) * pitch, np.nan, np.float32)
    nothing = (KEPT + 4) * pitch
    held = np.full(KEPT + 4, -1, np.int64)
    y0 = np.empty(BLOCK, np.int64)
    y1 = np.empty(BLOCK, np.int64)
    wy = np.empty(BLOCK, np.float32)
    row_sum = np.empty(BLOCK)
    row_square = np.empty(BLOCK)
    at = np.empty(4, np.int64)
    sums = np.empty(6)
    pivots = np.empty(3)
    group = np.int64(-1)
    xa, xb = 0, 0
    for item in range(start, stop):
        g = item // blocks
        block = item % blocks
        k = problem[g]
        if g != group:
            group = g
            xa, xb = _axis_table(columns[g, 0], columns[g, 1], width, moving_width, i0, i1, wx)
            n_runs = _runs(i0, i1, xa, xb, starts)
            held[:] = -1
        size = U(xb - xa)
        y_first = block * BLOCK
        n_rows = min(BLOCK, height - y_first)
        if whole[k] and xb > xa:
            for j in range(n_rows):
                row_sum[j], row_square[j] = _row_squares(fixed, U((k * height + y_first + j) * width + xa), size)
        for member in range(bounds[g], bounds[g + 1]):
            candidate = members[member]
            sums[:] = 0.0
            pivots[:] = 0.0
            first, last = 0, 0
            if xb > xa:
                scale, offset = rows[candidate, 0], rows[candidate, 1]
                first, last = _row_table(scale, offset, y_first, n_rows, moving_height, y0, y1, wy)
            kept = False
            if last > first:
                kept = max(y1[first], y1[last - 1]) - min(y0[first], y0[last - 1]) < KEPT
            for j in range(first, last, 2):
                i = min(j + 1, last - 1)
                for t in range(4):
                    row = y0[j] if t == 0 else y1[j] if t == 1 else y0[i] if t == 2 else y1[i]
                    # The rows of a candidate have a place each, which those of others may take.
                    z = row % KEPT if kept else KEPT + t
                    at[t] = z * pitch + xa
                    if held[z] != row:
                        held[z] = row
                        p = (k * moving_height + row) * moving_width
                        _stretch_row(image, p, p + moving_width, i0, i1, wx, starts, n_runs, stretched, z * pitch)
                r = U((k * height + y_first + j) * width + xa)
                a, b, c, d = U(at[0]), U(at[1]), U(at[2]), U(at[3])
                w, u = wy[j], wy[i]
                if i == j:
                    _add_rows(sums, pivots, fixed, r, stretched, U(nothing), stretched, a, b, w, c, d, u, size)
                    continue
                s = r + U(width)
                if whole[k] and pivots[0] == 0.0 and pivots[1] == 0.0:
                    sv, svv, srv = _whole_rows(fixed, r, fixed, s, stretched, a, b, w, c, d, u, size)
                    n, sr, srr = 2.0 * np.float64(xb - xa), row_sum[j] + row_sum[i], row_square[j] + row_square[i]
                    if _add(sums, pivots, (n, sr, np.float64(sv), srr, np.float64(svv), np.float64(srv))):
                        continue
                _add_rows(sums, pivots, fixed, r, fixed, s, stretched, a, b, w, c, d, u, size)
            for t in range(6):
                partial[candidate, block, t] = sums[t]


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


@fast
def _row_taps(height, width, qy, dy, qx, dx, first, base, below, beside, fy, fx):
    """Flat indices of the four taps and both weights for x = first, first + 1, ...; clamped to the image.

    Apart from the loads, so that this half vectorises on every machine. Indices are unsigned: Numba would test each
    signed one for being negative.
    """
    bottom = np.float64(height - 1)
    right = np.float64(width - 1)
    row = np.uint32(width)
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
        fy[j] = wy
        fx[j] = wx


@fast
def _gather_row(image, base, below, beside, fy, fx, out):
    for j in range(out.size):
        a = image[base[j]]
        c = image[below[j]]
        b = image[base[j] + beside[j]]
        d = image[below[j] + beside[j]]
        top = a + fx[j] * (b - a)
        low = c + fx[j] * (d - c)
        out[j] = top + fy[j] * (low - top)


@exact
def general(reference, moving, problem, matrices, start, stop, partial):
    """Sums of the work items start..stop, an item being one block of rows of one candidate; any matrix."""
    height, width = reference.shape[1], reference.shape[2]
    moving_height, moving_width = moving.shape[1], moving.shape[2]
    blocks = partial.shape[1]
    flat = moving.reshape(moving.shape[0], moving_height * moving_width)
    base = np.empty(width, np.uint32)
    below = np.empty(width, np.uint32)
    beside = np.empty(width, np.uint32)
    fy = np.empty(width, np.float32)
    fx = np.empty(width, np.float32)
    sampled = np.empty(width, np.float32)
    zero = np.float32(0.0)
    fixed = reference.ravel()
    nothing = np.full(width, np.nan, np.float32)
    sums = np.empty(6)
    pivots = np.empty(3)
    for item in range(start, stop):
        candidate = item // blocks
        block = item % blocks
        k = problem[candidate]
        m = matrices[candidate]
        sums[:] = 0.0
        pivots[:] = 0.0
        for y in range(block * BLOCK, min(block * BLOCK + BLOCK, height)):
            qy = m[0, 0] * np.float64(y) + m[0, 2]
            qx = m[1, 0] * np.float64(y) + m[1, 2]
            xa, xb = _span(m[0, 1], qy, np.float64(moving_height), width)
            xc, xd = _span(m[1, 1], qx, np.float64(moving_width), width)
            xa, xb = max(xa, xc), min(xb, xd)
            if xb <= xa:
                continue
            n_x = xb - xa
            row = sampled[:n_x]
            taps = (base[:n_x], below[:n_x], beside[:n_x], fy[:n_x], fx[:n_x])
            _row_taps(moving_height, moving_width, qy, m[0, 1], qx, m[1, 1], xa, *taps)
            _gather_row(flat[k], *taps, row)
            o = U(0)
            r = U((k * height + y) * width + xa)
            _add_rows(sums, pivots, fixed, r, nothing, o, sampled, o, o, zero, o, o, zero, U(n_x))
        for t in range(6):
            partial[candidate, block, t] = sums[t]


@exact
def finish(partial, scores, overlap):
    """Add the blocks in order; Pearson's coefficient, 0 without overlap or variance, clipped to [-1, 1]."""
    for c in range(partial.shape[0]):
        n, sr, sv, srr, svv, srv = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for b in range(partial.shape[1]):
            n += partial[c, b, 0]
            sr += partial[c, b, 1]
            sv += partial[c, b, 2]
            srr += partial[c, b, 3]
            svv += partial[c, b, 4]
            srv += partial[c, b, 5]
        overlap[c] = n
        scores[c] = 0.0
        if n > 0.0:
            cov = srv - sr * sv / n
            var_r = srr - sr * sr / n
            var_v = svv - sv * sv / n
            # What rounding to float32 leaves of a constant overlap is not variance.
            if var_r > FLAT * srr and var_v > FLAT * svv and var_r > 0.0 and var_v > 0.0:
                scores[c] = min(1.0, max(-1.0, cov / math.sqrt(var_r * var_v)))
