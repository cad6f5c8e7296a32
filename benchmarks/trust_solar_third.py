"""A third set of situations for `solar.coalign`, drawn after the last change: granules, pores and filaments.

The Sun is that of a chromospheric or continuum imager: cells that are bright inside, dark pores and threads, plage; the
target is an image of a slit spectrograph with pixels of 1.5 x 1 arcsec that is softer than the reference and noisy.
"""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from _solar_trials import header, trial_of
from _trust import Row, Trial
from stackalign import solar

FloatArray = NDArray[np.float64]
Change = Callable[[FloatArray, np.random.Generator], FloatArray]

SIDE, STEP = 520, 1.2
"""Pixels along a side of the reference, and their length in arcsec."""

SHAPE, STEPS = (190, 130), (1.5, 1.0)
"""Of the target, (ny, nx), and the lengths (x, y) of its pixels."""

TOLERANCE = 0.25
SCENES = 5


@cache
def _scene(seed: int) -> tuple[FloatArray, fits.Header]:
    """Brightness around 1, and header: a part of the disc away from the limb."""
    rng = np.random.default_rng((17, seed))
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    # Coordinates that are bent a little, so that cells and threads have no common direction.
    bend = [30 * ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), 40) / 0.007 / 40 for _ in range(2)]
    points = rng.uniform(0, SIDE, (int((SIDE * STEP / 9) ** 2), 2))
    near = cKDTree(points).query(np.stack([y, x], -1).reshape(-1, 2), k=2)[0].reshape(SIDE, SIDE, 2)
    granules = np.tanh((near[..., 1] - near[..., 0]) / 2.0)
    image = 1.0 + 0.12 * granules / granules.std()
    plage = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), 9)
    image += 0.25 * np.clip(plage / plage.std() - 0.8, 0, None)
    for _ in range(14):
        at, size = rng.uniform(0, SIDE, 2), rng.uniform(2.5, 9)
        image *= 1 - 0.7 / (1 + (np.hypot(y - at[0] + 0.2 * bend[0], x - at[1]) / size) ** 6)
    for _ in range(5):
        turn, at = rng.uniform(0, np.pi), rng.uniform(0.2, 0.8, 2) * SIDE
        along = (y - at[0]) * np.sin(turn) + (x - at[1]) * np.cos(turn)
        across = (x - at[1]) * np.sin(turn) - (y - at[0]) * np.cos(turn) + 0.5 * bend[1]
        image *= 1 - 0.45 * np.exp(-((across / 3.5) ** 2) - (along / rng.uniform(30, 90)) ** 4)
    head = header((SIDE, SIDE), (STEP, STEP), tuple(rng.uniform(-250, 250, 2)), rng.uniform(-180, 180))
    return ndimage.gaussian_filter(image, 0.7), head


def _sampled(image: FloatArray, head: fits.Header, wanted: fits.Header) -> FloatArray:
    y, x, across = np.meshgrid(np.arange(SHAPE[0]), np.arange(SHAPE[1]), [-0.25, 0.25], indexing="ij")
    sky = WCS(wanted).wcs_pix2world(np.stack([(x + across).ravel(), y.ravel()], -1), 0)
    at = WCS(head).wcs_world2pix(sky, 0)
    values = ndimage.map_coordinates(ndimage.spline_filter(image), [at[:, 1], at[:, 0]], prefilter=False, cval=np.nan)
    return ndimage.gaussian_filter(values.reshape(*SHAPE, 2).mean(axis=2), (0.8, 0.0))


def trial(
    seed: int,
    change: Change | None = None,
    *,
    noise: float = 0.05,
    scales: tuple[float, float] = (1.0, 1.0),
    roll: float = 0.0,
    elsewhere: bool = False,
    **settings: Any,
) -> Trial:
    """Coalign an image; the error is that of its middle, in pixels of the target."""
    rng = np.random.default_rng((19, seed))
    image, head = _scene(seed % SCENES)
    place = rng.uniform(-110, 110, 2) + np.array([head["CRVAL1"], head["CRVAL2"]])
    turn = rng.uniform(-180, 180)
    truth = header(SHAPE, STEPS, tuple(place), turn)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = _sampled(_scene((seed + 1) % SCENES)[0] if elsewhere else image, head, truth)
        if change is not None:
            data = change(data, rng)
        data = 5000 * (data + noise * np.nanstd(data) * rng.standard_normal(SHAPE))
        off = rng.uniform(-14, 14, 2) * STEPS
        steps = (STEPS[0] * scales[0], STEPS[1] * scales[1])
        wrong = header(SHAPE, steps, (place[0] + off[0], place[1] + off[1]), turn + roll)
        options = {"max_shift": "40 arcsec", "rotation": None} | settings
        result = solar.coalign((data, wrong), (image, head), **options)
        held = (roll != 0 or scales != (1.0, 1.0)) and "model" not in settings
        return trial_of(result, truth, SHAPE, TOLERANCE, wrong=(scales, roll) if held else None, answer=not elsewhere)


def _slow_jitter(data: FloatArray, rng: np.random.Generator) -> FloatArray:
    """The slit moves along itself by 0.7 pixels rms, over some eight columns."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    walk = ndimage.gaussian_filter1d(rng.standard_normal(SHAPE[1]), 2.5)
    return ndimage.map_coordinates(data, [y + 0.7 * walk / walk.std(), x], order=3, mode="nearest")


def _drifting_gain(data: FloatArray, rng: np.random.Generator) -> FloatArray:
    """The transparency of the sky changes from column to column."""
    walk = np.cumsum(rng.standard_normal(SHAPE[1]))
    return data * (1 + 0.2 * (walk - walk.mean()) / walk.std())


def _clouded(data: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Smooth light over a part of the image."""
    cloud = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 30)
    return data + 3 * np.nanstd(data) * cloud / cloud.std()


def _bursts(data: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Small flares that the reference does not show."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for _ in range(10):
        at, size = rng.random(2) * SHAPE, rng.uniform(2, 6)
        data = data + 5 * np.nanstd(data) * np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / (2 * size**2))
    return data


def _boiled(data: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Half of the granules are others by now."""
    new = ndimage.gaussian_filter(rng.standard_normal(SHAPE), (3.0, 2.0))
    return data + 0.7 * np.nanstd(data) * new / new.std()


def _hit(data: FloatArray, rng: np.random.Generator) -> FloatArray:
    return data + np.where(rng.random(SHAPE) < 0.01, rng.exponential(30 * np.nanstd(data), SHAPE), 0.0)


def rows() -> list[Row]:
    """All rows."""

    def row(name: str, kind: Any, change: Change | None = None, **settings: Any) -> Row:
        return Row(name, kind, lambda seed: trial(seed, change, **settings), 20)

    return [
        row("noise 5 %", "nominal"),
        row("noise 50 %", "nominal", noise=0.5),
        row("scale fitted", "nominal", scales=(0.985, 1.02), model="shift+scale"),
        row("roll and scale fitted", "nominal", scales=(1.01, 1.01), roll=-1.2, model="shift+scale+angle"),
        row("logarithm of the image", "nominal", lambda data, rng: np.log(np.clip(data, 0.05, None))),
        row("roll 1.5 deg held", "misfit", roll=1.5),
        row("roll -4 deg held", "misfit", roll=-4.0),
        row("roll 8 deg held", "misfit", roll=8.0),
        row("step of the slit -3 % held", "misfit", scales=(0.97, 1.0)),
        row("pixel +6 % held", "misfit", scales=(1.06, 1.06)),
        row("slow jitter", "misfit", _slow_jitter),
        row("gain that drifts", "misfit", _drifting_gain),
        row("clouds", "misfit", _clouded),
        row("flares", "misfit", _bursts),
        row("other granules", "misfit", _boiled),
        row("hits of 30 deviations", "misfit", _hit),
        row("another place", "misfit", elsewhere=True),
    ]
