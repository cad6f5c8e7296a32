"""Moments and radii of patterns, as the protocol specifies them: exact fractions decide radii."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._protocol import FAR, GROUP, LANES, Array, SummaryArrays, sum_kind

from ._valid import valid_pixels

__all__ = ["pattern_summary", "radial_cumulative"]


def _distance2(shape: tuple[int, int], center: NDArray[np.float64]) -> NDArray[np.float64]:
    dy = np.arange(shape[0], dtype=np.float64) - center[0]
    dx = np.arange(shape[1], dtype=np.float64) - center[1]
    d2: NDArray[np.float64] = (dx * dx)[None, :] + (dy * dy)[:, None]
    return d2


def _rings(shape: tuple[int, int], center: NDArray[np.float64]) -> NDArray[np.int64]:
    """Smallest integer i with d2 <= i*i, for every pixel."""
    d2 = _distance2(shape, center)
    ring = np.ceil(np.sqrt(d2))
    ring += ring * ring < d2
    return ring.astype(np.int64)


def _column_sums(p: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Column sums of p and of y*p in the order that the protocol fixes."""
    kind = sum_kind(p.dtype)
    s0 = np.zeros(p.shape[1], kind)
    s1 = np.zeros(p.shape[1], kind)
    for first in range(0, p.shape[0], GROUP):
        rows = p[first : first + GROUP].astype(kind)
        c = np.zeros(p.shape[1], kind)
        s = np.zeros(p.shape[1], kind)
        for row in rows[:0:-1]:
            c = c + row
            s = s + c
        c = c + rows[0]
        s0 = s0 + c
        s1 = s1 + (kind(first) * c + s)
    return s0, s1


def _lane_sum(columns: NDArray[Any]) -> np.float64:
    """Add float64 columns to lanes in increasing x, and the lanes by halving."""
    padded = np.zeros(-(-columns.size // LANES) * LANES)
    padded[: columns.size] = columns
    lanes = np.zeros(LANES)
    for row in padded.reshape(-1, LANES):
        lanes = lanes + row
    while lanes.size > 1:
        half = lanes.size // 2
        lanes = lanes[:half] + lanes[half:]
    return np.float64(lanes[0])


def _exact_ring_sums(p: NDArray[Any], ring: NDArray[np.int64], n: int) -> list[Fraction]:
    sums = [Fraction(0)] * n
    used = p != 0
    for i, v in zip(ring[used].tolist(), p[used].tolist(), strict=True):
        sums[i] += Fraction(v)
    return sums


def _radii(p: NDArray[Any], center: NDArray[np.float64], fractions: Sequence[float]) -> list[int]:
    if not np.all(np.abs(center) <= FAR):
        return [-1] * len(fractions)
    ring = _rings(p.shape, center)
    last = int(ring.max())
    running, cumulative = Fraction(0), []
    for ring_sum in _exact_ring_sums(p, ring, last + 1):
        running += ring_sum
        cumulative.append(float(running))  # correctly rounded
    reached = [[i for i, c in enumerate(cumulative) if c >= f * cumulative[-1]] for f in fractions]
    return [r[0] if r else last for r in reached]


def pattern_summary(
    patterns: Array,
    mask: Array | None,
    centers: NDArray[np.float64] | None,
    fractions: Sequence[float],
    workers: int,
    /,
) -> SummaryArrays:
    """See `Backend.pattern_summary`."""
    n, height, width = patterns.shape
    is_float = patterns.dtype.kind == "f"
    valid = valid_pixels(patterns, mask)
    result = SummaryArrays(
        total=np.zeros(n, sum_kind(patterns.dtype)),
        minimum=np.full(n, np.nan),
        maximum=np.full(n, np.nan),
        n_valid=valid.sum(axis=(1, 2), dtype=np.int64),
        centers=np.empty((n, 2)),
        radii=np.empty((n, len(fractions)), np.int64),
    )
    for k in range(n):
        p = np.where(valid[k], patterns[k], patterns.dtype.type(0))
        if valid[k].any():
            result.minimum[k] = patterns[k][valid[k]].min()
            result.maximum[k] = patterns[k][valid[k]].max()
        s0, s1 = _column_sums(p)
        float_s0 = s0.astype(np.float64)
        total = _lane_sum(float_s0) if is_float else s0.sum(dtype=np.int64)
        result.total[k] = total
        if centers is not None:
            result.centers[k] = centers[k]
        elif total == 0:
            result.centers[k] = (height - 1) / 2, (width - 1) / 2
        else:
            result.centers[k, 0] = _lane_sum(s1.astype(np.float64)) / np.float64(total)
            result.centers[k, 1] = _lane_sum(np.arange(width, dtype=np.float64) * float_s0) / np.float64(total)
        result.radii[k] = _radii(p, result.centers[k], fractions)
    return result


def radial_cumulative(
    patterns: Array, mask: Array | None, centers: NDArray[np.float64], n_radii: int, workers: int, /
) -> Array:
    """See `Backend.radial_cumulative`."""
    valid = valid_pixels(patterns, mask)
    out = np.empty((patterns.shape[0], n_radii))
    for k, pattern in enumerate(patterns):
        ring = _rings(pattern.shape, centers[k])
        used = valid[k] & (ring < n_radii)
        kind = sum_kind(pattern.dtype)
        sums = np.zeros(n_radii, kind)
        np.add.at(sums, ring[used], pattern[used].astype(kind))
        out[k] = np.cumsum(sums)
    return out
