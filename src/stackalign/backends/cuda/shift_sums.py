# SPDX-License-Identifier: BSD-3-Clause
"""Sums at whole-pixel lags, by transforms alone."""

import numpy as np
from numpy.typing import NDArray

from stackalign.backends import _shift_sums
from stackalign.backends._protocol import Array

from ._runtime import Runtime

__all__ = ["shift_sums"]


def shift_sums(
    rt: Runtime, reference: Array, moving: Array, reach: tuple[int, int], workers: int
) -> NDArray[np.float64]:
    """See `Backend.shift_sums`, which has no kernel."""
    sums = _shift_sums.shift_sums(rt.xp, rt.fft, reference, moving, reach, {})
    return np.stack([rt.to_numpy(s) for s in sums])
