# SPDX-License-Identifier: BSD-3-Clause
"""What launches need, from CuPy on a GPU, or from NumPy and SciPy where kernels run on the host."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._protocol import Array

__all__ = ["Kernel", "Runtime", "defines", "mask_args", "uploaded"]

Kernel = Callable[..., None]
"""Called as ``kernel((blocks,), (threads,), args)`` with arrays of the home and NumPy scalars."""

MAX_GRID_Y = 65535
MAX_PIXELS = 2**31 - 1
MAX_SCRATCH_BYTES = 1 << 28
THREADS = 256

ELEMENTS = {
    "uint8": "u8",
    "uint16": "u16",
    "uint32": "u32",
    "int16": "i16",
    "int32": "i32",
    "float32": "f32",
    "float64": "f64",
}
"""The C names of `KERNEL_DTYPES`, see ``common.cuh``."""


@dataclass(frozen=True)
class Runtime:
    """What a launch needs.

    Parameters
    ----------
    xp : module
        Allocates: ``cupy`` or ``numpy``.
    get_function : callable
        ``(kernel_file, entry, dtype) -> Kernel``; compiles with `defines` of the dtype and without fused multiply-add.
        The dtype is None for a kernel file without element type.
    fft, ndimage : module
        Those of ``cupyx.scipy`` or of ``scipy``.
    to_numpy : callable
        Brings an array of the home to the host.
    home : str
        Name of the device, for what is kept there from call to call.
    blocks : int
        Most blocks per launch where a block takes one pattern after the other: enough to fill the device.
    """

    xp: Any
    get_function: Callable[[str, str, np.dtype[Any] | None], Kernel]
    fft: Any
    ndimage: Any
    to_numpy: Callable[[Array], NDArray[Any]]
    home: str
    blocks: int = 1024


def defines(dtype: np.dtype[Any] | None) -> tuple[str, ...]:
    """Return the ``NAME=VALUE`` macros that a kernel file is compiled with for an element type, if it has one."""
    return () if dtype is None else (f"ELEMENT={ELEMENTS[dtype.name]}",)


def mask_args(rt: Runtime, mask: Array | None) -> tuple[Array, np.int64]:
    """Mask and its number of frames. CuPy passes no null pointers: without a mask the array is a dummy."""
    if mask is None:
        return rt.xp.empty(1, np.bool_), np.int64(0)
    return mask, np.int64(mask.shape[0])


ALIGNMENT = 256
"""Bytes between the beginnings of arrays that are brought to the device together, as of allocations."""


def uploaded(rt: Runtime, *arrays: NDArray[Any]) -> tuple[Array, ...]:
    """Bring arrays to the device by one copy: views of one buffer."""
    starts, size = [], 0
    for array in arrays:
        starts.append(size)
        size += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    host = np.zeros(size, np.uint8)
    for array, start in zip(arrays, starts, strict=True):
        host[start : start + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    buffer = rt.xp.asarray(host)
    return tuple(
        buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        for array, start in zip(arrays, starts, strict=True)
    )
