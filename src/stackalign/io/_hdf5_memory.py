"""HDF5 structure in memory: h5py writes into an object that cannot fail, ordinary file writes bring it to the disk.

HDF5 does not recover from a write that fails (a full disk, a quota, a lost share): its objects keep what they could not
flush, try again when they are closed, and may end in an abort of the interpreter. So HDF5 never sees the disk here. It
gets a file object that keeps the structure (headers, indices, attributes) in memory and tells where HDF5 puts the
numbers. These are written to the real file at once and by position, the structure when the file is finished.
"""

import importlib
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.io._writer import pwrite_all

__all__ = ["MemoryFile", "place_for_data", "taken_chunk", "write_array", "write_datasets"]


class MemoryFile:
    """What h5py takes for a file: it keeps what is written in memory.

    Parameters
    ----------
    fallback : callable, optional
        ``fallback(position, length)`` returns the bytes of a place that is not in memory; without it they are zero.
    """

    def __init__(self, fallback: Callable[[int, int], bytes] | None = None) -> None:
        self._writes: dict[tuple[int, int], bytes] = {}  # by (position, length), the newest last
        self._position = 0
        self._fallback = fallback
        self._size = 0
        self.recent: list[tuple[int, int]] = []  # what was written since the caller cleared it

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position."""
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def write(self, data: Any) -> int:
        """Keep some bytes."""
        content = bytes(data)
        key = (self._position, len(content))
        self._writes.pop(key, None)
        self._writes[key] = content
        self.recent.append(key)
        self._position += len(content)
        self._size = max(self._size, self._position)
        return len(content)

    def readinto(self, out: Any) -> int:
        """Fill a buffer; what was never written reads as zeros."""
        out[:] = self._bytes_at(self._position, len(out))
        self._position += len(out)
        return len(out)

    def read(self, length: int = -1) -> bytes:
        """Return some bytes; h5py recognises a file object by this method."""
        content = self._bytes_at(self._position, self._size - self._position if length < 0 else length)
        self._position += len(content)
        return content

    def truncate(self, size: int | None = None) -> int:
        """Set the size."""
        self._size = self._position if size is None else size
        return self._size

    def flush(self) -> None:
        """Do nothing: nothing is buffered."""

    def take(self, position: int, length: int) -> bytes | None:
        """Remove what was written at a place, and return it where it came in one piece."""
        content = self._writes.pop((position, length), None)
        stop = position + length
        if any(start < stop and start + size > position for start, size in self._writes):
            # Structure stood there before: what is left of it must not come back over the numbers.
            kept: dict[tuple[int, int], bytes] = {}
            for (start, size), old in self._writes.items():
                for lo, hi in ((start, min(start + size, position)), (max(start, stop), start + size)):
                    if lo < hi:
                        kept.pop((lo, hi - lo), None)  # what is assigned again would keep its place in the order
                        kept[lo, hi - lo] = old[lo - start : hi - start]
            self._writes = kept
        return content

    def write_to(self, fd: int) -> None:
        """Bring what is in memory to the real file, which gets the right size."""
        os.ftruncate(fd, self._size)
        for (position, _), content in self._writes.items():
            pwrite_all(fd, memoryview(content), position)

    def _bytes_at(self, position: int, length: int) -> bytes:
        content = bytearray(length)
        if self._fallback is not None:
            earlier = self._fallback(position, length)
            content[: len(earlier)] = earlier
        for (start, size), data in self._writes.items():
            lo, hi = max(start, position), min(start + size, position + length)
            if lo < hi:
                content[lo - position : hi - position] = data[lo - start : hi - start]
        return bytes(content)


def place_for_data(group: Any, name: str, shape: tuple[int, ...], dtype: Any) -> int:
    """Create a contiguous dataset without writing to it and return the position of its first number."""
    h5py = importlib.import_module("h5py")
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.CONTIGUOUS)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    plist.set_obj_track_times(False)
    space = h5py.h5s.create_simple(shape)
    dataset = h5py.h5d.create(group.id, name.encode(), h5py.h5t.py_create(dtype), space, plist)
    return int(dataset.get_offset())


def taken_chunk(
    memory: MemoryFile, dataset: Any, corner: tuple[int, ...], whole: int | None = None
) -> tuple[int, bytes, int]:
    """Take the chunk that was just written out of the memory; return its position, stored bytes and filter mask.

    Parameters
    ----------
    memory : MemoryFile
        Whose `recent` was cleared before the chunk was written.
    dataset : h5py.Dataset
        Without a cache of chunks.
    corner : tuple of int
        First element of the chunk.
    whole : int, optional
        Size of a chunk without filters. A stored one of this size may have a mask, which HDF5 is asked for then: it
        looks for a chunk among all, which would take long for each of many. None where the mask is of no interest.
    """
    if len(memory.recent) == 1 and memory.recent[0][1] != whole:
        (position, size), skipped = memory.recent[0], 0
    else:  # structure was written in between
        info = dataset.id.get_chunk_info_by_coord(corner)
        position, size, skipped = info.byte_offset, info.size, int(info.filter_mask)
    content = None if position is None else memory.take(position, size)
    if content is None:
        msg = f"HDF5 did not write the chunk at {corner} in one piece"
        raise RuntimeError(msg)
    return int(position), content, skipped


def write_array(path: Path, name: str, array: NDArray[Any]) -> None:
    """Write an HDF5 file of one array, which may be a memory map; a failed write is an ordinary OSError."""
    h5py = importlib.import_module("h5py")
    memory = MemoryFile()
    with h5py.File(memory, "w") as file:
        position = place_for_data(file, name, array.shape, array.dtype)
    with path.open("wb", buffering=0) as stream:
        memory.write_to(stream.fileno())
        for part in array if array.ndim > 2 else [array]:
            raw = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
            pwrite_all(stream.fileno(), raw.data, position)
            position += raw.size


def write_datasets(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write an HDF5 file of a few arrays, of which memory holds a copy; a failed write is an ordinary OSError."""
    h5py = importlib.import_module("h5py")
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        for name, values in arrays.items():
            file[name] = values.astype(h5py.string_dtype()) if values.dtype.kind == "U" else values
    path.write_bytes(image.getbuffer())
