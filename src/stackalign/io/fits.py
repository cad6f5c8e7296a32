"""FITS: images of one HDU, read by sections; images and stacks written with the cards of their grid."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError, MissingDependencyError
from stackalign.io._protocol import StackInfo, StackReader
from stackalign.io._reader import BaseReader, OpenOptions, foreign_errors_as_data_error, make_info
from stackalign.io._shapes import interpret_shape

__all__ = ["open_reader", "write_images"]


def open_reader(path: Path, options: OpenOptions) -> StackReader:
    """Open the first image HDU of a FITS file, or the one that is named."""
    fits = _fits()
    with foreign_errors_as_data_error(f"input {path}", "the FITS file"):
        # Sections are read from the file without a map, too; scaled integers cannot be mapped.
        hdus = fits.open(path, memmap=False)
        try:
            number = _hdu_number(hdus, path, options.dataset)
            header = hdus[number].header
            shape = tuple(header[f"NAXIS{k}"] for k in range(header["NAXIS"], 0, -1))
            single = len(shape) == 2 or math.prod(shape[:-2]) == 1
            # What a reader of other formats gets from the shape alone: (H, W), (N, H, W) or (Ry, Rx, H, W).
            axes = (math.prod(shape[:-2]), *shape[-2:]) if single or len(shape) > 4 else shape
            layout = interpret_shape(axes, str(path), scan_shape=options.scan_shape)
            first = np.asarray(hdus[number].section[(0,) * (len(shape) - 2) + (slice(0, 1), slice(0, 1))])
            metadata = {"single": single, "hdu": number, "header": header.tostring(sep="\n", endcard=False)}
            info = make_info(layout, first.dtype, str(path), metadata=metadata)
        except BaseException:
            hdus.close()
            raise
    return _FitsReader(path, info, hdus, number, shape)


def write_images(path: Path, images: NDArray[Any], header: str | None = None) -> None:
    """Write images as the primary HDU; ``header`` is cards, one a line."""
    fits = _fits()
    cards = fits.Header.fromstring(header, sep="\n") if header else fits.Header()
    for name in ("BZERO", "BSCALE", "BLANK", "CHECKSUM", "DATASUM", "DATAMIN", "DATAMAX", "ZIMAGE", "XTENSION"):
        cards.remove(name, ignore_missing=True, remove_all=True)
    fits.PrimaryHDU(np.asarray(images), cards).writeto(path, checksum=True)


def _fits() -> Any:
    try:
        from astropy.io import fits
    except ImportError as error:
        msg = 'FITS files need astropy: pip install "stackalign[solar]"'
        raise MissingDependencyError(msg) from error
    return fits


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
