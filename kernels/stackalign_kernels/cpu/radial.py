# SPDX-License-Identifier: BSD-3-Clause
"""Moments, retention radii and cumulative radial sums: loops over a range of patterns.

What is done with one pattern is in `_pattern_sums` and `_retention`.
"""

import numpy as np

from ._jit import exact
from ._pattern_sums import LANES, clean, column_sums, column_totals, extrema, lane_sums, pattern_total
from ._retention import UNDECIDED, exact_radius, last_radius, ring_sums, scan, search

FAR = 1e6
UNIT_ROUNDOFF = 2.0**-53


@exact
def _one_radii(p, part, acc, cy, cx, total, non_negative, fractions, guesses, chords, sums, index, radii):
    height, width = p.shape
    if not (abs(cy) <= FAR and abs(cx) <= FAR):
        radii[:] = -1
        return
    last = last_radius(height, width, cy, cx)
    is_float = acc.dtype.type(0.5) > 0
    # Twice the bound for summing every pixel one after the other, for the total and the partial sum each.
    scale = 4.0 * height * width * UNIT_ROUNDOFF if is_float else 0.0
    if not non_negative:
        # Pixels may be farther than the scratch rings when the centre is off the frame: they are then not needed,
        # unless the crossing lies out there, and the exact path finds it.
        magnitude = ring_sums(p, cy, cx, sums, index)
        inside = min(last, np.int64(sums.size))
        for k in range(fractions.size):
            radii[k] = scan(sums, total, fractions[k], scale * magnitude, inside)
            if radii[k] == inside and inside < last:
                radii[k] = UNDECIDED
    else:
        error = scale * np.float64(total)
        for k in range(fractions.size):
            radii[k] = search(p, part, acc, cy, cx, total, fractions[k], error, guesses[k], last, chords)
    for k in range(fractions.size):
        if radii[k] == UNDECIDED:
            exact_radius(p, cy, cx, fractions, radii)
            break
    for k in range(fractions.size):
        guesses[k] = radii[k]


@exact
def summarise(
    patterns,
    bits,
    flip,
    end,
    mask,
    use_mask,
    centers,
    given,
    fractions,
    part,
    start,
    stop,
    total,
    low,
    high,
    n_valid,
    radii,
):
    """Total, extrema, valid pixels, centre and radii of the patterns start..stop, each read once from memory.

    `bits` and `flip` are those of `extrema`; a key of `end` or beyond is an infinity or a NaN. `mask` has one frame or
    one per pattern. `centers` is input where `given`, else output.
    """
    height, width = patterns.shape[1], patterns.shape[2]
    acc = np.zeros(1, total.dtype)
    s0 = np.zeros(width, total.dtype)
    s1 = np.zeros(width, total.dtype)
    lanes = np.zeros((3, LANES))
    chords = np.zeros((3, 2, height), np.int32)
    sums = np.zeros(height + width + 2, total.dtype)
    index = np.zeros(width, np.int32)
    cleaned = np.zeros((height, width), patterns.dtype)
    guesses = np.full(fractions.size, min(height, width) // 4, np.int64)
    cell = np.zeros(1, bits.dtype)
    value = cell.view(patterns.dtype)
    shift = 8 * bits.itemsize - 1
    is_float = acc.dtype.type(0.5) > 0
    for n in range(start, stop):
        p = patterns[n]
        m = mask[n if mask.shape[0] > 1 else 0]
        low_key, high_key = extrema(bits[n], flip)
        whole = not use_mask and (not is_float or (high_key < end[0] and low_key > -end[0] - 1))
        if whole:
            n_valid[n] = height * width
            cell[0] = low_key ^ ((low_key >> shift) & flip[0])  # the key's map is its own inverse
            low[n] = np.float64(value[0])
            cell[0] = high_key ^ ((high_key >> shift) & flip[0])
            high[n] = np.float64(value[0])
        else:
            n_valid[n], low[n], high[n] = clean(p, m, use_mask, cleaned)
            p = cleaned
        if given and not is_float:
            total[n] = pattern_total(p, part, acc)
        else:
            if given:
                column_totals(p, s0)
            else:
                column_sums(p, part, s0, s1)
            t, my, mx = lane_sums(s0, s1, lanes)
            if is_float:
                total[n] = total.dtype.type(t)
            else:
                exact_total = acc.dtype.type(0)
                for x in range(width):
                    exact_total += s0[x]
                total[n] = exact_total
                t = np.float64(exact_total)
            if not given:
                if t == 0.0:
                    centers[n, 0] = (height - 1) / 2
                    centers[n, 1] = (width - 1) / 2
                else:
                    centers[n, 0] = my / t
                    centers[n, 1] = mx / t
        if n_valid[n] == 0:
            low[n] = np.nan
            high[n] = np.nan
        if fractions.size:
            _one_radii(
                p,
                part,
                acc,
                centers[n, 0],
                centers[n, 1],
                total[n],
                not low[n] < 0.0,
                fractions,
                guesses,
                chords,
                sums,
                index,
                radii[n],
            )


@exact
def cumulative(patterns, mask, use_mask, centers, start, stop, sums, out):
    """Cumulative radial sums of the patterns start..stop into out (N, n_radii) float64; sums is (n_radii,) scratch."""
    height, width = patterns.shape[1], patterns.shape[2]
    cleaned = np.zeros((height, width), patterns.dtype)
    index = np.zeros(width, np.int32)
    for n in range(start, stop):
        clean(patterns[n], mask[n if mask.shape[0] > 1 else 0], use_mask, cleaned)
        ring_sums(cleaned, centers[n, 0], centers[n, 1], sums, index)
        c = sums.dtype.type(0)
        for i in range(sums.size):
            c += sums[i]
            out[n, i] = np.float64(c)
