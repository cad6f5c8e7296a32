# SPDX-License-Identifier: BSD-3-Clause
"""Sums over one row of samples, their slopes and the reference, and how they add up to those of the protocol.

Within a row of the reference y is a constant, so that a row needs sums with the powers of x alone, in float32 lanes; y
comes in where they are added up in float64.
"""

import numpy as np

from ._jit import exact, fast


@fast
def diagonal_sums(r, a, b, da, db, x, w):
    """Sums of a row of which gy is wanted with x**0 alone: those of a diagonal matrix."""
    zero, one = np.float32(0.0), np.float32(1.0)
    n, sr, sv, srr, svv, srv = zero, zero, zero, zero, zero, zero
    y, ry, vy, yy = zero, zero, zero, zero
    g, rg, vg, h, rh, vh = zero, zero, zero, zero, zero, zero
    yg, yh, gg, gh, hh = zero, zero, zero, zero, zero
    for j in range(r.size):
        gy = b[j] - a[j]
        v = a[j] + w * gy
        gx = da[j] + w * (db[j] - da[j])
        p = r[j] * v
        ok = p == p
        v = v if ok else zero
        q = r[j] if ok else zero
        gy = gy if ok else zero
        gx = gx if ok else zero
        hx = gx * x[j]
        n += one if ok else zero
        sr += q
        sv += v
        srr += q * q
        svv += v * v
        srv += q * v
        y += gy
        ry += q * gy
        vy += v * gy
        g += gx
        rg += q * gx
        vg += v * gx
        h += hx
        rh += q * hx
        vh += v * hx
        yy += gy * gy
        yg += gy * gx
        yh += gy * hx
        gg += gx * gx
        gh += gx * hx
        hh += hx * hx
    return n, sr, sv, srr, svv, srv, y, ry, vy, g, rg, vg, h, rh, vh, yy, yg, yh, gg, gh, hh


@fast
def general_sums(r, v_row, gy_row, gx_row, x):
    """Sums of a row with x**0, x**1 and x**2."""
    zero, one = np.float32(0.0), np.float32(1.0)
    n, sr, sv, srr, svv, srv = zero, zero, zero, zero, zero, zero
    y, ry, vy, k, rk, vk = zero, zero, zero, zero, zero, zero
    g, rg, vg, h, rh, vh = zero, zero, zero, zero, zero, zero
    yy, yk, kk, yg, yh, kh, gg, gh, hh = zero, zero, zero, zero, zero, zero, zero, zero, zero
    for j in range(r.size):
        v = v_row[j]
        p = r[j] * v
        ok = p == p
        v = v if ok else zero
        q = r[j] if ok else zero
        gy = gy_row[j] if ok else zero
        gx = gx_row[j] if ok else zero
        ky = gy * x[j]
        hx = gx * x[j]
        n += one if ok else zero
        sr += q
        sv += v
        srr += q * q
        svv += v * v
        srv += q * v
        y += gy
        ry += q * gy
        vy += v * gy
        k += ky
        rk += q * ky
        vk += v * ky
        g += gx
        rg += q * gx
        vg += v * gx
        h += hx
        rh += q * hx
        vh += v * hx
        yy += gy * gy
        yk += gy * ky
        kk += ky * ky
        yg += gy * gx
        yh += gy * hx
        kh += ky * hx
        gg += gx * gx
        gh += gx * hx
        hh += hx * hx
    return n, sr, sv, srr, svv, srv, y, ry, vy, k, rk, vk, g, rg, vg, h, rh, vh, yy, yk, kk, yg, yh, kh, gg, gh, hh


@exact
def add_diagonal(out, at, s):
    """Add the sums of a row at height `at` (from the middle) to the 42 of the protocol."""
    for i in range(6):
        out[i] += s[i]
    for weight in range(3):
        first = 6 + 6 * weight
        gy = np.float64(s[6 + weight])
        out[first] += at * gy
        out[first + 2] += gy
        out[first + 4] += s[12 + weight]
        out[first + 5] += s[9 + weight]
    yy = np.float64(s[15])
    out[24] += at * at * yy
    out[26] += at * yy
    out[29] += yy
    out[31] += at * s[17]
    out[32] += at * s[16]
    out[34] += s[17]
    out[35] += s[16]
    out[39] += s[20]
    out[40] += s[19]
    out[41] += s[18]


@exact
def add_general(out, at, s):
    for i in range(6):
        out[i] += s[i]
    for weight in range(3):
        for axis in range(2):
            first = 6 + 6 * weight + 3 * axis
            g = np.float64(s[6 + 6 * axis + weight])
            out[first] += at * g
            out[first + 1] += s[9 + 6 * axis + weight]
            out[first + 2] += g
    for pair in range(3):
        first = 24 + 6 * pair
        g, h, hh = np.float64(s[18 + 3 * pair]), np.float64(s[19 + 3 * pair]), np.float64(s[20 + 3 * pair])
        out[first] += at * at * g
        out[first + 1] += at * h
        out[first + 2] += at * g
        out[first + 3] += hh
        out[first + 4] += h
        out[first + 5] += g


@exact
def columns(width):
    """Coordinates along x, from the middle; exact in float32."""
    x = np.empty(width, np.float32)
    for j in range(width):
        x[j] = np.float32(np.float64(j) - 0.5 * np.float64(width - 1))
    return x
