"""Pixels and directions on the sky: there and back, and how long a step is."""

import numpy as np
from astropy.wcs import WCS
from numpy.typing import ArrayLike
from sunpy.map import GenericMap

from stackalign._types import FloatArray
from stackalign.errors import DataError

from .geometry import wrapped

__all__ = ["arcsec_per_pixel", "image_center", "pixel_to_sky", "sky_to_pixel", "step_arcsec"]


def _celestial(wcs: WCS, points: FloatArray) -> tuple[int, int]:
    if wcs.naxis != 2 or not wcs.has_celestial:
        msg = f"a two-dimensional celestial WCS is needed, got the axes {list(wcs.wcs.ctype)}"
        raise DataError(msg)
    if points.shape[-1:] != (2,):
        msg = f"points must have the shape (..., 2), got {points.shape}"
        raise ValueError(msg)
    return int(wcs.wcs.lng), int(wcs.wcs.lat)


def pixel_to_sky(wcs: WCS, points: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Directions (longitude, latitude) in radians of pixels (..., 2), (x, y) from 0; longitudes within half a turn."""
    p = np.asarray(points, np.float64)
    lng, lat = _celestial(wcs, p)
    world = wcs.all_pix2world(p.reshape(-1, 2), 0).reshape(p.shape)
    return wrapped(np.deg2rad(world[..., lng])), np.deg2rad(world[..., lat])


def sky_to_pixel(wcs: WCS, longitude: ArrayLike, latitude: ArrayLike) -> FloatArray:
    """Pixels (..., 2) of directions in radians; NaN stays NaN."""
    world = np.stack(np.broadcast_arrays(np.asarray(longitude), np.asarray(latitude)), axis=-1).astype(np.float64)
    lng, _ = _celestial(wcs, world)
    if lng == 1:
        world = world[..., ::-1]
    flat = np.rad2deg(world).reshape(-1, 2)
    pixels = np.full(flat.shape, np.nan)
    known = np.isfinite(flat).all(axis=1)
    if known.any():
        pixels[known] = wcs.all_world2pix(flat[known], 0)
    return pixels.reshape(world.shape)


def step_arcsec(wcs: WCS) -> FloatArray:
    """Length on the sky of one step along each pixel axis (x, y), in arcsec: through the whole matrix, not CDELT.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        With celestial axes first.

    Returns
    -------
    numpy.ndarray
        (2,) float64.

    Examples
    --------
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> solar.step_arcsec(seen.raster.wcs).round(2).tolist()
    [8.0, 4.0]
    """
    steps: FloatArray = np.linalg.norm(wcs.pixel_scale_matrix, axis=0) * 3600.0
    return steps


def arcsec_per_pixel(wcs: WCS) -> FloatArray:
    """(2, 2) matrix J from steps (x, y) in pixels to steps (Tx, Ty) in arcsec: a shift is J d, a covariance J C J^T.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        With celestial axes first.

    Returns
    -------
    numpy.ndarray
        (2, 2) float64.

    Examples
    --------
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> solar.arcsec_per_pixel(seen.raster.wcs).round(2).tolist()
    [[7.97, -0.35], [0.7, 3.98]]
    """
    matrix: FloatArray = wcs.pixel_scale_matrix[[wcs.wcs.lng, wcs.wcs.lat]] * 3600.0
    return matrix


def image_center(solar_map: GenericMap) -> FloatArray:
    """Middle of a map's image, (x, y) in pixels from 0."""
    ny, nx = solar_map.data.shape
    return np.array([(nx - 1) / 2, (ny - 1) / 2])
