"""How a backend finds its operations: each in the file of its subject, under the name of its method."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._protocol import SUBJECTS, Array

__all__ = ["NumpyArrays", "Operations"]


class Operations:
    """The operations of a backend, imported when first called.

    ``FOLDER`` is the package that holds a file for each subject of `SUBJECTS`.
    """

    FOLDER: str

    def __getattr__(self, name: str) -> Any:
        if name not in SUBJECTS:
            msg = f"{type(self).__name__} has no attribute {name!r}"
            raise AttributeError(msg)
        subject = importlib.import_module(f"{self.FOLDER}.{SUBJECTS[name]}")
        operation = self._bound(getattr(subject, name))
        setattr(self, name, operation)  # the next call finds it at once
        return operation

    def _bound(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        """What is called for an operation: itself."""
        return operation


class NumpyArrays:
    """Housekeeping of `Backend` for NumPy arrays."""

    def unavailable(self) -> str | None:
        """See `Backend.unavailable`: NumPy is always there."""
        return None

    def owns(self, x: object, /) -> bool:
        """See `Backend.owns`."""
        return isinstance(x, np.ndarray)

    def asarray(self, x: Array, dtype: np.dtype[Any] | None, index: int, /) -> Array:
        """See `Backend.asarray`."""
        return np.asarray(x, dtype)

    def to_numpy(self, x: Array, /) -> NDArray[Any]:
        """See `Backend.to_numpy`."""
        return np.asarray(x)

    def synchronize(self, x: Array, /) -> None:
        """See `Backend.synchronize`: the host is never ahead of itself."""

    def device_of(self, x: Array, /) -> str:
        """See `Backend.device_of`."""
        return "cpu"
