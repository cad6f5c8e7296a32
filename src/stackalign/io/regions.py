"""One output that several processes write, each its own regions."""

import dataclasses
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stackalign.io import zarr_writer
from stackalign.io._portable import CLOEXEC
from stackalign.io._protocol import Calibration
from stackalign.io._writer import FlatWriter, WriteSpec, full_disk_as_data_error, pwrite_all
from stackalign.io.formats import STORES, writer_of
from stackalign.io.stacks import write_spec, writer_module

__all__ = ["RegionTarget", "region_alignment"]

_READ_BYTES = 16 << 20

_FLAT = {"npy": "npy", "torch_file": "pt", "hdf5_writer": "h5"}
"""Writers whose patterns lie at fixed positions, by module, and how their checkpoints name the format."""


def region_alignment(
    final_path: str | os.PathLike[str],
    shape: tuple[int, int, int],
    dtype: DTypeLike,
    *,
    scan_shape: tuple[int, ...],
    channel_axis: bool = False,
    compression: str | None = None,
) -> int | None:
    """Return of how many patterns the regions of an output are multiples, before anything is written.

    Parameters
    ----------
    final_path, shape, dtype, scan_shape, channel_axis, compression
        As for `create_stack`.

    Returns
    -------
    int or None
        None where only one process can write the format, that is compressed HDF5: use `create_stack`.

    Examples
    --------
    >>> from stackalign.io import region_alignment
    >>> region_alignment("out.npy", (1000, 8, 8), "uint16", scan_shape=(1000,))
    1
    >>> region_alignment("out.h5", (1000, 8, 8), "uint16", scan_shape=(1000,), compression="gzip") is None
    True
    """
    _, spec = write_spec(
        Path(final_path),
        shape,
        dtype,
        scan_shape=scan_shape,
        channel_axis=channel_axis,
        calibration=None,
        compression=compression,
    )
    return _alignment(spec)


def _alignment(spec: WriteSpec) -> int | None:
    module = writer_of(cast("Path", spec.final_path)).module
    if module == "zarr_writer":
        return zarr_writer.region_alignment(spec)
    return 1 if module in _FLAT and spec.compression in (None, "none") else None


@dataclasses.dataclass(frozen=True)
class RegionTarget:
    """An output of which several processes, on one or several hosts, write regions; it can be pickled.

    One process calls `create`, any number of them `write`, and the first one `finish` when all regions are written.
    The finished file has the same bytes as one that `create_stack` writes in order. Which regions are done is for the
    caller to note; a region may be written again.

    Parameters
    ----------
    path : Path
        The partial file.
    spec : WriteSpec
    alignment : int
        A region begins at a multiple of so many patterns, and ends at one or at the end.
    offset : int
        Where the first pattern lies in a flat file.
    """

    path: Path
    spec: WriteSpec
    alignment: int
    offset: int = 0

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        shape: tuple[int, int, int],
        dtype: DTypeLike,
        *,
        scan_shape: tuple[int, ...],
        channel_axis: bool = False,
        calibration: Calibration | None = None,
        final_path: str | os.PathLike[str] | None = None,
        compression: str | None = None,
        resume: bool = False,
        done: int | None = None,
        stored_bytes: int | None = None,
    ) -> "RegionTarget":
        """Create the partial file, or take up that of an interrupted run with what is in it.

        Parameters
        ----------
        path, shape, dtype, scan_shape, channel_axis, calibration, final_path, compression
            As for `create_stack`.
        resume : bool
            Keep the regions that are there. No other process may be writing.
        done : int, optional
            With `resume`: only the first patterns are needed, and must be there; all by default. A partial file that
            was written in order has no more.
        stored_bytes : int, optional
            What a store had for them in its files, as `checkpoint` says.

        Returns
        -------
        RegionTarget
            Open for regions.

        Raises
        ------
        ValueError
            The format takes no regions.
        DataError
            The file cannot be created, or is not the one that `resume` expects.
        """
        file = Path(path).absolute()  # workers may have another working directory
        module, spec = write_spec(
            file if final_path is None else Path(final_path),
            shape,
            dtype,
            scan_shape=scan_shape,
            channel_axis=channel_axis,
            calibration=calibration,
            compression=compression,
        )
        alignment = _alignment(spec)
        if alignment is None:
            msg = f"output {spec.final_path} can be written by one process only; write it in order with create_stack"
            raise ValueError(msg)
        target = cls(file, spec, alignment)
        state = target._state() if done is None else target._state_after(done)
        if stored_bytes is not None:
            state["bytes"] = stored_bytes
        with module.create_writer(file, spec, state if resume else None) as writer:
            offset = writer.allocate() if isinstance(writer, FlatWriter) else 0
        return dataclasses.replace(target, offset=offset)

    def write(self, start: int, block: NDArray[Any], *, durable: bool = True) -> None:
        """Write a region.

        Parameters
        ----------
        start : int
            Its first pattern, a multiple of `alignment`.
        block : numpy.ndarray
            (n, h, w) of the target's dtype; n is a multiple of `alignment`, or the region ends with the last pattern.
        durable : bool
            Wait for the disk, so that the caller may note the region as done.
        """
        count, height, width = self.spec.shape
        stop = start + len(block)
        if block.ndim != 3 or block.shape[1:] != (height, width) or block.dtype != self.spec.dtype:
            msg = f"block is {block.shape} {block.dtype}, expected (n, {height}, {width}) {self.spec.dtype}"
            raise ValueError(msg)
        aligned = start % self.alignment == 0 and (stop % self.alignment == 0 or stop == count)
        if not aligned or not 0 <= start < stop <= count:
            msg = f"region {start}..{stop} of {count} patterns does not begin and end at multiples of {self.alignment}"
            raise ValueError(msg)
        if self._is_store:
            zarr_writer.write_region(self.path, self.spec, start, block, durable=durable)
            return
        with full_disk_as_data_error(self.path, str(self.spec.final_path), self.spec.nbytes):
            fd = os.open(self.path, os.O_WRONLY | CLOEXEC)
            try:
                raw = np.ascontiguousarray(block).reshape(-1).view(np.uint8).data
                pwrite_all(fd, raw, self.offset + start * self.spec.pattern_bytes)
                if durable:
                    os.fsync(fd)
            finally:
                os.close(fd)

    def checkpoint(self, done: int) -> dict[str, Any]:
        """Return the state to resume from when the first patterns are written, which also a `StackWriter` can do.

        Parameters
        ----------
        done : int
            Number of patterns, a multiple of `alignment`, or all.

        Returns
        -------
        dict
            Plain values.
        """
        state = self._state_after(done)
        return state | {"bytes": zarr_writer.shard_bytes(self.path, self.spec, done)} if self._is_store else state

    def finish(self, metadata: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None) -> None:
        """Write what comes last and make the file durable. It is then complete, under its temporary name.

        Parameters
        ----------
        metadata : mapping
            Facts to store with the data, where the format has a place for them.
        arrays : mapping, optional
            Arrays with one row per pattern, such as centres.
        """
        state = self._state(checksum=self._extension in (".pt", ".pth"))
        with writer_module(cast("Path", self.spec.final_path)).create_writer(self.path, self.spec, state) as writer:
            if self._is_store:
                writer.refuse_missing()
            writer.finish(metadata, arrays)

    @property
    def _extension(self) -> str:
        return cast("Path", self.spec.final_path).suffix.lower()

    @property
    def _is_store(self) -> bool:
        return self._extension in STORES

    def _state_after(self, done: int) -> dict[str, Any]:
        """Return the checkpoint of a writer that has written the first patterns in order."""
        if self._is_store:
            return {"format": "zarr", "patterns": done, "stored": done, "waiting_crc32": 0}
        return self._state() | {"patterns": done}

    def _state(self, *, checksum: bool = False) -> dict[str, Any]:
        """Return the checkpoint of a writer that has written all patterns, those of a store in any order."""
        count = self.spec.shape[0]
        if self._is_store:
            return self._state_after(count) | {"in_order": False}
        kind = _FLAT[writer_of(cast("Path", self.spec.final_path)).module]
        return {"format": kind, "patterns": count, "crc32": self._checksum() if checksum else 0}

    def _checksum(self) -> int:
        """Return the CRC-32 of all patterns, which only a file of PyTorch has."""
        crc, left = 0, self.spec.nbytes
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            while left:
                part = stream.read(min(left, _READ_BYTES))
                if not part:
                    msg = f"{self.path} ends before its last pattern"
                    raise ValueError(msg)
                crc = zlib.crc32(part, crc)
                left -= len(part)
        return crc
