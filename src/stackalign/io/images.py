"""Files of images: everything that `open_stack` reads, files that hold one image, and FITS."""

import contextlib
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError, MissingDependencyError
from stackalign.io._gate import require_file
from stackalign.io._hdf5_memory import write_array
from stackalign.io._protocol import StackInfo, StackReader
from stackalign.io._reader import (
    DEFAULT_MEMORY_LIMIT,
    BaseReader,
    OpenOptions,
    damage_as_data_error,
    foreign_errors_as_data_error,
    make_info,
)
from stackalign.io._shapes import interpret_shape
from stackalign.io._writer import full_disk_as_data_error
from stackalign.io.atomic import atomic_path
from stackalign.io.stacks import checked_timeout, open_with
from stackalign.io.velox import is_velox, open_velox

__all__ = ["FITS_EXTENSIONS", "image_extensions", "is_fits", "open_images", "read_image", "write_images"]

FITS_EXTENSIONS = (".fits", ".fit", ".fts", ".fits.gz")
_WRITABLE = (".npy", ".tif", ".tiff", ".h5", ".hdf5", ".zarr", *FITS_EXTENSIONS)


def is_fits(path: str | os.PathLike[str]) -> bool:
    """Tell by its name whether a file is FITS."""
    return str(path).lower().endswith(FITS_EXTENSIONS)


def image_extensions() -> tuple[str, ...]:
    """Return the extensions that `write_images` knows."""
    return _WRITABLE


def open_images(
    path: str | os.PathLike[str],
    *,
    dataset: str | None = None,
    memory_limit: int | None = None,
    allow_external: bool = False,
    read_timeout: float | None = None,
) -> StackReader:
    """Open a file of one image (H, W) or of a stack of them.

    Parameters
    ----------
    path : path-like
        FITS, or any file that `open_stack` reads; .npy, .npz, TIFF, HDF5 and Zarr may also hold a single image.
    dataset : str, optional
        Which dataset of an HDF5 or Zarr file, which series of a TIFF, which HDU of a FITS file (number or name).
    memory_limit : int, optional
        Bytes that may be held, for decoded chunks and for the few files that can only be loaded whole.
    allow_external : bool
        See `open_stack`.
    read_timeout : float, optional
        See `open_stack`.

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
    """
    file = Path(path)
    options = OpenOptions(
        dataset=dataset,
        memory_limit=DEFAULT_MEMORY_LIMIT if memory_limit is None else memory_limit,
        takes_scan_shape=False,
        single=True,
        allow_external=allow_external,
        read_timeout=checked_timeout(read_timeout),
    )
    require_file(file, directory=True)
    if is_fits(file):
        require_file(file)
        return _open_fits(file, dataset)
    with foreign_errors_as_data_error(f"input {file}", "the file"):
        velox = is_velox(file)
    if velox:
        with foreign_errors_as_data_error(f"input {file}", "the file"):
            return open_velox(file, dataset, allow_external=allow_external)
    return open_with(file, options)


def read_image(
    path: str | os.PathLike[str],
    *,
    dataset: str | None = None,
    allow_external: bool = False,
    read_timeout: float | None = None,
) -> NDArray[Any]:
    """Read the one image of a file, a mask for example.

    Parameters
    ----------
    path : path-like
        See `open_images`, as for the other parameters.
    dataset : str, optional
    allow_external : bool
    read_timeout : float, optional

    Returns
    -------
    numpy.ndarray
        (H, W); booleans come as 0 and 1.

    Raises
    ------
    DataError
        The file cannot be read, or holds more than one image.
    """
    reader = open_images(path, dataset=dataset, allow_external=allow_external, read_timeout=read_timeout)
    with contextlib.closing(reader):
        if reader.info.shape[0] != 1:
            msg = f"{path} holds {reader.info.shape[0]} images; expected one of (H, W)"
            raise DataError(msg)
        with damage_as_data_error(str(path), "the image"):
            image = np.empty(reader.info.shape, reader.info.dtype)
        reader.read(0, 1, image)
    found: NDArray[Any] = image[0]
    return found


def _fits() -> Any:
    try:
        from astropy.io import fits
    except ImportError as error:
        msg = 'FITS files need astropy: pip install "stackalign[solar]"'
        raise MissingDependencyError(msg) from error
    return fits


def _open_fits(file: Path, dataset: str | None) -> StackReader:
    fits = _fits()
    with foreign_errors_as_data_error(f"input {file}", "the FITS file"):
        # Sections are read from the file without a map, too; scaled integers cannot be mapped.
        hdus = fits.open(file, memmap=False)
        try:
            number = _hdu_number(hdus, file, dataset)
            header = hdus[number].header
            shape = tuple(header[f"NAXIS{k}"] for k in range(header["NAXIS"], 0, -1))
            single = len(shape) == 2 or math.prod(shape[:-2]) == 1
            # What a reader of other formats gets from the shape alone: (H, W), (N, H, W) or (Ry, Rx, H, W).
            axes = (math.prod(shape[:-2]), *shape[-2:]) if single or len(shape) > 4 else shape
            layout = interpret_shape(axes, str(file))
            first = np.asarray(hdus[number].section[(0,) * (len(shape) - 2) + (slice(0, 1), slice(0, 1))])
            metadata = {"single": single, "hdu": number, "header": header.tostring(sep="\n", endcard=False)}
            info = make_info(layout, first.dtype, str(file), metadata=metadata)
        except BaseException:
            hdus.close()
            raise
    return _FitsReader(file, info, hdus, number, shape)


def _hdu_number(hdus: Any, file: Path, dataset: str | None) -> int:
    images = [k for k, hdu in enumerate(hdus) if hdu.is_image and int(hdu.header.get("NAXIS", 0)) >= 2]
    if dataset is not None:
        key: int | str = int(dataset) if dataset.isdigit() else dataset
        number = key if isinstance(key, int) else next((k for k, h in enumerate(hdus) if h.name == key.upper()), -1)
        if number in images:
            return number
        msg = f"{file} has no image HDU {dataset!r}; it has {[(k, hdus[k].name) for k in images]}"
        raise DataError(msg)
    if not images:
        msg = f"{file} has no image HDU; expected one of two or more axes"
        raise DataError(msg)
    return images[0]


class _FitsReader(BaseReader):
    """Images of one HDU, read by sections and scaled as the header says."""

    def __init__(self, path: Path, info: StackInfo, hdus: Any, number: int, shape: tuple[int, ...]) -> None:
        super().__init__(path, info)
        self._hdus = hdus
        self._hdu = hdus[number]
        self._leading = shape[:-2]

    def _read(self, start: int, stop: int, out: NDArray[Any]) -> None:
        with foreign_errors_as_data_error(self._name, f"patterns {start}..{stop - 1}"):
            self._read_sections(start, stop, out)

    def _read_sections(self, start: int, stop: int, out: NDArray[Any]) -> None:
        for k in range(start, stop):
            at = np.unravel_index(k, self._leading) if self._leading else ()
            out[k - start] = self._hdu.section[(*(int(i) for i in at), slice(None), slice(None))]

    def close(self) -> None:
        """Release the file."""
        if not self._closed:
            self._hdus.close()
        super().close()


def write_images(
    path: str | os.PathLike[str], images: NDArray[Any], *, fits_header: str | None = None, overwrite: bool = False
) -> None:
    """Write one image (H, W) or a stack (N, H, W), which may be a memory map; the file appears complete or not at all.

    Parameters
    ----------
    path : path-like
        .npy, .tif, .h5, .zarr or .fits.
    images : numpy.ndarray
    fits_header : str, optional
        Cards, one a line, for FITS: those of the grid that the images are on.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    DataError
        The extension is not known, or the file cannot be written.
    OutputExistsError
        It exists and may not be replaced.
    """
    from stackalign.errors import OutputExistsError

    final = Path(path)
    if final.exists() and not overwrite:
        msg = f"output {final} exists; choose another name or allow it to be replaced"
        raise OutputExistsError(msg).with_hint("overwrite")
    extension = ".fits" if is_fits(final) else final.suffix.lower()
    writers = {
        ".npy": _write_npy,
        ".tif": _write_tiff,
        ".tiff": _write_tiff,
        ".h5": _write_h5,
        ".hdf5": _write_h5,
        ".zarr": _write_zarr,
    }
    with full_disk_as_data_error(final, str(final), images.nbytes), atomic_path(final) as partial:
        if extension == ".fits":
            _write_fits(partial, images, fits_header)
        elif extension in writers:
            writers[extension](partial, images)
        else:
            msg = f"output {final} has no known extension; known are {' '.join(_WRITABLE)}"
            raise DataError(msg)


def _write_npy(path: Path, images: NDArray[Any]) -> None:
    with path.open("wb") as file:
        np.save(file, images)


def _write_tiff(path: Path, images: NDArray[Any]) -> None:
    import tifffile

    big = images.nbytes > 2**32 - 2**25
    if images.ndim == 2:
        tifffile.imwrite(path, images, photometric="minisblack", bigtiff=big, metadata={"axes": "YX"})
        return
    frames = images
    tifffile.imwrite(
        path, iter(frames), shape=frames.shape, dtype=images.dtype, photometric="minisblack", bigtiff=big,
        metadata={"axes": "QYX"},
    )  # fmt: skip


def _write_h5(path: Path, images: NDArray[Any]) -> None:
    write_array(path, "data", images)


def _write_zarr(path: Path, images: NDArray[Any]) -> None:
    import zarr

    chunks = (1,) * (images.ndim - 2) + images.shape[-2:]
    zarr.create_array(path, shape=images.shape, dtype=images.dtype, chunks=chunks)[...] = images


def _write_fits(path: Path, images: NDArray[Any], header: str | None) -> None:
    fits = _fits()
    cards = fits.Header.fromstring(header, sep="\n") if header else fits.Header()
    for name in ("BZERO", "BSCALE", "BLANK", "CHECKSUM", "DATASUM", "DATAMIN", "DATAMAX", "ZIMAGE", "XTENSION"):
        cards.remove(name, ignore_missing=True, remove_all=True)
    fits.PrimaryHDU(np.asarray(images), cards).writeto(path, checksum=True)
