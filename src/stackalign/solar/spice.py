"""Spectral windows of SPICE, (t, wavelength, y, x), collapsed to a map that can be aligned."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.units import Quantity
from numpy.typing import NDArray
from sunpy.map import GenericMap

from stackalign._carriers import plain_array
from stackalign._types import FloatArray
from stackalign.errors import DataError
from stackalign.io._gate import refuse_special

from .flatten import flat_header
from .image_hdus import UNREADABLE, one_line, quiet
from .jpeg2000 import is_jpeg2000
from .reading import as_map, read_map, why_unreadable
from .wcs import read_linear

__all__ = ["CollapsedWindow", "WindowInfo", "collapse_window", "read_window", "slit_rows", "spectral_windows"]


DETECTOR_ROWS = 1024
SLIT_ROWS = {"SW": 600, "LW": 626}
"""Rows of the detectors that the straight part of the slit lights, in their middle; the dumbbells are beyond."""
SLIT_MARGIN = 20

ENDS = 0.1
"""Share of a window's channels at each end that is taken for continuum."""


@dataclass(frozen=True)
class WindowInfo:
    """A window of a file: its HDU, name, shape (t, wavelength, y, x) and range of wavelengths."""

    index: int
    name: str
    shape: tuple[int, ...]
    wavelengths: Quantity
    level: str
    dumbbell: bool


@dataclass(frozen=True)
class CollapsedWindow:
    """A map made of a window, and of how many channels each of its pixels is made.

    Parameters
    ----------
    map : GenericMap
        With time as the third axis of its header.
    count : numpy.ndarray
        (ny, nx) valid channels.
    channels : int
        Of how many.
    """

    map: GenericMap
    count: NDArray[np.intp]
    channels: int


def spectral_windows(path: str | os.PathLike[str]) -> list[WindowInfo]:
    """List the windows of a file, four-dimensional HDUs with a wavelength axis.

    Parameters
    ----------
    path : path-like
        A FITS file of SPICE.

    Returns
    -------
    list of WindowInfo
        In the order of the file.

    Raises
    ------
    DataError
        The file cannot be read.

    Examples
    --------
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> path = solar.write_map(seen.raster, "raster.fits")
    >>> solar.spectral_windows(path)  # an image has none
    []
    """
    windows: list[WindowInfo] = []
    refuse_special(path)
    if is_jpeg2000(path):
        return windows
    try:
        with quiet(), fits.open(path, memmap=True) as hdus:
            for index, hdu in enumerate(hdus):
                header = hdu.header
                if hdu.is_image and header.get("NAXIS") == 4 and str(header.get("CTYPE3", "")).startswith("WAVE"):
                    shape = tuple(int(header[f"NAXIS{i}"]) for i in (4, 3, 2, 1))
                    name = str(header.get("EXTNAME") or f"HDU {index}")
                    light = _wavelengths(header, shape[1])
                    dumbbell = int(header.get("DUMBBELL") or 0) > 0
                    windows.append(
                        WindowInfo(index, name, shape, light[[0, -1]], str(header.get("LEVEL", "")), dumbbell)
                    )
    except UNREADABLE as error:
        raise DataError(why_unreadable(Path(path), error)) from error
    return windows


def _wavelengths(header: Any, n: int) -> Quantity:
    linear = read_linear(header)
    value = float(header["CRVAL3"]) + linear.cd[2, 2] * (np.arange(1, n + 1) - linear.crpix[2])
    return value * u.Unit(str(header.get("CUNIT3") or "nm"))


def slit_rows(header: Any, ny: int) -> slice:
    """Rows that the straight part of the slit lights, without dumbbells and edges.

    From DETECTOR, NBIN2 and PXBEG2 (the first row that was read out, from 1); all rows where these are not there.
    """
    height = SLIT_ROWS.get(str(header.get("DETECTOR", "")).strip().upper())
    if height is None or header.get("PXBEG2") is None:
        return slice(0, ny)
    bins = float(header.get("NBIN2") or 1)
    first = ((DETECTOR_ROWS - height) / 2 + SLIT_MARGIN - (float(header["PXBEG2"]) - 1)) / bins
    last = first + (height - 2 * SLIT_MARGIN) / bins
    rows = slice(max(0, int(np.ceil(first))), min(ny, int(np.floor(last))))
    if rows.start >= rows.stop:
        msg = f"no row of the window lies on the slit (PXBEG2 = {header['PXBEG2']}, {ny} rows)"
        raise DataError(msg)
    return rows


def read_window(
    path: str | os.PathLike[str],
    window: int | str | None = None,
    *,
    interval: Quantity | None = None,
    continuum: str | Quantity | Sequence[Quantity] | None = None,
    rows: str | slice | None = "slit",
    statistic: str = "mean",
    min_valid: float = 0.5,
    repeat: int = 0,
) -> CollapsedWindow:
    """Read a window of a SPICE file and collapse it; a two-dimensional (L2.5) file gives its map.

    Parameters
    ----------
    path : path-like
    window : int or str, optional
        Number of the window, from 0, or its name or a part of it that no other has; by default the only one, or the
        one without dumbbells that has the most pixels.
    interval, continuum, rows, statistic, min_valid, repeat
        See `collapse_window`.

    Returns
    -------
    CollapsedWindow
        The map, and of how much each of its pixels was made.

    Raises
    ------
    DataError
        The file cannot be read, has no such window, or the window has nothing valid.

    Examples
    --------
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> path = solar.write_map(seen.raster, "raster.fits")
    >>> solar.read_window(path).map.data.shape  # an image is its own only window
    (60, 24)
    """
    infos = spectral_windows(path)
    if not infos:
        solar_map = read_map(path)
        return CollapsedWindow(solar_map, np.isfinite(solar_map.data).astype(np.intp), 1)
    info = _chosen(infos, window, path)
    try:
        with quiet(), fits.open(path, memmap=True) as hdus:
            header = hdus[info.index].header.copy()
            cube = np.asarray(hdus[info.index].data)
    except UNREADABLE as error:
        msg = f"{path}: the window {info.name!r} cannot be read: {one_line(error)}"
        raise DataError(msg) from error
    header.setdefault("FILENAME", Path(path).name)
    return collapse_window(
        cube,
        header,
        interval=interval,
        continuum=continuum,
        rows=rows,
        statistic=statistic,
        min_valid=min_valid,
        repeat=repeat,
    )


def _chosen(infos: list[WindowInfo], window: int | str | None, path: Any) -> WindowInfo:
    names = ", ".join(f"{k}: {info.name}" for k, info in enumerate(infos))
    if window is None:
        # The largest raster; a dumbbell window is small and shows the slit's ends.
        return max(infos, key=lambda info: (not info.dumbbell, info.shape[3] * info.shape[2], info.shape[1]))
    if isinstance(window, int):
        if 0 <= window < len(infos):
            return infos[window]
    else:
        fitting = [i for i in infos if i.name == window] or [i for i in infos if window.lower() in i.name.lower()]
        if len(fitting) == 1:
            return fitting[0]
    msg = f"{path} has no window {window!r}, or more than one; its windows are {names}"
    raise DataError(msg)


def _is_valid(spectra: FloatArray, header: Any, *, integers: bool) -> NDArray[np.bool_]:
    """Which values are numbers, and not those that stand for none."""
    valid = np.isfinite(spectra)
    for key in ("ANA_MISS", "BLANK"):
        if isinstance(header.get(key), (int, float)) and (key == "ANA_MISS" or integers):
            valid &= spectra != header[key]
    return valid


def collapse_window(
    cube: NDArray[Any],
    header: Any,
    *,
    interval: Quantity | None = None,
    continuum: str | Quantity | Sequence[Quantity] | None = None,
    rows: str | slice | None = "slit",
    statistic: str = "mean",
    min_valid: float = 0.5,
    repeat: int = 0,
) -> CollapsedWindow:
    """Collapse a window along wavelength.

    Parameters
    ----------
    cube : array
        (t, wavelength, y, x); NaN is missing, and so is the header's BLANK or ANA_MISS.
    header : mapping
        Of the window.
    interval : Quantity, optional
        (2,) wavelengths between which channels count; all of the window by default.
    continuum : "ends", Quantity or sequence of Quantity, optional
        What is taken off: a straight line through the channels at the window's ends (a tenth at each), or in one or
        more intervals (2,). A pixel with one such channel loses its value, one with none is invalid.
    rows : "slit", slice or None
        Rows that are kept, the others are NaN: those of the slit without dumbbells, a slice of rows, or all.
    statistic : {"mean", "sum"}
        Of the valid channels; the sum is the mean times the number of channels, for missing ones are not dark ones.
    min_valid : float
        Share of the channels that must be valid, else the pixel is NaN.
    repeat : int
        Index along time, for a raster that was repeated.

    Returns
    -------
    CollapsedWindow

    Raises
    ------
    DataError
        The window is no raster, has no channel in the interval, or nothing valid.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> header = seen.raster.fits_header
    >>> for key, value in {"CTYPE3": "WAVE", "CUNIT3": "nm", "CRPIX3": 1.0, "CRVAL3": 70.4, "CDELT3": 0.01}.items():
    ...     header[key] = value
    >>> header["PC3_1"], header["PC3_3"] = 0.0, 1.0
    >>> cube = np.stack([seen.raster.data] * 5)[None]
    >>> solar.collapse_window(cube, header, rows=None).map.data.shape
    (60, 24)
    """
    hidden = np.ma.getmaskarray(cube) if isinstance(cube, np.ma.MaskedArray) else None
    cube = plain_array(cube, None, "cube") if hidden is None else np.ma.getdata(cube)
    if cube.ndim != 4 or str(header.get("CTYPE3", ""))[:4] != "WAVE":
        msg = f"a window (t, wavelength, y, x) is needed, got the shape {cube.shape}, CTYPE3 = {header.get('CTYPE3')!r}"
        raise DataError(msg)
    name = str(header.get("EXTNAME") or header.get("FILENAME") or "the window")
    if cube.shape[3] < 2:
        msg = f"{name} is a sit-and-stare, one column over time: there is no image to align"
        raise DataError(msg)
    if not 0 <= repeat < cube.shape[0]:
        msg = f"{name} has {cube.shape[0]} repetitions; there is no number {repeat}"
        raise DataError(msg)
    if statistic not in ("mean", "sum"):
        msg = f"statistic must be mean or sum, got {statistic!r}"
        raise ValueError(msg)
    light = _wavelengths(header, cube.shape[1])
    use = _between(light, interval, name)
    spectra = np.asarray(cube[repeat], np.float64)
    valid = _is_valid(spectra, header, integers=cube.dtype.kind in "iu")
    if hidden is not None:
        valid &= ~hidden[repeat]
    spectra = np.where(valid, spectra, 0.0)
    if continuum is not None:
        base, known = _continuum(spectra, valid, light, continuum, name)
        spectra = np.where(valid, spectra - base, 0.0)
        valid &= known
    count = valid[use].sum(axis=0)
    channels = int(use.sum())
    enough = count >= max(1.0, min_valid * channels)
    kept = np.zeros(enough.shape[0], bool)
    kept[slit_rows(header, len(kept)) if rows == "slit" else slice(None) if rows is None else rows] = True
    enough &= kept[:, None]
    if not enough.any():
        msg = f"{name} has no valid pixel; choose another window or interval"
        raise DataError(msg)
    image = np.full(enough.shape, np.nan)
    np.divide((spectra * valid)[use].sum(axis=0), count, out=image, where=enough)
    image *= channels if statistic == "sum" else 1
    return CollapsedWindow(as_map((image, flat_header(header, repeat))), count, channels)


def _between(light: Quantity, interval: Quantity | None, name: str) -> NDArray[np.bool_]:
    if interval is None:
        return np.ones(len(light), bool)
    low, high = sorted(Quantity(interval).to(light.unit, equivalencies=u.spectral()).value)
    use = (light.value >= low) & (light.value <= high)
    if not use.any():
        span = f"{light.value.min():.4f} to {light.value.max():.4f} {light.unit}"
        msg = f"{name} has no channel between {low:g} and {high:g} {light.unit}; it has {span}"
        raise DataError(msg)
    return np.asarray(use)


def _continuum(
    spectra: FloatArray, valid: NDArray[np.bool_], light: Quantity, continuum: Any, name: str
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Straight line through the valid continuum channels of each spectrum, and where there are any."""
    if isinstance(continuum, str):
        if continuum != "ends":
            msg = f"continuum must be ends or intervals of wavelengths, got {continuum!r}"
            raise ValueError(msg)
        n = max(1, round(ENDS * len(light)))
        chosen = np.r_[np.ones(n, bool), np.zeros(max(0, len(light) - 2 * n), bool), np.ones(n, bool)][: len(light)]
    else:
        one = isinstance(continuum, Quantity) and continuum.ndim == 1
        chosen = np.any([_between(light, part, name) for part in ([continuum] if one else continuum)], axis=0)
    x = (light.value - light.value.mean())[:, None, None]
    weight = (valid & chosen[:, None, None]).astype(np.float64)
    n = weight.sum(axis=0)
    known = n > 0
    total = np.where(known, n, 1.0)
    mean_x, mean_y = (weight * x).sum(axis=0) / total, (weight * spectra).sum(axis=0) / total
    spread = (weight * (x - mean_x) ** 2).sum(axis=0)
    slope = np.divide(
        (weight * (x - mean_x) * (spectra - mean_y)).sum(axis=0), spread, out=np.zeros_like(spread), where=spread > 0
    )
    return mean_y + slope * (x - mean_x), known
