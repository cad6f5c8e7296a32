"""Numba kernels on host arrays: each file holds allocation, element types and threads of one subject."""

import functools
import importlib
import inspect
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

import stackalign_kernels
from stackalign.backends._operations import NumpyArrays, Operations
from stackalign.backends._protocol import SUBJECTS, Array
from stackalign.backends.cpu._arguments import read_only

__all__ = ["BACKEND", "CpuBackend", "to_numpy"]


def to_numpy(x: Array, /) -> NDArray[Any]:
    """What `CpuBackend.to_numpy` calls: one function, so that tests can count what a device would copy to the host."""
    return np.asarray(x)


class CpuBackend(NumpyArrays, Operations):
    """Satisfies `Backend` on NumPy arrays; Numba is a hard dependency."""

    NAME = "cpu"
    FOLDER = __name__

    def to_numpy(self, x: Array, /) -> NDArray[Any]:
        """See `Backend.to_numpy`."""
        return to_numpy(x)

    def _bound(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        """Give an operation what it reads as read-only arrays; see `_arguments`."""
        written = [name == "out" for name in inspect.signature(operation).parameters]

        @functools.wraps(operation)
        def on_read_only(*arguments: Any) -> Any:
            pairs = zip(arguments, written, strict=True)
            return operation(*(read_only(a) if isinstance(a, np.ndarray) and not out else a for a, out in pairs))

        return on_read_only

    def warm(self, dtype: str, subjects: Collection[str] = frozenset(SUBJECTS.values())) -> None:
        """Compile the kernels of some subjects for a type of pixels, each by the calls that its file names."""
        for subject in sorted(subjects):
            calls = importlib.import_module(f"{self.FOLDER}.{subject}").first_calls
            for name, arguments in calls(np.dtype(dtype)):
                getattr(self, name)(*arguments, 1)

    def kernel_cache(self) -> str:
        """Folder in which compiled kernels are kept; empty where none can be used."""
        return stackalign_kernels.cache_folder()

    def remove_stale_kernels(self) -> list[str]:
        """Remove compiled kernels of earlier sources; return the paths that were removed."""
        return stackalign_kernels.remove_stale_kernels()


BACKEND = CpuBackend()
