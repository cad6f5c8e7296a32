"""What all readers have in common: checks, plain words for damage, positioned reads."""

import errno
import hashlib
import os
import struct
import tokenize
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError, StackalignError, UnfitStateError
from stackalign.io._portable import CLOEXEC, pread
from stackalign.io._protocol import Calibration, ChunkGeometry, StackInfo
from stackalign.io._shapes import Layout, handed_out_dtype, require_possible

__all__ = [
    "DEFAULT_MEMORY_LIMIT",
    "DEFAULT_READ_TIMEOUT",
    "BaseReader",
    "OpenOptions",
    "damage_as_data_error",
    "damage_as_unfit_state",
    "fingerprint_files",
    "foreign_errors_as_data_error",
    "make_info",
]

DEFAULT_MEMORY_LIMIT = 1 << 30
DEFAULT_READ_TIMEOUT = 600.0
_ANEW = "start again without resuming"
_SAMPLES = 16
_SAMPLE_BYTES = 4096
_EDGE_BYTES = 65536


@dataclass(frozen=True)
class OpenOptions:
    """What the caller of `open_stack` stated; None where nothing was."""

    dataset: str | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    offset: int = 0
    scan_shape: tuple[int, ...] | None = None
    memory_limit: int = DEFAULT_MEMORY_LIMIT
    skip_frames: int = 0
    skip_per_row: int = 0
    axes: str | None = None
    allow_external: bool = False
    """Whether what the file refers to may lie outside its folder."""
    read_timeout: float = DEFAULT_READ_TIMEOUT
    """Seconds for one request to a process that reads for us; 0 reads in this process."""


@contextmanager
def damage_as_data_error(name: str, item: str, remedy: str = "check or copy the file again") -> Iterator[None]:
    """Turn what libraries raise on a damaged or unreadable file into one sentence.

    The list is wide on purpose: a corrupted header makes a parser fail in any of these ways. An AttributeError,
    TypeError or failed assertion that began in this package is a fault of its own and is not reported as damage.
    """
    try:
        yield
    except StackalignError:
        raise
    except OSError as error:
        reason = error.strerror or _first_line(error)
        msg = f"{item} of {name} cannot be read ({reason}); {remedy}"
        raise DataError(msg) from error
    except (
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        RuntimeError,
        EOFError,
        ArithmeticError,
        struct.error,
        tokenize.TokenError,  # NumPy's parser of .npy headers
        zipfile.BadZipFile,
        zlib.error,
        SyntaxError,
        AssertionError,
    ) as error:
        if isinstance(error, TypeError | AttributeError | AssertionError) and _began_here(error):
            raise
        msg = f"{item} of {name} cannot be read ({type(error).__name__}: {_first_line(error)}); {remedy}"
        raise DataError(msg) from error
    except MemoryError as error:
        msg = f"{item} of {name} asks for more memory than there is ({_first_line(error)}); {remedy}"
        raise DataError(msg) from error


@contextmanager
def damage_as_unfit_state(name: str, item: str) -> Iterator[None]:
    """Do as `damage_as_data_error` for what an interrupted run has left; a file that is missing counts as damage.

    What the system will not read at the moment, such as a file without permission, is no reason to give it up.
    """
    try:
        with damage_as_data_error(name, item, _ANEW):
            yield
    except UnfitStateError:
        raise
    except DataError as error:
        number = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
        if number not in (None, errno.ENOENT, errno.ENOTDIR):
            raise error.with_hint("restart") from error.__cause__
        raise UnfitStateError(str(error).removesuffix(f"; {_ANEW}")) from error


@contextmanager
def foreign_errors_as_data_error(name: str, item: str, remedy: str = "check or copy the file again") -> Iterator[None]:
    """Do as `damage_as_data_error`, for libraries that raise classes of their own, which have no common base."""
    try:
        with damage_as_data_error(name, item, remedy):
            yield
    except StackalignError:
        raise
    except Exception as error:
        if _began_here(error):
            raise
        msg = f"{item} of {name} cannot be read ({type(error).__name__}: {_first_line(error)}); {remedy}"
        raise DataError(msg) from error


def _began_here(error: BaseException) -> bool:
    """Tell whether the innermost frame of an exception is one of this package."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    name = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] == __name__.partition(".")[0]


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else "no detail"


def make_info(
    layout: Layout,
    dtype: np.dtype[Any],
    name: str,
    *,
    calibration: Calibration | None = None,
    mask: NDArray[np.bool_] | None = None,
    metadata: dict[str, Any] | None = None,
    chunk: ChunkGeometry | None = None,
) -> StackInfo:
    """Build the `StackInfo` of a stored array."""
    handed_out = handed_out_dtype(dtype, name)
    require_possible(layout.shape, handed_out, name)
    return StackInfo(
        shape=layout.shape,
        dtype=handed_out,
        scan_shape=layout.scan_shape,
        channel_axis=layout.channel_axis,
        calibration=calibration,
        mask=mask,
        metadata=metadata or {},
        chunk=chunk,
    )


def fingerprint_files(paths: list[Path]) -> str:
    """Identify files by name, size, modification time and hashes of their edges and of sampled blocks."""
    digest = hashlib.blake2b(digest_size=20)
    for path in paths:
        fd = os.open(path, os.O_RDONLY | CLOEXEC)
        try:
            status = os.fstat(fd)
            size = status.st_size
            digest.update(f"{path.name}|{size}|{status.st_mtime_ns}|".encode())
            digest.update(pread(fd, min(size, _EDGE_BYTES), 0))
            digest.update(pread(fd, min(size, _EDGE_BYTES), max(0, size - _EDGE_BYTES)))
            for k in range(1, _SAMPLES + 1):
                digest.update(pread(fd, _SAMPLE_BYTES, size * k // (_SAMPLES + 1)))
        finally:
            os.close(fd)
    return digest.hexdigest()


class BaseReader(ABC):
    """Checks and housekeeping of every reader; a format adds `_read`.

    Parameters
    ----------
    path : Path, optional
        The file, None for an array in memory.
    info : StackInfo
    name : str, optional
        How messages name the source, default the path.
    """

    def __init__(self, path: Path | None, info: StackInfo, name: str | None = None) -> None:
        self._path = path
        self._info = info
        self._name = name or str(path)
        self._closed = False

    @property
    def path(self) -> Path | None:
        """The file, or None for an array in memory."""
        return self._path

    @property
    def info(self) -> StackInfo:
        """Shape, dtype and what else the header says."""
        return self._info

    def read(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Read patterns start..stop into out, (stop - start, H, W), C-contiguous, of `info.dtype`."""
        count, height, width = self._info.shape
        if self._closed:
            msg = f"{self._name} is closed"
            raise ValueError(msg)
        if not 0 <= start <= stop <= count:
            msg = f"patterns {start}..{stop} are not within 0..{count} of {self._name}"
            raise ValueError(msg)
        if out.shape != (stop - start, height, width) or out.dtype != self._info.dtype:
            msg = (
                f"out is {out.shape} {out.dtype}, expected {(stop - start, height, width)} {self._info.dtype} "
                f"for patterns {start}..{stop} of {self._name}"
            )
            raise ValueError(msg)
        if not (out.flags.c_contiguous and out.flags.writeable):
            msg = f"out must be C-contiguous and writeable to receive patterns of {self._name}"
            raise ValueError(msg)
        if start < stop:
            with damage_as_data_error(self._name, f"patterns {start}..{stop - 1}"):
                self._read(start, stop, out)

    @abstractmethod
    def _read(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Read patterns start..stop, at least one, into out, which has been checked."""

    def _files(self) -> list[Path]:
        """Every file that the content depends on."""
        return [] if self._path is None else [self._path]

    def fingerprint(self) -> str:
        """Identify the content cheaply: size, modification time, and a hash of the header and of sampled blocks."""
        with damage_as_data_error(self._name, "the content"):
            return fingerprint_files(self._files())

    def close(self) -> None:
        """Release the file."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
