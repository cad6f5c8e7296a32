"""Launches of the kernels of statistics over the frames of a stack."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from stackalign.backends._protocol import Array, StackSums
from stackalign.backends._threads import run

from ._arguments import mask_or_dummy

__all__ = ["first_calls", "stack_statistics"]

PIXEL_BAND = 2048
"""Pixels per task: five float64 rows of this length stay in the first-level cache."""


def stack_statistics(stack: Array, mask: Array | None, workers: int, /) -> StackSums:
    """See `Backend.stack_statistics`."""
    from stackalign_kernels.cpu import statistics

    n, height, width = stack.shape
    flat = stack.reshape(n, height * width)
    if mask is None:
        valid, use_mask = mask_or_dummy(None, (height * width,))
    else:
        valid, use_mask = mask.reshape(mask.shape[0], height * width), True
    sums = StackSums(
        np.empty(height * width, np.int64),
        *(np.empty(height * width) for _ in range(4)),
    )

    small = stack.dtype.kind in "iu" and stack.dtype.itemsize <= 2 and n <= statistics.MOST_INTEGERS

    def task(start: int, stop: int) -> None:
        if small:
            statistics.pixels_of_integers(flat, valid, use_mask, start, stop, *sums)
        else:
            statistics.pixels(flat, valid, use_mask, start, stop, *sums)

    run(task, height * width, workers, band=PIXEL_BAND)
    return StackSums(*(a.reshape(height, width) for a in sums))


def first_calls(dtype: np.dtype[Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls, without `workers`, for which all kernels of this file are compiled for a type of pixels."""
    yield "stack_statistics", (np.ones((2, 8, 8), dtype), None)
