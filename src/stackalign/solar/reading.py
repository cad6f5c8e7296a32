"""Maps from files and arrays, with what their headers lack said once and filled in, and known faults repaired."""

import copy
import os
import re
import warnings
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import sunpy.map
from astropy.coordinates import HeliocentricMeanEcliptic, SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray
from sunpy.coordinates import (
    HeliocentricEarthEcliptic,
    HeliocentricInertial,
    HeliographicStonyhurst,
    get_earth,
)
from sunpy.map import GenericMap
from sunpy.util import MetaDict

from stackalign.errors import DataError, StackalignWarning
from stackalign.io._gate import refuse_special

from .dates import with_time_of_day
from .flatten import slice_header
from .frames import name_of, observation_time
from .image_hdus import (
    MASK,
    UNCERTAINTY,
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

__all__ = [
    "MASK",
    "UNCERTAINTY",
    "UNREADABLE",
    "SequenceError",
    "as_map",
    "binning_mismatch",
    "new_map",
    "one_line",
    "quiet",
    "read_map",
    "read_maps",
    "read_without_image",
    "repair_header",
    "repair_map",
    "valid_mask",
]

Source = Any
"""What `as_map` takes: a map, a path, (array, header), (array, WCS), an NDCube, or an HDU."""

EIT_SIZE = 1024
"""Pixels of EIT's detector along a side, of 2.63 arcsec."""

_CARTESIAN: Mapping[str, Any] = {
    "hci": HeliocentricInertial,
    "hee": HeliocentricEarthEcliptic,
    "hae": HeliocentricMeanEcliptic,
    "heq": HeliographicStonyhurst,
}
"""Frames of keys such as HCIX_OBS (Thompson, A&A 449, 791, 2006)."""

_SEEN_FROM_EARTH = re.compile(
    "TRACE|SOHO|SDO|AIA|HMI|HINODE|IRIS|PROBA|YOHKOH|GOES|SUVI|XRT|EIS|SOT|GONG|KANZELHOEHE|RHESSI", re.IGNORECASE
)
_FAR_FROM_EARTH = re.compile("SOLO|SOLAR.?ORBITER|STEREO|PSP|PARKER", re.IGNORECASE)


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
    """
    if isinstance(source, GenericMap):
        return _checked(source, repair)
    if isinstance(source, (str, os.PathLike)):
        return read_map(source, repair=repair)
    if isinstance(source, (tuple, list)) and len(source) == 2:
        return _checked(_map(np.asarray(source[0]), _header(source[1])), repair)
    data, header, wcs = (getattr(source, name, None) for name in ("data", "header", "wcs"))
    if data is not None and (header is not None or wcs is not None):
        given = header if header is not None else _cube_header(source)
        extra = {name: getattr(source, name, None) for name in ("mask", "uncertainty")}
        made = _map(np.asarray(data), given, **extra)
        return _checked(made, repair)
    msg = f"a map, a FITS path, (array, header), (array, WCS) or an NDCube is needed, got a {type(source).__name__}"
    raise DataError(msg)


def _header(given: Any) -> MetaDict:
    if isinstance(given, WCS):
        return MetaDict(given.to_header())
    if isinstance(given, Mapping | fits.Header):
        return MetaDict(given)
    msg = f"the second item must be a header or a WCS, got a {type(given).__name__}"
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


def _map(data: NDArray[Any], header: MutableMapping[str, Any], **settings: Any) -> GenericMap:
    if data.ndim != 2 or not data.size:
        msg = f"a two-dimensional image is needed, got the shape {data.shape}; collapse a spectral window first"
        raise DataError(msg)
    try:
        with quiet():
            made = sunpy.map.Map(data, header, **settings)
    except Exception as error:
        msg = f"this header does not describe a solar image: {one_line(error)}"
        raise DataError(msg) from error
    if not isinstance(made, GenericMap):
        msg = f"one map is needed, got a {type(made).__name__}"
        raise DataError(msg)
    return made


def new_map(data: NDArray[Any], header: MutableMapping[str, Any], like: GenericMap) -> GenericMap:
    """Map of new data or header with the mask and uncertainty, where the shape allows, and plot settings of another."""
    same = data.shape == like.data.shape
    settings = {
        "mask": None if like.mask is None or not same else like.mask.copy(),
        "uncertainty": like.uncertainty if same else None,
        "plot_settings": {key: copy.copy(value) for key, value in like.plot_settings.items()},
    }
    return _map(data, MetaDict(header), **settings)


def read_maps(path: str | os.PathLike[str], *, repair: bool = False) -> list[GenericMap]:
    """Read every two-dimensional image of a FITS file.

    Raises
    ------
    DataError
        The file cannot be read, or holds no two-dimensional image with solar coordinates.
    """
    file = Path(path)
    refuse_special(file)
    try:
        with quiet(), fits.open(file, memmap=False) as hdus:
            found = [image for hdu in hdus if is_map(hdu) for image in images(hdu)]
            extras = beside(hdus)
    except UNREADABLE as error:
        raise DataError(why_unreadable(file, error)) from error
    if not found:
        raise DataError(no_image(file))
    maps = []
    for data, header in found:
        try:
            meta = MetaDict(header)
            meta.setdefault("filename", file.name)
            extra = {
                name: value for name, value in extras.items() if np.shape(getattr(value, "array", value)) == data.shape
            }
            maps.append(_checked(_map(data, meta, **extra), repair))
        except DataError as error:
            raise DataError(_named(file, error)) from error
    return maps


def read_map(path: str | os.PathLike[str], *, index: int | None = None, repair: bool = False) -> GenericMap:
    """Read one two-dimensional image of a FITS file, the first by default; see `read_maps`.

    Raises
    ------
    DataError
        See `read_maps`; or the file holds a sequence in one HDU, and `index` does not say which image.
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
    try:
        with quiet(), fits.open(file, memmap=True, lazy_load_hdus=True) as hdus:
            header = next((h.header.copy() for h in hdus if is_map(h)), None)
    except UNREADABLE as error:
        raise DataError(why_unreadable(file, error)) from error
    if header is None:
        raise DataError(no_image(file))
    if int(header.get("NAXIS") or 2) > 2:
        if int(header.get("NAXIS3") or 1) > 1:
            raise SequenceError(sequence(file, int(header["NAXIS3"])))
        header = flat(header)
    meta = MetaDict(header)
    meta.setdefault("filename", file.name)
    nothing = np.broadcast_to(np.float32(np.nan), (header["NAXIS2"], header["NAXIS1"]))
    try:
        return _checked(_map(nothing, meta), repair=False)
    except DataError as error:
        raise DataError(_named(file, error)) from error


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
    return _with_observer(solar_map)


def _with_observer(solar_map: GenericMap) -> GenericMap:
    """The map with an observer in its header; see `as_map`."""
    for keys, _ in solar_map._supported_observer_coordinates:
        if all(solar_map.meta.get(key) not in (None, "") for key in keys):
            return solar_map
    if (place := _cartesian_observer(solar_map)) is not None:
        return _seen_from(solar_map, place)
    who = " ".join(str(solar_map.meta.get(key, "")) for key in ("telescop", "obsrvtry", "instrume"))
    name = name_of(solar_map)
    if _FAR_FROM_EARTH.search(who):
        msg = f"{name} has no observer: set HGLN_OBS, HGLT_OBS and DSUN_OBS in its header"
        raise DataError(msg)
    if not _SEEN_FROM_EARTH.search(who):
        warnings.warn(f"{name} has no observer; it is taken to be seen from the Earth", StackalignWarning, stacklevel=4)
    with quiet():
        return _seen_from(solar_map, get_earth(observation_time(solar_map)))


def _seen_from(solar_map: GenericMap, observer: SkyCoord) -> GenericMap:
    """The map with the keys of an observer whose Stonyhurst coordinates are known."""
    header = MetaDict(solar_map.meta)
    header["hgln_obs"], header["hglt_obs"] = observer.lon.to_value("deg"), observer.lat.to_value("deg")
    header["dsun_obs"] = observer.radius.to_value("m")
    header.setdefault("rsun_ref", 695700000.0)
    return new_map(solar_map.data, header, solar_map)


def _cartesian_observer(solar_map: GenericMap) -> SkyCoord | None:
    """Observer in Stonyhurst coordinates from one of the Cartesian triples of the FITS conventions, in metres."""
    for prefix, frame in _CARTESIAN.items():
        values = [solar_map.meta.get(f"{prefix}{axis}_obs") for axis in "xyz"]
        if not all(isinstance(value, (int, float)) and np.isfinite(value) for value in values) or not any(values):
            continue
        with quiet():
            time = observation_time(solar_map)
            there = SkyCoord(
                *(float(value) * u.m for value in values), frame=frame(obstime=time), representation_type="cartesian"
            )
            return there.transform_to(HeliographicStonyhurst(obstime=time))
    return None


def _full_disc(header: Mapping[str, Any]) -> bool:
    return "full" in str(header.get("object", "")).lower()


def binning_mismatch(header: Mapping[str, Any], shape: tuple[int, ...]) -> float | None:
    """Factor by which an image is binned though its CDELT is not, or None where header and image agree.

    Known of EIT, whose headers keep the scale and the disc's radius of the detector: an image that says "full FOV" but
    is narrower than the disc.
    """
    meta = MetaDict(header)
    if "EIT" not in f"{meta.get('instrume', '')} {meta.get('telescop', '')}" or not _full_disc(meta):
        return None
    radius = float(meta.get("solar_r") or 0)
    factor = EIT_SIZE / shape[-1]
    return factor if 2 * radius > max(shape) and factor > 1 else None


def repair_header(header: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[MetaDict, tuple[str, ...]]:
    """Correct what is known to be wrong in headers.

    Parameters
    ----------
    header : mapping
    shape : tuple of int
        Of the image.

    Returns
    -------
    header : MetaDict
        A copy.
    notes : tuple of str
        What was changed; empty where nothing was.

    Notes
    -----
    EIT: CDELT and SOLAR_R of binned images are those of the detector; a roll that is in SC_ROLL alone becomes CROTA2.
    """
    meta, notes = MetaDict(header), []
    factor = binning_mismatch(meta, shape)
    if factor is not None:
        for key in ("cdelt1", "cdelt2"):
            meta[key] = float(meta[key]) * factor
        meta["solar_r"] = float(meta["solar_r"]) / factor
        notes.append(f"CDELT multiplied and SOLAR_R divided by the binning, {factor:g}")
    roll = float(meta.get("sc_roll") or 0)
    turned = any(re.fullmatch(r"(pc|cd)\d_\d|crota\d?", str(key)) for key in meta)
    if roll and not turned and "EIT" in f"{meta.get('instrume', '')} {meta.get('telescop', '')}":
        meta["crota2"] = roll
        notes.append(f"CROTA2 set to SC_ROLL, {roll:g} degrees")
    return meta, tuple(notes)


def repair_map(solar_map: GenericMap) -> GenericMap:
    """Map with the header of `repair_header`; the same map where there is nothing to repair."""
    header, notes = repair_header(solar_map.meta, solar_map.data.shape)
    return new_map(solar_map.data, header, solar_map) if notes else solar_map


def valid_mask(solar_map: GenericMap) -> NDArray[np.bool_]:
    """Pixels that can be used, True = valid: finite, not masked, not the header's value for missing data.

    That value is ANA_MISS, MISSING or BLANK, the last one of whole numbers, or negative.
    """
    data = solar_map.data
    valid: NDArray[np.bool_] = np.isfinite(data)
    if solar_map.mask is not None:
        valid &= ~np.asarray(solar_map.mask, bool)
    for key in ("ana_miss", "missing", "blank"):
        value = solar_map.meta.get(key)
        if not isinstance(value, (int, float)) or not np.isfinite(value):
            continue
        # BLANK is of the stored whole numbers: in a file's data, scaled to fractions, it has become NaN.
        if key != "blank" or data.dtype.kind in "iu" or value < 0:
            valid &= data != value
    return valid
