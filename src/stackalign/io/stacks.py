"""Open and create stacks of patterns in files: one door for every format."""

import importlib
import math
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike

from stackalign.errors import DataError
from stackalign.io._gate import require_file
from stackalign.io._protocol import Calibration, StackReader, StackWriter
from stackalign.io._reader import DEFAULT_MEMORY_LIMIT, DEFAULT_READ_TIMEOUT, OpenOptions, damage_as_data_error
from stackalign.io._selected import select_frames
from stackalign.io._shapes import handed_out_dtype
from stackalign.io._writer import WriteSpec

__all__ = [
    "COMPRESSIONS",
    "checked_timeout",
    "create_stack",
    "open_stack",
    "open_with",
    "readable_extensions",
    "writable_extensions",
    "write_spec",
    "writer_module",
]


@dataclass(frozen=True)
class _Format:
    module: str
    extensions: tuple[str, ...]
    magic: tuple[bytes, ...] = ()
    apart: bool = False
    """Read in a process of its own: on a damaged file its library can hang, or end the process."""


# The modules are imported when a file asks for them: `import stackalign.io` stays free of h5py, zarr, torch and so on.
_READERS = (
    _Format("npy", (".npy",), (b"\x93NUMPY",)),
    _Format("npz", (".npz",)),
    _Format("torch_file", (".pt", ".pth"), (b"PK\x03\x04",)),
    _Format("hdf5", (".h5", ".hdf5", ".emd", ".hdf", ".nxs", ".cxi", ".py4dstem"), (b"\x89HDF\r\n\x1a\n",), apart=True),
    _Format("zarr_store", (".zarr", ".zip")),
    _Format("tiff", (".tif", ".tiff", ".btf"), (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    _Format("raw", (".raw", ".bin", ".dat", ".xml")),
    _Format("mib", (".mib",), (b"MQ1,",)),
    _Format("vendor", (".dm3", ".dm4", ".blo", ".tvips", ".mrc", ".ser", ".hspy", ".emi"), apart=True),
)
_WRITERS = {
    ".npy": "npy",
    ".pt": "torch_file",
    ".pth": "torch_file",
    ".h5": "hdf5_writer",
    ".hdf5": "hdf5_writer",
    ".emd": "hdf5_writer",
    ".zarr": "zarr_writer",
}
COMPRESSIONS = (None, "none", "lz4", "zstd", "gzip")


def readable_extensions() -> tuple[str, ...]:
    """Return the extensions that `open_stack` knows, in the order of its table."""
    return tuple(extension for entry in _READERS for extension in entry.extensions)


def writable_extensions() -> tuple[str, ...]:
    """Return the extensions that `create_stack` knows."""
    return tuple(_WRITERS)


def open_stack(
    path: str | os.PathLike[str],
    *,
    dataset: str | None = None,
    shape: tuple[int, ...] | None = None,
    dtype: str | None = None,
    offset: int = 0,
    scan_shape: tuple[int, ...] | None = None,
    skip_frames: int = 0,
    skip_per_row: int = 0,
    axes: str | None = None,
    memory_limit: int | None = None,
    allow_external: bool = False,
    read_timeout: float | None = None,
) -> StackReader:
    """Open a file of diffraction patterns; the data are read in pieces later.

    Parameters
    ----------
    path : path-like
        The format follows from the extension, or from the first bytes where the extension says nothing.
    dataset : str, optional
        Which dataset, where a file holds several.
    shape : tuple of int, optional
        Shape of the array in a raw binary file, which does not say it.
    dtype : str, optional
        Dtype of a raw binary file, with byte order, for example ``">u2"``.
    offset : int
        Bytes before the first pattern of a raw binary file.
    scan_shape : tuple of int, optional
        Shape of the scan where the file does not say it; its product must be the number of patterns.
    skip_frames : int
        Frames before the first of the scan, to be left out.
    skip_per_row : int
        Frames behind each row of the scan, as they are taken while the beam flies back, to be left out. The scan shape,
        from the file or stated, is that without them.
    axes : str, optional
        Order of the axes in the file, a letter for each: R and C rows and columns of the scan, N patterns in a row, y
        and x of the detector, as "yxRC" for an array with the detector's axes first.
    memory_limit : int, optional
        Bytes that may be held, for decoded chunks and for the few files that can only be loaded whole; default 1 GiB.
    allow_external : bool
        Read also what lies outside the folder of the file, where the file refers to it: external links and storage of
        HDF5, parts of a virtual dataset, symbolic links.
    read_timeout : float, optional
        Seconds that one request may take to the process in which HDF5 and vendors' files are read, so that a damaged
        file that hangs or crashes their libraries is an error like others; default 600. With 0 they are read in this
        process.

    Returns
    -------
    StackReader

    Raises
    ------
    DataError
        The file is missing, damaged, or no stack of patterns.
    MissingDependencyError
        The format needs a package that is not installed.
    """
    file = Path(path)
    options = OpenOptions(
        dataset=dataset,
        shape=None if shape is None else tuple(shape),
        dtype=dtype,
        offset=offset,
        scan_shape=None if scan_shape is None else tuple(scan_shape),
        skip_frames=skip_frames,
        skip_per_row=skip_per_row,
        axes=axes,
        memory_limit=DEFAULT_MEMORY_LIMIT if memory_limit is None else memory_limit,
        allow_external=allow_external,
        read_timeout=checked_timeout(read_timeout),
    )
    return open_with(file, options)


def checked_timeout(seconds: float | None) -> float:
    """Return the time limit of a request, or raise where it is no number of seconds."""
    if seconds is None:
        return DEFAULT_READ_TIMEOUT
    if not (math.isfinite(seconds) and seconds >= 0):
        msg = f"read_timeout must be a number of seconds, 0 for reading in this process, got {seconds}"
        raise ValueError(msg)
    return float(seconds)


def open_with(file: Path, options: OpenOptions) -> StackReader:
    """Open a file as `open_stack` does."""
    with damage_as_data_error(f"input {file}", "the file"):
        module = _reader_module(file, options)
    if module != "raw" and (options.shape is not None or options.dtype is not None or options.offset):
        msg = f"input {file} states its own layout; shape, dtype and offset are for raw binary files"
        raise DataError(msg)
    plain = module
    if options.read_timeout and any(entry.module == module and entry.apart for entry in _READERS):
        module = "apart"
    opener = importlib.import_module(f"stackalign.io.{module}").open_reader
    skipping = bool(options.skip_frames or options.skip_per_row)
    if skipping and options.axes is not None:
        msg = f"input {file}: frames can be skipped only where the scan comes first; leave out axes or the skipping"
        raise DataError(msg)
    with damage_as_data_error(f"input {file}", "the file"):
        if options.axes is not None:
            from stackalign.io._transposed import open_transposed

            return open_transposed(file, plain, options)
        if not skipping:
            return cast("StackReader", opener(file, options))
        base = cast("StackReader", opener(file, replace(options, scan_shape=None)))
        try:
            return select_frames(base, f"input {file}", options.scan_shape, options.skip_frames, options.skip_per_row)
        except BaseException:
            base.close()
            raise


def _reader_module(file: Path, options: OpenOptions) -> str:
    """Choose the module by extension, then by the first bytes."""
    require_file(file, directory=True)
    extension = file.suffix.lower()
    if file.is_dir():
        if extension == ".zarr" or any((file / name).exists() for name in ("zarr.json", ".zarray", ".zgroup")):
            return "zarr_store"
        msg = f"input {file} is a directory; expected a file, or a Zarr store"
        raise DataError(msg)
    with file.open("rb") as stream:
        head = stream.read(16)
    if not head:
        msg = f"input {file} is empty; copy it again"
        raise DataError(msg)
    if options.shape is not None or options.dtype is not None:
        if extension in {e for entry in _READERS if entry.module != "raw" for e in entry.extensions}:
            msg = f"input {file} states its own layout; shape, dtype and offset are for raw binary files"
            raise DataError(msg)
        return "raw"
    for entry in _READERS:
        if extension in entry.extensions:
            return entry.module
    if head.startswith(b"PK\x03\x04"):
        return _archive_module(file)
    for entry in _READERS:
        if head.startswith(entry.magic or (b"\0no magic",)):
            return entry.module
    known = " ".join(readable_extensions())
    msg = f"input {file} is of no known format; known are {known}, and raw binary with its shape and dtype stated"
    raise DataError(msg)


def _archive_module(file: Path) -> str:
    """Tell apart what is kept in zip archives, by the names of their members."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    if any(name.rpartition("/")[2] in ("zarr.json", ".zarray", ".zgroup") for name in names):
        return "zarr_store"
    return "npz" if any(name.endswith(".npy") for name in names) else "torch_file"


def create_stack(
    path: str | os.PathLike[str],
    shape: tuple[int, int, int],
    dtype: DTypeLike,
    *,
    scan_shape: tuple[int, ...],
    channel_axis: bool = False,
    calibration: Calibration | None = None,
    final_path: str | os.PathLike[str] | None = None,
    resume: Mapping[str, Any] | None = None,
    compression: str | None = None,
) -> StackWriter:
    """Create a file of patterns that is written in order, or go on with a partial one.

    Parameters
    ----------
    path : path-like
        The partial file; it is replaced where it exists, unless `resume` is given.
    shape : tuple of int
        (N, h, w).
    dtype : dtype-like
    scan_shape : tuple of int
        Product N; two scan axes are stored as such.
    channel_axis : bool
        Store (N, 1, h, w).
    calibration : Calibration, optional
        Stored by the formats that have a place for it.
    final_path : path-like, optional
        The name that the caller will give the finished file: its extension chooses the format, messages name it.
        Default `path`.
    resume : mapping, optional
        The state that `checkpoint` returned: the partial file is cut back to it, and writing goes on with pattern
        ``resume["patterns"]``. The finished file has the same bytes as that of an uninterrupted run.
    compression : {None, "none", "lz4", "zstd", "gzip"}
        None is the format's own choice: lz4 for Zarr, nothing for the others. HDF5 reads gzip without a plugin; Zarr
        stores cannot have it here.

    Returns
    -------
    StackWriter
    """
    file = Path(path)
    module, spec = write_spec(
        file if final_path is None else Path(final_path),
        shape,
        dtype,
        scan_shape=scan_shape,
        channel_axis=channel_axis,
        calibration=calibration,
        compression=compression,
    )
    return cast("StackWriter", module.create_writer(file, spec, None if resume is None else dict(resume)))


def write_spec(
    final: Path,
    shape: tuple[int, int, int],
    dtype: DTypeLike,
    *,
    scan_shape: tuple[int, ...],
    channel_axis: bool,
    calibration: Calibration | None,
    compression: str | None,
) -> tuple[Any, WriteSpec]:
    """Check what is to be written; return the module of the format and the specification."""
    module = writer_module(final)
    if compression not in COMPRESSIONS:
        msg = f"compression {compression!r} is not known; choose none, lz4, zstd or gzip"
        raise DataError(msg)
    spec = WriteSpec(
        shape=shape,
        dtype=handed_out_dtype(np.dtype(dtype), f"output {final}"),
        scan_shape=tuple(scan_shape),
        channel_axis=channel_axis,
        calibration=calibration,
        final_path=final,
        compression=compression,
    )
    if min(shape) < 1 or np.prod(spec.scan_shape, dtype=np.int64) != shape[0]:
        msg = f"output {final}: {shape} patterns do not fit the scan shape {spec.scan_shape}"
        raise ValueError(msg)
    return module, spec


def writer_module(final: Path) -> Any:
    """Return the module that writes a format, by the extension of the output."""
    module = _WRITERS.get(final.suffix.lower())
    if module is None:
        msg = f"output {final} has no known extension; known are {' '.join(_WRITERS)}"
        raise DataError(msg)
    return importlib.import_module(f"stackalign.io.{module}")
