"""When and from where maps were taken."""

import warnings
from dataclasses import dataclass
from functools import lru_cache

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.time import Time
from astropy.wcs import WCS
from sunpy.coordinates import HeliocentricInertial, HeliographicStonyhurst
from sunpy.map import GenericMap

from stackalign._types import FloatArray

from .dates import with_time_of_day

__all__ = [
    "ColumnMoments",
    "View",
    "checked_height",
    "map_position",
    "name_of",
    "observation_time",
    "observer_position",
    "surface_radius",
]


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
    time = observer.obstime if time is None else time
    if not (isinstance(observer.frame, HeliographicStonyhurst) and observer.isscalar and time.isscalar):
        return _inertial(observer, time)
    # Several maps are of one moment and place: the two that are compared, or the windows of one raster.
    place = observer.spherical
    key = (*(float(part.si.value) for part in (place.lon, place.lat, place.distance)), *_moment(observer.obstime))
    return np.array(_inertial_position(key, _moment(time)))


def _moment(time: Time) -> tuple[float, float]:
    return (float(time.tdb.jd1), float(time.tdb.jd2))


@lru_cache(maxsize=256)
def _inertial_position(place: tuple[float, ...], moment: tuple[float, float]) -> tuple[float, ...]:
    """Position (x, y, z) of an observer by longitude, latitude (rad), distance (m) and moment (TDB), at a moment."""
    longitude, latitude, distance, *known = place
    there = HeliographicStonyhurst(
        longitude * u.rad, latitude * u.rad, distance * u.m, obstime=Time(*known, format="jd", scale="tdb")
    )
    return tuple(_inertial(SkyCoord(there), Time(*moment, format="jd", scale="tdb")).tolist())


def _inertial(observer: SkyCoord, time: Time) -> FloatArray:
    position: FloatArray = np.moveaxis(
        observer.transform_to(HeliocentricInertial(obstime=time)).cartesian.xyz.to_value(u.m), 0, -1
    )
    return position


def map_position(solar_map: GenericMap) -> FloatArray:
    """Position of a map's observer, (3,)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is missing in a header is said once, by the reader
        timed = with_time_of_day(solar_map, name_of(solar_map))
        return observer_position(timed.observer_coordinate, timed.reference_date)


def surface_radius(solar_map: GenericMap, height: float = 1.0) -> float:
    """Radius in metres of the surface that a map is taken to show: `height` (1.004 for 17.4 nm) times RSUN_REF."""
    return float(solar_map.rsun_meters.to_value(u.m)) * checked_height(height)


def checked_height(height: float) -> float:
    """Raise ValueError for a height that is not in solar radii; gives it back."""
    if not (np.isfinite(height) and 0.9 < height < 2):
        msg = f"height must be in solar radii, between 0.9 and 2 (1.004 for 17.4 nm), got {height}"
        raise ValueError(msg)
    return height


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
