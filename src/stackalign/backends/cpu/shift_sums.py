"""Sums at whole-pixel lags, by transforms alone."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from stackalign.backends import _shift_sums
from stackalign.backends._protocol import Array

__all__ = ["shift_sums"]


def shift_sums(reference: Array, moving: Array, reach: tuple[int, int], workers: int, /) -> NDArray[np.float64]:
    """See `Backend.shift_sums`."""
    return np.stack(_shift_sums.shift_sums(np, fft, reference, moving, reach, {"workers": workers}))
