"""Tables of distortions in a FITS file: how far its pixels are from where the linear header has them.

Tables are in HDUs WCSDVARR and are named by record-valued cards. Those that act on pixels (CPDISj and DPj, FITS WCS
paper IV, Calabretta et al. 2004, draft) and those of the detector (D2IMDISj) are applied by astropy. Those that act on
the coordinates (CWDISi and DWi, in the units of the coordinates, with ASSOCIATE: 1 for a table over pixels) are of the
SOLARNET recommendations (Haugan and Fredvik 2020): pointing jitter of rasters comes in them, and astropy has them not.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from stackalign._types import FloatArray
from stackalign.errors import DataError

from .directions import arcsec_per_pixel
from .image_hdus import UNREADABLE, one_line, quiet

__all__ = ["Distortion", "read_distortion"]

TABLE = "WCSDVARR"
"""Name of the HDUs of tables."""

ARCSEC = {"arcsec": 1.0, "arcmin": 60.0, "deg": 3600.0}
"""Units of coordinates."""


@dataclass(frozen=True)
class Distortion:
    """Displacements of the pixels of an image, in pixels.

    Parameters
    ----------
    moves : numpy.ndarray
        (ny, nx, 2) from each pixel to where the linear header has it, (x, y).
    """

    moves: FloatArray

    def __call__(self, points: ArrayLike) -> FloatArray:
        """Places (..., 2) of points by the linear header; beyond the image the move of the nearest pixel is taken."""
        p = np.asarray(points, np.float64)
        at = np.stack([p[..., 1].ravel(), p[..., 0].ravel()])
        moved = np.empty(p.shape)
        for i in (0, 1):
            shift = ndimage.map_coordinates(self.moves[..., i], at, order=1, mode="nearest")
            moved[..., i] = p[..., i] + shift.reshape(p.shape[:-1])
        return moved

    @property
    def largest(self) -> float:
        """Longest move, in pixels."""
        return float(np.linalg.norm(self.moves, axis=-1).max())


def read_distortion(path: Path, hdu: int, shape: tuple[int, int]) -> Distortion:
    """Read the tables of an image in a file.

    Parameters
    ----------
    path : Path
    hdu : int
        Number of the image's HDU.
    shape : (int, int)
        (ny, nx) of the image.

    Raises
    ------
    DataError
        The image has no tables, or one that is not understood.
    """
    try:
        with quiet(), fits.open(path) as hdus:
            header = hdus[hdu].header
            moves = _prior(header, hdus, shape) + _sequent(header, hdus, shape)
    except UNREADABLE as error:
        msg = f"{path}: the tables of distortions cannot be read: {one_line(error)}"
        raise DataError(msg) from error
    if not moves.any():
        msg = f"{path} has no tables of distortions (CPDIS1, D2IMDIS1 or CWDIS1 with {TABLE}); leave the distortion out"
        raise DataError(msg)
    if not np.isfinite(moves).all():
        msg = f"{path}: its tables of distortions hold values that are no numbers"
        raise DataError(msg)
    return Distortion(moves)


def _pixels(shape: tuple[int, int]) -> FloatArray:
    """(N, 2) all pixels (x, y) of an image."""
    y, x = np.indices(shape).reshape(2, -1).astype(np.float64)
    return np.stack([x, y], axis=-1)


def _plane(header: fits.Header) -> fits.Header:
    """The header of the first two axes alone: astropy applies tables to no more."""
    made = header.copy(strip=False)
    for key in list(made):
        if re.fullmatch(r"(CTYPE|CUNIT|CRPIX|CRVAL|CDELT|NAXIS)[3-9]|(PC|CD)(\d_[3-9]|[3-9]_\d)", str(key).upper()):
            made.remove(key, remove_all=True)
    made["NAXIS"], made["WCSAXES"] = 2, 2
    return made


def _prior(header: fits.Header, hdus: fits.HDUList, shape: tuple[int, int]) -> FloatArray:
    """(ny, nx, 2) moves by the tables that act on pixels, by astropy."""
    if not any(f"{name}{i}" in header for name in ("CPDIS", "D2IMDIS") for i in (1, 2)):
        return np.zeros((*shape, 2))
    wcs = WCS(_plane(header), fobj=hdus)
    wcs.sip = None  # polynomials are applied with the header
    points = _pixels(shape)
    moves: FloatArray = (wcs.pix2foc(points, 0) - points).reshape(*shape, 2)
    return moves


def _sequent(header: fits.Header, hdus: fits.HDUList, shape: tuple[int, int]) -> FloatArray:
    """(ny, nx, 2) moves by the tables that act on coordinates."""
    world = np.zeros((*shape, 2))
    for i in (1, 2):
        if f"CWDIS{i}" in header:
            unit = ARCSEC[str(header.get(f"CUNIT{i}") or "deg").strip().lower()]
            world[..., i - 1] = unit * _looked_up(header, i, hdus, shape)
    if not world.any():
        return world
    jacobian = arcsec_per_pixel(WCS(_plane(_without_tables(header))))
    moves: FloatArray = world @ np.linalg.inv(jacobian).T
    return moves


def _without_tables(header: fits.Header) -> fits.Header:
    made = header.copy(strip=False)
    for key in list(made):
        if re.fullmatch(r"(CPDIS|CWDIS|D2IMDIS)[12]|(DP|DW|D2IM)[12](\..*)?", str(key).upper()):
            made.remove(key, remove_all=True)
    return made


def _looked_up(header: fits.Header, i: int, hdus: fits.HDUList, shape: tuple[int, int]) -> FloatArray:
    """(ny, nx) values of the table of a coordinate at the pixels."""
    kind = str(header[f"CWDIS{i}"]).strip().upper()
    if kind != "LOOKUP":
        msg = f"CWDIS{i} = {kind!r} is a distortion that is not known; only lookup tables are"
        raise DataError(msg)
    record = _record(header, f"DW{i}")
    if record.get("ASSOCIATE", 0) != 1:
        msg = f"the table of CWDIS{i} is not one of pixels (DW{i} without ASSOCIATE: 1), which is not known"
        raise DataError(msg)
    table = hdus[TABLE, int(record.get("EXTVER", 1))]
    axes = [int(record[f"AXIS.{k}"]) for k in range(1, int(record["NAXES"]) + 1)]
    pixels = _pixels(shape)
    # The axes of the table, from 1, are the last to vary first in NumPy; an axis that the image lacks has one pixel.
    at = [_on_axis(table.header, k, pixels[:, axis - 1] + 1.0 if axis <= 2 else np.ones(len(pixels)))
          for k, axis in enumerate(axes, start=1)]  # fmt: skip
    values = np.asarray(table.data, np.float64)
    coordinates = np.stack(at[::-1])
    looked: FloatArray = ndimage.map_coordinates(values, coordinates, order=1, mode="nearest")
    return looked.reshape(shape)


def _record(header: fits.Header, name: str) -> dict[str, float]:
    """Fields of a record-valued card."""
    fields = {}
    for card in header.cards:
        keyword = str(card.keyword).upper()
        if keyword.startswith(f"{name}."):
            fields[keyword.partition(".")[2]] = float(card.value)
    return fields


def _on_axis(header: fits.Header, k: int, pixel: FloatArray) -> NDArray[np.float64]:
    """Place along an axis of a table, from 0, of pixels of the image, from 1."""
    step = float(header.get(f"CDELT{k}", 1.0))
    place = (pixel - float(header.get(f"CRVAL{k}", 1.0))) / step + float(header.get(f"CRPIX{k}", 1.0)) - 1.0
    return np.asarray(place)
