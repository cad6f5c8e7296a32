# SPDX-License-Identifier: BSD-3-Clause
"""Mean of an image over several affine transforms, made of what is valid. Twin of ``cuda/affine_average.cu``.

Planes are float32 or float64 with NaN (or infinity) where a pixel is invalid. A work item is one block of rows of a
group of images that share their transforms: indices and weights of a row are computed once for all of them.
"""

import math

import numpy as np

from ._jit import exact, fast

BLOCK = 16
"""Rows of an output per work item."""


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
def _row_taps(row, qy, dy, qx, dx, first, base, below, beside, fy, fx):
    """Flat indices of the four taps and both weights for x = first, first + 1, ... A tap of weight 0 repeats one."""
    for j in range(base.size):
        x = np.float64(first + j)
        y = qy + dy * x
        u = qx + dx * x
        y0 = np.int32(y)
        u0 = np.int32(u)
        fy[j] = y - np.float64(y0)
        fx[j] = u - np.float64(u0)
        k = np.uint32(y0) * row + np.uint32(u0)
        base[j] = k
        below[j] = k + (row if fy[j] > 0 else np.uint32(0))
        beside[j] = np.uint32(1) if fx[j] > 0 else np.uint32(0)


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


@fast
def _add_row(sample, largest, total, weight):
    """Add what is finite, and return how many are not."""
    one = total.dtype.type(1)
    none = total.dtype.type(0)
    bad = 0
    for j in range(sample.size):
        v = sample[j]
        ok = abs(v) <= largest
        total[j] += v if ok else none
        weight[j] += one if ok else none
        bad += 0 if ok else 1
    return bad


@exact
def _add_parts(image, base, below, beside, fy, fx, sample, largest, total, weight):
    """Of samples that are not finite, add the taps that are, by their weights."""
    one = total.dtype.type(1)
    for j in range(sample.size):
        if abs(sample[j]) <= largest:
            continue
        gy = one - fy[j]
        gx = one - fx[j]
        s = total.dtype.type(0)
        w = total.dtype.type(0)
        v = image[base[j]]
        if abs(v) <= largest:
            s += gy * gx * v
            w += gy * gx
        v = image[base[j] + beside[j]]
        if fx[j] > 0 and abs(v) <= largest:
            s += gy * fx[j] * v
            w += gy * fx[j]
        v = image[below[j]]
        if fy[j] > 0 and abs(v) <= largest:
            s += fy[j] * gx * v
            w += fy[j] * gx
        v = image[below[j] + beside[j]]
        if fy[j] > 0 and fx[j] > 0 and abs(v) <= largest:
            s += fy[j] * fx[j] * v
            w += fy[j] * fx[j]
        total[j] += s
        weight[j] += w


@fast
def _divide_row(total, weight, least, largest, out):
    for j in range(out.size):
        enough = weight[j] >= least
        v = total[j] / (weight[j] if enough else total.dtype.type(1))
        out[j] = v if enough and abs(v) <= largest else out.dtype.type(np.nan)


@exact
def average(planes, matrices, least, largest, group, start, stop, out):
    """Work items start..stop.

    Parameters
    ----------
    planes, out : (N, H, W)
    matrices : (1 or N, T, 2, 3) float64
    least, largest : scalars of the planes' type
        Weight from which a mean is one, and the largest finite number.
    group : int
        Images of a work item: 1 where each has its own transforms.
    """
    n, height, width = planes.shape
    flat = planes.reshape(n, height * width)
    blocks = (height + BLOCK - 1) // BLOCK
    base = np.empty(width, np.uint32)
    below = np.empty(width, np.uint32)
    beside = np.empty(width, np.uint32)
    fy = np.empty(width, planes.dtype)
    fx = np.empty(width, planes.dtype)
    sample = np.empty(width, planes.dtype)
    total = np.empty((group, width), planes.dtype)
    weight = np.empty((group, width), planes.dtype)
    for item in range(start, stop):
        k_first = item // blocks * group
        k_last = min(k_first + group, n)
        y_first = item % blocks * BLOCK
        for y in range(y_first, min(y_first + BLOCK, height)):
            total[:] = 0
            weight[:] = 0
            for t in range(matrices.shape[1]):
                m = matrices[k_first if matrices.shape[0] > 1 else 0, t]
                qy = m[0, 0] * np.float64(y) + m[0, 2]
                qx = m[1, 0] * np.float64(y) + m[1, 2]
                xa, xb = _span(m[0, 1], qy, np.float64(height), width)
                xc, xd = _span(m[1, 1], qx, np.float64(width), width)
                xa = max(xa, xc)
                xb = max(xa, min(xb, xd))
                s = xb - xa
                if s == 0:
                    continue
                taps = (base[:s], below[:s], beside[:s], fy[:s], fx[:s])
                _row_taps(np.uint32(width), qy, m[0, 1], qx, m[1, 1], xa, *taps)
                for k in range(k_first, k_last):
                    row = (total[k - k_first, xa:xb], weight[k - k_first, xa:xb])
                    _gather_row(flat[k], *taps, sample[:s])
                    if _add_row(sample[:s], largest, *row) > 0:
                        _add_parts(flat[k], *taps, sample[:s], largest, *row)
            for k in range(k_first, k_last):
                _divide_row(total[k - k_first], weight[k - k_first], least, largest, out[k, y])
