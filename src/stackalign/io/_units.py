"""Reading of chunked stores front to back so that each chunk is decoded once."""

import math
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError
from stackalign.io._protocol import ChunkGeometry, StackInfo
from stackalign.io._reader import BaseReader
from stackalign.io._shapes import Layout, scan_pieces

__all__ = ["ScanGrid", "UnitReader", "with_chunks"]

_DECODING = 2
"""Copies of a chunk that decoding takes: as it is stored, and between two filters."""
_LEAST_LIMIT = 1 << 20
_DIRECT_BYTES = 8 << 20


@dataclass(frozen=True)
class ScanGrid:
    """How the patterns of a scan, in C order, lie in units: what a store decodes together.

    Parameters
    ----------
    rows, columns : int
        Of the scan; a plain series is one row.
    unit_rows, unit_columns : int
        Of a unit: a chunk along the scan, with all chunks along the detector axes.
    """

    rows: int
    columns: int
    unit_rows: int
    unit_columns: int

    @classmethod
    def of(cls, layout: Layout, chunks: Sequence[int]) -> "ScanGrid":
        """Derive it from the shape of a stored chunk."""
        axes = layout.array_scan_shape
        if len(axes) == 2 and not layout.channel_axis:
            return cls(axes[0], axes[1], min(int(chunks[0]), axes[0]), min(int(chunks[1]), axes[1]))
        count = layout.shape[0]
        return cls(1, count, 1, min(int(chunks[0]), count) if axes else 1)

    @property
    def band(self) -> int:
        """Patterns that must be held to decode nothing twice."""
        if self.unit_rows == 1:
            return self.unit_columns
        return min(self.unit_rows, self.rows) * self.columns

    @property
    def units_in_band(self) -> int:
        """Units that hold those patterns."""
        return 1 if self.unit_rows == 1 else -(-self.columns // self.unit_columns)

    def floor(self, k: int) -> int:
        """Return the last place up to pattern k where a band begins."""
        if self.unit_rows > 1:
            return k - k % self.band
        row, column = divmod(k, self.columns)
        return row * self.columns + column - column % self.unit_columns

    def ceil(self, k: int) -> int:
        """Return the first place from pattern k on where a band begins, or the end of the scan."""
        low = self.floor(k)
        if low == k or k >= self.rows * self.columns:
            return k
        if self.unit_rows > 1:
            return min(low + self.band, self.rows * self.columns)
        return min(low + self.unit_columns, (k // self.columns + 1) * self.columns)


def with_chunks(info: StackInfo, grid: ScanGrid, chunks: Sequence[int], itemsize: int, limit: int) -> StackInfo:
    """Add the geometry of the chunks; refuse a chunk that cannot even be decoded within the limit."""
    limit = max(limit, _LEAST_LIMIT)
    one = math.prod(int(n) for n in chunks) * itemsize
    if one > limit:
        msg = (
            f"the chunks {tuple(chunks)} of this store take {one} bytes each when they are decoded, above the memory "
            f"limit of {limit}; raise the limit, or store the data in smaller chunks"
        )
        raise DataError(msg)
    held = 0 if grid.band == 1 else grid.units_in_band * grid.unit_rows * grid.unit_columns * info.pattern_bytes
    nbytes = held + _DECODING * one
    geometry = ChunkGeometry(tuple(int(n) for n in chunks), grid.band, nbytes, nbytes <= limit - limit // 4)
    return replace(info, chunk=geometry, metadata={**info.metadata, "chunk_patterns": grid.band})


class UnitReader(BaseReader):
    """Reader of a chunked store: units that a request cuts are decoded once and kept for the next request.

    Parameters
    ----------
    path : Path, optional
    info : StackInfo
        With `chunk`.
    layout : Layout
    grid : ScanGrid
    limit : int
        Bytes of decoded units that may be kept.
    name : str, optional
        How messages name the source.
    """

    def __init__(
        self, path: Path | None, info: StackInfo, layout: Layout, grid: ScanGrid, limit: int, name: str | None = None
    ) -> None:
        super().__init__(path, info, name)
        limit = max(limit, _LEAST_LIMIT)
        self._layout = layout
        self._grid = grid
        unit = grid.unit_rows * grid.unit_columns * info.pattern_bytes
        self._kept = max(0, min(grid.units_in_band, (limit - limit // 4) // unit)) if grid.band > 1 else 0
        self._units: OrderedDict[tuple[int, int], NDArray[Any]] = OrderedDict()

    @abstractmethod
    def _fetch(self, index: tuple[slice | int, ...], out: NDArray[Any]) -> None:
        """Read a selection along the scan axes of the stored array into out, which has its shape."""

    def _read(self, start: int, stop: int, out: NDArray[Any]) -> None:
        low = min(self._grid.ceil(start), stop)
        high = max(self._grid.floor(stop) if stop < self._info.shape[0] else stop, low)
        self._cut(start, low, out[: low - start])
        step = max(self._grid.band, _DIRECT_BYTES // self._info.pattern_bytes // self._grid.band * self._grid.band)
        position = low
        while position < high:
            end = high if high - position <= step else self._grid.floor(position + step)
            self._direct(position, end, out[position - start : end - start])
            position = end
        self._cut(high, stop, out[high - start :])

    def _direct(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Read patterns that nothing else shares a chunk with straight into out."""
        if self._layout.channel_axis:
            self._fetch((slice(start, stop), 0), out)
            return
        for piece in scan_pieces(start, stop, self._layout.array_scan_shape):
            part = out[piece.lo : piece.hi]
            lengths = tuple(s.stop - s.start for s in piece.index if isinstance(s, slice))
            self._fetch(piece.index, part.reshape(*lengths, *part.shape[1:]))

    def _cut(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Copy patterns out of units that reach beyond them."""
        if start < stop and not self._kept:
            self._direct(start, stop, out)
            return
        position = start
        while position < stop:
            row, column = divmod(position, self._grid.columns)
            key = row // self._grid.unit_rows, column // self._grid.unit_columns
            unit = self._unit(key)
            y, x = row - key[0] * self._grid.unit_rows, column - key[1] * self._grid.unit_columns
            count = min(stop - position, unit.shape[1] - x)
            out[position - start : position - start + count] = unit[y, x : x + count]
            position += count

    def _unit(self, key: tuple[int, int]) -> NDArray[Any]:
        if key in self._units:
            self._units.move_to_end(key)
            return self._units[key]
        grid = self._grid
        top, left = key[0] * grid.unit_rows, key[1] * grid.unit_columns
        bottom, right = min(top + grid.unit_rows, grid.rows), min(left + grid.unit_columns, grid.columns)
        while len(self._units) >= self._kept:  # before the next one is made: the limit counts both
            self._units.popitem(last=False)
        unit = np.empty((bottom - top, right - left, *self._info.shape[1:]), self._info.dtype)
        if len(self._layout.array_scan_shape) == 2 and not self._layout.channel_axis:
            self._fetch((slice(top, bottom), slice(left, right)), unit)
        else:
            self._direct(left, right, unit[0])
        self._units[key] = unit
        return unit

    def close(self) -> None:
        """Forget the units."""
        self._units.clear()
        super().close()
