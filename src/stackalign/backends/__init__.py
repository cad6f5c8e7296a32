"""Backends: folders with an object `BACKEND` that satisfies `Backend`, imported when first used."""

import functools
import importlib
import sys
from typing import cast

from stackalign._carriers import refuse_hidden
from stackalign.errors import BackendUnavailableError

from ._protocol import Array, Backend

__all__ = ["BACKENDS", "Array", "Backend", "backend_for", "load", "refuse_hidden"]

BACKENDS = {
    "cpu": "stackalign.backends.cpu",
    "cuda": "stackalign.backends.cuda",
    "reference": "stackalign.backends.reference",
}
"""Name to package. A new backend is a folder that passes tests/conformance and a line here."""


@functools.cache
def load(name: str) -> Backend:
    """Import a backend.

    Raises
    ------
    ValueError
        There is no backend of this name.
    BackendUnavailableError
        The backend cannot be used here; the text says what is missing.
    """
    if name not in BACKENDS:
        msg = f"backend must be one of {', '.join(BACKENDS)}, got {name!r}"
        raise ValueError(msg)
    backend = cast("Backend", importlib.import_module(BACKENDS[name]).BACKEND)
    reason = backend.unavailable()
    if reason is not None:
        raise BackendUnavailableError(reason)
    return backend


@functools.cache
def _home_of(kind: type) -> str | None:
    """Name of the backend that is at home in arrays of this type. Imports nothing that the caller has not imported."""
    root = kind.__module__.partition(".")[0]
    if root == "numpy":
        return "cpu"
    if root == "cupy" and "cupy" in sys.modules:
        return "cuda"
    return None


def backend_for(*arrays: object) -> Backend:
    """Find the backend of the home that all arrays share.

    Raises
    ------
    TypeError
        An array has no home here, or the arrays have different homes: nothing is moved silently. Or it carries a mask,
        which would be lost.
    """
    homes = {}
    for x in arrays:
        refuse_hidden(x)
        home = _home_of(type(x))  # type: ignore[arg-type]  # every type is hashable
        if home is None:
            msg = (
                f"arrays must be NumPy or CuPy arrays, got {type(x).__module__}.{type(x).__qualname__}; "
                "bring it in with stackalign.asarray(x, device=...)"
            )
            raise TypeError(msg)
        homes[home] = type(x).__name__
    if len(homes) != 1:
        msg = (
            f"arrays live on different devices ({', '.join(sorted(homes))}); "
            "move them together with stackalign.asarray(x, device=...) or stackalign.to_numpy(x)"
        )
        raise TypeError(msg)
    return load(next(iter(homes)))
