# SPDX-License-Identifier: BSD-3-Clause
"""Coefficients of the cubic B-spline: a recursive filter along each axis, with borders mirrored at the outer pixels.

A recursion cannot be vectorised along itself, so several lines are taken side by side: rows are laid down as columns of
a block for it. The order of operations on a line is that of `scipy.ndimage.spline_filter1d`.
"""

import math

import numpy as np

from ._jit import exact

LANES = 16
"""Rows that are filtered together: two vectors of AVX-512, four of AVX2."""

COLUMNS = 64
"""Columns that are filtered together: a block of 1024 rows stays in the second-level cache."""

POLE = math.sqrt(3.0) - 2.0
GAIN = 6.0
LEAST = 1e-20
"""A power of the pole below this changes no bit of a sum."""


@exact
def _scale(line):
    for j in range(line.size):
        line[j] *= GAIN


@exact
def _add(line, factor, other):
    for j in range(line.size):
        line[j] += factor * other[j]


@exact
def _add_mirrored(line, factor, near, mirror, far):
    for j in range(line.size):
        line[j] += factor * (near[j] + mirror * far[j])


@exact
def _back(line, following):
    for j in range(line.size):
        line[j] = POLE * (following[j] - line[j])


@exact
def _filter(block):
    """Filter along the first axis, in place."""
    n = block.shape[0]
    for i in range(n):
        _scale(block[i])
    if n == 1:
        return
    mirror = POLE ** (n - 1)
    if abs(mirror) > LEAST:
        _add(block[0], mirror, block[n - 1])
    power = POLE
    for i in range(1, n - 1):
        if abs(power) <= LEAST:
            break
        _add_mirrored(block[0], power, block[i], mirror, block[n - 1 - i])
        power *= POLE
    for j in range(block.shape[1]):
        block[0, j] /= 1.0 - mirror * mirror
    for i in range(1, n):
        _add(block[i], POLE, block[i - 1])
    for j in range(block.shape[1]):
        block[n - 1, j] = (POLE * block[n - 2, j] + block[n - 1, j]) * POLE / (POLE * POLE - 1.0)
    for i in range(n - 2, -1, -1):
        _back(block[i], block[i + 1])


@exact
def along_x(planes, start, stop, out):
    """Filter the rows of groups start..stop of `LANES` rows of planes (N, H, W), all finite, into out in float64."""
    width = planes.shape[2]
    rows = planes.reshape(-1, width)
    into = out.reshape(-1, width)
    # Always filtered whole: a part of it would have strides that the compiler does not know.
    block = np.zeros((width, LANES))
    for group in range(start, stop):
        first = group * LANES
        lanes = min(LANES, rows.shape[0] - first)
        for x in range(width):
            for lane in range(lanes):
                block[x, lane] = rows[first + lane, x]
        if width > 1:
            _filter(block)
        for lane in range(lanes):
            for x in range(width):
                into[first + lane, x] = block[x, lane]


@exact
def _copy(source, out):
    for j in range(source.size):
        out[j] = source[j]


@exact
def along_y(planes, start, stop, out):
    """Filter the columns of blocks start..stop of `COLUMNS` columns of planes (N, H, W), rounded to the type of out."""
    height, width = planes.shape[1], planes.shape[2]
    across = (width + COLUMNS - 1) // COLUMNS
    block = np.zeros((height, COLUMNS))
    for item in range(start, stop):
        n = item // across
        left = item % across * COLUMNS
        columns = min(COLUMNS, width - left)
        for y in range(height):
            _copy(planes[n, y, left : left + columns], block[y, :columns])
        if height > 1:
            _filter(block)
        for y in range(height):
            _copy(block[y, :columns], out[n, y, left : left + columns])
