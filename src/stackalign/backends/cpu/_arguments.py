"""What the kernels are given beside the arrays: they take no None, and their types follow from their arguments."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._protocol import Array

__all__ = ["mask_or_dummy", "row_sum"]


def row_sum(dtype: np.dtype[Any]) -> NDArray[Any]:
    """One element of the type that the sum of a row fits: see `stackalign_kernels.cpu.radial`."""
    if dtype.kind == "f":
        return np.zeros(1, np.float64)
    return np.zeros(1, np.int32 if dtype.itemsize <= 2 else np.int64)


def mask_or_dummy(mask: Array | None, shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], bool]:
    """Numba wants an array in any case: an unused mask is one byte, repeated by strides."""
    if mask is not None:
        return mask, True
    return np.broadcast_to(np.True_, (1, *shape)), False
