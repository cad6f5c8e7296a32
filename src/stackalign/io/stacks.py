"""Open and create stacks of images in files of any format: one door for reading, and one for writing."""

import importlib
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike

from stackalign.errors import DataError
from stackalign.io._protocol import Calibration, StackReader, StackWriter
from stackalign.io._reader import DEFAULT_MEMORY_LIMIT, DEFAULT_READ_TIMEOUT, OpenOptions, damage_as_data_error
from stackalign.io._selected import select_frames
from stackalign.io._shapes import handed_out_dtype
from stackalign.io._writer import WriteSpec
from stackalign.io.formats import (
    COMPRESSIONS,
    FITS_EXTENSIONS,
    image_extensions,
    is_apart,
    is_fits,
    picture_extensions,
    readable_extensions,
    reader_module,
    region_extensions,
    writable_extensions,
    writer_module,
    writer_of,
)

__all__ = [
    "COMPRESSIONS",
    "FITS_EXTENSIONS",
    "checked_timeout",
    "create_stack",
    "image_extensions",
    "is_fits",
    "open",
    "open_stack",
    "open_with",
    "picture_extensions",
    "readable_extensions",
    "region_extensions",
    "writable_extensions",
    "write_spec",
    "writer_module",
    "writer_of",
]


def open(
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
    """Open a file of one image (H, W) or of a stack of them, whatever its format; pixels are read in pieces later.

    Parameters
    ----------
    path : path-like
        The format follows from the extension, or from the first bytes where the extension says nothing. Colours of
        pictures become grey.
    dataset : str, optional
        Which dataset of an HDF5 or Zarr file, which series of a TIFF, which HDU of a FITS file (number or name), where
        a file holds several.
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
        Of shape (N, H, W), N = 1 for a single image, whose ``info.metadata["single"]`` is True then.

    Raises
    ------
    DataError
        The file is missing, damaged, or holds no images.
    MissingDependencyError
        The format needs a package that is not installed.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> import stackalign.io
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "scan.npy"
    >>> np.save(file, np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5))
    >>> with stackalign.io.open(file) as reader:
    ...     block = np.empty((2, 4, 5), reader.info.dtype)
    ...     reader.read(1, 3, block)
    ...     print(reader.info.shape, reader.info.scan_shape, block[0, 0])
    (6, 4, 5) (2, 3) [20 21 22 23 24]
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


open_stack = open
"""`open` under the name that it had for stacks."""


def checked_timeout(seconds: float | None) -> float:
    """Return the time limit of a request, or raise where it is no number of seconds."""
    if seconds is None:
        return DEFAULT_READ_TIMEOUT
    if not (math.isfinite(seconds) and seconds >= 0):
        msg = f"read_timeout must be a number of seconds, 0 for reading in this process, got {seconds}"
        raise ValueError(msg)
    return float(seconds)


def open_with(file: Path, options: OpenOptions) -> StackReader:
    """Open a file as `open` does."""
    with damage_as_data_error(f"input {file}", "the file"):
        module = reader_module(file, options)
    if module != "raw" and (options.shape is not None or options.dtype is not None or options.offset):
        msg = f"input {file} states its own layout; shape, dtype and offset are for raw binary files"
        raise DataError(msg)
    plain = module
    if options.read_timeout and is_apart(module):
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

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import io
    >>> with io.create_stack("stack.npy", (3, 4, 5), np.uint16, scan_shape=(3,)) as writer:
    ...     writer.write(np.ones((2, 4, 5), np.uint16))
    ...     writer.write(np.zeros((1, 4, 5), np.uint16))
    ...     writer.finish({})
    >>> np.load("stack.npy").sum(axis=(1, 2)).tolist()
    [20, 20, 0]
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
    if compression not in (None, "none") and not writer_of(final).compressed:
        msg = f"output {final} cannot be compressed ({compression} was asked for); write .zarr or .h5 instead"
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
