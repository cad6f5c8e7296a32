"""The backend ``cuda-host``: the project's CUDA kernels and their launch code, on NumPy arrays and on the host."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import scipy.fft
import scipy.ndimage

from cuda_host import host
from cuda_host.host import HostModule
from stackalign.backends._operations import NumpyArrays
from stackalign.backends._protocol import Array
from stackalign.backends.cuda import CudaBackend
from stackalign.backends.cuda._runtime import Kernel, Runtime, defines
from stackalign_kernels import cuda_source

__all__ = ["BACKEND", "HostArrays", "host_runtime"]

BLOCKS = 2
"""Fewer blocks than patterns, so that a block's second pattern meets what the first has left behind."""


def host_runtime(*, sanitizer: str | None = None, source: Callable[[str], str] = cuda_source) -> Runtime:
    """Return a runtime on the host; `source` gives the flattened text of a kernel file."""

    @functools.cache
    def module(kernel_file: str, dtype: np.dtype[Any] | None) -> HostModule:
        # With a sanitizer, -O1 takes the compiler three times as long as -O0, once for each element type, and the runs
        # are short. Files without an element type are compiled once and run longer.
        optimize = "-O0" if sanitizer is not None and dtype is not None else "-O1"
        return HostModule(source(kernel_file), defines=defines(dtype), sanitizer=sanitizer, optimize=optimize)

    @functools.cache
    def get_function(kernel_file: str, entry: str, dtype: np.dtype[Any] | None) -> Kernel:
        return module(kernel_file, None if dtype is None else np.dtype(dtype)).get_function(entry)

    return Runtime(np, get_function, scipy.fft, scipy.ndimage, np.asarray, HostArrays.NAME, BLOCKS)


class HostArrays(NumpyArrays):
    """NumPy arrays in the place of CuPy's."""

    NAME = "cuda-host"

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def unavailable(self) -> str | None:
        """Why kernels cannot be built for the host, or None."""
        return host.unavailable()

    def asarray(self, x: Array, dtype: np.dtype[Any] | None, index: int, /) -> Array:
        """See `Backend.asarray`. As on a GPU, byte order becomes native."""
        x = np.asarray(x)
        return np.asarray(x, dtype if dtype is not None else x.dtype.newbyteorder("="))

    def device(self, x: Array) -> AbstractContextManager[Any]:
        """The host has one device."""
        return nullcontext()

    def runtime(self, x: Array) -> Runtime:
        """The one that it was made with."""
        return self._runtime


BACKEND = CudaBackend(HostArrays(host_runtime()))
