"""What a reader and a writer of image stacks are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Calibration", "ChunkGeometry", "StackInfo", "StackReader", "StackWriter"]


@dataclass(frozen=True)
class Calibration:
    """Scale of the detector axes, as the file states it.

    Parameters
    ----------
    pixel_size : tuple of float
        Size of a pixel along (y, x).
    units : str
        Unit of `pixel_size`, as written in the file, for example "1/nm" or "mrad".
    origin : tuple of float
        Position of the zero of both axes, (y, x) in pixel indices.
    scan_step : tuple of float, optional
        Step of the scan along (y, x).
    scan_units : str
        Unit of `scan_step`.
    """

    pixel_size: tuple[float, float] = (1.0, 1.0)
    units: str = "px"
    origin: tuple[float, float] = (0.0, 0.0)
    scan_step: tuple[float, float] | None = None
    scan_units: str = ""

    @classmethod
    def of_axes(cls, axes: Sequence[tuple[float, float, str] | None]) -> "Calibration | None":
        """Make the calibration of a stack from what is known of its axes.

        Parameters
        ----------
        axes : sequence of (float, float, str) or None
            Step, start and unit of each axis of the array, None for one that is not known.

        Returns
        -------
        Calibration or None
            None where the axes of the detector are not known.
        """
        if len(axes) < 2 or axes[-2] is None or axes[-1] is None:
            return None
        (step_y, start_y, units), (step_x, start_x, _) = axes[-2], axes[-1]
        scan_y, scan_x = (axes[0], axes[1]) if len(axes) == 4 else (None, None)
        return cls(
            pixel_size=(step_y, step_x),
            units=units,
            origin=(0.0 - start_y / step_y, 0.0 - start_x / step_x),
            scan_step=(scan_y[0], scan_x[0]) if scan_y and scan_x else None,
            scan_units=scan_y[2] if scan_y and scan_x else "",
        )


@dataclass(frozen=True)
class ChunkGeometry:
    """How a stored array is cut into pieces that can only be decoded whole.

    Parameters
    ----------
    shape : tuple of int
        Of one stored chunk, along the axes of the stored array.
    patterns : int
        Blocks that begin and end at multiples of it decode nothing twice.
    nbytes : int
        Memory that the reader itself holds while it is read from front to back: the decoded chunks of that many
        patterns where they are more than one, and what decoding takes.
    fits : bool
        The reader's memory limit leaves room for it. If not, reading from front to back decodes chunks many times.
    """

    shape: tuple[int, ...]
    patterns: int
    nbytes: int
    fits: bool


@dataclass(frozen=True)
class StackInfo:
    """Everything that is known of a stack before its data are read.

    Parameters
    ----------
    shape : tuple of int
        ``(N, H, W)``: number of patterns, rows, columns. The scan is flattened in C order.
    dtype : numpy.dtype
        Of the arrays that are handed out: always in native byte order.
    scan_shape : tuple of int
        Shape of the scan; its product is N. ``(N,)`` for a plain series.
    channel_axis : bool
        The file has an axis of length 1 before the pattern, ``(N, 1, H, W)``.
    calibration : Calibration, optional
    mask : numpy.ndarray, optional
        (H, W) boolean, True = valid, where the file carries a pixel mask.
    metadata : mapping
        What else was found and is worth carrying along (JSON-able).
    chunk : ChunkGeometry, optional
        Of a store whose patterns are decoded in chunks.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    scan_shape: tuple[int, ...]
    channel_axis: bool = False
    calibration: Calibration | None = None
    mask: NDArray[np.bool_] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    chunk: ChunkGeometry | None = None

    @property
    def pattern_bytes(self) -> int:
        """Size of one pattern in memory, in bytes."""
        return self.shape[1] * self.shape[2] * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Size of the whole stack in memory, in bytes."""
        return self.shape[0] * self.pattern_bytes


class StackReader(Protocol):
    """A stack that is read in pieces. Readers are thread-safe for one `read` at a time."""

    @property
    def path(self) -> Path | None:
        """The file, or None for an array in memory."""
        ...

    @property
    def info(self) -> StackInfo:
        """Shape, dtype and what else the header says."""
        ...

    def read(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Read patterns into an array.

        Parameters
        ----------
        start, stop : int
            First pattern, and the one after the last.
        out : numpy.ndarray
            (stop - start, H, W), C-contiguous, of `info.dtype`: where to put them.
        """
        ...

    def fingerprint(self) -> str:
        """Identify the content cheaply: size, modification time, and a hash of the header and of sampled blocks."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class StackWriter(Protocol):
    """A stack that is written in order, in pieces, under a temporary name."""

    @property
    def written(self) -> int:
        """Number of patterns that were handed over so far."""
        ...

    def write(self, block: NDArray[Any]) -> None:
        """Append patterns.

        Parameters
        ----------
        block : numpy.ndarray
            (n, h, w) of the writer's dtype: the next patterns.
        """
        ...

    def checkpoint(self) -> dict[str, Any]:
        """Make everything written so far durable and return the JSON-able state that `create_stack` resumes from."""
        ...

    def finish(self, metadata: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None) -> None:
        """Write what comes last (metadata, checksums), make it durable, close. The file is then complete.

        Parameters
        ----------
        metadata : mapping
            Facts to store with the data, where the format has a place for them.
        arrays : mapping, optional
            Arrays with one row per pattern, such as centres. Formats of one array alone have no place for them.
        """
        ...

    def close(self) -> None:
        """Release the file without completing it."""
        ...
