"""Several arrays to the host at once: each copy from a GPU is waited for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from stackalign.backends import Array
from stackalign.ops import to_numpy

__all__ = ["fetched"]


def fetched(arrays: Sequence[Array]) -> list[NDArray[Any]]:
    """Arrays of one home on the host, by one copy; of the type that holds all of theirs."""
    xp = array_namespace(arrays[0])
    flat = to_numpy(xp.concatenate([a.ravel() for a in arrays]))
    ends = np.cumsum([a.size for a in arrays])[:-1]
    return [part.reshape(a.shape) for part, a in zip(np.split(flat, ends), arrays, strict=True)]
