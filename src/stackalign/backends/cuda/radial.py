# SPDX-License-Identifier: BSD-3-Clause
"""Launches of the kernels of moments and radii."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._protocol import Array, SummaryArrays, sum_kind

from ._runtime import MAX_PIXELS, MAX_SCRATCH_BYTES, THREADS, Runtime, mask_args

__all__ = ["pattern_summary", "radial_cumulative"]

STRIP = 16
UNDECIDED = -2
MAX_ROWS = 65535


def _column_kind(dtype: np.dtype[Any]) -> type[np.generic]:
    """Type of stored column sums, ``Traits::Prefix`` in ``common.cuh``."""
    if dtype.kind == "f":
        return np.float64
    return np.uint32 if dtype.itemsize <= 2 else np.int64


def _blocks(rt: Runtime, n: int, scratch_bytes: int) -> int:
    """Blocks for n patterns: fewer where the column sums, `scratch_bytes` of each block, would take much memory."""
    return max(1, min(n, rt.blocks, MAX_SCRATCH_BYTES // max(1, scratch_bytes)))


def _empty(
    xp: Any, n: int, n_fractions: int, dtype: np.dtype[Any], centers: NDArray[np.float64] | None
) -> SummaryArrays:
    """Room for the summaries of n patterns, with the centres that are given."""
    return SummaryArrays(
        total=xp.empty(n, sum_kind(dtype)),
        minimum=xp.empty(n, np.float64),
        maximum=xp.empty(n, np.float64),
        n_valid=xp.empty(n, np.int64),
        centers=xp.empty((n, 2), np.float64) if centers is None else xp.array(centers, np.float64),
        radii=xp.empty((n, n_fractions), np.int64),
    )


def pattern_summary(
    rt: Runtime,
    patterns: Array,
    mask: Array | None,
    centers: NDArray[np.float64] | None,
    fractions: Sequence[float],
    workers: int,
) -> SummaryArrays:
    """See `Backend.pattern_summary`."""
    xp = rt.xp
    n, height, width = patterns.shape
    dtype = patterns.dtype
    if height > MAX_ROWS or height * width > MAX_PIXELS:
        msg = f"patterns may have at most {MAX_ROWS} rows and {MAX_PIXELS} pixels on a GPU, got {height} x {width}"
        raise ValueError(msg)
    order = np.argsort(np.asarray(fractions, np.float64), kind="stable")
    ascending = np.asarray(fractions, np.float64)[order]
    f = ascending.size
    scratch_size = ((height + STRIP // 2) // STRIP) * width if f else 0
    blocks = _blocks(rt, n, scratch_size * np.dtype(_column_kind(dtype)).itemsize)
    result = _empty(xp, n, f, dtype, centers)
    kernel = rt.get_function("radial", "pattern_summary", dtype)
    kernel(
        (blocks,),
        (THREADS if width > THREADS // 2 else THREADS // 2,),
        (
            patterns,
            *mask_args(rt, mask),
            np.int64(n),
            np.int32(height),
            np.int32(width),
            xp.asarray(ascending if f else np.zeros(1)),
            np.int32(f),
            np.int32(centers is not None),
            result.centers,
            xp.empty(max(1, blocks * scratch_size), _column_kind(dtype)),
            result.total,
            result.minimum,
            result.maximum,
            result.n_valid,
            result.radii if f else xp.empty(1, np.int64),
        ),
    )
    if f and dtype.kind == "f":
        _settle(rt, patterns, mask, result, ascending)
    if np.any(order != np.arange(f)):
        return result._replace(radii=xp.ascontiguousarray(result.radii[:, xp.asarray(np.argsort(order))]))
    return result


def _settle(
    rt: Runtime, patterns: Array, mask: Array | None, result: SummaryArrays, fractions: NDArray[np.float64]
) -> None:
    """Compute on the host, exactly, the few radii that rounding could decide."""
    undecided = np.flatnonzero(rt.to_numpy((result.radii == UNDECIDED).any(axis=1)))
    if undecided.size == 0:
        return
    from stackalign_kernels.cpu._retention import exact_radius

    radii = np.empty(fractions.size, np.int64)
    centers = rt.to_numpy(result.centers)
    for n in undecided.tolist():
        p = rt.to_numpy(patterns[n])
        valid = np.isfinite(p)
        if mask is not None:
            valid &= rt.to_numpy(mask[n if mask.shape[0] > 1 else 0])
        exact_radius(np.where(valid, p, p.dtype.type(0)), centers[n, 0], centers[n, 1], fractions, radii)
        result.radii[n] = rt.xp.asarray(radii)


def radial_cumulative(
    rt: Runtime, patterns: Array, mask: Array | None, centers: NDArray[np.float64], n_radii: int, workers: int
) -> Array:
    """See `Backend.radial_cumulative`."""
    n, height, width = patterns.shape
    out = rt.xp.empty((n, n_radii), np.float64)
    if n_radii == 0:
        return out
    kernel = rt.get_function("radial", "radial_cumulative", patterns.dtype)
    kernel(
        (min(n, rt.blocks),),
        (THREADS,),
        (
            patterns,
            *mask_args(rt, mask),
            np.int64(n),
            np.int32(height),
            np.int32(width),
            rt.xp.array(centers, np.float64),
            np.int32(n_radii),
            out,
        ),
    )
    return out
