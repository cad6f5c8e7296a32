# SPDX-License-Identifier: BSD-3-Clause
"""The sums of `affine_ncc` for matrices that are not diagonal: each row is sampled, then summed.

Where rows are not far from level, the taps of a hundred pixels are neighbours, along both axes: such runs are read as
slices, several times faster than pixel by pixel through indices.
"""

import numpy as np

from ._affine_rows import BLOCK, ROOM, SHORT, SOME, span, typical
from ._jit import borrowing, exact, fast, inlined
from ._lanes import LANES, row_sums, sample

LEVEL = 0.2
"""Slopes of both axes together, up to which rows are sampled in runs: beyond, pixels are better gathered one by one."""

DRIFT = 1e-8
"""Smallest drift per pixel that is far from what rounding does to a position."""

_TERMS = [(), (0,), (1,), (0, 0), (1, 1), (0, 1)]
_both = row_sums([(), (0,), (1,)], 0, masked=True)
_two_rows = row_sums(_TERMS, 2, masked=True)
_two_short_rows = row_sums(_TERMS, 2, masked=True, double=True)


@exact
def _row_taps(width, qy, dy, qx, dx, first, base, fy, fx):
    """Flat index of the upper left of four taps, and both weights, for x = first, first + 1, ..., all of them inside.

    Apart from the loads, so that this half vectorises on every machine. Indices are unsigned: Numba would test each
    signed one for being negative.
    """
    row = np.uint32(width)
    for j in range(base.size):
        x = np.float64(first + j)
        y = qy + dy * x
        u = qx + dx * x
        y0 = np.floor(y)
        u0 = np.floor(u)
        base[j] = np.uint32(np.int32(y0)) * row + np.uint32(np.int32(u0))
        fy[j] = np.float32(y - y0)
        fx[j] = np.float32(u - u0)


@fast
def _gather_row(image, width, base, fy, fx, level, out):
    row, one, none = np.uint32(width), np.uint32(1), np.uint32(0)
    for j in range(out.size):
        k = base[j]
        # A tap of weight 0 is none.
        beside = one if fx[j] > np.float32(0.0) else none
        below = k + (row if fy[j] > np.float32(0.0) else none)
        a = image[k]
        b = image[k + beside]
        c = image[below]
        d = image[below + beside]
        top = (a - level) + fx[j] * (b - a)
        low = (c - level) + fx[j] * (d - c)
        out[j] = top + fy[j] * (low - top)


@inlined
def _cell(q, d, unit, x):
    """Tap of pixel x on an axis, counted from unit * x, and whether it has all the weight."""
    at = q + d * np.float64(x)
    k = np.floor(at)
    return np.int64(k) - unit * x, np.float32(at - k) == np.float32(0.0)


@inlined
def _stay(q, slope, pixels, d, unit, x, k, alone, stop):
    """First pixel after x, at most stop, that is in another cell than (k, alone).

    The position minus unit * x is monotone, and grows by `slope` per pixel, or by 1 in so many `pixels`.
    """
    if slope == 0.0:
        return stop
    if alone and slope > 0.0:
        end = x + 1
    else:
        edge = np.float64(k) + (1.0 if slope > 0.0 else 0.0)
        end = np.int64(min(max((edge - q) * pixels, np.float64(x + 1)), np.float64(stop)))
    while end > x + 1 and _cell(q, d, unit, end - 1) != (k, alone):
        end -= 1
    while end < stop and _cell(q, d, unit, end) == (k, alone):
        end += 1
    return end


@inlined
def _drifts(q, d, unit, x):
    """Tell whether rounding cannot take a position from one cell to another and back.

    It cannot where the position drifts by more than rounding from pixel to pixel; otherwise it drifts by less than a
    hundredth over the row, and must be in the middle of a cell, or exactly in place.
    """
    slope = d - np.float64(unit)
    at = q + d * np.float64(x)
    f = at - np.floor(at)
    return abs(slope) > DRIFT or 0.01 < f < 0.99 or (slope == 0.0 and (unit == 0 or q == np.floor(q)))


@inlined
def _sample_row(image, start, end, width, qy, dy, qx, dx, first, last, level, out):
    """Sample pixels first..last of a row minus `level`, run by run, a run being pixels whose taps are neighbours.

    The plane is image.flat[start:end]: what follows it must not decide how its last rows are summed.
    """
    x = first
    end_y, end_x = first, first
    slope = dx - 1.0
    pixels_y, pixels_x = 1.0 / dy, 1.0 / slope
    ky, kx, steps = np.int64(0), np.int64(0), (np.int64(0), np.int64(0))
    while x < last:
        if x == end_y:
            ky, alone = _cell(qy, dy, 0, x)
            end_y = _stay(qy, dy, pixels_y, dy, 0, x, ky, alone, last)
            steps = (np.int64(0) if alone else width, steps[1])
        if x == end_x:
            kx, alone = _cell(qx, dx, 1, x)
            end_x = _stay(qx, slope, pixels_x, dx, 1, x, kx, alone, last)
            steps = (steps[0], np.int64(0) if alone else np.int64(1))
        stop = min(end_y, end_x)
        tap = start + ky * width + kx + x
        along_y, along_x = (qy, dy, np.float64(ky)), (qx, dx, np.float64(kx))
        size = stop - x
        if tap + steps[0] + steps[1] + size + LANES > end:
            # Whole vectors would end behind the plane.
            for i in range(size):
                a, b = image.flat[tap + i] - level, image.flat[tap + i + steps[1]] - level
                low = tap + steps[0] + i
                c, d = image.flat[low] - level, image.flat[low + steps[1]] - level
                at = np.float64(x + i)
                wy = np.float32(qy + dy * at - along_y[2])
                wx = np.float32(qx + dx * at - (at + along_x[2]))
                top = a + wx * (b - a)
                bottom = c + wx * (d - c)
                out[x - first + i] = top + wy * (bottom - top)
        else:
            sample(image, tap, steps, along_y, along_x, x, size, level, out, x - first)
        x = stop


@exact
def general(reference, moving, problem, matrices, first_item, last_item, partial):
    """Sums of the work items first_item..last_item, an item being one block of rows of one candidate; any matrix."""
    width = reference.shape[2]
    taps = (np.empty(width, np.uint32), np.empty(width, np.float32), np.empty(width, np.float32))
    room = (np.empty(width + LANES, np.float32), np.empty(ROOM))
    _items(reference, moving, problem, matrices, first_item, last_item, taps, room, partial)


@borrowing
def _items(reference, moving, problem, matrices, first_item, last_item, all_taps, room, partial):
    """See `general`, which has made the arrays."""
    base, fy, fx = all_taps
    sampled, some = room
    height, width = reference.shape[1], reference.shape[2]
    moving_height, moving_width = moving.shape[1], moving.shape[2]
    blocks = partial.shape[1]
    flat = moving.reshape(moving.shape[0], moving_height * moving_width)
    for item in range(first_item, last_item):
        candidate = item // blocks
        block = item % blocks
        k = problem[candidate]
        m = matrices[candidate]
        level = abs(m[0, 1]) + abs(m[1, 1] - 1.0) < LEVEL
        for i in range(6):
            partial[candidate, block, i] = 0.0
        for y in range(block * BLOCK, min(block * BLOCK + BLOCK, height)):
            qy = m[0, 0] * np.float64(y) + m[0, 2]
            qx = m[1, 0] * np.float64(y) + m[1, 2]
            xa, xb = span(m[0, 1], qy, np.float64(moving_height), width)
            xc, xd = span(m[1, 1], qx, np.float64(moving_width), width)
            xa, xb = max(xa, xc), min(xb, xd)
            if xb <= xa:
                continue
            n_x = xb - xa
            # About a number near the pixels, little is lost by float32, however far from zero they are.
            middle_x = np.float64((xa + xb) // 2)
            n_some = min(n_x, SOME, moving_width)
            tap_x = np.int64(np.floor(qx + m[1, 1] * middle_x)) - n_some // 2
            tap_x = max(0, min(tap_x, moving_width - n_some))
            tap_y = np.int64(np.floor(qy + m[0, 1] * middle_x))
            row = (k * moving_height + tap_y) * moving_width
            pivot_v = typical(moving, row, moving_width, tap_x, n_some, some)
            if level and _drifts(qy, m[0, 1], 0, xa) and _drifts(qx, m[1, 1], 1, xa):
                start = k * moving_height * moving_width
                end = start + moving_height * moving_width
                _sample_row(moving, start, end, moving_width, qy, m[0, 1], qx, m[1, 1], xa, xb, pivot_v, sampled)
            else:
                taps = (base[:n_x], fy[:n_x], fx[:n_x])
                _row_taps(moving_width, qy, m[0, 1], qx, m[1, 1], xa, *taps)
                _gather_row(flat[k], moving_width, *taps, pivot_v, sampled[:n_x])
            r = (k * height + y) * width + xa
            # What is left of them: nearer to 0 where both images are valid.
            n_some = min(n_x, 2 * SOME)
            before = (n_x - n_some) // 2
            _both((reference, sampled), (r + before, before), n_some, (), some, 0)
            if some[0] == 0.0:
                _both((reference, sampled), (r, 0), n_x, (), some, 0)
                if some[0] == 0.0:
                    continue
            near_r, near_v = np.float32(some[1] / some[0]), np.float32(some[2] / some[0])
            if n_x <= SHORT:
                _two_short_rows((reference, sampled), (r, 0), n_x, (near_r, near_v), some, 0)
            else:
                _two_rows((reference, sampled), (r, 0), n_x, (near_r, near_v), some, 0)
            sn, sr, sv, p, q = some[0], some[1], some[2], np.float64(near_r), np.float64(near_v) + np.float64(pivot_v)
            partial[candidate, block, 0] += sn
            partial[candidate, block, 1] += sr + sn * p
            partial[candidate, block, 2] += sv + sn * q
            partial[candidate, block, 3] += some[3] + p * (2.0 * sr + sn * p)
            partial[candidate, block, 4] += some[4] + q * (2.0 * sv + sn * q)
            partial[candidate, block, 5] += some[5] + p * sv + q * (sr + sn * p)
