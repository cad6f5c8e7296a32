"""Launches of the kernel of second moments."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._protocol import Array
from stackalign.backends._threads import run
from stackalign.backends.cpu._arguments import mask_or_dummy

__all__ = ["first_calls", "second_moments"]


def second_moments(
    patterns: Array, mask: Array | None, centers: NDArray[np.float64], workers: int, /
) -> NDArray[np.float64]:
    """See `Backend.second_moments`."""
    from stackalign_kernels.cpu import moments

    valid, use_mask = mask_or_dummy(mask, patterns.shape[1:])
    out = np.empty((len(patterns), 4))

    def task(start: int, stop: int) -> None:
        moments.second_moments(patterns, valid, use_mask, centers, start, stop, out)

    run(task, len(patterns), workers)
    return out


def first_calls(dtype: np.dtype[Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls, without `workers`, for which all kernels of this file are compiled for a type of pixels."""
    yield "second_moments", (np.ones((1, 8, 8), dtype), None, np.full((1, 2), 3.5))
