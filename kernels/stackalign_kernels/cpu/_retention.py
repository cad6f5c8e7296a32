# SPDX-License-Identifier: BSD-3-Clause
"""One pattern: sums over disks and rings, and the radius that holds a fraction of the total.

The rule that puts a pixel on a radius is fixed by :mod:`stackalign.backends._protocol`. What is compiled with `fast`
only feeds comparisons that an error bound decides (floats) or sums of integers, where order does not matter.

Types are carried by one-element arrays: `acc` has the type of a pattern's total (int64 or float64), `part` that of the
sum of a few rows or of one row (int32 where elements have up to 16 bits, which keeps 16 lanes per vector).
"""

import math

import numpy as np

from ._jit import exact, fast
from ._pattern_sums import row_sum

UNDECIDED = -2


@exact
def last_radius(height, width, cy, cx):
    """The smallest radius that holds every pixel of the frame."""
    dy = max(abs(0.0 - cy), abs((height - 1) - cy))
    dx = max(abs(0.0 - cx), abs((width - 1) - cx))
    return _ring(dy * dy + dx * dx)


@exact
def _ring(d2):
    """The smallest integer i with d2 <= i*i."""
    i = math.ceil(math.sqrt(d2))
    if np.float64(i) * np.float64(i) < d2:  # the root was rounded down onto an integer
        i += 1
    return np.int64(i)


@exact
def _chords(cy, cx, radius, width, x0, x1):
    """Half-open column ranges [x0, x1) of the pixels within radius, for every row.

    The ends come from a square root and are then moved to where the exact comparison holds: the root is never wrong by
    more than one pixel. Without a branch, so that eight rows are done at once.
    """
    ii = np.float64(radius) * np.float64(radius)
    for y in range(x0.size):
        dy = np.float64(y) - cy
        dy2 = dy * dy
        s = math.sqrt(max(ii - dy2, 0.0))
        a = np.ceil(cx - s)
        b = np.floor(cx + s)
        d = (b + 1.0) - cx
        wider = d * d + dy2 <= ii
        d = b - cx
        inside = d * d + dy2 <= ii
        b += 1.0 if wider else (0.0 if inside else -1.0)
        d = (a - 1.0) - cx
        wider = d * d + dy2 <= ii
        d = a - cx
        inside = d * d + dy2 <= ii
        a -= 1.0 if wider else (0.0 if inside else -1.0)
        a = max(a, 0.0)
        b = max(a, min(b + 1.0, width))
        x0[y] = np.int32(a)
        x1[y] = np.int32(b)


@fast
def _disk_sum(p, part, acc, x0, x1):
    t = acc.dtype.type(0)
    for y in range(x0.size):
        if x1[y] > x0[y]:
            t += acc.dtype.type(row_sum(p[y, x0[y] : x1[y]], part))
    return t


@fast
def _annulus_sum(p, part, acc, outer0, outer1, inner0, inner1):
    """Sum over the pixels of the outer disk that are not in the inner one."""
    t = acc.dtype.type(0)
    for y in range(outer0.size):
        a, b = outer0[y], outer1[y]
        if b > a:
            c, d = inner0[y], inner1[y]
            if d <= c:  # the inner disk misses this row
                t += acc.dtype.type(row_sum(p[y, a:b], part))
            else:
                if c > a:
                    t += acc.dtype.type(row_sum(p[y, a:c], part))
                if b > d:
                    t += acc.dtype.type(row_sum(p[y, d:b], part))
    return t


@exact
def _compare(cumulative, total, fraction, error):
    """+1 where the sum reaches the fraction of the total, -1 where it does not, 0 where rounding could decide."""
    d = np.float64(cumulative) - fraction * np.float64(total)
    if d >= error:
        return 1
    if d < -error:
        return -1
    return 0


@exact
def search(p, part, acc, cy, cx, total, fraction, error, guess, last, chords):
    """Radius of a fraction of a non-negative pattern, from a guess: galloping, then bisection, on annulus sums.

    `chords` (3, 2, H) holds the chords of the lower end, of the upper end, and of a radius between: each radius that is
    tried costs one set of chords and one thin annulus.
    """
    width = np.float64(p.shape[1])
    low, high, spare = 0, 1, 2
    hi = lo = min(max(guess, 0), last)
    _chords(cy, cx, hi, width, chords[high, 0], chords[high, 1])
    s = 1
    c = total
    if hi < last:  # at the last radius the sum is the total
        c = _disk_sum(p, part, acc, chords[high, 0], chords[high, 1])
        s = _compare(c, total, fraction, error)
    if s == 0:
        return UNDECIDED
    step = np.int64(1)
    c_lo = c
    if s > 0:
        while s > 0:
            if hi == 0:
                return np.int64(0)
            lo = max(hi - step, 0)
            _chords(cy, cx, lo, width, chords[low, 0], chords[low, 1])
            c_lo = c - _annulus_sum(p, part, acc, chords[high, 0], chords[high, 1], chords[low, 0], chords[low, 1])
            s = _compare(c_lo, total, fraction, error)
            if s == 0:
                return UNDECIDED
            if s > 0:
                hi, c = lo, c_lo
                high, low = low, high
                step *= 2
    else:
        high, low = low, high
        while s < 0:
            hi = min(lo + step, last)
            if hi == last:
                break
            _chords(cy, cx, hi, width, chords[high, 0], chords[high, 1])
            c = c_lo + _annulus_sum(p, part, acc, chords[high, 0], chords[high, 1], chords[low, 0], chords[low, 1])
            s = _compare(c, total, fraction, error)
            if s == 0:
                return UNDECIDED
            if s < 0:
                lo, c_lo = hi, c
                high, low = low, high
                step *= 2
    while hi - lo > 1:
        mid = (lo + hi) // 2
        _chords(cy, cx, mid, width, chords[spare, 0], chords[spare, 1])
        c = c_lo + _annulus_sum(p, part, acc, chords[spare, 0], chords[spare, 1], chords[low, 0], chords[low, 1])
        s = _compare(c, total, fraction, error)
        if s == 0:
            return UNDECIDED
        if s > 0:
            hi = mid
            high, spare = spare, high
        else:
            lo, c_lo = mid, c
            low, spare = spare, low
    return np.int64(hi)


@exact
def ring_sums(p, cy, cx, sums, index):
    """Sums over the rings (i-1, i]; pixels beyond the last entry are dropped. Return the sum of the magnitudes."""
    sums[:] = 0
    magnitude = 0.0
    for y in range(p.shape[0]):
        r = p[y]
        dy = np.float64(y) - cy
        dy2 = dy * dy
        for x in range(r.size):
            dx = np.float64(x) - cx
            d2 = dx * dx + dy2
            i = np.ceil(math.sqrt(d2))
            index[x] = np.int32(i + (1.0 if i * i < d2 else 0.0))
        for x in range(r.size):
            magnitude += abs(np.float64(r[x]))
            if index[x] < sums.size:
                sums[index[x]] += sums.dtype.type(r[x])
    return magnitude


@exact
def scan(sums, total, fraction, error, last):
    """First radius at which the running sum of the rings reaches the fraction."""
    c = sums.dtype.type(0)
    for i in range(last):
        c += sums[i]
        s = _compare(c, total, fraction, error)
        if s == 0:
            return UNDECIDED
        if s > 0:
            return np.int64(i)
    return np.int64(last)


@exact
def exact_radius(p, cy, cx, fractions, radii):
    """Radii of several fractions with every sum carried in twice the precision of float64.

    Settles what rounding could decide: the sums are exact to about 1e-32 relative and rounded once. p must hold 0 where
    it is invalid. Two-sum after Knuth, The Art of Computer Programming 2, 4.2.2.
    """
    last = last_radius(p.shape[0], p.shape[1], cy, cx)
    high = np.zeros(last + 1)
    low = np.zeros(last + 1)
    for y in range(p.shape[0]):
        dy = np.float64(y) - cy
        dy2 = dy * dy
        for x in range(p.shape[1]):
            dx = np.float64(x) - cx
            i = _ring(dx * dx + dy2)
            v = np.float64(p[y, x])
            s = high[i] + v
            t = s - high[i]
            low[i] += (high[i] - (s - t)) + (v - t)
            high[i] = s
    # Running sums, renormalised so that `high` is the float64 nearest to the sum.
    run_high, run_low = 0.0, 0.0
    for i in range(last + 1):
        s = run_high + high[i]
        t = s - run_high
        e = ((run_high - (s - t)) + (high[i] - t)) + (run_low + low[i])
        run_high = s + e
        run_low = e - (run_high - s)
        high[i] = run_high
    for k in range(fractions.size):
        threshold = fractions[k] * high[last]
        radii[k] = last
        for i in range(last + 1):
            if high[i] >= threshold:
                radii[k] = i
                break
