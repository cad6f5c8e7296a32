"""One map's image on the grid of another."""

from contextlib import ExitStack
from typing import Any

import numpy as np
import reproject
from numpy.typing import NDArray
from sunpy.coordinates import SphericalScreen, propagate_with_solar_surface
from sunpy.map import GenericMap
from sunpy.util import MetaDict

from stackalign.errors import DataError

from .frames import name_of
from .mapping import pixel_mapping
from .maps import new_map
from .reading import as_map
from .sampling import sample
from .valid import valid_mask

__all__ = ["reproject_map", "reproject_map_to_reference"]

_KEPT = ("bunit", "btype", "wavelnth", "waveunit", "filename", "xposure", "level")
"""Keys that describe the values of an image, not its coordinates."""


def reproject_map(
    source: Any,
    reference: Any,
    *,
    algorithm: str = "interpolation",
    order: int = 1,
    rotation: str | None = None,
    height: float = 1.0,
    screen: str = "nearest",
) -> GenericMap:
    """Resample a map on the grid, in the frame, of another.

    Parameters
    ----------
    source, reference : GenericMap
        Or what else `as_map` takes.
    algorithm : {"interpolation", "adaptive", "exact"}
        Interpolation in the nearest pixels; or one of the `reproject` package that averages over the area of the
        new pixels, for a reference with much larger pixels. These two know no height, and turn the surface by sunpy's
        model.
    order : {1, 3}
        Of the interpolation: bilinear or cubic spline.
    rotation : str, optional
        Model by which the solar surface turns between the two dates ("howard", "snodgrass", "allen", "rigid"); by
        default points stay where they are among the stars. What lies beyond the limb stays in any case.
    height : float
        Radius of the surface in solar radii; 1.004 for 17.4 nm.
    screen : {"nearest", "sphere", "plane"}
        Where what is seen beyond the limb is taken to be, see `pixel_mapping`.

    Returns
    -------
    GenericMap
        float64 with NaN where the source has nothing valid.

    Raises
    ------
    DataError
        The footprints do not overlap.

    Examples
    --------
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> solar.reproject_map(seen.frames[0], seen.raster).data.shape
    (60, 24)
    """
    image, grid = as_map(source), as_map(reference)
    if algorithm == "interpolation":
        data = _interpolated(image, grid, order, rotation=rotation, height=height, screen=screen)
    elif algorithm in ("adaptive", "exact"):
        data = _averaged(image, grid, algorithm, rotation)
    else:
        msg = f"algorithm must be interpolation, adaptive or exact, got {algorithm!r}"
        raise ValueError(msg)
    if not np.isfinite(data).any():
        msg = f"{name_of(image)} and {name_of(grid)} do not overlap; check their pointing, observers and dates"
        raise DataError(msg)
    header = MetaDict(grid.wcs.to_header())
    header.update({key: image.meta[key] for key in _KEPT if key in image.meta})
    return new_map(data, header, image)


def _interpolated(image: GenericMap, grid: GenericMap, order: int, **geometry: Any) -> NDArray[np.float64]:
    ny, nx = grid.data.shape
    x, y = np.meshgrid(np.arange(nx, dtype=np.float64), np.arange(ny, dtype=np.float64))
    points = pixel_mapping(grid, image, **geometry)(np.stack([x, y], axis=-1))
    return sample(image.data, valid_mask(image), points, order=order)


def _averaged(image: GenericMap, grid: GenericMap, algorithm: str, rotation: str | None) -> NDArray[np.float64]:
    function = {"adaptive": reproject.reproject_adaptive, "exact": reproject.reproject_exact}[algorithm]
    data = np.where(valid_mask(image), image.data, np.nan)
    with ExitStack() as stack:
        stack.enter_context(SphericalScreen(image.observer_coordinate, only_off_disk=True))
        if rotation is not None:
            stack.enter_context(propagate_with_solar_surface(rotation_model=rotation))
        values = function((data, image.wcs), grid.wcs, shape_out=grid.data.shape, return_footprint=False)
    return np.asarray(values, np.float64)


def reproject_map_to_reference(target_map: Any, reference_map: Any) -> GenericMap:
    """Resample the target on the reference's grid by bilinear interpolation, NaN outside; see `reproject_map`.

    Parameters
    ----------
    target_map : GenericMap
        What is resampled.
    reference_map : GenericMap
        Whose grid is taken.

    Returns
    -------
    GenericMap
        The target on that grid.

    Examples
    --------
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> solar.reproject_map_to_reference(seen.frames[0], seen.raster).data.shape
    (60, 24)
    """
    return reproject_map(target_map, reference_map)
