"""Sums at whole-pixel lags, by transforms alone."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from stackalign.backends import _shift_sums
from stackalign.backends._protocol import Array

__all__ = ["first_calls", "shift_sums"]


def shift_sums(reference: Array, moving: Array, reach: tuple[int, int], workers: int, /) -> NDArray[np.float64]:
    """See `Backend.shift_sums`."""
    return np.stack(_shift_sums.shift_sums(np, fft, reference, moving, reach, {"workers": workers}))


def first_calls(dtype: np.dtype[Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls, without `workers`, for which all kernels of this file are compiled for a type of pixels."""
    yield from ()  # it has no kernels
