"""A simulated observation: an imager's frames of a turning Sun, and a raster whose pointing is off."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.time import Time
from scipy.ndimage import gaussian_filter, map_coordinates
from sunpy.map import GenericMap

from stackalign._types import FloatArray

from .reading import as_map

__all__ = ["TestObservation", "create_test_observation"]


START = Time("2024-10-17T00:00:00")
SIDE, STEP = 280, 8.0
"""Pixels of a frame and their length in arcsec: the whole disc from 1 au."""

RADIUS, DISTANCE, LATITUDE = 695700000.0, 149597870700.0, 5.0
"""Of the Sun and to the observer in metres, and the observer's heliographic latitude in degrees."""

POINTING = (-100.0, 150.0)
"""Arcsec at which the middle of the raster lies."""

CELL, FARTHEST = 0.35, 120.0
"""Degrees from one value of the texture to the next, and the longitudes up to which there is one."""

ARCSEC_PER_DEGREE = 16.7
"""On the sky, in the middle of the disc."""


@dataclass(frozen=True)
class TestObservation:
    """What `create_test_observation` makes.

    Parameters
    ----------
    raster : GenericMap
        With a header that points to the wrong place.
    frames : list of GenericMap
        Of the imager, in the order of time.
    truth : GenericMap
        The raster with the right header.
    """

    __test__ = False  # the name does not make it a test

    raster: GenericMap
    frames: list[GenericMap]
    truth: GenericMap


def create_test_observation(
    shape: tuple[int, int] = (200, 80),
    *,
    error: tuple[float, float] = (35.0, -20.0),
    scale: tuple[float, float] = (1.0, 1.0),
    roll: float = 5.0,
    column_seconds: float = 40.0,
    n_frames: int = 7,
    noise: float = 0.05,
    seed: int = 0,
) -> TestObservation:
    """Make a raster and an imager's sequence during it, of a Sun that turns.

    Parameters
    ----------
    shape : (int, int)
        Pixels (ny, nx) of the raster, 4 and 8 arcsec long; the last column is the first in time.
    error : (float, float)
        Arcsec (Tx, Ty) by which the raster's header is off.
    scale : (float, float)
        By which it gives the lengths of the pixels (x, y) wrong.
    roll : float
        Of the raster, in degrees.
    column_seconds : float
        Time per column.
    n_frames : int
        Frames, from the first to the last column.
    noise : float
        Of the raster, as a share of its standard deviation.
    seed : int

    Returns
    -------
    TestObservation

    Examples
    --------
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> seen.raster.data.shape, len(seen.frames)
    ((60, 24), 2)
    """
    nx = shape[1]
    rng = np.random.default_rng(seed)
    span = column_seconds * nx
    sun = _Sun.random(rng, START + span / 2 * u.s)
    frames = []
    for k, seconds in enumerate(np.linspace(0.0, span, n_frames)):
        head = _header((SIDE, SIDE), (STEP, STEP), START + seconds * u.s, f"frame{k:03d}.fits")
        frames.append(as_map((sun.seen(*_directions(head, (SIDE, SIDE)), seconds - span / 2), head)))
    right = _header(shape, (8.0, 4.0), START + span / 2 * u.s, "raster.fits", roll, POINTING)
    first = column_seconds / 2  # the middle of the first exposure, that of the last column
    right.update(
        {"WCSAXES": 3, "CTYPE3": "UTC", "CUNIT3": "s", "CRPIX3": 1.0, "CDELT3": 1.0, "CRVAL3": span / 2,
         "PC3_1": -column_seconds, "DATEREF": START.isot}
    )  # fmt: skip
    columns = first + column_seconds * (nx - 1 - np.arange(nx))
    image = sun.seen(*_directions(right, shape), columns - span / 2)
    image = image + noise * image.std() * rng.standard_normal(shape)
    steps = (8.0 * scale[0], 4.0 * scale[1])
    pointing = (POINTING[0] + error[0], POINTING[1] + error[1])
    wrong = right.copy()
    wrong.update(_header(shape, steps, START + span / 2 * u.s, "raster.fits", roll, pointing))
    return TestObservation(as_map((image, wrong)), frames, as_map((image, right)))


@dataclass(frozen=True)
class _Sun:
    """A surface with structure of many sizes that turns, seen from where the headers say.

    Its geometry is written out here once more, in the turning frame of Stonyhurst's longitudes, and shares nothing
    with that of the coalignment, which would otherwise be tested against itself.
    """

    texture: FloatArray
    earth: float
    """Degrees a day by which the frame turns with the Earth."""

    @classmethod
    def random(cls, rng: np.random.Generator, when: Time) -> "_Sun":
        """Texture over longitudes and latitudes of a hemisphere and what turns into view."""
        shape = (round(180 / CELL) + 1, round(2 * FARTHEST / CELL) + 1)
        sizes = np.array([12.0, 24.0, 48.0, 96.0]) / ARCSEC_PER_DEGREE / CELL
        layers = [gaussian_filter(rng.standard_normal(shape), size) for size in sizes]
        texture = sum(layer / layer.std() for layer in layers) * 0.28
        # The Earth's rate on its ellipse, to the first order of the eccentricity.
        anomaly = np.deg2rad(357.529 + 0.98560028 * (float(when.jd) - 2451545.0))
        return cls(np.asarray(texture), 0.98560028 * (1.0 + 2 * 0.01671 * float(np.cos(anomaly))))

    def seen(self, east: FloatArray, north: FloatArray, seconds: Any) -> FloatArray:
        """Brightness in directions (radians, helioprojective), `seconds` after the texture is as it is."""
        tilt = np.deg2rad(LATITUDE)
        sight = np.stack([-np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)])
        ahead = -DISTANCE * sight[0]  # from the observer to the point of the ray nearest to the Sun
        gap = DISTANCE**2 - ahead**2
        on_disc = gap < RADIUS**2
        length = ahead - np.sqrt(np.where(on_disc, RADIUS**2 - gap, 0.0))
        # x towards the observer, y to the west, z to the north; then about y, so that z is the axis of rotation.
        x, y, z = DISTANCE + length * sight[0], length * sight[1], length * sight[2]
        x, z = x * np.cos(tilt) - z * np.sin(tilt), x * np.sin(tilt) + z * np.cos(tilt)
        latitude = np.arcsin(z / np.sqrt(x**2 + y**2 + z**2))
        sine2 = np.sin(latitude) ** 2
        # Howard, Harvey and Forgach (Solar Phys. 130, 295, 1990), micro-radians per second against the stars.
        rate = np.rad2deg(2.894 - 0.428 * sine2 - 0.370 * sine2**2) * 1e-6 - self.earth / 86400.0
        longitude = np.rad2deg(np.arctan2(y, x)) - np.where(on_disc, rate * seconds, 0.0)
        place = [(np.rad2deg(latitude) + 90.0) / CELL, (longitude + FARTHEST) / CELL]
        texture = map_coordinates(self.texture, place, order=3, mode="nearest")
        radius = np.sqrt(gap) / RADIUS
        beyond = np.exp(-np.clip(radius - 1.0, 0.0, None) / 0.1)
        bright = 1.0 + np.exp(-(((radius - 1.0) / 0.03) ** 2))
        disc: FloatArray = 100.0 * np.exp(0.7 * texture) * beyond * bright
        return disc


def _directions(header: fits.Header, shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """Longitude and latitude in radians of the pixels of a header of `_header`: a tangential projection."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 1.0
    x, y = x - header["CRPIX1"], y - header["CRPIX2"]
    arcsec = np.pi / 180.0 / 3600.0
    west = header["CDELT1"] * arcsec * (header["PC1_1"] * x + header["PC1_2"] * y)
    north = header["CDELT2"] * arcsec * (header["PC2_1"] * x + header["PC2_2"] * y)
    lon, lat = header["CRVAL1"] * arcsec, header["CRVAL2"] * arcsec
    up = np.cos(lat) - north * np.sin(lat)
    return lon + np.arctan2(west, up), np.arctan2(np.sin(lat) + north * np.cos(lat), np.hypot(west, up))


def _header(
    shape: tuple[int, int],
    steps: tuple[float, float],
    when: Time,
    name: str,
    roll: float = 0.0,
    pointing: tuple[float, float] = (0.0, 0.0),
) -> fits.Header:
    ny, nx = shape
    angle, ratio = np.deg2rad(roll), steps[1] / steps[0]
    head = fits.Header()
    head.update(
        {
            "CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN", "CUNIT1": "arcsec", "CUNIT2": "arcsec",
            "CRPIX1": (nx + 1) / 2, "CRPIX2": (ny + 1) / 2, "CRVAL1": pointing[0], "CRVAL2": pointing[1],
            "CDELT1": steps[0], "CDELT2": steps[1],
            "PC1_1": np.cos(angle), "PC1_2": -ratio * np.sin(angle),
            "PC2_1": np.sin(angle) / ratio, "PC2_2": np.cos(angle),
            "DATE-OBS": when.isot, "DATE-AVG": when.isot, "RSUN_REF": RADIUS, "DSUN_OBS": DISTANCE,
            "HGLN_OBS": 0.0, "HGLT_OBS": LATITUDE, "TELESCOP": "NONE", "FILENAME": name,
        }
    )  # fmt: skip
    return head
