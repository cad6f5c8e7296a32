# SPDX-License-Identifier: BSD-3-Clause
"""One pass over a masked normalised cross-correlation and its derivatives: the sums that Gauss-Newton asks for.

Planes are as in `affine_ncc`. The bilinear surface has its exact derivatives in hand: the difference of two rows, and
the slopes of two rows (`_linear_rows`), of which a row of the reference makes its sums (`_linear_sums`). A work item is
a band of rows of one problem.

Where the matrix is diagonal, rows of the moving image are stretched along x first, values and slopes, and each serves
the rows above and below it.
"""

import math

import numpy as np

from ._affine_rows import span
from ._jit import borrowing, exact
from ._linear_rows import (
    NOT_A_NUMBER,
    axis_table,
    edge_slopes,
    gather_row,
    given_rows,
    mend_edges,
    row_along,
    row_taps,
    stretch_row,
    take_slopes,
    tap_runs,
)
from ._linear_sums import add_diagonal, add_general, columns, diagonal_sums, general_sums

BAND = 32
"""Rows of the reference per partial sum."""

KEPT = 4
"""Stretched rows of the moving image that are kept: a row of the reference meets up to three that are neighbours."""


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
    width = reference.shape[2]
    table = (np.empty(width, np.int32), np.empty(width, np.float32), np.empty(width + 1, np.int64))
    kept = (np.empty((KEPT, width), np.float32), np.empty((KEPT, width), np.float32), np.full(KEPT, -1, np.int64))
    room = (np.full(width, NOT_A_NUMBER, np.float32), np.empty(width, np.float32), np.empty(width, np.float32))
    images, tiles = (reference, moving, given), (height_of_tile, width_of_tile)
    _diagonal_items(images, matrices, tiles, start, stop, table, kept, room, columns(width), partial)


@borrowing
def _diagonal_items(images, matrices, tiles, start, stop, table, kept, room, coordinate, partial):
    """See `diagonal`, which has made the arrays."""
    reference, moving, given = images
    height_of_tile, width_of_tile = tiles
    i0, wx, starts = table
    values, slopes, held = kept
    nothing, steep, beyond = room
    height, width = reference.shape[1], reference.shape[2]
    moving_height, moving_width = moving.shape[1], moving.shape[2]
    down, bands = partial.shape[1], partial.shape[2]
    problem = np.int64(-1)
    xa, xb, n_runs = 0, 0, 0
    for item in range(start, stop):
        k = item // (down * bands)
        tile, band = item // bands % down, item % bands
        m = matrices[k]
        if k != problem:
            problem = k
            xa, xb = axis_table(m[1, 1], m[1, 2], width, moving_width, i0, wx)
            n_runs = tap_runs(i0, wx, xa, xb, starts)
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
                    stretch_row(moving[k, row], i0, wx, starts, n_runs, values[row % KEPT], slopes[row % KEPT])
            a, da = values[y0 % KEPT], slopes[y0 % KEPT]
            if on_edge:
                above = values[(y0 - 1) % KEPT] if y0 > 0 else nothing
                below = values[(y0 + 1) % KEPT] if y0 + 1 < moving_height else nothing
                edge_slopes(above[xa:xb], a[xa:xb], below[xa:xb], steep[xa:xb])
                row_along(a[xa:xb], steep[xa:xb], beyond[xa:xb])
                b, db = beyond, da
            else:
                b, db = values[(y0 + 1) % KEPT], slopes[(y0 + 1) % KEPT]
            if given.shape[0] > 0:
                gy, gx = given[k, 0, y], given[k, 1, y]
                given_rows(
                    a[xa:xb], a[xa:xb] if on_edge else b[xa:xb], w, gy[xa:xb], gx[xa:xb], steep[xa:xb], beyond[xa:xb]
                )
                a, b, da, db, w = steep, beyond, gx, gx, np.float32(0.0)
            at = np.float64(y) - 0.5 * np.float64(height - 1)
            for t in range(xa // width_of_tile, (xb - 1) // width_of_tile + 1):
                i, j = max(xa, t * width_of_tile), min(xb, (t + 1) * width_of_tile)
                s = diagonal_sums(reference[k, y, i:j], a[i:j], b[i:j], da[i:j], db[i:j], coordinate[i:j], w)
                add_diagonal(partial[k, tile, band, t], at, s)


@exact
def general(reference, moving, given, matrices, height_of_tile, width_of_tile, start, stop, partial):
    """Sums of the work items start..stop with any matrix; parameters as of `diagonal`."""
    width = reference.shape[2]
    taps = (np.empty(width, np.uint32), np.empty(width, np.uint32), np.empty(width, np.uint32))
    weights = (np.empty(width, np.float32), np.empty(width, np.float32))
    samples = (np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32))
    images, tiles = (reference, moving, given), (height_of_tile, width_of_tile)
    _general_items(images, matrices, tiles, start, stop, taps, weights, samples, columns(width), partial)


@borrowing
def _general_items(images, matrices, tiles, start, stop, all_taps, weights, samples, coordinate, partial):
    """See `general`, which has made the arrays."""
    reference, moving, given = images
    height_of_tile, width_of_tile = tiles
    base, below, beside = all_taps
    fy, fx = weights
    values, steep, slopes = samples
    height, width = reference.shape[1], reference.shape[2]
    moving_height, moving_width = moving.shape[1], moving.shape[2]
    down, bands = partial.shape[1], partial.shape[2]
    flat = moving.reshape(moving.shape[0], moving_height * moving_width)
    for item in range(start, stop):
        k = item // (down * bands)
        tile, band = item // bands % down, item % bands
        m = matrices[k]
        first = tile * height_of_tile + band * BAND
        last = min(first + BAND, (tile + 1) * height_of_tile, height)
        for y in range(first, last):
            qy = m[0, 0] * np.float64(y) + m[0, 2]
            qx = m[1, 0] * np.float64(y) + m[1, 2]
            xa, xb = span(m[0, 1], qy, np.float64(moving_height), width)
            xc, xd = span(m[1, 1], qx, np.float64(moving_width), width)
            xa, xb = max(xa, xc), min(xb, xd)
            if xb <= xa:
                continue
            n = xb - xa
            taps = (base[:n], below[:n], beside[:n], fy[:n], fx[:n])
            v, gy, gx = values[:n], steep[:n], slopes[:n]
            edges = row_taps(moving_height, moving_width, qy, m[0, 1], qx, m[1, 1], xa, *taps)
            gather_row(flat[k], *taps, v, gy, gx)
            if given.shape[0] > 0:
                take_slopes(given[k, 0, y, xa:xb], given[k, 1, y, xa:xb], v, gy, gx)
            elif edges > 0:
                mend_edges(moving[k], taps[0], taps[3], taps[4], gy, gx)
            at = np.float64(y) - 0.5 * np.float64(height - 1)
            for t in range(xa // width_of_tile, (xb - 1) // width_of_tile + 1):
                i, j = max(xa, t * width_of_tile), min(xb, (t + 1) * width_of_tile)
                p, q = i - xa, j - xa
                s = general_sums(reference[k, y, i:j], v[p:q], gy[p:q], gx[p:q], coordinate[i:j])
                add_general(partial[k, tile, band, t], at, s)
