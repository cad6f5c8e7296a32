"""Launches of the kernels of moments and radii.

Threads take ranges of patterns. A pattern is computed by one thread in a fixed order, so the answer does not depend on
the number of threads.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._protocol import Array, SummaryArrays, sum_kind
from stackalign.backends._threads import run

from ._arguments import mask_or_dummy, row_sum

__all__ = ["first_calls", "pattern_summary", "radial_cumulative"]


def _order_keys(patterns: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Bits, flip and end of `stackalign_kernels.cpu._pattern_sums.extrema`."""
    if patterns.dtype.kind != "f":
        return patterns, np.zeros(1, patterns.dtype), np.zeros(1, np.int64)
    integer = np.dtype(f"i{patterns.dtype.itemsize}")
    flip = np.full(1, np.iinfo(integer).max, integer)
    end = np.full(1, np.inf, patterns.dtype).view(integer)
    return patterns.view(integer), flip, end


def pattern_summary(
    patterns: Array,
    mask: Array | None,
    centers: NDArray[np.float64] | None,
    fractions: Sequence[float],
    workers: int,
    /,
) -> SummaryArrays:
    """See `Backend.pattern_summary`."""
    from stackalign_kernels.cpu import radial

    n = patterns.shape[0]
    valid, use_mask = mask_or_dummy(mask, patterns.shape[1:])
    bits, flip, end = _order_keys(patterns)
    has_centers = centers is not None
    middle = np.array(centers, np.float64) if centers is not None else np.empty((n, 2))
    result = SummaryArrays(
        total=np.empty(n, sum_kind(patterns.dtype)),
        minimum=np.empty(n),
        maximum=np.empty(n),
        n_valid=np.empty(n, np.int64),
        centers=middle,
        radii=np.empty((n, len(fractions)), np.int64),
    )
    shares = np.asarray(fractions, np.float64)

    def task(start: int, stop: int) -> None:
        radial.summarise(
            patterns,
            bits,
            flip,
            end,
            valid,
            use_mask,
            middle,
            has_centers,
            shares,
            row_sum(patterns.dtype),
            start,
            stop,
            result.total,
            result.minimum,
            result.maximum,
            result.n_valid,
            result.radii,
        )

    run(task, n, workers)
    return result


def radial_cumulative(
    patterns: Array, mask: Array | None, centers: NDArray[np.float64], n_radii: int, workers: int, /
) -> Array:
    """See `Backend.radial_cumulative`."""
    from stackalign_kernels.cpu import radial

    valid, use_mask = mask_or_dummy(mask, patterns.shape[1:])
    out = np.empty((patterns.shape[0], n_radii))

    def task(start: int, stop: int) -> None:
        sums = np.empty(n_radii, sum_kind(patterns.dtype))
        radial.cumulative(patterns, valid, use_mask, centers, start, stop, sums, out)

    run(task, patterns.shape[0], workers)
    return out


def first_calls(dtype: np.dtype[Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls, without `workers`, for which all kernels of this file are compiled for a type of pixels."""
    patterns, centers = np.ones((1, 8, 8), dtype), np.full((1, 2), 3.0)
    yield "pattern_summary", (patterns, None, None, (0.9,))
    yield "radial_cumulative", (patterns, None, centers, 4)
