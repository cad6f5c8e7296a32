"""Zarr outputs: one file for a fixed block of patterns.

A `.zarr` is a Zarr 3 array whose files are shards, with chunks of a few patterns within. A `.zspy` is a signal of
HyperSpy, in Zarr 2, which is what its reader knows: the array is in a group, and a file is a chunk.
"""

import importlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError, UnfitStateError
from stackalign.io._axes import axes_of
from stackalign.io._block_writer import BlockWriter
from stackalign.io._hyperspy import SIGNAL, write_groups
from stackalign.io._reader import damage_as_unfit_state
from stackalign.io._writer import WriteSpec, fsync_path, full_disk_as_data_error
from stackalign.io.provenance import to_jsonable

__all__ = ["create_writer", "region_alignment", "shard_bytes", "write_images", "write_region"]

_SHARD_BYTES = 32 << 20
_CHUNK_BYTES = 512 << 10
_SIGNAL_CHUNK_BYTES = 8 << 20
_SIGNAL_FORM: dict[str, Any] = {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}}


def create_writer(path: Path, spec: WriteSpec, resume: dict[str, Any] | None) -> "_ZarrWriter":
    """Create or reopen a Zarr array."""
    if spec.compression == "gzip":
        # The streams of gzip hold the time, so that no two runs would have the same bytes.
        msg = f"output {spec.final_path or path} cannot be compressed with gzip; choose lz4 or zstd, or write .h5"
        raise DataError(msg)
    return _ZarrWriter(path, spec, resume)


def _grid(spec: WriteSpec) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Choose the leading axes of shards and chunks: a shard is a run of patterns in the order in which they come."""
    leading = spec.array_shape[:-2]
    fast = leading[0] if spec.channel_axis else leading[-1]
    if is_signal(spec):
        fit = max(1, _SIGNAL_CHUNK_BYTES // spec.pattern_bytes)
        part = min(fast, fit)
        rows = max(1, min(leading[0], fit // part)) if len(leading) > 1 and part == fast else 1
        chunks = (part, 1) if spec.channel_axis else (rows, part) if len(leading) > 1 else (part,)
        return chunks, chunks
    chunk = max(1, min(fast, _CHUNK_BYTES // spec.pattern_bytes))
    shard = max(1, _SHARD_BYTES // (chunk * spec.pattern_bytes)) * chunk
    if spec.channel_axis:
        return (min(shard, -(-fast // chunk) * chunk), 1), (chunk, 1)
    if shard >= fast:
        # A row fits: the shard is as many whole rows as fit, its last chunk in a row may be incomplete.
        columns = -(-fast // chunk) * chunk
        rows = max(1, min(leading[-2], shard // columns)) if len(leading) > 1 else 1
        before = (*(1,) * (len(leading) - 2), rows) if len(leading) > 1 else ()
        return (*before, columns), (*(1,) * len(before), chunk)
    before = (1,) * (len(leading) - 1)
    return (*before, shard), (*before, chunk)


def is_signal(spec: WriteSpec) -> bool:
    """Tell whether the output is a signal of HyperSpy."""
    return spec.final_path is not None and spec.final_path.suffix.lower() == ".zspy"


def region_alignment(spec: WriteSpec) -> int:
    """Return of how many patterns, or of how many times that, a region consists that one process may write."""
    leading = spec.array_shape[:-2]
    shard, _ = _grid(spec)
    if spec.channel_axis or len(leading) == 1:
        return min(shard[0], leading[0])
    # In a scan, whole rows: where a row has several shards, the last one is shorter.
    return shard[0] * leading[1]


def write_region(path: Path, spec: WriteSpec, start: int, block: NDArray[Any], *, durable: bool) -> None:
    """Write the shards of a region; other processes may write others at the same time."""
    writer = _ZarrWriter(path, spec, None, attach=True)
    writer.write_region(start, block)
    if durable:
        with full_disk_as_data_error(path, str(spec.final_path or path), spec.nbytes):
            writer._sync_blocks()


def shard_bytes(path: Path, spec: WriteSpec, done: int) -> int:
    """Return the size of the shards of the first patterns, whoever has written them; each must be there."""
    return _ZarrWriter(path, spec, None, attach=True).shard_bytes(done)


class _ZarrWriter(BlockWriter):
    """Writes a shard when all of its patterns are there."""

    def __init__(self, path: Path, spec: WriteSpec, resume: Mapping[str, Any] | None, *, attach: bool = False) -> None:
        super().__init__(path, spec, "zarr")
        self._zarr = importlib.import_module("zarr")
        shard, chunk = _grid(spec)
        self._shard = shard
        self._signal = is_signal(spec)
        self._place = path / SIGNAL / "data" if self._signal else path
        self._unsynced: list[tuple[int, ...]] = []
        self._bytes = 0  # of the shards that are durable
        with full_disk_as_data_error(path, self._name, spec.nbytes):
            new = resume is None and not attach
            self._array = self._create(chunk, overwrite=True) if new else self._reopen(chunk)
        if resume is not None:
            self._resume_blocks(resume)
            self._check_shards(resume)
            with full_disk_as_data_error(path, self._name, spec.nbytes):
                for left in path.rglob("*.partial"):  # zarr's own, of a shard that was being written
                    left.unlink()
                self._refill(resume)

    def _create(self, chunk: tuple[int, ...], *, overwrite: bool) -> Any:
        spec = self._spec
        if self._signal:
            return self._create_signal(chunk)
        codecs = importlib.import_module("zarr.codecs")
        choice = spec.compression or "lz4"
        compressors: Any = None
        if choice != "none":
            compressors = codecs.BloscCodec(
                cname=choice, clevel=5 if choice == "lz4" else 3, shuffle="bitshuffle", typesize=spec.dtype.itemsize
            )
        names = ["pattern"] if len(spec.array_shape) == 3 else ["scan_y", "scan_x"]
        names = ["pattern", "channel"] if spec.channel_axis else names
        return self._zarr.create_array(
            store=str(self._path),
            shape=spec.array_shape,
            dtype=spec.dtype,
            chunks=(*chunk, *spec.shape[1:]),
            shards=(*self._shard, *spec.shape[1:]),
            compressors=compressors,
            fill_value=0,
            dimension_names=(*names, "y", "x"),
            overwrite=overwrite,
            # Blocks of zeros are stored too: then a missing file is always a loss.
            config={"write_empty_chunks": True},
        )

    def _create_signal(self, chunk: tuple[int, ...]) -> Any:
        """Zarr 2, with a folder for each axis, as HyperSpy's own store has it."""
        spec = self._spec
        choice = spec.compression or "lz4"
        blosc = importlib.import_module("numcodecs").Blosc
        level = 5 if choice == "lz4" else 3
        return self._zarr.create_array(
            store=str(self._place),
            shape=spec.array_shape,
            dtype=spec.dtype,
            chunks=(*chunk, *spec.shape[1:]),
            compressors=None if choice == "none" else blosc(cname=choice, clevel=level, shuffle=blosc.BITSHUFFLE),
            fill_value=0,
            overwrite=True,
            config={"write_empty_chunks": True},
            **_SIGNAL_FORM,
        )

    def _reopen(self, chunk: tuple[int, ...]) -> Any:
        with damage_as_unfit_state(str(self._path), "the partial output"):
            array = self._zarr.open_array(store=str(self._place), mode="r+", config={"write_empty_chunks": True})
        expected = self._spec.array_shape, self._spec.dtype, (*chunk, *self._spec.shape[1:])
        if (array.shape, array.dtype, array.chunks) != expected:
            msg = f"the partial output {self._path} has another layout than planned"
            raise UnfitStateError(msg)
        return array

    def _region(self, first: int) -> tuple[tuple[int, ...], tuple[slice, ...]]:
        """Return the grid index of the shard that begins with a pattern, and its place in the array."""
        leading = self._spec.array_shape[:-2]
        position = np.unravel_index(first, leading)
        index = tuple(int(p) // s for p, s in zip(position, self._shard, strict=True))
        return index, tuple(
            slice(i * s, min((i + 1) * s, n)) for i, s, n in zip(index, self._shard, leading, strict=True)
        )

    def _block_length(self, first: int) -> int:
        return math.prod(part.stop - part.start for part in self._region(first)[1])

    def _store_block(self, first: int, block: NDArray[Any]) -> None:
        index, region = self._region(first)
        lengths = (part.stop - part.start for part in region)
        self._array[region] = block.reshape(*lengths, *self._spec.shape[1:])
        self._unsynced.append(index)

    def write_region(self, start: int, block: NDArray[Any]) -> None:
        """Write whole shards from a pattern on, wherever that is."""
        self._written = self._stored = start
        self.write(block)
        if self._filled:
            msg = f"a region of {self._name} ends within a shard, at pattern {start + len(block)}"
            raise ValueError(msg)

    def refuse_missing(self) -> None:
        """Raise where a shard was not written by anybody."""
        first = 0
        while first < self._spec.shape[0]:
            if not self._shard_file(self._region(first)[0]).is_file():
                msg = f"{self._name} has no patterns from {first} on: a region was not written"
                raise ValueError(msg)
            first += self._block_length(first)

    def _load_block(self, first: int, count: int) -> NDArray[Any]:
        with damage_as_unfit_state(str(self._path), f"the shard of pattern {first}"):
            patterns: NDArray[Any] = self._array[self._region(first)[1]].reshape(-1, *self._spec.shape[1:])
        return patterns[:count]

    def _sync_blocks(self) -> None:
        shards = [self._shard_file(index) for index in self._unsynced]
        self._sync_files([])
        self._bytes += sum(file.stat().st_size for file in shards)

    def _sync(self) -> dict[str, Any]:
        return {**super()._sync(), "bytes": self._bytes}

    def _shard_file(self, index: tuple[int, ...]) -> Path:
        place = self._place if self._signal else self._place / "c"
        return place.joinpath(*(str(k) for k in index), "0", "0")

    def _check_shards(self, state: Mapping[str, Any]) -> None:
        """Refuse to go on where a complete shard is missing or was cut: it would be read as zeros, or not at all."""
        if state.get("in_order") is False:
            return
        self._bytes = self.shard_bytes(self._stored)
        needed = state.get("bytes", self._bytes)  # earlier versions did not count them
        if self._bytes != needed:
            msg = f"the shards of {self._path} have {self._bytes} bytes, their saved state needs {needed}"
            raise UnfitStateError(msg)

    def shard_bytes(self, stop: int) -> int:
        """Size of the shards of the first patterns; each must be there."""
        first = total = 0
        with damage_as_unfit_state(str(self._path), f"a shard before pattern {stop}"):
            while first < stop:
                total += self._shard_file(self._region(first)[0]).stat().st_size
                first += self._block_length(first)
        return total

    def _sync_files(self, others: list[Path]) -> None:
        """Make the new shards and some other files durable, and the folders that they are in."""
        files = [self._shard_file(index) for index in self._unsynced] + others
        folders = {parent for file in files for parent in file.parents if parent.is_relative_to(self._path)}
        for path in (*files, *sorted(folders, reverse=True)):
            fsync_path(path)
        self._unsynced = []

    def _complete_blocks(self, metadata: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None) -> None:
        files = [] if self._signal else [self._path / "zarr.json"]
        for name, values in (arrays or {}).items():
            # An array of its own in a folder within: `zarr.open_array(f"{output}/{name}")`.
            names = ("pattern", *(f"axis_{k}" for k in range(1, values.ndim)))
            form = _SIGNAL_FORM if self._signal else {"dimension_names": names}
            rows = self._zarr.create_array(
                store=str(self._path / name), data=values, chunks=values.shape, overwrite=True, **form
            )
            assert rows.shape == values.shape
            files += [file for file in (self._path / name).rglob("*") if file.is_file()]
        attributes = {"stackalign": to_jsonable(metadata)}
        if self._spec.calibration is not None:
            attributes["calibration"] = to_jsonable(self._spec.calibration)
        if arrays:
            attributes["arrays_per_pattern"] = list(arrays)
        self._array.attrs.put(attributes)
        if self._signal:
            write_groups(self._path, axes_of(self._spec))
            files += [file for file in self._path.rglob(".z*") if file.is_file()]
        self._sync_files(files)


def write_images(path: Path, images: NDArray[Any], header: str | None = None) -> None:
    """Write a whole array, one image to a chunk."""
    zarr = importlib.import_module("zarr")
    chunks = (1,) * (images.ndim - 2) + images.shape[-2:]
    zarr.create_array(path, shape=images.shape, dtype=images.dtype, chunks=chunks)[...] = images
