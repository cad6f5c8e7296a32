"""Launches of the kernel that copies windows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._protocol import Array, WindowArrays, sum_kind
from stackalign.backends._threads import run

from ._arguments import mask_or_dummy, row_sum

__all__ = ["crop_windows", "first_calls"]


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
    from stackalign_kernels.cpu import crop

    valid, use_mask = mask_or_dummy(mask, patterns.shape[1:])
    windows = np.empty((patterns.shape[0], *shape), patterns.dtype) if out is None else out
    sums = np.empty(patterns.shape[0], sum_kind(patterns.dtype))

    def task(start: int, stop: int) -> None:
        crop.windows(patterns, valid, use_mask, corners, row_sum(patterns.dtype), start, stop, windows, sums)

    run(task, patterns.shape[0], workers)
    return WindowArrays(windows, sums)


def first_calls(dtype: np.dtype[Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls, without `workers`, for which all kernels of this file are compiled for a type of pixels."""
    yield "crop_windows", (np.ones((1, 8, 8), dtype), None, np.zeros((1, 2), np.int64), (4, 4), None)
