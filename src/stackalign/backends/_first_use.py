"""Saying so before kernels are compiled for the first time on a machine: it takes seconds."""

import functools
import importlib
import logging
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import stackalign_kernels

__all__ = ["announced", "first_use"]

_log = logging.getLogger(__name__)

_USED: set[tuple[str, str]] = set()
"""Kernel files and pixel types that this process has used."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


@contextmanager
def first_use(kernels: str, dtype: Any) -> Iterator[None]:
    """Say so where the kernels of a file have not been compiled for a pixel type yet.

    Numba cannot be asked before a call whether it will compile; a marker beside its cache, named after everything
    that makes it compile anew, can.
    """
    if (kernels, dtype.name) in _USED:
        yield
        return
    import numba

    file = importlib.import_module(f"stackalign_kernels.cpu.{kernels}").__file__
    assert file is not None
    source = zlib.crc32(file.encode() + Path(file).read_bytes())
    folder = Path(stackalign_kernels.cache_folder())
    marker = folder / f"compiled-{kernels}-{dtype.name}-{source:08x}-numba-{numba.__version__}"
    known = marker.exists()
    if not known:
        _log.warning(
            "first use of %s kernels for %s on this machine: compiling, about ten seconds, then kept",
            kernels,
            dtype.name,
        )
    yield
    _USED.add((kernels, dtype.name))
    if not known:
        try:
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()
        except OSError as error:
            _log.debug("no marker %s: %s", marker, error)


def announced(kernels: str, argument: int = 0) -> Callable[[_Function], _Function]:
    """Wrap an operation that compiles the kernels of a file for the type of one of its arrays."""

    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def wrapped(*args: Any) -> Any:
            with first_use(kernels, args[argument].dtype):
                return function(*args)

        return cast("_Function", wrapped)

    return decorate
