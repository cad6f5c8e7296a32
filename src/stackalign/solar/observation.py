"""The image that is aligned, and the one it is compared with: read once, at the door."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.units import Quantity
from numpy.typing import ArrayLike, NDArray
from sunpy.map import GenericMap

from stackalign._carriers import plain_array
from stackalign._masks import check_mask
from stackalign._types import FloatArray
from stackalign.errors import DataError
from stackalign.io import read_mask

from .directions import arcsec_per_pixel, step_arcsec
from .distortion import Distortion, read_distortion
from .frames import View, name_of
from .image_hdus import first_map
from .jpeg2000 import is_jpeg2000
from .reading import as_map
from .spice import read_window, spectral_windows
from .valid import valid_mask

__all__ = ["Observation", "Selection"]


@dataclass(frozen=True)
class Selection:
    """Which pixels of an image are compared.

    Parameters
    ----------
    mask : array_like or path-like, optional
        Boolean, of the image's shape, True = valid; or a file of such a mask, see `stackalign.io.read_mask`.
    values : (float, float), optional
        Smallest and largest value; None on a side for no limit.
    field : ((Tx, Tx), (Ty, Ty)), optional
        Limits of the field on the sky, as Quantity or in arcsec, by the uncorrected header.
    exclude : sequence of ((Tx, Tx), (Ty, Ty))
        Boxes that are left out.
    """

    mask: ArrayLike | str | os.PathLike[str] | None = None
    values: tuple[float | None, float | None] | None = None
    field: Any = None
    exclude: Sequence[Any] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left out."""
        return self.mask is None and self.values is None and self.field is None and not len(self.exclude)

    def of(self, solar_map: GenericMap) -> NDArray[np.bool_]:
        """Pixels of a map that are compared, True = compared.

        Raises
        ------
        DataError
            The file of a mask cannot be read.
        ValueError
            A mask is of another shape or type, or limits are not two numbers, the lower one first.
        """
        chosen = np.ones(solar_map.data.shape, np.bool_)
        if self.mask is not None:
            mask: Any = read_mask(self.mask) if isinstance(self.mask, (str, os.PathLike)) else self.mask
            chosen &= check_mask(plain_array(mask, None, "mask"), chosen.shape, of="the target")
        if self.values is not None:
            low, high = _limits(self.values, "values")
            with np.errstate(invalid="ignore"):
                chosen &= (solar_map.data >= low) & (solar_map.data <= high)
        if self.field is not None:
            chosen &= _within(solar_map, self.field, "field")
        for box in self.exclude:
            chosen &= ~_within(solar_map, box, "exclude")
        return chosen


def _limits(limits: Any, what: str) -> tuple[float, float]:
    try:
        low, high = (
            float("nan") if end is None else float(end.to_value(u.arcsec) if isinstance(end, Quantity) else end)
            for end in limits
        )
    except (TypeError, ValueError, u.UnitConversionError) as error:
        msg = f"{what} must be limits (lower, upper), got {limits}"
        raise ValueError(msg) from error
    low, high = -np.inf if np.isnan(low) else low, np.inf if np.isnan(high) else high
    if not low < high:
        msg = f"{what} must be limits with the lower one first, got {limits}"
        raise ValueError(msg)
    return low, high


def _wavelengths(wavelengths: Any) -> Any:
    """Wavelengths that are written as "LOW HIGH UNIT"; what is no text, or "ends", is left as it is."""
    if not isinstance(wavelengths, str) or wavelengths == "ends":
        return wavelengths
    parts = re.fullmatch(r"\s*([\d.eE+-]+)[\s,]+([\d.eE+-]+)\s*([A-Za-z]+)\s*", wavelengths)
    try:
        if parts is None:
            raise ValueError(wavelengths)
        return Quantity([float(parts[1]), float(parts[2])], parts[3])
    except (ValueError, TypeError) as error:
        msg = f'wavelengths must be written as "LOW HIGH UNIT", such as "70.3 70.5 nm", got {wavelengths!r}'
        raise ValueError(msg) from error


def _within(solar_map: GenericMap, box: Any, what: str) -> NDArray[np.bool_]:
    """Pixels of a map in a box ((Tx, Tx), (Ty, Ty)) on the sky."""
    try:
        along_x, along_y = box
    except (TypeError, ValueError) as error:
        msg = f"{what} must be ((Tx, Tx), (Ty, Ty)) in arcsec, got {box}"
        raise ValueError(msg) from error
    ny, nx = solar_map.data.shape
    y, x = np.mgrid[:ny, :nx]
    wcs = solar_map.wcs
    sky = wcs.all_pix2world(np.stack([x.ravel(), y.ravel()], -1), 0)[:, [wcs.wcs.lng, wcs.wcs.lat]] * 3600.0
    sky = (sky + 648000.0) % 1296000.0 - 648000.0
    inside = np.ones(len(sky), np.bool_)
    for values, limits in zip(sky.T, (along_x, along_y), strict=True):
        low, high = _limits(limits, what)
        inside &= (values >= low) & (values <= high)
    return inside.reshape(ny, nx)


@dataclass(frozen=True)
class Observation:
    """A map with what its header means, understood once.

    Parameters
    ----------
    map : GenericMap
    source : Path or None
        The file that it came from.
    hdu : int or None
        HDU in it.
    selected : numpy.ndarray or None
        Pixels that are compared, True = compared; all that are valid by default.
    distortion : Distortion or None
        Where the pixels are by the tables of the file, if these are applied.
    """

    map: GenericMap
    source: Path | None = None
    hdu: int | None = None
    selected: NDArray[np.bool_] | None = None
    distortion: Distortion | None = None

    @classmethod
    def read(
        cls,
        source: Any,
        window: int | str | None = None,
        *,
        interval: Any = None,
        continuum: Any = None,
        repair: bool = False,
    ) -> "Observation":
        """Read a map in any of its forms, or a spectral window of a file; an observation is given back as it is.

        Raises
        ------
        DataError
            See `as_map` and `read_window`.
        ValueError
            A window is chosen of what is no file.
        """
        if isinstance(source, Observation):
            return source
        spectral = {"window": window, "interval": interval, "continuum": continuum}
        stated = [name for name, value in spectral.items() if value is not None]
        if not isinstance(source, (str, os.PathLike)):
            if stated:
                msg = f"{stated[0]} is of a spectral window of a file; the target is not one"
                raise ValueError(msg)
            return cls(as_map(source, repair=repair))
        path = Path(source)
        windows = spectral_windows(path)
        if not windows:
            if stated:
                msg = f"{path} has no spectral windows; leave the {stated[0]} out"
                raise DataError(msg)
            return cls(as_map(path, repair=repair), path)
        collapsed = read_window(path, window, interval=_wavelengths(interval), continuum=_wavelengths(continuum))
        name = collapsed.map.meta.get("extname")
        return cls(collapsed.map, path, next((info.index for info in windows if info.name == name), windows[0].index))

    def with_distortion(self) -> "Observation":
        """The same with the tables of distortions in its file applied.

        Raises
        ------
        DataError
            It is of no file, or the file has none.
        """
        if self.source is None or is_jpeg2000(self.source):
            msg = f"{self.name} is of no FITS file: tables of distortions are read from the file; leave them out"
            raise DataError(msg)
        hdu = first_map(self.source) if self.hdu is None else self.hdu
        return replace(self, distortion=read_distortion(self.source, hdu, self.shape))

    @cached_property
    def name(self) -> str:
        """What to call it in a message."""
        return name_of(self.map)

    @cached_property
    def view(self) -> View:
        """When and from where it was taken, and its coordinates."""
        return View.of(self.map)

    @cached_property
    def steps(self) -> FloatArray:
        """(2,) arcsec along each axis (x, y) of a pixel."""
        return step_arcsec(self.view.wcs)

    @cached_property
    def jacobian(self) -> FloatArray:
        """(2, 2) arcsec (Tx, Ty) per pixel (x, y)."""
        return arcsec_per_pixel(self.view.wcs)

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """Pixels that are compared, True = valid."""
        valid = valid_mask(self.map)
        return valid if self.selected is None else valid & self.selected

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        ny, nx = self.map.data.shape
        return int(ny), int(nx)
