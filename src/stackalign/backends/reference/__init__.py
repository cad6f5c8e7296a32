"""The specification in code: NumPy, float64 or exact integers, slow and readable. Never chosen by itself."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._planes import standardise as _standardise
from .._protocol import FAR, FLAT, GROUP, LANES, Array, ScoreArrays, StackSums, SummaryArrays, WindowArrays
from .affine_average import affine_average
from .bins import bin_sums
from .affine_linearize import linearize_affine
from .masked_ncc import masked_ncc, masked_peaks
from .affine_resample import bin_mean, resample_affine, sample_affine
from .shift_sums import shift_sums

__all__ = [
    "NAME",
    "affine_average",
    "asarray",
    "bin_mean",
    "bin_sums",
    "crop_windows",
    "device_of",
    "linearize_affine",
    "masked_ncc",
    "masked_peaks",
    "owns",
    "pattern_summary",
    "radial_cumulative",
    "resample_affine",
    "score_affine",
    "shift_sums",
    "stack_statistics",
    "standardise",
    "synchronize",
    "to_numpy",
    "unavailable",
]

NAME = "reference"


def unavailable() -> str | None:
    """See `Backend`: NumPy is always there."""
    return None


def owns(x: object, /) -> bool:
    """See `Backend.owns`."""
    return isinstance(x, np.ndarray)


def asarray(x: Array, dtype: np.dtype[Any] | None, index: int, /) -> Array:
    """See `Backend.asarray`."""
    return np.asarray(x, dtype)


def to_numpy(x: Array, /) -> NDArray[Any]:
    """See `Backend.to_numpy`."""
    return np.asarray(x)


def synchronize(x: Array, /) -> None:
    """See `Backend.synchronize`: the host is never ahead of itself."""


def device_of(x: Array, /) -> str:
    """See `Backend.device_of`."""
    return "cpu"


def _valid(patterns: NDArray[Any], mask: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    finite: NDArray[np.bool_] = np.isfinite(patterns)
    return finite if mask is None else finite & mask


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
    kind = np.float64 if p.dtype.kind == "f" else np.int64
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
    valid = _valid(patterns, mask)
    result = SummaryArrays(
        total=np.zeros(n, np.float64 if is_float else np.int64),
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
    valid = _valid(patterns, mask)
    out = np.empty((patterns.shape[0], n_radii))
    for k, pattern in enumerate(patterns):
        ring = _rings(pattern.shape, centers[k])
        used = valid[k] & (ring < n_radii)
        kind = np.float64 if pattern.dtype.kind == "f" else np.int64
        sums = np.zeros(n_radii, kind)
        np.add.at(sums, ring[used], pattern[used].astype(kind))
        out[k] = np.cumsum(sums)
    return out


def crop_windows(
    patterns: Array,
    mask: Array | None,
    corners: NDArray[np.int64],
    shape: tuple[int, int],
    out: Array | None,
    workers: int,
    /,
) -> WindowArrays:
    """See `Backend.crop_windows`."""
    n, height, width = patterns.shape
    kind = np.float64 if patterns.dtype.kind == "f" else np.int64
    windows = np.empty((n, *shape), patterns.dtype) if out is None else out
    windows[...] = 0
    sums = np.zeros(n, kind)
    valid = _valid(patterns, mask)
    for k, (y, x) in enumerate(corners.tolist()):
        rows = slice(max(y, 0), max(0, min(y + shape[0], height)))
        columns = slice(max(x, 0), max(0, min(x + shape[1], width)))
        kept = patterns[k, rows, columns]
        if kept.size:
            windows[k, rows.start - y : rows.stop - y, columns.start - x : columns.stop - x] = kept
            sums[k] = kept[valid[k, rows, columns]].sum(dtype=kind)
    return WindowArrays(windows, sums)


def stack_statistics(stack: Array, mask: Array | None, workers: int, /) -> StackSums:
    """See `Backend.stack_statistics`."""
    valid = _valid(stack, mask)
    count = valid.sum(axis=0, dtype=np.int64)
    values = np.where(valid, stack, 0).astype(np.float64)
    total = np.zeros(stack.shape[1:])
    for frame in values:
        total = total + frame
    mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    deviation = np.where(valid, values - mean, 0.0)
    none = count == 0
    return StackSums(
        count,
        np.where(none, np.nan, np.where(valid, values, np.inf).min(axis=0)),
        np.where(none, np.nan, np.where(valid, values, -np.inf).max(axis=0)),
        mean,
        (deviation * deviation).sum(axis=0),
    )


def standardise(images: Array, mask: Array | None, smooth: float, workers: int, /) -> Array:
    """See `Backend.standardise`."""
    from scipy.ndimage import correlate1d

    return _standardise(np, correlate1d, images, mask, smooth)


def _pearson(r: NDArray[np.float64], v: NDArray[np.float64]) -> float:
    """Two-pass coefficient; 0 where there is nothing to correlate."""
    if r.size == 0:
        return 0.0
    dr, dv = r - r.mean(), v - v.mean()
    rr, vv = (dr * dr).sum(), (dv * dv).sum()
    if not (rr > FLAT * (r * r).sum() and vv > FLAT * (v * v).sum()):
        return 0.0
    return float(np.clip((dr * dv).sum() / np.sqrt(rr * vv), -1.0, 1.0))


def score_affine(reference: Array, moving: Array, matrices: NDArray[np.float64], workers: int, /) -> ScoreArrays:
    """See `Backend.score_affine`."""
    problems, candidates = matrices.shape[:2]
    scores = np.zeros((problems, candidates))
    overlap = np.zeros((problems, candidates), np.int64)
    for b in range(problems):
        for k in range(candidates):
            v = sample_affine(moving[b], matrices[b, k], reference.shape[1:])
            both = np.isfinite(v) & np.isfinite(reference[b])
            overlap[b, k] = both.sum()
            scores[b, k] = _pearson(reference[b][both].astype(np.float64), v[both].astype(np.float64))
    return ScoreArrays(scores, overlap)
