# SPDX-License-Identifier: BSD-3-Clause
"""One pattern: its valid pixels, extrema, total and first moments.

The order of the floating-point sums is fixed by :mod:`stackalign.backends._protocol`. What is compiled with `fast` are
sums of integers, where order does not matter, or feeds comparisons that an error bound decides.

Types are carried by one-element arrays: `acc` has the type of a pattern's total (int64 or float64), `part` that of the
sum of a few rows or of one row (int32 where elements have up to 16 bits, which keeps 16 lanes per vector).
"""

import math

import numpy as np

from ._jit import exact, fast

LANES = 256
GROUP = 8


@exact
def clean(p, mask, use_mask, out):
    """Copy p with its invalid pixels set to 0; return the number of valid pixels and their extrema."""
    n = 0
    low = np.inf
    high = -np.inf
    for y in range(p.shape[0]):
        r, m, o = p[y], mask[y], out[y]
        for x in range(r.size):
            v = np.float64(r[x])
            if (m[x] or not use_mask) and math.isfinite(v):
                o[x] = r[x]
                n += 1
                low = min(low, v)
                high = max(high, v)
            else:
                o[x] = 0
    return n, low, high


@exact
def extrema(bits, flip):
    """Smallest and largest key of a pattern, read in order, so that it is in cache afterwards.

    A floating-point pattern comes as its bits in signed integers of the same width, and `flip` (all ones but the sign)
    turns them into keys in the order of the values: integer minima vectorise, floating-point ones do not because of
    NaN, and NaN and infinity show as keys at the ends. For integers `flip` is 0 and a key is the value.
    """
    shift = 8 * bits.itemsize - 1
    low = bits[0, 0] ^ ((bits[0, 0] >> shift) & flip[0])
    high = low
    for y in range(bits.shape[0]):
        r = bits[y]
        for x in range(r.size):
            k = r[x] ^ ((r[x] >> shift) & flip[0])
            low = min(low, k)
            high = max(high, k)
    return low, high


@exact
def _add_group(r0, r1, r2, r3, r4, r5, r6, r7, y0, part, s0, s1):
    for x in range(s0.size):
        c = part.dtype.type(r7[x])
        s = c
        c = part.dtype.type(c + part.dtype.type(r6[x]))
        s = part.dtype.type(s + c)
        c = part.dtype.type(c + part.dtype.type(r5[x]))
        s = part.dtype.type(s + c)
        c = part.dtype.type(c + part.dtype.type(r4[x]))
        s = part.dtype.type(s + c)
        c = part.dtype.type(c + part.dtype.type(r3[x]))
        s = part.dtype.type(s + c)
        c = part.dtype.type(c + part.dtype.type(r2[x]))
        s = part.dtype.type(s + c)
        c = part.dtype.type(c + part.dtype.type(r1[x]))
        s = part.dtype.type(s + c)
        c = part.dtype.type(c + part.dtype.type(r0[x]))
        s0[x] += s0.dtype.type(c)
        s1[x] += s0.dtype.type(y0) * s0.dtype.type(c) + s0.dtype.type(s)


@exact
def _add_group_totals(r0, r1, r2, r3, r4, r5, r6, r7, s0):
    # The sums c of `_add_group` alone, in the same order: two thirds of its time where the centre is given.
    for x in range(s0.size):
        c = s0.dtype.type(r7[x])
        c += s0.dtype.type(r6[x])
        c += s0.dtype.type(r5[x])
        c += s0.dtype.type(r4[x])
        c += s0.dtype.type(r3[x])
        c += s0.dtype.type(r2[x])
        c += s0.dtype.type(r1[x])
        c += s0.dtype.type(r0[x])
        s0[x] += c


@exact
def column_totals(p, s0):
    """Column sums of p alone, with the same bits as those of `column_sums`."""
    s0[:] = 0
    height = p.shape[0]
    whole = height - height % GROUP
    for y in range(0, whole, GROUP):
        _add_group_totals(p[y], p[y + 1], p[y + 2], p[y + 3], p[y + 4], p[y + 5], p[y + 6], p[y + 7], s0)
    for x in range(s0.size):
        c = s0.dtype.type(0)
        for y in range(height - 1, whole - 1, -1):
            c += s0.dtype.type(p[y, x])
        s0[x] += c


@exact
def column_sums(p, part, s0, s1):
    """Column sums of p and of y*p, in the order of the protocol."""
    s0[:] = 0
    s1[:] = 0
    height = p.shape[0]
    whole = height - height % GROUP
    for y in range(0, whole, GROUP):
        _add_group(p[y], p[y + 1], p[y + 2], p[y + 3], p[y + 4], p[y + 5], p[y + 6], p[y + 7], y, part, s0, s1)
    if whole < height:
        for x in range(s0.size):
            c = part.dtype.type(0)
            s = part.dtype.type(0)
            for y in range(height - 1, whole, -1):
                c = part.dtype.type(c + part.dtype.type(p[y, x]))
                s = part.dtype.type(s + c)
            c = part.dtype.type(c + part.dtype.type(p[whole, x]))
            s0[x] += s0.dtype.type(c)
            s1[x] += s0.dtype.type(whole) * s0.dtype.type(c) + s0.dtype.type(s)


@exact
def lane_sums(s0, s1, lanes):
    """Total, first moment in y and first moment in x from the column sums, as float64."""
    lanes[:] = 0.0
    for x in range(s0.size):
        k = x % LANES
        v = np.float64(s0[x])
        lanes[0, k] += v
        lanes[1, k] += np.float64(s1[x])
        lanes[2, k] += np.float64(x) * v
    n = LANES
    while n > 1:
        n //= 2
        for k in range(n):
            lanes[0, k] += lanes[0, k + n]
            lanes[1, k] += lanes[1, k + n]
            lanes[2, k] += lanes[2, k + n]
    return lanes[0, 0], lanes[1, 0], lanes[2, 0]


@fast
def row_sum(r, part):
    v = part.dtype.type(0)
    for x in range(r.size):
        v = part.dtype.type(v + part.dtype.type(r[x]))
    return v


@fast
def pattern_total(p, part, acc):
    t = acc.dtype.type(0)
    for y in range(p.shape[0]):
        t += acc.dtype.type(row_sum(p[y], part))
    return t
