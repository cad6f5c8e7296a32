# SPDX-License-Identifier: BSD-3-Clause
"""Mathematics over raw buffers: CUDA C++ in ``cuda/`` and its Numba twins in ``cpu/``."""

import re
from importlib.resources import files

__all__ = ["cache_folder", "cuda_names", "cuda_source", "remove_stale_kernels"]

_REQUIRES = re.compile(r"^// requires: (\S+)$", re.MULTILINE)


def cache_folder() -> str:
    """Return the folder in which compiled CPU kernels are kept; empty where none can be used."""
    from .cpu._jit import STORE

    return "" if STORE.folder is None else str(STORE.folder)


def remove_stale_kernels() -> list[str]:
    """Remove compiled kernels that no installation can use again, and return the paths that were removed."""
    from .cpu import _jit, _store

    return [str(path) for path in _store.remove_stale(_jit.STORE.folder)]


def cuda_source(name: str) -> str:
    """Return the text of ``cuda/<name>.cu`` with the headers that it requires in front.

    The headers are inlined because CuPy's compilation cache does not see what an ``#include`` would bring in.
    """
    folder = files(__name__) / "cuda"
    text = (folder / f"{name}.cu").read_text(encoding="utf-8")
    headers = [(folder / header).read_text(encoding="utf-8") for header in _REQUIRES.findall(text)]
    return "\n".join([*headers, text])


def cuda_names() -> tuple[str, ...]:
    """Return the names of all CUDA sources, sorted."""
    folder = files(__name__) / "cuda"
    return tuple(sorted(f.name.removesuffix(".cu") for f in folder.iterdir() if f.name.endswith(".cu")))
