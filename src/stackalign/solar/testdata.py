"""An observation that never was: an imager's frames of a turning Sun, and a raster whose pointing is off."""

from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.time import Time
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sunpy.map import GenericMap

from .frames import pixel_mapping
from .headers import as_map
from .raster import build_synthetic_raster
from .sampling import sample

__all__ = ["TestObservation", "create_test_observation"]

FloatArray = NDArray[np.float64]

START = Time("2024-10-17T00:00:00")
SIDE, STEP = 280, 8.0
"""Pixels of a frame and their length in arcsec: the whole disc from 1 au."""


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
    """
    nx = shape[1]
    rng = np.random.default_rng(seed)
    span = column_seconds * nx
    base = as_map((_sun(rng), _header((SIDE, SIDE), (STEP, STEP), START + span / 2 * u.s, "base.fits")))
    frames = []
    for k, seconds in enumerate(np.linspace(0.0, span, n_frames)):
        head = _header((SIDE, SIDE), (STEP, STEP), START + seconds * u.s, f"frame{k:03d}.fits")
        empty = as_map((np.zeros((SIDE, SIDE)), head))
        y, x = np.mgrid[:SIDE, :SIDE]
        points = pixel_mapping(empty, base)(np.stack([x, y], axis=-1).astype(np.float64))
        frames.append(as_map((sample(base.data, np.ones(base.data.shape, bool), points), head)))
    right = _header(shape, (8.0, 4.0), START + span / 2 * u.s, "raster.fits", roll, (-100.0, 150.0))
    right.update(
        {"WCSAXES": 3, "CTYPE3": "UTC", "CUNIT3": "s", "CRPIX3": 1.0, "CDELT3": 1.0, "CRVAL3": span / 2,
         "PC3_1": -column_seconds, "DATEREF": START.isot}
    )  # fmt: skip
    image = build_synthetic_raster(as_map((np.zeros(shape), right)), frames, method="linear").map.data
    image = image + noise * np.nanstd(image) * rng.standard_normal(shape)
    wrong = right.copy()
    for i, (off, times) in enumerate(zip(error, scale, strict=True), start=1):
        wrong[f"CRVAL{i}"] += off
        wrong[f"CDELT{i}"] *= times
    return TestObservation(as_map((image, wrong)), frames, as_map((image, right)))


def _sun(rng: np.random.Generator) -> FloatArray:
    """A disc with structure of many sizes, bright at the limb and fading beyond it."""
    y, x = (np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2) * STEP
    radius = np.hypot(x, y) / 960.0
    texture = sum(gaussian_filter(rng.standard_normal((SIDE, SIDE)), size) * size for size in (1.5, 3.0, 6.0, 12.0))
    beyond = np.exp(-np.clip(radius - 1.0, 0.0, None) / 0.1)
    disc: FloatArray = 100.0 * np.exp(0.7 * texture) * beyond * (1.0 + np.exp(-(((radius - 1.0) / 0.03) ** 2)))
    return disc


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
            "DATE-OBS": when.isot, "DATE-AVG": when.isot, "RSUN_REF": 695700000.0, "DSUN_OBS": 149597870700.0,
            "HGLN_OBS": 0.0, "HGLT_OBS": 5.0, "TELESCOP": "NONE", "FILENAME": name,
        }
    )  # fmt: skip
    return head
