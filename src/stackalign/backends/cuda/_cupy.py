# SPDX-License-Identifier: BSD-3-Clause
"""Arrays of CuPy, and what launches on them need.

CuPy is imported when first needed: it is an extra, and slow to import.
"""

import functools
import sys
from contextlib import AbstractContextManager
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._protocol import Array

from . import _compilation
from ._runtime import Runtime

__all__ = ["CupyArrays"]

BLOCKS_PER_MULTIPROCESSOR = 4
"""As many as the kernels allow (``__launch_bounds__(256, 4)``)."""


class CupyArrays:
    """Housekeeping of `Backend` for CuPy arrays."""

    NAME = "cuda"

    def unavailable(self) -> str | None:
        """See `Backend.unavailable`."""
        try:
            import cupy
        except ImportError:
            return 'CuPy is not installed: pip install "stackalign[gpu13]" (or gpu12 for CUDA 12)'
        try:
            usable = cupy.is_available()
        except Exception as error:  # CuPy passes on whatever a broken driver or toolkit raises
            return f"CuPy cannot use a CUDA device: {error}"
        return None if usable else "CuPy finds no usable CUDA device or driver"

    def owns(self, x: object, /) -> bool:
        """See `Backend.owns`. An array of CuPy's can exist only where CuPy has been imported."""
        cupy = sys.modules.get("cupy")
        return cupy is not None and isinstance(x, cupy.ndarray)

    def asarray(self, x: Array, dtype: np.dtype[Any] | None, index: int, /) -> Array:
        """See `Backend.asarray`."""
        import cupy

        with cupy.cuda.Device(index):
            if isinstance(x, cupy.ndarray):
                return cupy.asarray(x, dtype) if x.device.id == index else cupy.array(x, dtype)
            host = np.asarray(x)
            # A GPU knows native byte order only.
            return cupy.asarray(np.asarray(host, dtype if dtype is not None else host.dtype.newbyteorder("=")))

    def to_numpy(self, x: Array, /) -> NDArray[Any]:
        """See `Backend.to_numpy`."""
        import cupy

        result: NDArray[Any] = cupy.asnumpy(x)
        return result

    def synchronize(self, x: Array, /) -> None:
        """See `Backend.synchronize`."""
        x.device.synchronize()

    def device_of(self, x: Array, /) -> str:
        """See `Backend.device_of`."""
        return f"cuda:{x.device.id}"

    def device(self, x: Array) -> AbstractContextManager[Any]:
        """Make the device of x the current one."""
        return cast("AbstractContextManager[Any]", x.device)

    def runtime(self, x: Array) -> Runtime:
        """What launches on the device of x need."""
        return _runtime(x.device.id)


@functools.cache
def _runtime(device: int) -> Runtime:
    import cupy
    import cupyx.scipy.fft
    import cupyx.scipy.ndimage

    multiprocessors = cupy.cuda.Device(device).attributes["MultiProcessorCount"]
    return Runtime(
        xp=cupy,
        get_function=_compilation.function,
        fft=cupyx.scipy.fft,
        ndimage=cupyx.scipy.ndimage,
        to_numpy=cupy.asnumpy,
        home=f"cuda:{device}",
        blocks=multiprocessors * BLOCKS_PER_MULTIPROCESSOR,
    )
