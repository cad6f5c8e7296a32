"""The columns of a raster: when each was exposed, and from where."""

import re
import warnings
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.time import Time
from scipy.interpolate import make_interp_spline
from sunpy.coordinates import get_earth
from sunpy.map import GenericMap

from stackalign._types import FloatArray
from stackalign.errors import DataError, StackalignWarning

from .dates import complete_dates, parse_moment
from .directions import step_arcsec
from .frames import ColumnMoments, map_position, name_of, observation_time, observer_position, surface_radius
from .wcs import read_linear

__all__ = [
    "as_times",
    "axis_times",
    "column_moments",
    "column_positions",
    "column_times",
    "time_axis",
    "turned_pixels",
    "unknown_duration",
]


SAME_PLACE = 2e-3
"""Two positions of one spacecraft agree within this share of the distance to the Sun: a tenth of a degree."""

FASTEST = 2.9e-6
"""Radians a second by which the surface turns at the equator."""

SLACK = 3600.0
"""Seconds by which a raster's date may lie outside the times of its columns, beyond the length of the raster."""

NEGLIGIBLE = 0.02
"""Pixels by which the surface may turn during a raster whose columns are taken to be of one moment."""


_IMAGERS = re.compile(
    r"\b(AIA|HMI|EIT|LASCO|MDI|EUI|HRI\w*|FSI|PHI|METIS|WISPR|TRACE|XRT|SXT|SOT/[WN]B|SJI|VBI|SUVI|SWAP|EUVI|COR[12])\b",
    re.IGNORECASE,
)
"""Instruments that take whole images, perhaps from several exposures."""


def time_axis(header: Any) -> int | None:
    """Number (from 1) of the axis that is time, or None."""
    for i in range(1, 10):
        if re.fullmatch(r"(UTC|TAI|TT|TDB|TIME)( .*)?", str(header.get(f"CTYPE{i}", "")).strip().upper()):
            return i
    return None


def as_times(values: Any) -> Time:
    """Take times as astropy, NumPy, datetime or text give them."""
    if isinstance(values, Time):
        return values
    array = np.asarray(values)
    return Time(array if array.dtype.kind in "MU" else array.tolist(), scale="utc")


def column_times(header: Any, shape: tuple[int, ...]) -> Time:
    """Times of the middle of the exposure of each column, from a header's time axis.

    Parameters
    ----------
    header : mapping
        With an axis UTC or TIME whose values depend on x, as in SPICE's files: PC3_1 or PC4_1, of either sign. Its zero
        is DATEREF, else MJDREF, else the beginning of the observation.
    shape : tuple of int
        (..., ny, nx).

    Returns
    -------
    astropy.time.Time
        (nx,) times.

    Raises
    ------
    DataError
        There is no time axis.

    Examples
    --------
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> solar.column_times(seen.raster.meta, seen.raster.data.shape)[[0, -1]].isot.tolist()
    ['2024-10-17T00:15:40.000', '2024-10-17T00:00:20.000']
    """
    axis = time_axis(header)
    if axis is None:
        msg = f"{header.get('filename') or 'the raster'} has no time axis (CTYPE3 = 'UTC' and PC3_1); give the times"
        raise DataError(msg)
    linear = read_linear(header)
    pixel = np.ones((shape[-1], len(linear.crpix)))
    pixel[:, 0] = np.arange(1, shape[-1] + 1)
    pixel[:, 1] = (shape[-2] + 1) / 2
    value = float(header.get(f"CRVAL{axis}", 0.0)) + (pixel - linear.crpix) @ linear.cd[axis - 1]
    unit = str(header.get(f"CUNIT{axis}") or "s")
    return _zero(header, axis) + value * u.Unit(unit)


def axis_times(header: Any, n: int, axis: int = 3) -> Time:
    """Times of the first n images of a cube, by one of its axes, (t, y, x) by default."""
    linear = read_linear(header)
    i = axis - 1
    value = float(header.get(f"CRVAL{axis}", 0.0)) + linear.cd[i, i] * (np.arange(1, n + 1) - linear.crpix[i])
    return _zero(header, axis) + value * u.Unit(str(header.get(f"CUNIT{axis}") or "s").lower())


def column_moments(
    raster: GenericMap, *, rotation: str | None, times: Any = None, observer: SkyCoord | None = None
) -> ColumnMoments | None:
    """Moments of a raster's columns, where they are known and the surface turns by a visible amount meanwhile.

    Parameters
    ----------
    raster : GenericMap
    rotation : str or None
        None leaves the surface where it is, and then the times of the columns say nothing.
    times : array-like, optional
        (N,) of the columns, instead of the header's time axis.
    observer : SkyCoord, optional
        See `column_positions`.
    """
    if rotation is None or (times is None and time_axis(raster.meta) is None):
        return None
    n = raster.data.shape[1]
    when = column_times(raster.meta, raster.data.shape) if times is None else as_times(times)
    if when.shape != (n,):
        msg = f"times must be one for each of the {n} columns, got the shape {when.shape}"
        raise ValueError(msg)
    if turned_pixels(raster, float((when.max() - when.min()).to_value(u.s))) < NEGLIGIBLE:
        return None
    if times is None and contradicts(raster, when):
        msg = (
            f"{name_of(raster)}: its time axis says that the columns were exposed from {when.min().isot[:19]} to "
            f"{when.max().isot[:19]}, its date is {observation_time(raster).isot[:19]}; the time axis is not used"
        )
        warnings.warn(msg, StackalignWarning, stacklevel=4)
        return None
    return ColumnMoments(when, column_positions(raster, when, observer=observer))


def contradicts(raster: GenericMap, times: Time) -> bool:
    """Whether the times of columns lie where the raster's own date cannot be."""
    span, date = times.max() - times.min(), observation_time(raster)
    margin = span + SLACK * u.s
    return bool(date < times.min() - margin or date > times.max() + margin)


def turned_pixels(solar_map: GenericMap, seconds: float) -> float:
    """Pixels of a map by which the surface turns in that time, in the middle of the disc."""
    if seconds == 0:
        return 0.0
    distance = max(float(np.linalg.norm(map_position(solar_map))) - surface_radius(solar_map), 1.0)
    arcsec = FASTEST * seconds * surface_radius(solar_map) / distance * 206264.8
    return float(arcsec / step_arcsec(solar_map.wcs).min())


def unknown_duration(raster: GenericMap) -> float:
    """Seconds from DATE-BEG to DATE-END of a raster whose header does not say when its columns were exposed, else 0.

    What was exposed for more than half of that time (XPOSURE), or is of an instrument that takes whole images, is no
    raster.
    """
    meta = raster.meta
    if any(_IMAGERS.search(str(meta.get(key) or "")) for key in ("instrume", "detector", "telescop")):
        return 0.0
    if time_axis(meta) is not None:
        times = column_times(meta, raster.data.shape)
        if (span := float((times.max() - times.min()).to_value(u.s))) > 0:
            return span if contradicts(raster, times) else 0.0
    changed, bare = complete_dates(meta)

    def moment(*keys: str) -> Time | None:
        key = next((key for key in keys if meta.get(key) and key not in bare), None)
        return None if key is None else parse_moment(changed.get(key, meta[key]), meta.get("timesys"))

    begin, end = moment("date-beg", "date_beg", "date-obs", "date_obs"), moment("date-end", "date_end")
    if begin is None or end is None:
        return 0.0
    seconds = float((end - begin).to_value(u.s))
    exposure = float(meta.get("xposure") or meta.get("exptime") or 0.0)
    return seconds if seconds > 0 and exposure < 0.5 * seconds else 0.0


def _zero(header: Any, axis: int) -> Time:
    kind = str(header.get(f"CTYPE{axis}")).strip().upper()[:3]
    scale = str(header.get("TIMESYS") or ("UTC" if kind in ("UTC", "TIM") else kind)).strip().lower()
    if header.get("DATEREF"):
        return Time(header["DATEREF"], scale=scale)
    if header.get("MJDREFI") is not None or header.get("MJDREF") is not None:
        whole, rest = header.get("MJDREFI", header.get("MJDREF")), header.get("MJDREFF", 0.0)
        return Time(float(whole), float(rest), format="mjd", scale=scale)
    cards = {str(key).lower(): header[key] for key in header}
    changed, bare = complete_dates(cards)
    for key in ("date-beg", "date_beg", "date-obs", "date_obs"):
        if cards.get(key) and key not in bare:
            return parse_moment(changed.get(key, cards[key]), scale)
    msg = "the time axis has no zero: set DATEREF in the header, to a date with a time of day"
    raise DataError(msg)


def column_positions(
    raster: GenericMap,
    times: Time,
    frame_times: Time | None = None,
    frame_positions: FloatArray | None = None,
    observer: SkyCoord | None = None,
) -> FloatArray:
    """Where the spacecraft was when each column was exposed, in the inertial frame of `geometry`.

    Parameters
    ----------
    raster : GenericMap
        Its header knows one position, of its one date.
    times : Time
        (N,).
    frame_times, frame_positions : optional
        (F,) and (F, 3) of images taken from the same spacecraft meanwhile: the position is interpolated through them,
        and goes through the raster's own.
    observer : SkyCoord, optional
        (M,) positions with their own obstime, from an ephemeris; instead of the frames.

    Returns
    -------
    numpy.ndarray
        (N, 3).

    Warns
    -----
    StackalignWarning
        Nothing says how the spacecraft moved; it is taken to stand still among the stars.
    """
    date, here = observation_time(raster), map_position(raster)
    if observer is not None:
        known_times, known = observer.obstime, np.atleast_2d(observer_position(observer))
        if np.ndim(known_times.value) != 1 or len(known) != len(known_times):
            msg = "observer must be positions with as many times (obstime), at least two"
            raise ValueError(msg)
        return _interpolated(known_times, known, times, date)
    if frame_times is not None and frame_positions is not None and len(np.unique(frame_times.utc.mjd)) > 1:
        there = _interpolated(frame_times, frame_positions, date[None], date)[0]
        if np.linalg.norm(there - here) <= SAME_PLACE * np.linalg.norm(here):
            moved = _interpolated(frame_times, frame_positions, times, date)
            return np.asarray(moved + (here - there))
    earth = observer_position(get_earth(date))
    if np.linalg.norm(earth - here) <= 0.02 * np.linalg.norm(here):
        # Seen from the Earth or near it: L1 moves with it.
        return np.asarray(observer_position(get_earth(times)) + (here - earth))
    duration = float((times.max() - times.min()).to_value(u.hour))
    if duration > 0.1:
        msg = (
            f"nothing says how the spacecraft of {name_of(raster)} moved in {duration:.1f} hours: the frames are of "
            "another one or of one time; it is taken to stand still, give observer= with its positions"
        )
        warnings.warn(msg, StackalignWarning, stacklevel=3)
    return np.broadcast_to(here, (len(times), 3)).copy()


def _interpolated(known_times: Time, known: FloatArray, times: Time, origin: Time) -> FloatArray:
    """Positions between known ones; a cubic where four are known, which an orbit needs between sparse frames."""
    seconds, first = np.unique(np.asarray((known_times - origin).to_value(u.s)), return_index=True)
    spline = make_interp_spline(seconds, known[first], k=min(3, len(seconds) - 1))
    positions: FloatArray = spline(np.asarray((times - origin).to_value(u.s)))
    return positions
