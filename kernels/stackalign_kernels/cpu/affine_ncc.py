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

CHUNK = 16
"""Pixels that a run is rounded up to: the longest vector."""

SHORT = 8
"""Pixels of a run that are gathered one by one."""

FAR = 1.0
"""Square of a mean over the variance from which an overlap is summed once more, about its means."""

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
def _stretch_row(image, row, end, i0, i1, w, starts, n, out, o):
    """Interpolate the row of an image between `row` and `end` along x, run by run, into out[o:]."""
    for k in range(n):
        first, last = starts[k], starts[k + 1]
        p, q = row + i0[first], row + i1[first]
        # Whole chunks, where the row is long enough, spare the pixels at the end of a run a loop of their own: the
        # next run overwrites what is too much.
        size = min((last - first + CHUNK - 1) // CHUNK * CHUNK, end - q)
        left, right, x, to = U(p), U(q), U(first), U(o + first)
        for i in range(U(size)):
            a = image[left + i]
            out[to + i] = a + w[x + i] * (image[right + i] - a)


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


@fast
def _add_rows(fixed, r, second, s, rows, a, b, w, first, last, width, size, whole, squares, pr, pv, sums):
    """Add rows first .. last - 1 of a block to the sums, two at a time: r of one array with s of another.

    Row j is interpolated between a[j] and b[j]; `squares` has what a row without NaN adds of the reference alone.
    """
    about = pr != np.float32(0.0) or pv != np.float32(0.0)
    n, sr, sv, srr, svv, srv = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(first, last, 2):
        f, g = r + U(j) * width, s + U(j) * width
        a0, b0, w0, a1, b1, w1 = a[j], b[j], w[j], a[j + 1], b[j + 1], w[j + 1]
        if whole and not about:
            v = _whole_rows(fixed, f, second, g, rows, a0, b0, w0, a1, b1, w1, size)
            n += 2.0 * np.float64(size)
            sr += squares[j, 0] + squares[j + 1, 0]
            srr += squares[j, 1] + squares[j + 1, 1]
            sv += v[0]
            svv += v[1]
            srv += v[2]
            continue
        if about:
            t = _masked_rows_about(fixed, f, second, g, rows, a0, b0, w0, a1, b1, w1, size, pr, pv)
        else:
            t = _masked_rows(fixed, f, second, g, rows, a0, b0, w0, a1, b1, w1, size)
        n += t[0]
        sr += t[1]
        sv += t[2]
        srr += t[3]
        svv += t[4]
        srv += t[5]
    sums[0] += n
    sums[1] += sr
    sums[2] += sv
    sums[3] += srr
    sums[4] += svv
    sums[5] += srv


@exact
def _add_block(fixed, r, rows, nothing, a, b, w, first, last, width, size, whole, squares, pr, pv, sums):
    """Add rows first .. last - 1 of a block, row j being fixed[r + j * width:]; row `nothing` is NaN."""
    even = first + (last - first) // 2 * 2
    s = r + width
    _add_rows(fixed, r, fixed, s, rows, a, b, w, first, even, width, size, whole, squares, pr, pv, sums)
    if even < last:
        a[last], b[last], w[last] = a[even], b[even], w[even]
        s = nothing - U(even) * width
        _add_rows(fixed, r, rows, s, rows, a, b, w, even, last, width, size, False, squares, pr, pv, sums)


@exact
def separable(reference, moving, whole, problem, columns, rows, members, bounds, pivots, start, stop, partial):
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
    pivots : (C, 2) float32
        What to subtract from the pixels of the reference and from the samples of each candidate.
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
    stretched = np.full((KEPT + 1) * pitch, np.nan, np.float32)
    held = np.full(KEPT, -1, np.int64)
    # A block of rows, and one to make their number even.
    y0 = np.empty(BLOCK, np.int64)
    y1 = np.empty(BLOCK, np.int64)
    wy = np.empty(BLOCK + 1, np.float32)
    a = np.empty(BLOCK + 1, np.uint64)
    b = np.empty(BLOCK + 1, np.uint64)
    squares = np.empty((BLOCK, 2))
    sums = np.empty(6)
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
        y_first = block * BLOCK
        n_rows = min(BLOCK, height - y_first)
        r = U((k * height + y_first) * width + xa)
        size = U(xb - xa)
        if whole[k]:
            for j in range(n_rows):
                squares[j, 0], squares[j, 1] = _row_squares(fixed, r + U(j * width), size)
        for member in range(bounds[g], bounds[g + 1]):
            candidate = members[member]
            first, last = 0, 0
            if xb > xa:
                scale, offset = rows[candidate, 0], rows[candidate, 1]
                first, last = _row_table(scale, offset, y_first, n_rows, moving_height, y0, y1, wy)
            # Rows of the moving image have a place each, those of other candidates may take it. Where the moving image
            # is much finer no place is met twice.
            near = last > first and max(y1[first], y1[last - 1]) - min(y0[first], y0[last - 1]) < KEPT
            for j in range(2 * first, 2 * last):
                row = y1[j // 2] if j % 2 else y0[j // 2]
                place = row % KEPT if near else j
                if held[place] != row:
                    held[place] = row
                    p = (k * moving_height + row) * moving_width
                    _stretch_row(image, p, p + moving_width, i0, i1, wx, starts, n_runs, stretched, place * pitch)
                if j % 2:
                    b[j // 2] = place * pitch + xa
                else:
                    a[j // 2] = place * pitch + xa
            sums[:] = 0.0
            pr, pv = pivots[candidate, 0], pivots[candidate, 1]
            taps = (a, b, wy, first, last, U(width), size)
            _add_block(fixed, r, stretched, U(KEPT * pitch), *taps, whole[k], squares, pr, pv, sums)
            for t in range(6):
                partial[candidate, block, t] = sums[t]


@fast
def _row_about(fixed, r, row, size, pr, pv):
    """Six sums of a row and its differences from `pr` and `pv`; NaN leaves a pixel out."""
    zero, one = np.float32(0.0), np.float32(1.0)
    n, sr, sv, srr, svv, srv = zero, zero, zero, zero, zero, zero
    for x in range(size):
        v = row[x] - pv
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
    return n, sr, sv, srr, svv, srv


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
def _row_taps(width, qy, dy, qx, dx, first, n, base, fy, fx):
    """Flat index of the first of four taps, and both weights, for x = first .. first + n - 1.

    Apart from the loads, so that this half vectorises on every machine; `exact`, because coordinates are not rounded
    in another way than the protocol of the backends says.
    """
    origin = np.float64(first)
    for j in range(n):
        x = origin + np.float64(np.int32(j))
        y = qy + dy * x
        u = qx + dx * x
        y0 = np.floor(y)
        u0 = np.floor(u)
        base[j] = np.int32(y0) * np.int32(width) + np.int32(u0)
        fy[j] = np.float32(y - y0)
        fx[j] = np.float32(u - u0)


@fast
def _strays(base, j, n):
    """How many of base[j:j + n] are not in one row, side by side."""
    wrong = np.int32(0)
    for i in range(n):
        wrong += np.int32(1) if base[j + i] != base[j] + np.int32(i) else np.int32(0)
    return wrong


@fast
def _gather(image, origin, width, base, fy, fx, start, n, out):
    """Interpolate pixels start .. start + n - 1 whose taps are anywhere."""
    zero = np.float32(0.0)
    for i in range(n):
        x = start + i
        k = origin + U(base[x])
        right = U(1) if fx[x] > zero else U(0)
        under = width if fy[x] > zero else U(0)
        a, b = image[k], image[k + right]
        c, d = image[k + under], image[k + under + right]
        top = a + fx[x] * (b - a)
        low = c + fx[x] * (d - c)
        out[x] = top + fy[x] * (low - top)


@fast
def _ahead(q, slope):
    """About how many steps of `slope` there are from q to beyond its whole pixel."""
    f = q - np.floor(q)
    if slope > 0.0:
        return np.ceil((1.0 - f) / slope)
    return np.floor(f / -slope) + 1.0 if slope < 0.0 else np.inf


@fast
def _sample_row(image, origin, width, qy, dy, qx, dx, first, n, base, fy, fx, out):
    """Sample n pixels of a row of the reference, x = first ..., into `out`, `CHUNK` of which may follow.

    Where the image is turned and stretched little, many neighbours are neighbours in the moving image too. How many,
    is guessed, and true if it is of the last of them: a coordinate strays from whole steps in one direction only. At
    a scale that differs from 1 by rounding alone this may be otherwise, so that each of them is looked at.
    """
    _row_taps(width, qy, dy, qx, dx, first, U(n), base, fy, fx)
    excess = dx - 1.0
    sure = excess == 0.0 or abs(excess) > 1e-9
    start = 0
    zero = np.float32(0.0)
    while start < n:
        x = np.float64(first + start)
        size = np.int64(min(np.float64(n - start), _ahead(qy + dy * x, dy), _ahead(qx + dx * x, excess)))
        upper = origin + base[start]
        lower = upper + width
        rounded = min((size + CHUNK - 1) // CHUNK * CHUNK, image.size - 1 - lower)
        together = base[start + size - 1] - base[start] == size - 1
        if together and not sure:
            together = _strays(base, U(start), U(size)) == 0
        if size >= SHORT and rounded >= size and together:
            p, q, t = U(upper), U(lower), U(start)
            for i in range(U(rounded)):
                a, b = image[p + i], image[p + U(1) + i]
                c, d = image[q + i], image[q + U(1) + i]
                v, w = fx[t + i], fy[t + i]
                # A tap of weight 0 is none.
                b = b if v > zero else a
                d = d if v > zero else c
                top = a + v * (b - a)
                low = c + v * (d - c)
                low = low if w > zero else top
                out[t + i] = top + w * (low - top)
        else:
            _gather(image, U(origin), U(width), base, fy, fx, U(start), U(size), out)
        start += size


@exact
def general(reference, moving, problem, matrices, pivots, start, stop, partial):
    """Sums of the work items start..stop, an item being one block of rows of one candidate; any matrix."""
    height, width = reference.shape[1], reference.shape[2]
    moving_height, moving_width = moving.shape[1], moving.shape[2]
    blocks = partial.shape[1]
    fixed, image = reference.ravel(), moving.ravel()
    base = np.empty(width, np.int32)
    fy = np.zeros(width + CHUNK, np.float32)
    fx = np.zeros(width + CHUNK, np.float32)
    sampled = np.empty(width + CHUNK, np.float32)
    sums = np.empty(6)
    for item in range(start, stop):
        candidate = item // blocks
        block = item % blocks
        k = problem[candidate]
        m = matrices[candidate]
        near = abs(m[0, 1]) * SHORT < 1.0 and abs(m[1, 1] - 1.0) * SHORT < 1.0
        origin = k * moving_height * moving_width
        sums[:] = 0.0
        for y in range(block * BLOCK, min(block * BLOCK + BLOCK, height)):
            qy = m[0, 0] * np.float64(y) + m[0, 2]
            qx = m[1, 0] * np.float64(y) + m[1, 2]
            xa, xb = _span(m[0, 1], qy, np.float64(moving_height), width)
            xc, xd = _span(m[1, 1], qx, np.float64(moving_width), width)
            xa, xb = max(xa, xc), min(xb, xd)
            if xb <= xa:
                continue
            n = xb - xa
            if near:
                _sample_row(image, origin, moving_width, qy, m[0, 1], qx, m[1, 1], xa, n, base, fy, fx, sampled)
            else:
                _row_taps(moving_width, qy, m[0, 1], qx, m[1, 1], xa, U(n), base, fy, fx)
                _gather(image, U(origin), U(moving_width), base, fy, fx, U(0), U(n), sampled)
            r = U((k * height + y) * width + xa)
            t = _row_about(fixed, r, sampled, U(n), pivots[candidate, 0], pivots[candidate, 1])
            sums[0] += t[0]
            sums[1] += t[1]
            sums[2] += t[2]
            sums[3] += t[3]
            sums[4] += t[4]
            sums[5] += t[5]
        for t in range(6):
            partial[candidate, block, t] = sums[t]


@exact
def finish(partial, pivots, scores, overlap, far):
    """Add the blocks in order; Pearson's coefficient, 0 without overlap or variance, clipped to [-1, 1].

    Where `far`, float32 has lost digits, because the pivots are far from the means; `pivots` then become the means.
    """
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
        far[c] = False
        if n > 0.0:
            p, q = np.float64(pivots[c, 0]), np.float64(pivots[c, 1])
            cov = srv - sr * sv / n
            var_r = srr - sr * sr / n
            var_v = svv - sv * sv / n
            far[c] = sr * sr > FAR * var_r * n or sv * sv > FAR * var_v * n
            square_r = srr + p * (2.0 * sr + p * n)
            square_v = svv + q * (2.0 * sv + q * n)
            # What rounding to float32 leaves of a constant overlap is not variance.
            if var_r > FLAT * square_r and var_v > FLAT * square_v and var_r > 0.0 and var_v > 0.0:
                scores[c] = min(1.0, max(-1.0, cov / math.sqrt(var_r * var_v)))
            pivots[c, 0] = np.float32(p + sr / n)
            pivots[c, 1] = np.float32(q + sv / n)
