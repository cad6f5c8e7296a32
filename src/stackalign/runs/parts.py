"""What a chunk function makes of its frames, and how the parts of a file are put together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["ChunkFunction", "Collector", "Columns", "Part"]


@dataclass(frozen=True)
class Part:
    """What a chunk function makes of its frames.

    Parameters
    ----------
    columns : mapping of str to numpy.ndarray
        Numbers for the collector: rows, or sums over the chunk.
    images : numpy.ndarray, optional
        (n, h, w), one image for each frame, for the output.
    """

    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    images: NDArray[Any] | None = None


ChunkFunction = Callable[[NDArray[Any], int], Part]
"""Takes the frames (n, H, W) of a chunk and the number of the first; pure, and picklable to be run elsewhere."""


class Collector(Protocol):
    """Puts the parts together, in the order of the frames."""

    def add(self, part: Part) -> None:
        """Take the next part."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything so far as arrays, to be saved."""
        ...

    def restore(self, arrays: Mapping[str, NDArray[Any]], done: int) -> None:
        """Take over what was saved, of the first `done` frames."""
        ...


class Columns:
    """Collector of rows, one per frame, or any number per frame with a column "frame" that says whose they are."""

    def __init__(self) -> None:
        self._parts: list[Mapping[str, NDArray[Any]]] = []

    def add(self, part: Part) -> None:
        """Append the rows of a part.

        Parameters
        ----------
        part : Part
            What a chunk function returned.
        """
        self._parts.append(part.columns)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All rows, one array per column."""
        if len(self._parts) > 1:
            self._parts = [{name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]}]
        return dict(self._parts[0]) if self._parts else {}

    def restore(self, arrays: Mapping[str, NDArray[Any]], done: int) -> None:
        """Take over saved rows; those with a column "frame" belong to the frames that it names.

        Parameters
        ----------
        arrays : mapping
            Saved columns by name.
        done : int
            Number of frames that they belong to.
        """
        keep = arrays["frame"] < done if "frame" in arrays else slice(done)
        self._parts = [{name: values[keep] for name, values in arrays.items()}] if arrays else []
