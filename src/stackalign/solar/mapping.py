"""How the pixels of two maps correspond, by way of the Sun that both show."""

from collections.abc import Callable, Sequence
from typing import Any

import astropy.units as u
import numpy as np
from astropy.wcs import WCS
from numpy.typing import ArrayLike
from sunpy.map import GenericMap
from sunpy.sun import models

from stackalign._types import FloatArray
from stackalign.errors import DataError

from .directions import pixel_to_sky, sky_to_pixel
from .frames import ColumnMoments, View, checked_height
from .geometry import SCREENS, on_sky, solar_points, turned
from .pixels import PixelTransform

__all__ = [
    "ColumnMapping",
    "PixelMapping",
    "check_screen",
    "column_mapping",
    "local_transform",
    "pixel_mapping",
    "pixels_to_pixels",
    "rotation_angle",
]


PixelMapping = Callable[[ArrayLike], FloatArray]
"""Pixels (..., 2) in the order (x, y) of one map to those of another; NaN where the other cannot see the point."""

SAME_PLACE = 1e-10
"""Share of the distance to the Sun within which two observers are one: a millionth of an arcsec."""

ROTATION_MODELS = ("howard", "snodgrass", "allen", "rigid")


def rotation_angle(latitude: ArrayLike, seconds: ArrayLike, model: str = "howard") -> FloatArray:
    """Angle in radians by which the surface turns in that time, against the stars; latitude in radians."""
    _check_rotation(model)
    # The models are rates; asking for a day of each latitude keeps the angles below a turn.
    daily = models.differential_rotation(1 * u.day, np.asarray(latitude) * u.rad, model=model)
    angle: FloatArray = daily.to_value(u.rad) * np.asarray(seconds, np.float64) / 86400.0
    return angle


def check_screen(screen: str) -> str:
    """Raise ValueError for a screen that is not known; gives it back."""
    if screen not in SCREENS:
        msg = f"screen must be one of {', '.join(SCREENS)}, got {screen!r}"
        raise ValueError(msg)
    return screen


def _check_rotation(model: str | None) -> None:
    if model is not None and model not in ROTATION_MODELS:
        msg = f"rotation must be None or one of {', '.join(ROTATION_MODELS)}, got {model!r}"
        raise ValueError(msg)


def pixels_to_pixels(
    points: ArrayLike,
    source: WCS,
    source_position: ArrayLike,
    destination: WCS,
    destination_position: ArrayLike,
    *,
    radius: float,
    seconds: ArrayLike = 0.0,
    rotation: str | None = None,
    screen: str = "nearest",
) -> FloatArray:
    """Pixels of one image that show what pixels of another show.

    Parameters
    ----------
    points : array_like
        (..., 2) pixels (x, y) of the source.
    source, destination : WCS
    source_position, destination_position : array_like
        Observers' positions, (3,), or (..., 3) for each point.
    radius : float
        Of the surface in metres.
    seconds : array_like
        Time from the source's image to the destination's, one for all or (...).
    rotation : str, optional
        Model by which the surface turns in that time; None leaves points where they are among the stars.
    screen : str
        Where what is seen beyond the limb is taken to be, see `geometry.SCREENS`.

    Returns
    -------
    numpy.ndarray
        (..., 2), NaN where the point is not seen.
    """
    surface_points = solar_points(*pixel_to_sky(source, points), source_position, radius, screen)
    if rotation is not None:
        height = surface_points.position[..., 2] / np.linalg.norm(surface_points.position, axis=-1)
        surface_points = turned(surface_points, rotation_angle(np.arcsin(height), seconds, rotation))
    return sky_to_pixel(destination, *on_sky(surface_points, destination_position))


ColumnMapping = Callable[[ArrayLike, ArrayLike], FloatArray]
"""Pixels (..., 2) of a raster, and the columns in which they were exposed, to pixels of another map."""


def column_mapping(
    source: GenericMap | View,
    destination: GenericMap | View,
    moments: ColumnMoments,
    *,
    rotation: str | None = None,
    height: float = 1.0,
    screen: str = "nearest",
) -> ColumnMapping:
    """Make the function of `pixel_mapping` for a raster, each of whose columns has a moment and place of its own."""
    here, other = View.of(source), View.of(destination)
    radius, wcs, there = here.radius * checked_height(height), (here.wcs, other.wcs), other.position
    seconds = np.asarray((other.time - moments.times).to_value(u.s))
    index = np.arange(len(seconds))

    def mapping(points: ArrayLike, columns: ArrayLike) -> FloatArray:
        # Beyond the first and last column there are none; what is sampled there is no part of the answer.
        at = np.clip(np.asarray(columns, np.float64), 0, len(seconds) - 1)
        positions = np.stack([np.interp(at, index, moments.positions[:, i]) for i in range(3)], axis=-1)
        after = np.interp(at, index, seconds)
        return pixels_to_pixels(
            points, wcs[0], positions, wcs[1], there, radius=radius, seconds=after, rotation=rotation, screen=screen
        )

    return mapping


def pixel_mapping(
    source: GenericMap | View,
    destination: GenericMap | View,
    *,
    rotation: str | None = None,
    height: float = 1.0,
    screen: str = "nearest",
) -> PixelMapping:
    """Make the function that takes pixels (..., 2) of one map to those of another.

    Parameters
    ----------
    source, destination : GenericMap or View
    rotation : str, optional
        Model by which the surface turns between the two dates.
    height : float
        Radius of the surface in units of the source's RSUN_REF.
    screen : {"nearest", "sphere", "plane"}
        Where what is seen beyond the limb is taken to be: at the point of the line of sight that is nearest to the Sun,
        on the sphere around the source's observer through the middle of the Sun, or on the plane through it that faces
        that observer.

    Returns
    -------
    callable
        Takes pixels (..., 2) in (x, y) to pixels (..., 2), NaN where there is none.

    Examples
    --------
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> to_frame = solar.pixel_mapping(seen.raster, seen.frames[0], rotation="howard")
    >>> to_frame([[0, 0], [10, 20]]).shape
    (2, 2)
    """
    here, there = View.of(source), View.of(destination)
    seconds = (there.time - here.time).to_value(u.s)
    settings: dict[str, Any] = {
        "radius": here.radius * checked_height(height),
        "seconds": seconds,
        "rotation": rotation,
        "screen": check_screen(screen),
    }
    wcs, position = (here.wcs, there.wcs), (here.position, there.position)
    _check_rotation(rotation)
    still = rotation is None or seconds == 0.0
    if still and np.linalg.norm(position[0] - position[1]) < SAME_PLACE * np.linalg.norm(position[0]):
        # Directions are the same, whatever they point at.
        return lambda points: sky_to_pixel(wcs[1], *pixel_to_sky(wcs[0], points))

    def mapping(points: ArrayLike) -> FloatArray:
        return pixels_to_pixels(points, wcs[0], position[0], wcs[1], position[1], **settings)

    return mapping


def local_transform(mapping: PixelMapping, shape: Sequence[int], *, points_per_axis: int = 9) -> PixelTransform:
    """Find the affine transform nearest to a mapping over an image, where the mapping is known.

    Parameters
    ----------
    mapping : callable
        Takes points (..., 2) to points (..., 2), NaN where it is not known, as `pixel_mapping` makes it.
    shape : sequence of int
        (ny, nx).
    points_per_axis : int
        Points along each axis at which it is asked.

    Returns
    -------
    PixelTransform
        By least squares.

    Raises
    ------
    DataError
        Fewer than three points, or points on one line, are known: the images do not meet.

    Examples
    --------
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> to_frame = solar.pixel_mapping(seen.raster, seen.frames[0])
    >>> solar.local_transform(to_frame, seen.raster.data.shape).matrix.round(2).tolist()
    [[1.0, -0.04], [0.09, 0.5]]
    """
    ny, nx = shape
    x, y = np.meshgrid(np.linspace(0, nx - 1, points_per_axis), np.linspace(0, ny - 1, points_per_axis))
    q = np.stack([x.ravel(), y.ravel()], axis=-1)
    p = mapping(q)
    known = np.isfinite(p).all(axis=1)
    if known.sum() >= 3:
        middle = q[known].mean(axis=0)
        design = np.concatenate([q[known] - middle, np.ones((int(known.sum()), 1))], axis=1)
        if np.linalg.matrix_rank(design) == 3:
            solution = np.linalg.lstsq(design, p[known], rcond=None)[0]
            matrix = solution[:2].T
            return PixelTransform(matrix, solution[2] - matrix @ middle)
    msg = "the two maps do not see the same part of the Sun; check their pointing, observers and dates"
    raise DataError(msg)
