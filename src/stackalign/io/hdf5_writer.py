"""HDF5 outputs: ``/data/datacube/data`` with axis vectors beside it, and the tree of EMD 1.0 over the same numbers.

What has one row per pattern, as centres and corners of windows, stands beside the data.

The structure is made by HDF5 in memory, the patterns go to the file by position, plainly or in compressed chunks: see
`_hdf5_memory`. So a failed write is an ordinary error, and an interrupted run ends with the same bytes.
"""

import importlib
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import MissingDependencyError, UnfitStateError
from stackalign.io._axes import axes_of
from stackalign.io._block_writer import BlockWriter
from stackalign.io._emd import add_calibration, add_tree, pattern_origins
from stackalign.io._hdf5_memory import MemoryFile, place_for_data, taken_chunk, write_array
from stackalign.io._hyperspy import add_signal
from stackalign.io._portable import CLOEXEC, pread
from stackalign.io._reader import damage_as_unfit_state
from stackalign.io._writer import BaseWriter, FlatWriter, WriteSpec, fsync_path, full_disk_as_data_error, pwrite_all
from stackalign.io.provenance import dump_json

__all__ = ["create_writer", "write_images"]

_GROUP = "data/datacube"
# A fixed version of the file format: the newest would change with the library.
_LIBVER = ("v110", "v110")
_CHUNK_BYTES = 1 << 20


def create_writer(path: Path, spec: WriteSpec, resume: dict[str, Any] | None) -> BaseWriter:
    """Create or reopen an HDF5 file."""
    if spec.compression not in (None, "none"):
        return _CompressedWriter(path, spec, resume)
    return _PlainWriter(path, spec, resume)


def _create(memory: MemoryFile, spec: WriteSpec) -> Any:
    """Create the file with everything but the data."""
    h5py = importlib.import_module("h5py")
    # Large blocks begin at multiples of the page size, which serves mapped reading. Without a cache of chunks, each is
    # written when it is handed over.
    options = {"alignment_threshold": 65536, "alignment_interval": 4096, "rdcc_nbytes": 0, "rdcc_nslots": 0}
    file = h5py.File(memory, "w", libver=_LIBVER, **options)
    group = file.create_group(_GROUP)
    group.attrs["emd_group_type"] = 1
    for k, (name, units, vector) in enumerate(axes_of(spec), 1):
        axis = group.create_dataset(f"dim{k}", data=vector, track_times=False)
        axis.attrs["name"] = name
        axis.attrs["units"] = units
    return file


def _describe(file: Any, dataset: Any, spec: WriteSpec) -> None:
    """Lead the programs that know EMD, py4DSTEM or HyperSpy to the dataset."""
    add_tree(file, dataset, axes_of(spec))
    if spec.final_path is not None and spec.final_path.suffix.lower() == ".hspy":
        add_signal(file, dataset, axes_of(spec))


def _add_metadata(
    file: Any, spec: WriteSpec, metadata: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None
) -> None:
    for name, values in (arrays or {}).items():
        file[_GROUP].create_dataset(name, data=values, track_times=False)
    add_calibration(file, spec.calibration, spec.array_shape, pattern_origins(arrays or {}))
    # What the attribute makes HDF5 move stays behind as it was written last: at this moment, whatever happened before.
    file.flush()
    # One text attribute: it may grow beyond 64 KiB, which this version of the format stores apart.
    file[_GROUP].attrs["stackalign"] = dump_json(metadata, indent=None)
    file.close()


class _PlainWriter(FlatWriter):
    """Contiguous data, written by position; the structure around them is written at the end."""

    def __init__(self, path: Path, spec: WriteSpec, resume: Mapping[str, Any] | None) -> None:
        self._memory = MemoryFile()
        self._file = _create(self._memory, spec)
        offset = place_for_data(self._file[_GROUP], "data", spec.array_shape, spec.dtype)
        _describe(self._file, self._file[_GROUP]["data"], spec)
        super().__init__(path, spec, "h5", offset, prologue=bytes(offset), resume=resume)

    def _complete(self, metadata: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None) -> None:
        _add_metadata(self._file, self._spec, metadata, arrays)
        self._memory.write_to(self._fd)
        os.fsync(self._fd)

    def close(self) -> None:
        """Release the file without completing it."""
        self._file.close()
        super().close()


_ENTRY = struct.Struct("<QQQ")  # position, size and filter mask of a chunk


class _CompressedWriter(BlockWriter):
    """Compressed chunks, each written once and at its final place.

    Where the chunks lie is kept beside the file, in ``<name>.chunks``, until the end: HDF5 is told so again when a run
    is resumed.
    """

    def __init__(self, path: Path, spec: WriteSpec, resume: Mapping[str, Any] | None) -> None:
        super().__init__(path, spec, "h5c")
        leading = spec.array_shape[:-2]
        self._fast = leading[0] if spec.channel_axis else leading[-1]
        self._length = max(1, min(self._fast, _CHUNK_BYTES // spec.pattern_bytes))
        chunk = (self._length, 1) if spec.channel_axis else (*(1,) * (len(leading) - 1), self._length)
        self._layout: dict[str, Any] = {"chunks": (*chunk, *spec.shape[1:]), **_filters(spec, self._name)}
        self._list = path.with_name(path.name + ".chunks")
        self._new = bytearray()  # entries that the list does not hold yet
        self._listed = self._crc = 0
        self._fd = self._open_file(new=resume is None)
        self._memory = MemoryFile()
        self._file = _create(self._memory, spec)
        try:
            self._dataset = self._create_dataset(self._file[_GROUP], spec.array_shape)
            _describe(self._file, self._dataset, spec)
            if resume is not None:
                self._resume_blocks(resume)
                with full_disk_as_data_error(path, self._name, spec.nbytes):
                    self._restore(resume)
        except BaseException:
            self.close()
            raise

    def _create_dataset(self, group: Any, shape: tuple[int, ...]) -> Any:
        return group.create_dataset("data", shape, self._spec.dtype, track_times=False, **self._layout)

    def _block_length(self, first: int) -> int:
        return min(self._length, self._fast - first % self._fast)

    def _place(self, first: int, count: int) -> tuple[tuple[int, ...], tuple[Any, ...]]:
        """Return the first element of the chunk that begins with a pattern, and what to index for its patterns."""
        if self._spec.channel_axis:
            return (first, 0, 0, 0), (slice(first, first + count), 0)
        *rows, x = (int(k) for k in np.unravel_index(first, self._spec.array_shape[:-2]))
        return (*rows, x, 0, 0), (*rows, slice(x, x + count))

    def _store_block(self, first: int, block: NDArray[Any]) -> None:
        corner, index = self._place(first, len(block))
        self._memory.recent.clear()
        self._dataset[index] = block
        whole = self._length * self._spec.pattern_bytes
        position, content, skipped = taken_chunk(self._memory, self._dataset, corner, whole)
        pwrite_all(self._fd, memoryview(content), position)
        self._note((position, len(content), skipped))

    def _note(self, entry: tuple[int, int, int]) -> None:
        raw = _ENTRY.pack(*entry)
        self._new += raw
        self._crc = zlib.crc32(raw, self._crc)

    def _sync(self) -> dict[str, Any]:
        return {**super()._sync(), "chunks_crc32": self._crc}

    def _sync_blocks(self) -> None:
        os.fsync(self._fd)
        if not self._new:
            return
        first = self._listed == 0
        fd = os.open(self._list, os.O_WRONLY | os.O_CREAT | CLOEXEC | (os.O_TRUNC if first else 0), 0o666)
        try:
            pwrite_all(fd, memoryview(self._new), self._listed * _ENTRY.size)
            os.fsync(fd)
        finally:
            os.close(fd)
        if first:
            fsync_path(self._list.parent)
        self._listed += len(self._new) // _ENTRY.size
        self._new = bytearray()

    def _complete_blocks(self, metadata: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None) -> None:
        _add_metadata(self._file, self._spec, metadata, arrays)
        self._memory.write_to(self._fd)
        os.fsync(self._fd)
        self._list.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the file without completing it."""
        if not self._closed:
            self._file.close()
            os.close(self._fd)
        super().close()

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Tell HDF5 of the chunks that are in the file, and cut it back to them."""
        firsts, first = [], 0
        while first < self._stored:
            firsts.append(first)
            first += self._block_length(first)
        entries = self._saved_entries(firsts, 0)
        raw = b"".join(_ENTRY.pack(*entry) for entry in entries)
        end = entries[-1][0] + entries[-1][1] if entries else 0
        size = os.fstat(self._fd).st_size
        if len(entries) < len(firsts) or zlib.crc32(raw) != state.get("chunks_crc32") or size < end:
            msg = (
                f"the partial output {self._path} has {size} bytes and does not fit its saved state: "
                "it was changed since"
            )
            raise UnfitStateError(msg)
        self._crc = zlib.crc32(raw)
        if self._list.exists():
            self._listed = len(entries)
        else:
            self._new = bytearray(raw)
        self._refill(state)  # before the structure of a file whose end was interrupted is wiped
        self._replay(firsts, entries)
        os.ftruncate(self._fd, end)

    def _replay(self, firsts: list[int], entries: list[tuple[int, int, int]]) -> None:
        blank = memoryview(bytes(max((size for _, size, _ in entries), default=0)))
        end = 0
        for first, (position, size, skipped) in zip(firsts, entries, strict=True):
            corner, _ = self._place(first, 1)
            self._memory.recent.clear()
            self._dataset.id.write_direct_chunk(corner, blank[:size], skipped)
            if taken_chunk(self._memory, self._dataset, corner)[0] != position:
                msg = f"the partial output {self._path} was written with another version of HDF5"
                raise UnfitStateError(msg)
            # Between the chunks may stand structure of an end that was interrupted.
            pwrite_all(self._fd, memoryview(bytes(position - end)), end)
            end = position + size

    def _saved_entries(self, firsts: list[int], number: int) -> list[tuple[int, int, int]]:
        """Places of some chunks: from the list, whose entry `number` is that of the first, or from a finished file."""
        if not firsts:
            return []
        if self._list.exists():
            with self._list.open("rb") as stream:
                stream.seek(number * _ENTRY.size)
                raw = stream.read(len(firsts) * _ENTRY.size)
            return [_ENTRY.unpack_from(raw, k) for k in range(0, len(raw) - _ENTRY.size + 1, _ENTRY.size)]
        h5py = importlib.import_module("h5py")
        with damage_as_unfit_state(str(self._path), "the list of chunks"), h5py.File(self._path, "r") as file:
            stored = file[_GROUP]["data"].id
            infos = [stored.get_chunk_info_by_coord(self._place(first, 1)[0]) for first in firsts]
            return [(int(info.byte_offset), int(info.size), int(info.filter_mask)) for info in infos]

    def _load_block(self, first: int, count: int) -> NDArray[Any]:
        number = self._listed + len(self._new) // _ENTRY.size
        entries = self._saved_entries([first], number)
        with damage_as_unfit_state(str(self._path), f"the chunk of pattern {first}"):
            position, size, skipped = entries[0]
            scratch = _create(MemoryFile(), self._spec)
            try:
                shape = (*self._layout["chunks"][:-2], *self._spec.shape[1:])
                dataset = self._create_dataset(scratch[_GROUP], shape)
                dataset.id.write_direct_chunk((0,) * len(shape), pread(self._fd, size, position), skipped)
                patterns: NDArray[Any] = dataset[...].reshape(-1, *self._spec.shape[1:])[:count]
            finally:
                scratch.close()
        return patterns


def _filters(spec: WriteSpec, name: str) -> dict[str, Any]:
    """Filters of a compression, as h5py takes them."""
    if spec.compression == "gzip":
        return {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    try:
        plugin = importlib.import_module("hdf5plugin")
    except ImportError as error:
        msg = f'output {name} needs hdf5plugin for its compression: pip install "stackalign[hdf5]"'
        raise MissingDependencyError(msg) from error
    return dict(plugin.Bitshuffle(cname=spec.compression))


def write_images(path: Path, images: NDArray[Any], header: str | None = None) -> None:
    """Write a whole array as the dataset ``data``."""
    write_array(path, "data", images)
