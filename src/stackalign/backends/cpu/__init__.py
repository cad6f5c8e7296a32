"""Numba kernels on host arrays: each file holds allocation, element types and threads of one subject."""

import stackalign_kernels
from stackalign.backends._operations import NumpyArrays, Operations

__all__ = ["BACKEND", "CpuBackend"]


class CpuBackend(NumpyArrays, Operations):
    """Satisfies `Backend` on NumPy arrays; Numba is a hard dependency."""

    NAME = "cpu"
    FOLDER = __name__

    def kernel_cache(self) -> str:
        """Folder in which compiled kernels are kept; empty where none can be used."""
        return stackalign_kernels.cache_folder()

    def remove_stale_kernels(self) -> list[str]:
        """Remove compiled kernels of earlier sources; return the paths that were removed."""
        return stackalign_kernels.remove_stale_kernels()


BACKEND = CpuBackend()
