# SPDX-License-Identifier: BSD-3-Clause
"""Masked normalised cross-correlation of a reference with affinely sampled moving images, fused, for many candidates.

Planes are float32 with NaN where a pixel is invalid, centred and scaled. A candidate is a pull matrix M: the moving
image is sampled at ``M[:, :2] @ p + M[:, 2]``, bilinearly. Six sums (n, r, v, rr, vv, rv) are made for each row of the
reference, in float32 about numbers near the pixels, and added up in float64 about 0; a block of rows writes its sums,
and blocks are added in index order, so that the answer does not depend on which thread took which block, nor on what
else was in the call.

Candidates whose matrix is diagonal share most of the work where they agree in x. The horizontal half of their
interpolation is done once per group and row of the moving image. What is left is ``v = (1 - w) * a + w * b`` of two
such rows, with one weight for the whole row; so the sums with v are those with a and b, weighted. They are made once
for all candidates that put the same rows on a row of the reference, and a candidate costs a few numbers per row.
The kernel for any other matrix is in `_affine_ncc_general`.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ._affine_rows import BLOCK, ROOM, SHORT, pivot, span
from ._jit import borrowing, exact, inlined
from ._lanes import row_sums
from ._stretched_rows import neighbouring_taps, stretch_row, tap_places

MIN_SLOTS, SLOT_PIXELS = 32, 32768
"""Stretched rows that are kept: 32, or more where these are short."""

BATCH = 16
"""Most groups of candidates that take a block of rows one after the other."""

FLAT = 1e-5
"""Variance over mean square that rounding to float32 can feign: a constant rounds the same way in every term."""

# Sums of a row of the reference (0) and of two neighbouring rows of the moving image (1, 2).
N, R, A, B, RR, AA, AB, BB, RA, RB = range(10)
_TERMS = [(), (0,), (1,), (2,), (0, 0), (1, 1), (1, 2), (2, 2), (0, 1), (0, 2)]
_three_rows = row_sums(_TERMS, 1, masked=True)
_three_short_rows = row_sums(_TERMS, 1, masked=True, double=True)
_products = [(0, 1), (0, 2), (1, 2)]
_whole_rows = row_sums(_products, 1, masked=False)
_fresh_rows = row_sums([*_products, (0,), (0, 0), (2,), (2, 2)], 1, masked=False)
_squares = row_sums([(0,), (0, 0)], 1, masked=False)


@inlined
def _from_zero(table, place, r, a, b):
    """Turn sums about the pivots r, a and b into sums about 0; in float64 they lose nothing."""
    n, sr, sa, sb = table[place, N], table[place, R], table[place, A], table[place, B]
    table[place, RA] += r * sa + a * (sr + n * r)
    table[place, RB] += r * sb + b * (sr + n * r)
    table[place, AB] += a * sb + b * (sa + n * a)
    table[place, RR] += r * (2.0 * sr + n * r)
    table[place, AA] += a * (2.0 * sa + n * a)
    table[place, BB] += b * (2.0 * sb + n * b)
    table[place, R] += n * r
    table[place, A] += n * a
    table[place, B] += n * b


@exact
def without_nan(planes, whole):
    """Take the mark from the planes that have a NaN."""
    for k in range(planes.shape[0]):
        for y in range(planes.shape[1]):
            found = 0
            for x in range(planes.shape[2]):
                found |= planes[k, y, x] != planes[k, y, x]
            if found:
                whole[k] = False
                break


class _Taps(NamedTuple):
    """Interpolation along x of the groups of a batch: taps, weights, runs of neighbours, and where it is inside."""

    i0: Any
    i1: Any
    weights: Any
    starts: Any
    n_runs: Any
    ends: Any


class _Rows(NamedTuple):
    """Rows of the moving image, stretched for a group, about their pivots: row y in slot y & last_slot.

    They stay as long as no other row wants the slot. `squares` has their sums with themselves, where `squared`.
    """

    stretched: Any
    stretched_for: Any
    pivots: Any
    squares: Any
    squared: Any


class _Table(NamedTuple):
    """Sums of a row of the reference with two stretched rows.

    They are in place 2 * slot + 1 for the rows y0 and y0 + 1, and in 2 * slot for y0 alone; `known` says of which rows.
    """

    known: Any
    sums: Any


class _Middles(NamedTuple):
    """Numbers near the pixels of each row of both images, see `pivot`, and room for sums."""

    reference: Any
    reference_for: Any
    moving: Any
    moving_for: Any
    some: Any
    other: Any


@inlined
def _tabulate(columns, first_group, last_group, moving_width, taps):
    """Fill the table of a batch of groups."""
    for g in range(first_group, last_group):
        t = g - first_group
        xa, xb = span(columns[g, 0], columns[g, 1], np.float64(moving_width), taps.weights.shape[1])
        if xb > xa:
            axis = taps.i0[t, xa:xb], taps.i1[t, xa:xb], taps.weights[t, xa:xb]
            tap_places(columns[g, 0], columns[g, 1], xa, axis[0], axis[1], axis[2])
            taps.n_runs[t] = neighbouring_taps(taps.i0[t], taps.i1[t], xa, xb, taps.starts[t])
        taps.ends[t, 0], taps.ends[t, 1] = xa, xb


@inlined
def _stretch(moving, plane, source, key, slot, taps, t, middles, rows):
    """Stretch a row of the moving image into a slot, unless it is there."""
    if rows.stretched_for[slot] == key:
        return
    rows.stretched_for[slot] = key
    rows.squared[slot] = False
    width = moving.shape[2]
    row = (plane + source) * width
    xa, xb = taps.ends[t, 0], taps.ends[t, 1]
    left = np.int64(min(taps.i0[t, xa], taps.i0[t, xb - 1]))
    right = np.int64(max(taps.i1[t, xa], taps.i1[t, xb - 1])) + 1
    near = pivot(moving, row, width, left, right, middles.moving, middles.moving_for, source, middles.other)
    rows.pivots[slot] = near
    starts = taps.starts
    stretch_row(moving, row, taps.i0, taps.i1, taps.weights, starts, t, taps.n_runs[t], near, rows.stretched, slot)


@inlined
def _whole_sums(reference, at, n_x, pivot_r, slots, of_reference, rows, sums, place):
    """Sums of three rows without NaN: what is known of one of them alone is not summed again.

    `of_reference` has the sums of the row of the reference at 0 and 1, if it is known at 2. Alone or together, sums
    are made in the same order.
    """
    nothing = np.float32(0.0)
    s0, s1 = slots
    three, s, squares = (reference, rows.stretched, rows.stretched), sums[place], rows.squares
    if of_reference[2] == 0.0 and rows.squared[s0] and not rows.squared[s1]:  # usual where candidates share nothing
        _fresh_rows(three, at, n_x, (pivot_r,), sums, place * ROOM)
        of_reference[0], of_reference[1] = s[3], s[4]
        squares[s1, 0], squares[s1, 1] = s[5], s[6]
    else:
        for slot, start in ((s0, at[1]), (s1, at[2])):
            if not rows.squared[slot]:
                _squares((rows.stretched,), (start,), n_x, (nothing,), squares, slot * ROOM)
                rows.squared[slot] = True
        if of_reference[2] == 0.0:
            _squares((reference,), (at[0],), n_x, (pivot_r,), of_reference, 0)
        _whole_rows(three, at, n_x, (pivot_r,), sums, place * ROOM)
    rows.squared[s1] = True
    of_reference[2] = 1.0
    s[RA], s[RB], s[AB] = s[0], s[1], s[2]
    s[N], s[R], s[RR] = n_x, of_reference[0], of_reference[1]
    s[A], s[AA], s[B], s[BB] = squares[s0, 0], squares[s0, 1], squares[s1, 0], squares[s1, 1]


@inlined
def _add_weighted(out, s, w):
    """Add the sums with the sample (1 - w) * a + w * b: they are those with the rows a and b, weighted."""
    wb = np.float64(w)
    wa = 1.0 - wb
    out[0] += s[N]
    out[1] += s[R]
    out[2] += wa * s[A] + wb * s[B]
    out[3] += s[RR]
    out[4] += wa * (wa * s[AA] + 2.0 * wb * s[AB]) + wb * wb * s[BB]
    out[5] += wa * s[RA] + wb * s[RB]


@inlined
def _group_row(
    reference, moving, whole, k, y, g, t, rows_of, members, first, last, block, taps, rows, table, middles, partial
):
    """Add one row of the reference to the sums of the candidates of a group."""
    height, width = reference.shape[1], reference.shape[2]
    moving_height = moving.shape[1]
    last_slot = rows.stretched.shape[0] - 1
    xa, n_x = taps.ends[t, 0], taps.ends[t, 1] - taps.ends[t, 0]
    r = (k * height + y) * width + xa
    some = middles.some
    pivot_r = pivot(reference, r - xa, width, xa, xa + n_x, middles.reference, middles.reference_for, y, some)
    some[2] = 0.0
    for member in range(first, last):
        candidate = members[member]
        q = rows_of[candidate, 0] * np.float64(y) + rows_of[candidate, 1]
        if not (0.0 <= q <= np.float64(moving_height - 1)):
            continue
        y0 = np.int64(math.floor(q))
        w = np.float32(q - np.float64(y0))
        y1 = y0 if w == np.float32(0.0) else y0 + 1
        s0, s1 = y0 & last_slot, y1 & last_slot
        place = 2 * s0 + (y1 - y0)
        key = (g * height + y) * moving_height + y0
        if table.known[place] != key:
            table.known[place] = key
            for source in range(y0, y1 + 1):
                kept = g * moving_height + source
                _stretch(moving, k * moving_height, source, kept, source & last_slot, taps, t, middles, rows)
            at = (r, s0 * width + xa, s1 * width + xa)
            three = (reference, rows.stretched, rows.stretched)
            if n_x <= SHORT:
                _three_short_rows(three, at, n_x, (pivot_r,), table.sums, place * ROOM)
            elif whole:
                _whole_sums(reference, at, n_x, pivot_r, (s0, s1), some, rows, table.sums, place)
            else:
                _three_rows(three, at, n_x, (pivot_r,), table.sums, place * ROOM)
            near_a, near_b = np.float64(rows.pivots[s0]), np.float64(rows.pivots[s1])
            _from_zero(table.sums, place, np.float64(pivot_r), near_a, near_b)
        _add_weighted(partial[candidate, block], table.sums[place], w)


@exact
def separable(reference, moving, whole, problem, columns, rows, members, bounds, batches, start, stop, partial):
    """Sums of the work items start..stop, an item being one block of rows of a batch of groups of candidates.

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
    batches : (P + 1,) int64
        Where the groups of each batch begin, at most `BATCH`, of one problem: a block stays in the cache for them.
    partial : (C, blocks, 6) float64
        Output: n, r, v, rr, vv, rv.
    """
    height, width = reference.shape[1], reference.shape[2]
    moving_height = moving.shape[1]
    n_slots = MIN_SLOTS
    while 2 * n_slots * width <= SLOT_PIXELS:
        n_slots *= 2
    taps = _Taps(
        np.empty((BATCH, width), np.int32),
        np.empty((BATCH, width), np.int32),
        np.empty((BATCH, width), np.float32),
        np.empty((BATCH, width + 1), np.int64),
        np.zeros(BATCH, np.int64),
        np.zeros((BATCH, 2), np.int64),
    )
    stretched = _Rows(
        np.empty((n_slots, width), np.float32),
        np.full(n_slots, -1, np.int64),
        np.empty(n_slots, np.float32),
        np.empty((n_slots, ROOM)),
        np.zeros(n_slots, np.bool_),
    )
    table = _Table(np.full(2 * n_slots, -1, np.int64), np.empty((2 * n_slots, ROOM)))
    middles = _Middles(
        np.empty(height, np.float32),
        np.full(height, -1, np.int64),
        np.empty(moving_height, np.float32),
        np.full(moving_height, -1, np.int64),
        np.empty(ROOM),
        np.empty(ROOM),
    )
    images, groups = (reference, moving, whole), (problem, columns, rows, members, bounds, batches)
    _items(images, groups, start, stop, taps, stretched, table, middles, partial)


@borrowing
def _items(images, groups, start, stop, taps, rows, table, middles, partial):
    """See `separable`, which has made the arrays."""
    reference, moving, whole = images
    problem, columns, rows_of, members, bounds, batches = groups
    blocks = partial.shape[1]
    tabulated = np.int64(-1)
    for item in range(start, stop):
        batch, block = item // blocks, item % blocks
        first_group, last_group = batches[batch], batches[batch + 1]
        k = problem[first_group]
        if tabulated != batch:
            _tabulate(columns, first_group, last_group, moving.shape[2], taps)
            tabulated = batch
        for g in range(first_group, last_group):
            t = g - first_group
            for member in range(bounds[g], bounds[g + 1]):
                partial[members[member], block] = 0.0
            if taps.ends[t, 1] <= taps.ends[t, 0]:
                continue
            for y in range(block * BLOCK, min(block * BLOCK + BLOCK, reference.shape[1])):
                _group_row(
                    reference,
                    moving,
                    whole[k],
                    k,
                    y,
                    g,
                    t,
                    rows_of,
                    members,
                    bounds[g],
                    bounds[g + 1],
                    block,
                    taps,
                    rows,
                    table,
                    middles,
                    partial,
                )


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
