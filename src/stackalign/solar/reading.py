"""Maps from files and arrays in any of their forms."""

import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray
from sunpy.map import GenericMap
from sunpy.util import MetaDict

from stackalign._carriers import plain_array
from stackalign.errors import DataError, StackalignWarning
from stackalign.io._gate import refuse_special

from .dates import with_time_of_day
from .flatten import slice_header
from .frames import name_of
from .image_hdus import (
    UNREADABLE,
    SequenceError,
    beside,
    flat,
    images,
    is_map,
    no_image,
    one_line,
    quiet,
    refuse_sequence,
    sequence,
)
from .jpeg2000 import is_jpeg2000, read_jpeg2000, read_jpeg2000_header
from .maps import make_map
from .observers import with_observer
from .repair import binning_mismatch, repair_map

__all__ = ["as_map", "read_map", "read_maps", "read_without_image"]

Source = Any
"""What `as_map` takes: a map, a path, (array, header), (array, WCS), an NDCube, or an HDU."""


def as_map(source: Source, *, repair: bool = False) -> GenericMap:
    """Take a two-dimensional map in any of its forms.

    Parameters
    ----------
    source : GenericMap, path-like, (array, header), (array, WCS), NDCube or HDU
        Of a file with several images the first is taken; `read_maps` gives all.
    repair : bool
        Correct the faults that `repair_header` knows, instead of only warning about them.

    Returns
    -------
    GenericMap
        With an observer in its header: where none was there and the instrument flies near the Earth, the Earth.

    Raises
    ------
    DataError
        The source is not a two-dimensional solar image, or has no date or no observer.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> solar.as_map((np.ones((60, 24)), seen.raster.fits_header)).data.shape
    (60, 24)
    """
    if isinstance(source, GenericMap):
        return _checked(source, repair)
    if isinstance(source, (str, os.PathLike)):
        return read_map(source, repair=repair)
    if isinstance(source, (tuple, list)) and len(source) == 2:
        hidden = {"mask": np.ma.getmaskarray(source[0])} if isinstance(source[0], np.ma.MaskedArray) else {}
        plain = np.ma.getdata(source[0]) if hidden else plain_array(source[0], None, "the array")
        return _checked(make_map(plain, _header(source[1]), **hidden), repair)
    data, header, wcs = (getattr(source, name, None) for name in ("data", "header", "wcs"))
    if data is not None and (header is not None or wcs is not None):
        cards = header if header is not None else _cube_header(source)
        extra = {name: getattr(source, name, None) for name in ("mask", "uncertainty")}
        made = make_map(np.asarray(data), cards, **extra)
        return _checked(made, repair)
    msg = f"a map, a FITS path, (array, header), (array, WCS) or an NDCube is needed, got a {type(source).__name__}"
    raise DataError(msg)


def _header(cards: Any) -> MetaDict:
    if isinstance(cards, WCS):
        return MetaDict(cards.to_header())
    if isinstance(cards, Mapping | fits.Header):
        return MetaDict(cards)
    msg = f"the second item must be a header or a WCS, got a {type(cards).__name__}"
    raise DataError(msg)


def _cube_header(cube: Any) -> MetaDict:
    """Header of an NDCube: its WCS, and the cards in its meta."""
    meta = getattr(cube, "meta", None) or {}
    original = getattr(meta, "original_meta", None) or meta
    header = slice_header(cube.wcs, MetaDict(original) if isinstance(original, Mapping | fits.Header) else MetaDict())
    unit = getattr(cube, "unit", None)
    if unit is not None:
        header["bunit"] = unit.to_string("fits")
    return header


def read_maps(path: str | os.PathLike[str], *, repair: bool = False) -> list[GenericMap]:
    """Read every two-dimensional image of a FITS file, or the one of a JPEG 2000 file of Helioviewer.

    Parameters
    ----------
    path : path-like
        A FITS file; or JPEG 2000 with the cards of a FITS header in it, whose values are brightness as it is shown.
    repair : bool
        Correct known faults of headers, see `repair_header`, in place of a warning.

    Returns
    -------
    list of GenericMap
        In the order of the file.

    Raises
    ------
    DataError
        The file cannot be read, or holds no two-dimensional image with solar coordinates.

    Examples
    --------
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> path = solar.write_map(seen.raster, "raster.fits")
    >>> [one.data.shape for one in solar.read_maps(path)]
    [(60, 24)]
    """
    file = Path(path)
    refuse_special(file)
    images, extras = ([read_jpeg2000(file)], {}) if is_jpeg2000(file) else _read_fits(file)
    if not images:
        raise DataError(no_image(file))
    maps = []
    for data, header in images:
        try:
            meta = MetaDict(header)
            meta.setdefault("filename", file.name)
            extra = {
                name: value for name, value in extras.items() if np.shape(getattr(value, "array", value)) == data.shape
            }
            maps.append(_checked(make_map(data, meta, **extra), repair))
        except DataError as error:
            raise DataError(_named(file, error)) from error
    return maps


def _read_fits(file: Path) -> tuple[list[tuple[NDArray[Any], Any]], dict[str, Any]]:
    """Images of a FITS file with their headers, and the mask and uncertainty beside them."""
    try:
        with quiet(), fits.open(file, memmap=False) as hdus:
            return [image for hdu in hdus if is_map(hdu) for image in images(hdu)], beside(hdus)
    except UNREADABLE as error:
        raise DataError(why_unreadable(file, error)) from error


def read_map(path: str | os.PathLike[str], *, index: int | None = None, repair: bool = False) -> GenericMap:
    """Read one two-dimensional image of a file, the first by default; see `read_maps`.

    Parameters
    ----------
    path : path-like
        A FITS file, or JPEG 2000 of Helioviewer.
    index : int, optional
        Number of the image, from 0.
    repair : bool
        Correct known faults of headers, see `repair_header`, in place of a warning.

    Returns
    -------
    GenericMap
        With an observer in its header.

    Raises
    ------
    DataError
        See `read_maps`; or the file holds a sequence in one HDU, and `index` does not say which image.

    Examples
    --------
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> path = solar.write_map(seen.raster, "raster.fits")
    >>> solar.read_map(path).data.shape
    (60, 24)
    """
    if index is None:
        refuse_sequence(Path(path))
    index = index or 0
    maps = read_maps(path, repair=repair)
    if not 0 <= index < len(maps):
        msg = f"{path} holds {len(maps)} images; there is no number {index}"
        raise DataError(msg)
    return maps[index]


def read_without_image(path: str | os.PathLike[str]) -> GenericMap:
    """Map of the first image's header alone; in the place of the pixels stands one NaN for all."""
    file = Path(path)
    refuse_special(file)
    header = read_jpeg2000_header(file) if is_jpeg2000(file) else _first_header(file)
    if int(header.get("NAXIS") or 2) > 2:
        if int(header.get("NAXIS3") or 1) > 1:
            raise SequenceError(sequence(file, int(header["NAXIS3"])))
        header = flat(header)
    meta = MetaDict(header)
    meta.setdefault("filename", file.name)
    nothing = np.broadcast_to(np.float32(np.nan), (header["NAXIS2"], header["NAXIS1"]))
    try:
        return _checked(make_map(nothing, meta), repair=False)
    except DataError as error:
        raise DataError(_named(file, error)) from error


def _first_header(file: Path) -> Any:
    """Header of the first image of a FITS file."""
    try:
        with quiet(), fits.open(file, memmap=True, lazy_load_hdus=True) as hdus:
            header = next((h.header.copy() for h in hdus if is_map(h)), None)
    except UNREADABLE as error:
        raise DataError(why_unreadable(file, error)) from error
    if header is None:
        raise DataError(no_image(file))
    return header


def _named(file: Path, error: Exception) -> str:
    """What is wrong, with the path of the file, once."""
    said = str(error)
    return f"{file}{said[len(file.name) :]}" if said.startswith(file.name + " ") else f"{file}: {said}"


def why_unreadable(file: Path, error: Exception) -> str:
    """Why a file cannot be read: what lacks in a file that was cut short is not what the parser stumbles over."""
    if isinstance(error, FileNotFoundError):
        return f"{file} cannot be read as FITS: it does not exist"
    with suppress(*UNREADABLE), quiet(), fits.open(file, memmap=True, disable_image_compression=True) as hdus:
        end = max(one.fileinfo()["datLoc"] + one.fileinfo()["datSpan"] for one in hdus)
        size = file.stat().st_size
        if end > size and file.suffix.lower() in (".fits", ".fit", ".fts"):
            return f"{file} cannot be read: it is truncated, {size} bytes of {end}"
    return f"{file} cannot be read as FITS: {one_line(error)}"


def _checked(solar_map: GenericMap, repair: bool) -> GenericMap:
    if repair:
        solar_map = repair_map(solar_map)
    elif (factor := binning_mismatch(solar_map.meta, solar_map.data.shape)) is not None:
        msg = (
            f"{name_of(solar_map)}: CDELT is that of the unbinned detector, the image is binned by {factor:g}: "
            "the disc would not fit into it; read it with repair=True"
        )
        warnings.warn(msg, StackalignWarning, stacklevel=3)
    with quiet():
        solar_map = with_time_of_day(solar_map, name_of(solar_map))
    return with_observer(solar_map)
