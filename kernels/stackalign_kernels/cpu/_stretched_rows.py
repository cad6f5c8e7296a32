# SPDX-License-Identifier: BSD-3-Clause
"""Rows of the moving image, interpolated along x at the places of a row of the reference."""

import numpy as np

from ._jit import exact, fast, inlined
from ._lanes import blend


@exact
def tap_places(scale, offset, first, i0, i1, w):
    """Taps and weight for q = scale * x + offset, x = first, first + 1, ..., all of them inside.

    A tap of weight 0 is not a tap: the second index then repeats the first, so that a NaN beside an exact hit does not
    matter, and the last pixel can be hit.
    """
    for j in range(w.size):
        q = scale * np.float64(first + j) + offset
        k = np.floor(q)
        f = np.float32(q - k)
        # Rounding the weight to float32 can give 1: the next pixel then has all of it.
        i0[j] = np.int32(k)
        i1[j] = np.int32(k) + (np.int32(1) if f > np.float32(0.0) else np.int32(0))
        w[j] = f


@exact
def neighbouring_taps(i0, i1, xa, xb, starts):
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
def _blend_taps(row, i0, i1, w, first, last, pivot, out):
    for x in range(first, last):
        a, b = row[i0[x]], row[i1[x]]
        out[x] = (a - pivot) + w[x] * (b - a)


@inlined
def stretch_row(moving, row, i0, i1, w, starts, t, n, pivot, stretched, slot):
    """Interpolate the row that begins at moving.flat[row] along x, by the table t, into stretched[slot]."""
    width = stretched.shape[1]
    if n * 4 > starts[t, n] - starts[t, 0]:
        pixels = moving.reshape(moving.size)[row : row + moving.shape[2]]
        _blend_taps(pixels, i0[t], i1[t], w[t], starts[t, 0], starts[t, n], pivot, stretched[slot])
        return
    for k in range(n):
        first = starts[t, k]
        taps = (row + np.int64(i0[t, first]), row + np.int64(i1[t, first]), t * width + first)
        blend((moving, moving, w), taps, starts[t, k + 1] - first, pivot, stretched, slot * width + first)
