# SPDX-License-Identifier: BSD-3-Clause
"""CUDA kernels on arrays of CuPy, or of NumPy where a shim runs the kernels on the host."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from stackalign.backends._operations import Operations
from stackalign.backends._protocol import HOUSEKEEPING, Array

from ._cupy import CupyArrays
from ._runtime import Runtime

__all__ = ["BACKEND", "CudaBackend", "DeviceArrays"]


class DeviceArrays(Protocol):
    """Arrays of one home, with the methods named in `HOUSEKEEPING`, and what launches on them need."""

    NAME: str

    def device(self, x: Array) -> AbstractContextManager[Any]:
        """Make the device of x the current one."""
        ...

    def runtime(self, x: Array) -> Runtime:
        """What launches on the device of x need."""
        ...


class CudaBackend(Operations):
    """Satisfies `Backend` on arrays of the home that it is made with."""

    FOLDER = __name__

    def __init__(self, arrays: DeviceArrays) -> None:
        self.arrays = arrays
        self.NAME = arrays.NAME
        for name in HOUSEKEEPING:
            setattr(self, name, getattr(arrays, name))

    def _bound(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        """Give an operation the runtime of its first argument, on whose device it launches."""

        @functools.wraps(operation)
        def on_device(first: Array, /, *rest: Any) -> Any:
            with self.arrays.device(first):
                return operation(self.arrays.runtime(first), first, *rest)

        return on_device


BACKEND = CudaBackend(CupyArrays())
