"""Checks that operations share: they turn what a user passes into what the backends rely on."""

import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign._masks import stack_mask
from stackalign.backends import Array, Backend, backend_for, refuse_hidden
from stackalign.backends._protocol import KERNEL_DTYPES
from stackalign.device import default_workers, within_limit

from .transfer import asarray

__all__ = ["Stack", "fractions_array", "mask_array", "n_workers", "points", "stack"]

_WIDER = {"bool": "uint8", "int8": "int16", "float16": "float32"}
LARGEST_SIDE = 32768
"""Longest side of a frame: a row of 16-bit pixels of this length still sums within 32 bits."""


class Stack(NamedTuple):
    """A checked stack: its backend, its patterns (N, H, W), and whether the caller gave one pattern without N."""

    backend: Backend
    patterns: Array
    single: bool


def stack(x: Array, name: str = "patterns", *others: object) -> Stack:
    """Check a pattern (H, W) or a stack (N, H, W); `others` must live in the same home."""
    refuse_hidden(x, name)
    backend = backend_for(x, *(o for o in others if o is not None))
    if x.ndim not in (2, 3):
        msg = f"{name} must have the shape (H, W) or (N, H, W), got {x.shape}; flatten a scan with reshape(-1, H, W)"
        raise ValueError(msg)
    if x.shape[-1] < 1 or x.shape[-2] < 1 or max(x.shape[-2:]) > LARGEST_SIDE:
        msg = f"{name} must have sides from 1 to {LARGEST_SIDE} pixels, got {x.shape}"
        raise ValueError(msg)
    if x.shape[0] < 1:
        msg = f"{name} must hold at least one frame, got {x.shape}"
        raise ValueError(msg)
    single = x.ndim == 2
    patterns = x[None] if single else x
    return Stack(backend, _kernel_type(patterns, name), single)


def _kernel_type(x: Array, name: str) -> Array:
    """C-contiguous, native byte order, of a type that the kernels know; a copy only where that takes one."""
    kind = x.dtype
    if kind.name in _WIDER:
        x = x.astype(_WIDER[kind.name])
    elif kind.name in ("int64", "uint64"):
        narrow = "int32" if kind.name == "int64" else "uint32"
        limits = np.iinfo(narrow)
        if x.size and (int(x.min()) < limits.min or int(x.max()) > limits.max):
            if int(x.min()) >= 0 and int(x.max()) <= np.iinfo("uint32").max:
                narrow = "uint32"
            else:
                msg = f"{name} of type {kind} hold values beyond 32 bits; convert them to float64"
                raise ValueError(msg)
        x = x.astype(narrow)
    elif kind.name not in KERNEL_DTYPES:
        msg = f"{name} must be real numbers of one of the types {', '.join(KERNEL_DTYPES)}, got {kind}"
        raise TypeError(msg)
    elif not kind.isnative:
        x = x.astype(kind.newbyteorder("="))
    if not x.flags.c_contiguous:
        x = x.copy(order="C")
    return x


def mask_array(mask: Array | None, patterns: Array, name: str = "mask") -> Array | None:
    """Check a mask (H, W) or (N, H, W) and give it a leading axis of 1 or N."""
    if mask is None:
        return None
    valid = stack_mask(mask, tuple(patterns.shape), name=name, of="the patterns")
    return valid if valid.flags.c_contiguous else valid.copy(order="C")


def points(x: ArrayLike, n: int, name: str) -> NDArray[np.float64]:
    """Check one point (y, x) for all patterns or one for each, and return (n, 2) float64 on the host."""
    array = asarray(x, "cpu", np.float64)
    if array.shape not in ((2,), (n, 2)):
        msg = f"{name} must be one (y, x) or have the shape ({n}, 2), got {array.shape}"
        raise ValueError(msg)
    if not np.isfinite(array).all():
        msg = f"{name} must be finite; {int((~np.isfinite(array)).any(axis=-1).sum())} of them are not"
        raise ValueError(msg)
    return np.ascontiguousarray(np.broadcast_to(array, (n, 2)))


def fractions_array(fractions: float | Sequence[float] | NDArray[Any]) -> tuple[NDArray[np.float64], bool]:
    """Check fractions in (0, 1] and return them with a flag for "a single number was given"."""
    array = asarray(fractions, "cpu", np.float64)
    single = array.ndim == 0
    array = np.atleast_1d(array)
    if array.ndim != 1 or not all(math.isfinite(f) and 0 < f <= 1 for f in array):
        msg = f"fractions must be numbers above 0 and up to 1, got {fractions}"
        raise ValueError(msg)
    return array, single


def n_workers(workers: int | None) -> int:
    """Check a number of threads; None means one per core that may be used, within those that a caller was given."""
    if workers is None:
        return within_limit(default_workers())
    if workers < 1:
        msg = f"workers must be at least 1, got {workers}"
        raise ValueError(msg)
    return operator.index(workers)
