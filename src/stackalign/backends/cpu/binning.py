"""Launches of the kernel of means of bins."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from stackalign.backends._protocol import Array, BinArrays, real_kind
from stackalign.backends._threads import run

from ._arguments import mask_or_dummy

__all__ = ["bin_mean", "first_calls"]


def bin_mean(images: Array, mask: Array | None, factors: tuple[int, int], workers: int, /) -> BinArrays:
    """See `Backend.bin_mean`."""
    from stackalign_kernels.cpu import binning

    n, height, width = images.shape
    fy, fx = factors
    result = BinArrays(
        np.empty((n, height // fy, width // fx), real_kind(images.dtype)),
        np.empty((n, height // fy, width // fx), np.int64),
    )
    valid, use_mask = mask_or_dummy(mask, images.shape[1:])

    def task(start: int, stop: int) -> None:
        binning.bin_rows(images, valid, use_mask, fy, fx, start, stop, *result)

    run(task, n * (height // fy), workers)
    return result


def first_calls(dtype: np.dtype[Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls, without `workers`, for which all kernels of this file are compiled for a type of pixels."""
    yield "bin_mean", (np.ones((1, 8, 8), dtype), None, (2, 2))
