"""Formats of files: one table of readers, one of writers, and which of them a file or an output belongs to."""

import importlib
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackalign.errors import DataError
from stackalign.io._gate import require_file
from stackalign.io._reader import OpenOptions

__all__ = [
    "COMPRESSIONS",
    "FITS_EXTENSIONS",
    "READERS",
    "WRITERS",
    "Reader",
    "Writer",
    "image_extensions",
    "is_apart",
    "is_fits",
    "picture_extensions",
    "readable_extensions",
    "reader_module",
    "region_extensions",
    "writable_extensions",
    "writer_module",
    "writer_of",
]


@dataclass(frozen=True)
class Reader:
    """A module with ``open_reader(path, options) -> StackReader``."""

    module: str
    extensions: tuple[str, ...]
    magic: tuple[bytes, ...] = ()
    apart: bool = False
    """Read in a process of its own: on a damaged file its library can hang, or end the process."""
    picture: bool = False
    """What lies in a folder of results as well: read when it is named, not when its folder is."""


@dataclass(frozen=True)
class Writer:
    """A module with ``create_writer(path, spec, state)``, ``write_images(path, images, header)``, or both."""

    module: str
    extensions: tuple[str, ...]
    stream: bool = True
    """It has `create_writer`, for stacks that are written in pieces and resumed."""
    images: bool = True
    """It has `write_images`, for one image or a stack that is there as a whole."""
    regions: bool = False
    """A checkpoint of regions is that of a stream, so that either goes on where the other stopped."""
    compressed: bool = False
    """Its streams can be compressed; with others `create_stack` refuses it."""


# The modules are imported when a file asks for them: `import stackalign.io` stays free of h5py, zarr, torch and so on.
STORES = (".zarr", ".zspy")
"""Extensions of outputs that are folders."""
FITS_EXTENSIONS = (".fits", ".fit", ".fts", ".fits.gz")
READERS = (
    Reader("npy", (".npy",), (b"\x93NUMPY",)),
    Reader("npz", (".npz",)),
    Reader("torch_file", (".pt", ".pth"), (b"PK\x03\x04",)),
    Reader(
        "hdf5",
        (".h5", ".hdf5", ".emd", ".hdf", ".nxs", ".cxi", ".py4dstem", ".hspy"),
        (b"\x89HDF\r\n\x1a\n",),
        apart=True,
    ),
    Reader("zarr_store", (".zarr", ".zspy", ".zip")),
    Reader("tiff", (".tif", ".tiff", ".btf"), (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    Reader("raw", (".raw", ".bin", ".dat", ".xml")),
    Reader("mib", (".mib",), (b"MQ1,",)),
    Reader("fits", FITS_EXTENSIONS, (b"SIMPLE  =",)),
    Reader(
        "pictures",
        (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".pnm", ".webp", ".jp2"),
        (b"\x89PNG\r\n", b"\xff\xd8\xff"),
        picture=True,
    ),
    Reader("vendor", (".dm3", ".dm4", ".blo", ".tvips", ".mrc", ".ser", ".emi"), apart=True),
)
WRITERS = (
    Writer("npy", (".npy",), regions=True),
    Writer("torch_file", (".pt", ".pth"), images=False),
    Writer("hdf5_writer", (".h5", ".hdf5", ".emd", ".hspy"), compressed=True),
    Writer("zarr_writer", STORES, regions=True, compressed=True),
    Writer("tiff", (".tif", ".tiff"), stream=False),
    Writer("fits", FITS_EXTENSIONS, stream=False),
)
COMPRESSIONS = (None, "none", "lz4", "zstd", "gzip")


def readable_extensions(*, pictures: bool = True) -> tuple[str, ...]:
    """Return the extensions that `open` knows, in the order of its table, with or without those of pictures."""
    return tuple(e for entry in READERS if pictures or not entry.picture for e in entry.extensions)


def picture_extensions() -> tuple[str, ...]:
    """Return the extensions of pictures such as PNG."""
    return tuple(e for entry in READERS if entry.picture for e in entry.extensions)


def writable_extensions() -> tuple[str, ...]:
    """Return the extensions that `create_stack` knows."""
    return tuple(e for entry in WRITERS if entry.stream for e in entry.extensions)


def image_extensions() -> tuple[str, ...]:
    """Return the extensions that `write_images` knows."""
    return tuple(e for entry in WRITERS if entry.images for e in entry.extensions)


def region_extensions() -> tuple[str, ...]:
    """Return the extensions of outputs that go on in regions where a stream stopped, and the reverse."""
    return tuple(e for entry in WRITERS if entry.regions for e in entry.extensions)


def is_fits(path: str | os.PathLike[str]) -> bool:
    """Tell by its name whether a file is FITS."""
    return str(path).lower().endswith(FITS_EXTENSIONS)


def is_apart(module: str) -> bool:
    """Tell whether the files of a reader are read in a process of its own."""
    return any(entry.module == module and entry.apart for entry in READERS)


def reader_module(file: Path, options: OpenOptions) -> str:
    """Choose the module by extension, then by the first bytes."""
    require_file(file, directory=True)
    extension = file.suffix.lower()
    if file.is_dir():
        if extension in STORES or any((file / name).exists() for name in ("zarr.json", ".zarray", ".zgroup")):
            return "zarr_store"
        msg = f"input {file} is a directory; expected a file, or a Zarr store"
        raise DataError(msg)
    with file.open("rb") as stream:
        head = stream.read(16)
    if not head:
        msg = f"input {file} is empty; copy it again"
        raise DataError(msg)
    if options.shape is not None or options.dtype is not None:
        if file.name.lower().endswith(tuple(e for r in READERS if r.module != "raw" for e in r.extensions)):
            msg = f"input {file} states its own layout; shape, dtype and offset are for raw binary files"
            raise DataError(msg)
        return "raw"
    for entry in READERS:
        if file.name.lower().endswith(entry.extensions):
            return entry.module
    if head.startswith(b"PK\x03\x04"):
        return _archive_module(file)
    for entry in READERS:
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


def writer_module(final: Path) -> Any:
    """Return the module that writes a format, by the extension of the output."""
    return importlib.import_module(f"stackalign.io.{writer_of(final).module}")


def writer_of(final: Path, *, images: bool = False) -> Writer:
    """Return the row of the format of an output: of stacks that are written in pieces, or of whole images."""
    for entry in WRITERS:
        if (entry.images if images else entry.stream) and final.name.lower().endswith(entry.extensions):
            return entry
    known = image_extensions() if images else writable_extensions()
    msg = f"output {final} has no known extension; known are {' '.join(known)}"
    raise DataError(msg)
