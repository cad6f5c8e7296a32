"""Headers of bitshuffle chunks, checked before their decoder sees them: it trusts every size that they state."""

import itertools
import math
import os
import struct
from pathlib import Path
from typing import Any

from stackalign.errors import DataError
from stackalign.io._portable import CLOEXEC, pread

__all__ = ["ChunkHeaders"]

_FILTER = 32008
_COMPRESSED = (2, 3)  # LZ4 and Zstandard: the chunk then begins with its decoded size and its block size
_HEADER = struct.Struct(">QI")
_BLOCK = struct.Struct(">I")


class ChunkHeaders:
    """The chunks of a dataset, each of which is looked at once.

    Parameters
    ----------
    dataset : h5py.Dataset
    path : Path
        The file that it is in.
    """

    def __init__(self, dataset: Any, path: Path) -> None:
        self._dataset = dataset
        self._path = path
        self._checked: set[tuple[int, ...]] = set()
        self._itemsize = dataset.dtype.itemsize
        self._decoded = math.prod(dataset.chunks) * self._itemsize
        self._fd = os.open(path, os.O_RDONLY | CLOEXEC)

    @classmethod
    def of(cls, dataset: Any, path: Path) -> "ChunkHeaders | None":
        """Return those of a dataset whose chunks are such, else None."""
        if dataset.chunks is None:
            return None
        plist = dataset.id.get_create_plist()
        filters = [plist.get_filter(k) for k in range(plist.get_nfilters())]
        # With another filter behind it the stored bytes are those of that one.
        if not filters or filters[-1][0] != _FILTER or len(filters[-1][2]) < 5:
            return None
        return cls(dataset, path) if filters[-1][2][4] in _COMPRESSED else None

    def check(self, index: tuple[slice | int, ...]) -> None:
        """Raise where a chunk that a selection touches has an impossible header."""
        chunks, shape = self._dataset.chunks, self._dataset.shape
        ranges = []
        for axis, (n, c) in enumerate(zip(shape, chunks, strict=True)):
            part = index[axis] if axis < len(index) else slice(0, n)
            low, high = (part, part + 1) if isinstance(part, int) else (part.start, part.stop)
            ranges.append(range(low // c * c, high, c))
        for corner in itertools.product(*ranges):
            if corner not in self._checked:
                self._check_chunk(corner)
                self._checked.add(corner)

    def _check_chunk(self, corner: tuple[int, ...]) -> None:
        info = self._dataset.id.get_chunk_info_by_coord(corner)
        if info.byte_offset is None or info.filter_mask:
            return  # never written, or stored as it is
        stored = pread(self._fd, info.size, info.byte_offset)
        if len(stored) < info.size or info.size < _HEADER.size:
            self._refuse(corner, f"it has {len(stored)} bytes")
        total, block = _HEADER.unpack_from(stored)
        if total != self._decoded:
            self._refuse(corner, f"it promises {total} bytes, a chunk has {self._decoded}")
        if not 0 < block <= 1 << 30 or block % (8 * self._itemsize):
            self._refuse(corner, f"its blocks have {block} bytes")
        self._walk(corner, stored, total, block)

    def _walk(self, corner: tuple[int, ...], stored: bytes, total: int, block: int) -> None:
        """Follow the sizes from block to block; what is no whole multiple of 8 items lies uncompressed at the end."""
        position, left = _HEADER.size, total
        eight = 8 * self._itemsize
        while left >= eight:
            length = min(block, left - left % eight)
            if position + _BLOCK.size > len(stored):
                self._refuse(corner, "its blocks end early")
            size = _BLOCK.unpack_from(stored, position)[0]
            position += _BLOCK.size + size
            if position > len(stored) or size > 2 * length + 1024:
                self._refuse(corner, f"a block of {size} bytes does not fit")
            left -= length
        if position + left > len(stored):
            self._refuse(corner, "its blocks end early")

    def _refuse(self, corner: tuple[int, ...], why: str) -> None:
        msg = f"chunk {corner} of {self._path}:{self._dataset.name} is damaged: {why}; copy the file again"
        raise DataError(msg)

    def close(self) -> None:
        """Release the file."""
        os.close(self._fd)
