"""Launches of the kernel of means over transforms."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._protocol import LEAST_WEIGHT, Array, real_kind
from stackalign.backends._threads import run
from stackalign.backends.cpu._arguments import read_only

__all__ = ["affine_average", "first_calls"]

GROUP = 2
"""Images that share indices and weights."""
LINE = 64
"""Bytes of a line of the cache."""


def affine_average(images: Array, mask: Array | None, matrices: NDArray[np.float64], workers: int, /) -> Array:
    """See `Backend.affine_average`."""
    from stackalign_kernels.cpu import affine_average as kernels

    n, height, width = images.shape
    dtype = np.dtype(real_kind(images.dtype))
    least, largest = dtype.type(LEAST_WEIGHT), np.finfo(dtype).max
    out = np.empty(images.shape, dtype)
    group = min(GROUP, n) if len(matrices) == 1 else 1
    # A few images at a time: their planes are a copy.
    step = min(n, max(group, workers))
    row = (width * dtype.itemsize // LINE + 1 | 1) * LINE // dtype.itemsize
    planes = np.empty((step, height + 1, row), dtype)
    pairs = np.ndarray(
        (step, planes[0].size - 1), np.result_type(dtype, np.complex64), planes, 0, (planes.strides[0], dtype.itemsize)
    )
    cells = tuple(-(-size // kernels.CELL) for size in (height, width))
    sound = np.empty((step, *cells), np.uint8)
    tiles = -(-height // kernels.TILE) * -(-width // kernels.TILE)
    for first in range(0, n, step):
        some = slice(first, min(n, first + step))
        count = some.stop - first
        valid = read_only(np.empty((0, 1, 1), bool)) if mask is None else mask[some] if len(mask) > 1 else mask
        m = matrices if len(matrices) == 1 else matrices[some]

        def lay(start: int, stop: int, part=images[some], valid=valid) -> None:  # type: ignore[no-untyped-def]
            kernels.lay(part, valid, largest / 4, start, stop, planes, sound)

        def task(start: int, stop: int, count=count, m=m, part=out[some]) -> None:  # type: ignore[no-untyped-def]
            some = slice(0, count)
            kernels.average(planes[some], pairs[some], sound[some], m, least, largest, group, start, stop, part)

        run(lay, count * cells[0], workers)
        run(task, -(-count // group) * tiles, workers)
    return out


def first_calls(dtype: np.dtype[Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls, without `workers`, for which all kernels of this file are compiled for a type of pixels."""
    yield "affine_average", (np.ones((1, 8, 8), dtype), None, np.eye(2, 3)[None, None])
