"""Files of images: everything that `open_stack` reads, files that hold one image, and FITS."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError, MissingDependencyError
from stackalign.io._protocol import StackInfo, StackReader
from stackalign.io._reader import DEFAULT_MEMORY_LIMIT, BaseReader, OpenOptions, damage_as_data_error, make_info
from stackalign.io._shapes import interpret_shape
from stackalign.io._writer import full_disk_as_data_error
from stackalign.io.atomic import atomic_path
from stackalign.io.memory import ArrayReader
from stackalign.io.stacks import open_with
from stackalign.io.velox import is_velox, open_velox

__all__ = ["FITS_EXTENSIONS", "image_extensions", "is_fits", "open_images", "write_images"]

FITS_EXTENSIONS = (".fits", ".fit", ".fts", ".fits.gz")
_WRITABLE = (".npy", ".tif", ".tiff", ".h5", ".hdf5", ".zarr", *FITS_EXTENSIONS)


def is_fits(path: str | os.PathLike[str]) -> bool:
    """Tell by its name whether a file is FITS."""
    return str(path).lower().endswith(FITS_EXTENSIONS)


def image_extensions() -> tuple[str, ...]:
    """Return the extensions that `write_images` knows."""
    return _WRITABLE


def open_images(
    path: str | os.PathLike[str], *, dataset: str | None = None, memory_limit: int | None = None
) -> StackReader:
    """Open a file of one image (H, W) or of a stack of them.

    Parameters
    ----------
    path : path-like
        FITS, or any file that `open_stack` reads; .npy, TIFF, HDF5 and Zarr may also hold a single image.
    dataset : str, optional
        Which dataset of an HDF5 or Zarr file, which series of a TIFF, which HDU of a FITS file (number or name).
    memory_limit : int, optional
        Bytes that may be held, for the few files that can only be loaded whole.

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
    if not file.exists():
        msg = f"input {file} does not exist; check the path"
        raise DataError(msg)
    if is_fits(file):
        return _open_fits(file, dataset)
    with damage_as_data_error(f"input {file}", "the file"):
        if is_velox(file):
            return open_velox(file, dataset)
        image = _single_image(file, dataset)
    if image is None:
        limit = DEFAULT_MEMORY_LIMIT if memory_limit is None else memory_limit
        return open_with(file, OpenOptions(dataset=dataset, memory_limit=limit, takes_scan_shape=False))
    return _one_image(image, file)


def _one_image(image: NDArray[Any], file: Path) -> StackReader:
    stack = np.ascontiguousarray(image)[None]
    layout = interpret_shape(stack.shape, str(file))
    info = make_info(layout, stack.dtype, str(file), metadata={"single": True})
    return _ImageReader(stack, layout, info, path=file)


class _ImageReader(ArrayReader):
    """One image that was read whole."""

    def _files(self) -> list[Path]:
        """Those of a Zarr store are in folders."""
        path = self.path
        if path is None or not path.is_dir():
            return super()._files()
        return sorted(p for p in path.rglob("*") if p.is_file())


def _single_image(file: Path, dataset: str | None) -> NDArray[Any] | None:
    """The image of a file that holds one, None for a file of anything else."""
    extension = file.suffix.lower()
    if extension == ".npy":
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        return np.array(array) if array.ndim == 2 else None
    if extension in (".tif", ".tiff", ".btf"):
        import tifffile

        with tifffile.TiffFile(file) as tiff:
            number = int(dataset) if dataset is not None and dataset.isdigit() else 0
            if number >= len(tiff.series) or len(tiff.series[number].shape) != 2:
                return None
            return np.asarray(tiff.series[number].asarray())
    if extension in (".h5", ".hdf5", ".hdf"):
        import h5py

        with h5py.File(file, "r") as h5:
            found: dict[str, Any] = {}
            h5.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
            return _choose(found, dataset)
    if extension == ".zarr":
        import zarr

        store = zarr.open(file, mode="r")
        arrays = {"": store} if isinstance(store, zarr.Array) else dict(store.arrays())
        return _choose(arrays, dataset)
    return None


def _choose(arrays: Mapping[str, Any], dataset: str | None) -> NDArray[Any] | None:
    """The dataset that was asked for, or the only image of a file without stacks."""
    numeric = {name: a for name, a in arrays.items() if a.dtype.kind in "iufb"}
    if dataset is not None:
        wanted = numeric.get(dataset.strip("/"))
        return np.asarray(wanted[...]) if wanted is not None and wanted.ndim == 2 else None
    if any(a.ndim in (3, 4) for a in numeric.values()):
        return None
    images = [a for a in numeric.values() if a.ndim == 2]
    return np.asarray(images[0][...]) if len(images) == 1 else None


def _fits() -> Any:
    try:
        from astropy.io import fits
    except ImportError as error:
        msg = 'FITS files need astropy: pip install "stackalign[solar]"'
        raise MissingDependencyError(msg) from error
    return fits


def _open_fits(file: Path, dataset: str | None) -> StackReader:
    fits = _fits()
    with damage_as_data_error(f"input {file}", "the FITS file"):
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
        msg = f"output {final} exists; choose another name or allow it to be replaced (--overwrite)"
        raise OutputExistsError(msg)
    extension = ".fits" if is_fits(final) else final.suffix.lower()
    writers = {".npy": _write_npy, ".tif": _write_tiff, ".tiff": _write_tiff, ".h5": _write_h5, ".hdf5": _write_h5}
    with full_disk_as_data_error(final, str(final), images.nbytes):
        if extension == ".zarr":
            _write_zarr(final, images)
            return
        with atomic_path(final) as partial:
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
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=images)


def _write_zarr(final: Path, images: NDArray[Any]) -> None:
    import zarr

    from stackalign.io.atomic import replace_path

    partial = final.with_name(f".{final.stem}.{os.getpid()}.part.zarr")
    store = zarr.create_array(
        partial, shape=images.shape, dtype=images.dtype, chunks=(1,) * (images.ndim - 2) + images.shape[-2:]
    )
    store[...] = images
    replace_path(partial, final, overwrite=True)


def _write_fits(path: Path, images: NDArray[Any], header: str | None) -> None:
    fits = _fits()
    cards = fits.Header.fromstring(header, sep="\n") if header else fits.Header()
    for name in ("BZERO", "BSCALE", "BLANK", "CHECKSUM", "DATASUM", "DATAMIN", "DATAMAX", "ZIMAGE", "XTENSION"):
        cards.remove(name, ignore_missing=True, remove_all=True)
    fits.PrimaryHDU(np.asarray(images), cards).writeto(path, checksum=True)
