"""Situations for `solar.coalign` that nothing was tuned on: another Sun, another instrument, other faults.

The Sun has a limb, network cells and loops over active regions; the target is a raster of pixels that are not square,
far rolled, with counting noise. Run it to see how thresholds hold elsewhere, not to choose them.
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

SIDE, STEP = 760, 2.6
"""Pixels along a side of the reference, and their length in arcsec."""

SHAPE, STEPS = (200, 72), (4.2, 1.7)
"""Of the target, (ny, nx), and the lengths (x, y) of its pixels."""

RADIUS = 945.0
TOLERANCE = 0.25


def _network(rng: np.random.Generator) -> FloatArray:
    """Borders of cells about 30 arcsec wide, of uneven brightness."""
    points = rng.uniform(0, SIDE, (int((SIDE * STEP / 30) ** 2), 2))
    y, x = np.mgrid[:SIDE, :SIDE]
    near = cKDTree(points).query(np.stack([y, x], -1).reshape(-1, 2), k=2)[0].reshape(SIDE, SIDE, 2)
    borders = np.exp(-(near[..., 1] - near[..., 0]) / 1.8)
    patches = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), 14)
    return borders * np.exp(0.7 * patches / patches.std())


def _loops(rng: np.random.Generator, number: int) -> FloatArray:
    """Fans of arcs that stand over a few active regions."""
    image = np.zeros((SIDE, SIDE))
    for _ in range(number):
        foot = rng.uniform(0.1, 0.9, 2) * SIDE
        turn = rng.uniform(0, 2 * np.pi)
        for _ in range(rng.integers(6, 14)):
            size, height = rng.uniform(12, 60), rng.uniform(0.3, 1.1)
            t = np.linspace(0, np.pi, 400)
            along, up = size * (1 - np.cos(t)) / 2, size * height * np.sin(t)
            x = foot[1] + along * np.cos(turn) - up * np.sin(turn)
            y = foot[0] + along * np.sin(turn) + up * np.cos(turn)
            inside = (x > 1) & (x < SIDE - 2) & (y > 1) & (y < SIDE - 2)
            np.add.at(image, (y[inside].astype(int), x[inside].astype(int)), rng.uniform(0.5, 3.0))
    return ndimage.gaussian_filter(image, 1.2)


@cache
def _scene(seed: int) -> tuple[FloatArray, fits.Header]:
    """Counts of the reference, and its header: a quarter of the disc with the limb."""
    rng = np.random.default_rng((11, seed))
    turn = rng.uniform(0, 2 * np.pi)
    center = (620 * np.cos(turn), 620 * np.sin(turn))
    head = header((SIDE, SIDE), (STEP, STEP), center, rng.uniform(-180, 180))
    y, x = np.mgrid[:SIDE, :SIDE]
    sky = WCS(head).wcs_pix2world(np.stack([x.ravel(), y.ravel()], -1), 0) * 3600
    sky = (sky + 648000) % 1296000 - 648000
    rho = (np.hypot(*sky.T) / RADIUS).reshape(SIDE, SIDE)
    disc = np.where(rho < 1, 1 / np.sqrt(1.03 - np.minimum(rho, 1.0) ** 2), 5.8 * np.exp(-(rho - 1) / 0.06))
    image = disc * 0.25 + np.where(rho < 1, _network(rng), 0.0) + 6 * _loops(rng, 9)
    return 400 * ndimage.gaussian_filter(image, 0.8), head


def _sampled(spline: FloatArray, head: fits.Header, wanted: fits.Header) -> FloatArray:
    y, x, across = np.meshgrid(np.arange(SHAPE[0]), np.arange(SHAPE[1]), [-0.3, 0.0, 0.3], indexing="ij")
    sky = WCS(wanted).wcs_pix2world(np.stack([(x + across).ravel(), y.ravel()], -1), 0)
    at = WCS(head).wcs_world2pix(sky, 0)
    values = ndimage.map_coordinates(spline, [at[:, 1], at[:, 0]], prefilter=False, cval=np.nan)
    return values.reshape(*SHAPE, 3).mean(axis=2)


def trial(
    seed: int,
    change: Change | None = None,
    *,
    brightest: float = 300.0,
    scales: tuple[float, float] = (1.0, 1.0),
    roll: float = 0.0,
    elsewhere: bool = False,
    **settings: Any,
) -> Trial:
    """Coalign a raster; the error is that of the middle of its image, in pixels of the target."""
    rng = np.random.default_rng((13, seed))
    image, head = _scene(seed % 4)
    place = rng.uniform(-420, 420, 2) + np.array([head["CRVAL1"], head["CRVAL2"]])
    truth = header(SHAPE, STEPS, tuple(place), rng.uniform(-180, 180))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = _sampled(ndimage.spline_filter(_scene((seed + 1) % 4)[0] if elsewhere else image), head, truth)
        if change is not None:
            data = change(data, rng)
        data = rng.poisson(np.clip(data, 0, None) * brightest / np.nanmax(data)).astype(float)
        turn = np.rad2deg(np.arctan2(truth["PC2_1"] * STEPS[1] / STEPS[0], truth["PC1_1"]))
        off = rng.uniform(-12, 12, 2) * STEPS
        steps = (STEPS[0] * scales[0], STEPS[1] * scales[1])
        wrong = header(SHAPE, steps, (place[0] + off[0], place[1] + off[1]), turn + roll)
        options = {"max_shift": "90 arcsec", "rotation": None} | settings
        result = solar.coalign((data, wrong), (image, head), **options)
        held = (roll != 0 or scales != (1.0, 1.0)) and "model" not in settings
        return trial_of(result, truth, SHAPE, TOLERANCE, wrong=(scales, roll) if held else None, answer=not elsewhere)


def _jitter(data: FloatArray, rng: np.random.Generator) -> FloatArray:
    """The slit moves along itself, and drifts back."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    walk = ndimage.gaussian_filter1d(rng.standard_normal(SHAPE[1]), 1.5)
    return ndimage.map_coordinates(data, [y + 0.8 * walk / walk.std(), x], order=3, mode="nearest")


def _radial(data: FloatArray, rng: np.random.Generator) -> FloatArray:
    y, x = np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j]
    return data * (1 - 0.35 * (x**2 + y**2))


def _lost_block(data: FloatArray, rng: np.random.Generator) -> FloatArray:
    top = rng.integers(0, SHAPE[0] - 60)
    data[top : top + 60, : SHAPE[1] // 2] = 0.0
    return data


def _new_loops(data: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Half of the brightest structures have faded, others have appeared."""
    new = np.zeros(SHAPE)
    new[tuple((rng.random((25, 2)) * SHAPE).astype(int).T)] = 1.0
    new = ndimage.gaussian_filter(new, (6.0, 2.5))
    fade = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 15)
    return data * np.where(fade > 0, 1.0, 0.6) + 1.5 * np.nanstd(data) * new / new.std()


def _hits(data: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Tracks of cosmic rays, two or three pixels long."""
    y, x = (rng.random((2, 90)) * np.array(SHAPE)[:, None]).astype(int)
    for step in range(3):
        on = rng.random(90) < (1.0, 0.8, 0.4)[step]
        data[np.minimum(y[on] + step, SHAPE[0] - 1), x[on]] += 20 * np.nanstd(data)
    return data


def rows() -> list[Row]:
    """All rows."""

    def row(name: str, kind: Any, change: Change | None = None, **settings: Any) -> Row:
        return Row(name, kind, lambda seed: trial(seed, change, **settings), 20)

    return [
        row("counts to 3000", "nominal", brightest=3000),
        row("counts to 100", "nominal", brightest=100),
        row("counts to 20", "nominal", brightest=20),
        row("scale and angle fitted", "nominal", scales=(1.015, 0.99), roll=0.8, model="shift+scale+angle"),
        row("radial vignetting", "nominal", _radial),
        row("roll 2 deg held", "misfit", roll=2.0),
        row("roll -5 deg held", "misfit", roll=-5.0),
        row("roll 9 deg held", "misfit", roll=9.0),
        row("step of the slit +4 % held", "misfit", scales=(1.04, 1.0)),
        row("pixel -7 % held", "misfit", scales=(0.93, 0.93)),
        row("jitter that drifts", "misfit", _jitter),
        row("a block is zero", "misfit", _lost_block),
        row("structures faded and new", "misfit", _new_loops),
        row("tracks of cosmic rays", "misfit", _hits),
        row("another place", "misfit", elsewhere=True),
    ]
