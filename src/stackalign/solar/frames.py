"""Maps as seen by `geometry`: when and from where they were taken, and how their pixels correspond."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.time import Time
from astropy.wcs import WCS
from numpy.typing import ArrayLike
from sunpy.coordinates import HeliocentricInertial
from sunpy.map import GenericMap
from sunpy.sun import models

from stackalign._types import FloatArray
from stackalign.errors import DataError

from .dates import with_time_of_day
from .geometry import SCREENS, on_sky, solar_points, turned, wrapped
from .pixels import PixelTransform

__all__ = [
    "ColumnMapping",
    "ColumnMoments",
    "PixelMapping",
    "View",
    "arcsec_per_pixel",
    "check_screen",
    "column_mapping",
    "image_center",
    "local_transform",
    "name_of",
    "observation_time",
    "observer_position",
    "pixel_mapping",
    "pixel_to_sky",
    "pixels_to_pixels",
    "rotation_angle",
    "sky_to_pixel",
    "step_arcsec",
    "surface_radius",
]

PixelMapping = Callable[[ArrayLike], FloatArray]
"""Pixels (..., 2) in the order (x, y) of one map to those of another; NaN where the other cannot see the point."""

SAME_PLACE = 1e-10
"""Share of the distance to the Sun within which two observers are one: a millionth of an arcsec."""

ROTATION_MODELS = ("howard", "snodgrass", "allen", "rigid")


def name_of(solar_map: GenericMap) -> str:
    """What to call a map in a message: its file's name where the header has one."""
    return str(solar_map.meta.get("filename") or solar_map.meta.get("extname") or solar_map.latex_name or "the map")


def observation_time(solar_map: GenericMap) -> Time:
    """When the coordinates of a map hold: DATE-AVG, else DATE-OBS, DATE-BEG, DATE-END, T_OBS.

    A day in one card and a time of day in another, DATE_OBS and TIME_OBS, are joined.

    Parameters
    ----------
    solar_map : GenericMap
        The map.

    Returns
    -------
    astropy.time.Time
        A single time.

    Raises
    ------
    DataError
        The header has no date with a time of day; neither the present time nor midnight is a substitute.

    Examples
    --------
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> solar.observation_time(seen.raster).isot
    '2024-10-17T00:08:00.000'
    """
    return with_time_of_day(solar_map, name_of(solar_map)).reference_date


def observer_position(observer: SkyCoord, time: Time | None = None) -> FloatArray:
    """Position of an observer in the inertial frame of `geometry`, in metres, (3,) or (N, 3) for N observers."""
    frame = HeliocentricInertial(obstime=observer.obstime if time is None else time)
    position: FloatArray = np.moveaxis(observer.transform_to(frame).cartesian.xyz.to_value(u.m), 0, -1)
    return position


def map_position(solar_map: GenericMap) -> FloatArray:
    """Position of a map's observer, (3,)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is missing in a header is said once, by the reader
        timed = with_time_of_day(solar_map, name_of(solar_map))
        return observer_position(timed.observer_coordinate, timed.reference_date)


def surface_radius(solar_map: GenericMap, height: float = 1.0) -> float:
    """Radius in metres of the surface that a map is taken to show: `height` (1.004 for 17.4 nm) times RSUN_REF."""
    return float(solar_map.rsun_meters.to_value(u.m)) * _checked_height(height)


def _checked_height(height: float) -> float:
    if not (np.isfinite(height) and 0.9 < height < 2):
        msg = f"height must be in solar radii, between 0.9 and 2 (1.004 for 17.4 nm), got {height}"
        raise ValueError(msg)
    return height


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


@dataclass(frozen=True)
class ColumnMoments:
    """When the columns of a raster were exposed, and from where.

    Parameters
    ----------
    times : Time
        (N,).
    positions : numpy.ndarray
        (N, 3) of the spacecraft, metres, heliocentric inertial.
    """

    times: Time
    positions: FloatArray


@dataclass(frozen=True)
class View:
    """When and from where a map was taken, and the coordinates of its pixels.

    Parameters
    ----------
    time : Time
    position : numpy.ndarray
        (3,) of the observer, metres, heliocentric inertial.
    wcs : WCS
    radius : float
        RSUN_REF in metres.
    """

    time: Time
    position: FloatArray
    wcs: WCS
    radius: float

    @classmethod
    def of(cls, source: "GenericMap | View") -> "View":
        """The view of a map; a view is given back as it is."""
        if isinstance(source, View):
            return source
        return cls(observation_time(source), map_position(source), source.wcs, surface_radius(source))


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
    radius, wcs, there = here.radius * _checked_height(height), (here.wcs, other.wcs), other.position
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
        "radius": here.radius * _checked_height(height),
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
