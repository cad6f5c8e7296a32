# SPDX-License-Identifier: BSD-3-Clause
"""Mean of an image over several affine transforms, made of what is valid. Twin of ``cuda/affine_average.cu``.

Images are copied to planes of float32 or float64 with NaN where a pixel is invalid. A row of a plane is an odd number
of lines of the cache, because pixels one above the other would otherwise, in an image 2048 wide, all compete for the
same few places of the cache; and the last row and column are there twice, so that every pixel has neighbours.

A work item is one tile of the outputs of a group of images that share their transforms. A tile is small enough that the
part of a plane that it is sampled from stays in the first cache; indices and weights are computed once for all images.
"""

import numpy as np

from ._jit import exact, fast

TILE = 64
"""Rows and columns of an output per work item."""
CELL = 32
"""Rows and columns of a plane of which is known whether all are valid."""


@fast
def _copy_row(row, out):
    for x in range(row.size):
        out[x] = out.dtype.type(row[x])


@fast
def _blank_row(valid, out):
    for x in range(out.size):
        out[x] = out[x] if valid[x] else out.dtype.type(np.nan)


@fast
def _count_bad(row, limit):
    bad = 0
    for x in range(row.size):
        bad += 0 if abs(row[x]) <= limit else 1
    return bad


@exact
def lay(images, mask, limit, start, stop, planes, sound):
    """Rows of cells start..stop, counted over all images.

    Parameters
    ----------
    images : (N, H, W)
    mask : (0 or 1 or N, H, W) bool
        Of no length where there is none.
    limit : scalar of the planes' type
        Pixels no larger than this can be interpolated, and are sound.
    planes : (N, H + 1, more than W)
    sound : (N, rows of cells, columns of cells) uint8
        1 where all pixels of a cell are.
    """
    _, height, width = images.shape
    cells = sound.shape[1]
    bad = np.empty(sound.shape[2], np.int64)
    for item in range(start, stop):
        k = item // cells
        cy = item % cells
        bad[:] = 0
        for y in range(cy * CELL, min((cy + 1) * CELL, height)):
            out = planes[k, y]
            _copy_row(images[k, y], out[:width])
            if len(mask) > 0:
                _blank_row(mask[k if len(mask) > 1 else 0, y], out[:width])
            for cx in range(bad.size):
                bad[cx] += _count_bad(out[cx * CELL : min((cx + 1) * CELL, width)], limit)
            out[width:] = out[width - 1]
        if cy == cells - 1:
            planes[k, height] = planes[k, height - 1]
        for cx in range(bad.size):
            sound[k, cy, cx] = 1 if bad[cx] == 0 else 0


@exact
def _bounds(m, axis, y0, y1, x0, x1):
    """Least and greatest position of a tile along an axis: each rounding of a position keeps the order of pixels."""
    low = np.inf
    high = -np.inf
    for y in (y0, y1):
        for x in (x0, x1):
            p = (m[axis, 0] * np.float64(y) + m[axis, 2]) + m[axis, 1] * np.float64(x)
            low = min(low, p)
            high = max(high, p)
    return low, high


@exact
def _taps(m, y0, x0, row, base, fy, fx):
    """Flat index of the upper left tap and both weights of the pixels of a tile, all of which lie inside."""
    for r in range(base.shape[0]):
        qy = m[0, 0] * np.float64(y0 + r) + m[0, 2]
        qx = m[1, 0] * np.float64(y0 + r) + m[1, 2]
        dy = m[0, 1]
        dx = m[1, 1]
        for j in range(TILE):
            x = np.float64(np.int32(x0) + np.int32(j))
            y = qy + dy * x
            u = qx + dx * x
            ky = np.int32(y)
            kx = np.int32(u)
            fy[r, j] = y - np.float64(ky)
            fx[r, j] = u - np.float64(kx)
            base[r, j] = np.uint32(ky) * row + np.uint32(kx)


@exact
def _taps_inside(m, y0, x0, last_y, last_x, row, base, fy, fx, here):
    """Likewise, with `here` 0 where a pixel lies outside and 1 elsewhere."""
    one = fy.dtype.type(1)
    none = fy.dtype.type(0)
    for r in range(base.shape[0]):
        qy = m[0, 0] * np.float64(y0 + r) + m[0, 2]
        qx = m[1, 0] * np.float64(y0 + r) + m[1, 2]
        dy = m[0, 1]
        dx = m[1, 1]
        for j in range(TILE):
            x = np.float64(np.int32(x0) + np.int32(j))
            y = qy + dy * x
            u = qx + dx * x
            inside = (y >= 0.0) & (y <= last_y) & (u >= 0.0) & (u <= last_x)
            y = y if inside else 0.0
            u = u if inside else 0.0
            ky = np.int32(y)
            kx = np.int32(u)
            fy[r, j] = y - np.float64(ky)
            fx[r, j] = u - np.float64(kx)
            base[r, j] = np.uint32(ky) * row + np.uint32(kx)
            here[r, j] = one if inside else none


@exact
def _pairs(pairs, base, size, row, upper, lower):
    """Pixels of the upper and of the lower taps, two at a time: the cost of a sample is in its loads."""
    for j in range(size):
        k = base[j]
        upper[j] = pairs[k]
        lower[j] = pairs[k + row]


@fast
def _add(upper, lower, fy, fx, size, total):
    for j in range(size):
        a = upper[j].real
        c = lower[j].real
        top = a + fx[j] * (upper[j].imag - a)
        low = c + fx[j] * (lower[j].imag - c)
        total[j] += top + fy[j] * (low - top)


@fast
def _add_parts(upper, lower, fy, fx, here, size, largest, total, weight):
    """Add samples that are finite; of others the taps that are, by their weights."""
    one = fy.dtype.type(1)
    none = fy.dtype.type(0)
    for j in range(size):
        y = fy[j]
        x = fx[j]
        a = upper[j].real
        b = upper[j].imag
        c = lower[j].real
        d = lower[j].imag
        top = a + x * (b - a)
        v = top + y * (c + x * (d - c) - top)
        wa = (one - y) * (one - x) if abs(a) <= largest else none
        wb = (one - y) * x if abs(b) <= largest else none
        wc = y * (one - x) if abs(c) <= largest else none
        wd = y * x if abs(d) <= largest else none
        a = a if abs(a) <= largest else none
        b = b if abs(b) <= largest else none
        c = c if abs(c) <= largest else none
        d = d if abs(d) <= largest else none
        finite = abs(v) <= largest
        v = v if finite else (wa * a + wb * b) + (wc * c + wd * d)
        w = one if finite else (wa + wb) + (wc + wd)
        total[j] += v if here[j] > none else none
        weight[j] += w if here[j] > none else none


@fast
def _divide(total, weight, whole, least, largest, out):
    for r in range(out.shape[0]):
        for j in range(out.shape[1]):
            w = weight[r, j] + whole
            enough = w >= least
            v = total[r, j] / (w if enough else total.dtype.type(1))
            out[r, j] = v if enough and abs(v) <= largest else out.dtype.type(np.nan)


@exact
def _all_sound(sound, y0, y1, x0, x1):
    for cy in range(y0 // CELL, y1 // CELL + 1):
        for cx in range(x0 // CELL, x1 // CELL + 1):
            if sound[cy, cx] == 0:
                return False
    return True


@exact
def average(planes, pairs, sound, matrices, least, largest, group, start, stop, out):
    """Work items start..stop.

    Parameters
    ----------
    planes : (N, H + 1, more than W)
        Made by `lay`.
    pairs : (N, pixels of a plane - 1) complex
        Each pixel of the planes and the next.
    sound : (N, rows of cells, columns of cells) uint8
    matrices : (1 or N, T, 2, 3) float64
    least, largest : scalars of the planes' type
        Weight from which a mean is one, and the largest finite number.
    group : int
        Images of a work item: 1 where each has its own transforms.
    out : (N, H, W)
    """
    n, height, width = out.shape
    row = np.uint32(planes.shape[2])
    across = (width + TILE - 1) // TILE
    tiles = (height + TILE - 1) // TILE * across
    last_y = np.float64(height - 1)
    last_x = np.float64(width - 1)
    room = TILE * TILE
    base = np.empty((TILE, TILE), np.uint32)
    fy = np.empty((TILE, TILE), planes.dtype)
    fx = np.empty((TILE, TILE), planes.dtype)
    here = np.empty((TILE, TILE), planes.dtype)
    flat = (base.reshape(room), fy.reshape(room), fx.reshape(room), here.reshape(room))
    upper = np.empty(room, pairs.dtype)
    lower = np.empty(room, pairs.dtype)
    total = np.empty((group, room), planes.dtype)
    weight = np.empty((group, room), planes.dtype)
    whole = np.empty(group, planes.dtype)
    for item in range(start, stop):
        k_first = item // tiles * group
        k_last = min(k_first + group, n)
        y0 = item % tiles // across * TILE
        x0 = item % tiles % across * TILE
        h = min(TILE, height - y0)
        w = min(TILE, width - x0)
        # Columns beyond the frame are computed, and dropped at the end.
        size = h * TILE
        total[:] = 0
        weight[:] = 0
        whole[:] = 0
        for t in range(matrices.shape[1]):
            m = matrices[k_first if matrices.shape[0] > 1 else 0, t]
            ya, yb = _bounds(m, 0, y0, y0 + h - 1, x0, x0 + TILE - 1)
            xa, xb = _bounds(m, 1, y0, y0 + h - 1, x0, x0 + TILE - 1)
            if not (yb >= 0.0 and ya <= last_y and xb >= 0.0 and xa <= last_x):
                continue
            inside = ya >= 0.0 and yb <= last_y and xa >= 0.0 and xb <= last_x
            if inside:
                here[:h] = 1
                _taps(m, y0, x0, row, base[:h], fy, fx)
            else:
                _taps_inside(m, y0, x0, last_y, last_x, row, base[:h], fy, fx, here)
            for k in range(k_first, k_last):
                g = k - k_first
                _pairs(pairs[k], flat[0], size, row, upper, lower)
                if inside and _all_sound(
                    sound[k],
                    np.int64(ya),
                    min(np.int64(yb) + 1, height - 1),
                    np.int64(xa),
                    min(np.int64(xb) + 1, width - 1),
                ):
                    _add(upper, lower, flat[1], flat[2], size, total[g])
                    whole[g] += 1
                else:
                    _add_parts(upper, lower, *flat[1:], size, largest, total[g], weight[g])
        for k in range(k_first, k_last):
            g = k - k_first
            tile = (total[g].reshape(TILE, TILE), weight[g].reshape(TILE, TILE))
            _divide(*tile, whole[g], least, largest, out[k, y0 : y0 + h, x0 : x0 + w])
