"""Open and create stacks of images in files: one door, one table of readers, and one of writers."""

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


@dataclass(frozen=True)
class _Reader:
    """A module with ``open_reader(path, options) -> StackReader``."""

    module: str
    extensions: tuple[str, ...]
    magic: tuple[bytes, ...] = ()
    apart: bool = False
    """Read in a process of its own: on a damaged file its library can hang, or end the process."""
    picture: bool = False
    """What lies in a folder of results as well: read when it is named, not when its folder is."""


@dataclass(frozen=True)
class _Writer:
    """A module with ``create_writer(path, spec, state)``, ``write_images(path, images, header)``, or both."""

    module: str
    extensions: tuple[str, ...]
    stream: bool = True
    """It has `create_writer`, for stacks that are written in pieces and resumed."""
    images: bool = True
    """It has `write_images`, for one image or a stack that is there as a whole."""
    regions: bool = False
    """A checkpoint of regions is that of a stream, so that either goes on where the other stopped."""


# The modules are imported when a file asks for them: `import stackalign.io` stays free of h5py, zarr, torch and so on.
FITS_EXTENSIONS = (".fits", ".fit", ".fts", ".fits.gz")
_READERS = (
    _Reader("npy", (".npy",), (b"\x93NUMPY",)),
    _Reader("npz", (".npz",)),
    _Reader("torch_file", (".pt", ".pth"), (b"PK\x03\x04",)),
    _Reader(
        "hdf5",
        (".h5", ".hdf5", ".emd", ".hdf", ".nxs", ".cxi", ".py4dstem", ".hspy"),
        (b"\x89HDF\r\n\x1a\n",),
        apart=True,
    ),
    _Reader("zarr_store", (".zarr", ".zspy", ".zip")),
    _Reader("tiff", (".tif", ".tiff", ".btf"), (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    _Reader("raw", (".raw", ".bin", ".dat", ".xml")),
    _Reader("mib", (".mib",), (b"MQ1,",)),
    _Reader("fits", FITS_EXTENSIONS, (b"SIMPLE  =",)),
    _Reader(
        "pictures",
        (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".pnm", ".webp", ".jp2"),
        (b"\x89PNG\r\n", b"\xff\xd8\xff"),
        picture=True,
    ),
    _Reader("vendor", (".dm3", ".dm4", ".blo", ".tvips", ".mrc", ".ser", ".emi"), apart=True),
)
_WRITERS = (
    _Writer("npy", (".npy",), regions=True),
    _Writer("torch_file", (".pt", ".pth"), images=False),
    _Writer("hdf5_writer", (".h5", ".hdf5", ".emd", ".hspy")),
    _Writer("zarr_writer", (".zarr",), regions=True),
    _Writer("tiff", (".tif", ".tiff"), stream=False),
    _Writer("fits", FITS_EXTENSIONS, stream=False),
)
COMPRESSIONS = (None, "none", "lz4", "zstd", "gzip")


def readable_extensions(*, pictures: bool = True) -> tuple[str, ...]:
    """Return the extensions that `open` knows, in the order of its table, with or without those of pictures."""
    return tuple(e for entry in _READERS if pictures or not entry.picture for e in entry.extensions)


def picture_extensions() -> tuple[str, ...]:
    """Return the extensions of pictures such as PNG."""
    return tuple(e for entry in _READERS if entry.picture for e in entry.extensions)


def writable_extensions() -> tuple[str, ...]:
    """Return the extensions that `create_stack` knows."""
    return tuple(e for entry in _WRITERS if entry.stream for e in entry.extensions)


def image_extensions() -> tuple[str, ...]:
    """Return the extensions that `write_images` knows."""
    return tuple(e for entry in _WRITERS if entry.images for e in entry.extensions)


def region_extensions() -> tuple[str, ...]:
    """Return the extensions of outputs that go on in regions where a stream stopped, and the reverse."""
    return tuple(e for entry in _WRITERS if entry.regions for e in entry.extensions)


def is_fits(path: str | os.PathLike[str]) -> bool:
    """Tell by its name whether a file is FITS."""
    return str(path).lower().endswith(FITS_EXTENSIONS)


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
        if file.name.lower().endswith(tuple(e for r in _READERS if r.module != "raw" for e in r.extensions)):
            msg = f"input {file} states its own layout; shape, dtype and offset are for raw binary files"
            raise DataError(msg)
        return "raw"
    for entry in _READERS:
        if file.name.lower().endswith(entry.extensions):
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
    return importlib.import_module(f"stackalign.io.{writer_of(final).module}")


def writer_of(final: Path, *, images: bool = False) -> _Writer:
    """Return the row of the format of an output: of stacks that are written in pieces, or of whole images."""
    for entry in _WRITERS:
        if (entry.images if images else entry.stream) and final.name.lower().endswith(entry.extensions):
            return entry
    known = image_extensions() if images else writable_extensions()
    msg = f"output {final} has no known extension; known are {' '.join(known)}"
    raise DataError(msg)
