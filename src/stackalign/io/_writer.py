"""What all writers have in common, and the writer of files whose patterns lie one behind the other."""

import os
import shutil
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import OutputError, StackalignError, UnfitStateError
from stackalign.io._portable import CLOEXEC, pwrite
from stackalign.io._protocol import Calibration

__all__ = [
    "BaseWriter",
    "FlatWriter",
    "WriteSpec",
    "fsync_path",
    "full_disk_as_data_error",
    "output_error",
    "pwrite_all",
]


@dataclass(frozen=True)
class WriteSpec:
    """What is to be written, independent of the format."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    scan_shape: tuple[int, ...]
    channel_axis: bool = False
    calibration: Calibration | None = None
    final_path: Path | None = None
    compression: str | None = None

    @property
    def array_shape(self) -> tuple[int, ...]:
        """Shape of the stored array: with the scan axes, or with the channel axis, as the input had it."""
        count, height, width = self.shape
        if self.channel_axis:
            return (count, 1, height, width)
        # Readers know scans of two axes; anything else is stored flat.
        leading = self.scan_shape if len(self.scan_shape) == 2 else (count,)
        return (*leading, height, width)

    @property
    def pattern_bytes(self) -> int:
        """Size of one pattern."""
        return self.shape[1] * self.shape[2] * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Size of all patterns."""
        return self.shape[0] * self.pattern_bytes


@contextmanager
def full_disk_as_data_error(path: Path, name: str, needed: int | None = None) -> Iterator[None]:
    """Turn a failed write into one sentence with what is needed and what is free."""
    try:
        yield
    except StackalignError:
        raise
    except (OSError, RuntimeError) as error:  # the latter is what h5py raises where closing a file fails
        raise output_error(path, name, error, needed) from error


def output_error(path: Path, name: str, error: Exception, needed: int | None = None) -> OutputError:
    """Word what the system says of a write that failed."""
    if isinstance(error, IsADirectoryError):
        return OutputError(f"output {name} is a folder; give a file name")
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    required = "" if needed is None else f"{needed} bytes are needed, "
    return OutputError(f"output {name} cannot be written ({reason}): {required}{_free_space(path.parent)}")


def _free_space(folder: Path) -> str:
    """Say how much is free in a folder, or in the next one above that is there and can be asked."""
    for place in (folder, *folder.parents):
        try:
            return f"{shutil.disk_usage(place).free} bytes are free in {place}"
        except OSError:
            continue
    return "nothing is known of what is free"


class BaseWriter(ABC):
    """Checks and housekeeping of every writer; a format adds `_append`, `_sync` and `_complete`.

    Parameters
    ----------
    path : Path
        The partial file.
    spec : WriteSpec
    kind : str
        Name of the format, kept in the checkpoint.
    """

    def __init__(self, path: Path, spec: WriteSpec, kind: str) -> None:
        self._path = path
        self._spec = spec
        self._kind = kind
        self._name = str(spec.final_path or path)
        self._written = 0
        self._closed = False

    @property
    def path(self) -> Path:
        """The partial file."""
        return self._path

    @property
    def written(self) -> int:
        """Number of patterns that were handed over so far."""
        return self._written

    def write(self, block: NDArray[Any]) -> None:
        """Append a block (n, h, w) of the writer's dtype."""
        count, height, width = self._spec.shape
        if self._closed:
            msg = f"the writer of {self._name} is closed"
            raise ValueError(msg)
        if block.ndim != 3 or block.shape[1:] != (height, width) or block.dtype != self._spec.dtype:
            msg = f"block is {block.shape} {block.dtype}, {self._name} takes (n, {height}, {width}) {self._spec.dtype}"
            raise ValueError(msg)
        if self._written + len(block) > count:
            msg = f"{self._name} takes {count} patterns, {self._written + len(block)} were written"
            raise ValueError(msg)
        if len(block):
            with full_disk_as_data_error(self._path, self._name, self._spec.nbytes):
                self._append(np.ascontiguousarray(block, dtype=self._spec.dtype))
            self._written += len(block)

    def checkpoint(self) -> dict[str, Any]:
        """Make what was written durable and return the state to resume from.

        ``state["patterns"]`` says with which pattern to go on; it may be less than what was handed over, where a format
        stores whole blocks only.
        """
        with full_disk_as_data_error(self._path, self._name, self._spec.nbytes):
            return {"format": self._kind, **self._sync()}

    def finish(self, metadata: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None) -> None:
        """Write what comes last, make it durable, close. The file is then complete, under its temporary name.

        ``arrays``, with one row per pattern, are stored by the formats that have a place for them: HDF5 and Zarr.
        """
        if self._written != self._spec.shape[0]:
            msg = f"{self._name} has {self._written} of {self._spec.shape[0]} patterns and cannot be finished"
            raise ValueError(msg)
        with full_disk_as_data_error(self._path, self._name, self._spec.nbytes):
            self._complete(metadata, arrays)
        self.close()

    def close(self) -> None:
        """Release the file without completing it."""
        self._closed = True

    @abstractmethod
    def _append(self, block: NDArray[Any]) -> None:
        """Write a block, which has been checked, behind the one before."""

    @abstractmethod
    def _sync(self) -> dict[str, Any]:
        """Make what was written durable and return the state to resume from."""

    @abstractmethod
    def _complete(self, metadata: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None) -> None:
        """Write what comes last and make the file durable."""

    def _open_file(self, *, new: bool) -> int:
        """Create the partial file, or open that of an interrupted run."""
        with full_disk_as_data_error(self._path, self._name, self._spec.nbytes):
            try:
                return os.open(self._path, os.O_RDWR | CLOEXEC | (os.O_CREAT | os.O_TRUNC if new else 0), 0o666)
            except FileNotFoundError as error:
                if new:
                    raise
                msg = f"the partial output {self._path} is missing"
                raise UnfitStateError(msg) from error

    def _resume_at(self, state: Mapping[str, Any]) -> int:
        """Check a checkpoint and return the number of patterns in it."""
        patterns = state.get("patterns")
        fits = isinstance(patterns, int) and 0 <= patterns <= self._spec.shape[0]
        if state.get("format") != self._kind or not isinstance(patterns, int) or not fits:
            raise self._unfit(state)
        return patterns

    def _unfit(self, state: Mapping[str, Any]) -> UnfitStateError:
        return UnfitStateError(f"the saved state of {self._name} does not fit it ({dict(state)})")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class FlatWriter(BaseWriter):
    """A file in which the patterns lie one behind the other, after a prologue that is known from the start.

    Parameters
    ----------
    path : Path
    spec : WriteSpec
    kind : str
    offset : int
        Position of the first pattern.
    prologue : bytes
        What lies before.
    epilogue : callable, optional
        ``epilogue(fd, crc32)`` writes what lies behind (or patches the prologue) at the end.
    with_crc : bool
        Keep a running CRC-32 of the patterns for the epilogue.
    resume : mapping, optional
        The state of a checkpoint: the file is cut back to it.
    """

    def __init__(
        self,
        path: Path,
        spec: WriteSpec,
        kind: str,
        offset: int,
        *,
        prologue: bytes,
        epilogue: Callable[[int, int], None] | None = None,
        with_crc: bool = False,
        resume: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(path, spec, kind)
        self._offset = offset
        self._prologue = prologue
        self._epilogue = epilogue
        self._crc: int | None = 0 if with_crc else None
        self._fd = self._open_file(new=resume is None)
        try:
            if resume is not None:
                self._cut_back(resume)
            with full_disk_as_data_error(path, self._name, spec.nbytes):
                pwrite_all(self._fd, memoryview(prologue), 0)
        except BaseException:
            os.close(self._fd)
            raise

    def _cut_back(self, state: Mapping[str, Any]) -> None:
        self._written = self._resume_at(state)
        end = self._position(self._written)
        size = os.fstat(self._fd).st_size
        if size < end:
            msg = f"the partial output {self._path} has {size} bytes, its saved state needs {end}: it was changed since"
            raise UnfitStateError(msg)
        if self._crc is not None:
            self._crc = self._saved_crc(state)
        with full_disk_as_data_error(self._path, self._name, self._spec.nbytes):
            os.ftruncate(self._fd, end)

    def _saved_crc(self, state: Mapping[str, Any]) -> int:
        crc = state.get("crc32")
        if not isinstance(crc, int):
            msg = f"the saved state of {self._name} has no checksum"
            raise UnfitStateError(msg)
        return crc

    def allocate(self) -> int:
        """Give the file the size of all patterns; return where the first one lies."""
        with full_disk_as_data_error(self._path, self._name, self._spec.nbytes):
            os.ftruncate(self._fd, self._position(self._spec.shape[0]))
        return self._offset

    def _position(self, pattern: int) -> int:
        return self._offset + pattern * self._spec.pattern_bytes

    def _append(self, block: NDArray[Any]) -> None:
        view = block.reshape(-1).view(np.uint8).data
        pwrite_all(self._fd, view, self._position(self._written))
        if self._crc is not None:
            self._crc = zlib.crc32(view, self._crc)

    def _sync(self) -> dict[str, Any]:
        os.fsync(self._fd)
        state: dict[str, Any] = {"patterns": self._written}
        if self._crc is not None:
            state["crc32"] = self._crc
        return state

    def _complete(self, metadata: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None) -> None:
        if self._epilogue is not None:
            self._epilogue(self._fd, self._crc or 0)
        os.fsync(self._fd)

    def close(self) -> None:
        """Release the file without completing it."""
        if not self._closed:
            os.close(self._fd)
        super().close()


def fsync_path(path: Path) -> None:
    """Make a file's content, or a folder's list of names, survive a power cut, as far as the system can."""
    try:
        fd = os.open(path, (os.O_RDWR if os.name == "nt" else os.O_RDONLY) | CLOEXEC)
    except PermissionError:
        if path.is_dir():  # Windows opens no folders, and makes names durable by itself
            return
        raise
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def pwrite_all(fd: int, view: memoryview, position: int) -> None:
    """Write all bytes of a view at a position; the system may take them in several parts."""
    done = 0
    while done < len(view):
        done += pwrite(fd, view[done:], position + done)
