"""Arguments of one kind, so that each kernel is compiled once for a type of pixels.

Numba compiles once more for arrays that are read-only, and for those with other strides: what kernels read is therefore
read-only and contiguous, whatever the caller has, and the masks that stand for none are like those that are given.
"""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._protocol import Array

__all__ = ["mask_or_dummy", "read_only", "row_sum"]

_Scalar = TypeVar("_Scalar", bound=np.generic)


def row_sum(dtype: np.dtype[Any]) -> NDArray[Any]:
    """One element of the type that the sum of a row fits: see `stackalign_kernels.cpu._pattern_sums`."""
    if dtype.kind == "f":
        return np.zeros(1, np.float64)
    return np.zeros(1, np.int32 if dtype.itemsize <= 2 else np.int64)


def mask_or_dummy(mask: Array | None, shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], bool]:
    """Return the mask and whether it counts: kernels take an array in any case, and look at none that does not."""
    if mask is not None:
        return read_only(mask), True
    return read_only(np.zeros((1, *shape), np.bool_)), False


def read_only(x: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """View of an array through which it cannot be written."""
    view = x.view()
    view.flags.writeable = False
    return view
