"""Situations for `solar.coalign`: patches of a disc with a header that is off, where the model holds and where not."""

import os
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import ndimage

from _trust import Row, Trial
from stackalign import solar

FloatArray = NDArray[np.float64]
Change = Callable[[FloatArray, FloatArray, np.random.Generator], tuple[FloatArray, FloatArray]]

SHAPE = (176, 176)
TOLERANCE = 0.25
"""Pixels of the target, in the middle of its image."""

WAVES = {"arcs": (1.6, 4.5, 13.0), "grains": (1.3, 2.2, 9.0)}


def _header(shape: tuple[int, int], step: float, center: tuple[float, float], roll: float, **cards: Any) -> fits.Header:
    turn = np.deg2rad(roll)
    made = fits.Header()
    made.update(
        {
            "CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN", "CUNIT1": "arcsec", "CUNIT2": "arcsec",
            "CRPIX1": (shape[1] + 1) / 2, "CRPIX2": (shape[0] + 1) / 2, "CRVAL1": center[0], "CRVAL2": center[1],
            "CDELT1": step, "CDELT2": step, "PC1_1": np.cos(turn), "PC1_2": -np.sin(turn),
            "PC2_1": np.sin(turn), "PC2_2": np.cos(turn), "DATE-OBS": "2023-05-06T07:08:09",
            "RSUN_REF": 695700000.0, "DSUN_OBS": 149597870700.0, "HGLN_OBS": 0.0, "HGLT_OBS": 0.0,
            "TELESCOP": "NONE", "FILENAME": "made.fits",
        }
        | cards
    )  # fmt: skip
    return made


@cache
def _scene(kind: str, seed: int) -> tuple[FloatArray, fits.Header, FloatArray]:
    """Image, header and spline coefficients of a reference."""
    if kind == "disc":
        path = Path(os.environ["STACKALIGN_DATA"]) / "solar" / "eui_fsi174_20220401_crop.fits"
        with fits.open(path) as hdus:
            data, old = hdus[1].data.astype(float), hdus[1].header
        roll = float(np.rad2deg(np.arctan2(old["PC2_1"], old["PC1_1"])))
        own = {key: old[key] for key in ("HGLN_OBS", "HGLT_OBS", "DSUN_OBS", "DATE-OBS", "DATE-AVG")}
        head = _header(data.shape, old["CDELT1"], (old["CRVAL1"], old["CRVAL2"]), roll, **own)
    else:
        rng, side = np.random.default_rng((3, seed)), 420
        parts = [ndimage.gaussian_filter(rng.standard_normal((side, side)), s) for s in WAVES[kind]]
        texture = sum(part / part.std() for part in parts)
        data = 40.0 * np.exp(0.75 * texture / texture.std())
        head = _header(data.shape, 3.0, (0.0, 0.0), 0.0)
    return data, head, ndimage.spline_filter(data, 3)


def _sampled(kind: str, seed: int, wanted: fits.Header) -> FloatArray:
    _, head, spline = _scene(kind, seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lon, lat = WCS(wanted).wcs_pix2world(x.ravel(), y.ravel(), 0)
        px, py = WCS(head).wcs_world2pix(lon, lat, 0)
    return ndimage.map_coordinates(spline, [py, px], order=3, prefilter=False, cval=np.nan).reshape(SHAPE)


def _pair(kind: str, seed: int) -> tuple[FloatArray, fits.Header, np.random.Generator]:
    """Image of the target with its right header."""
    rng = np.random.default_rng((5, seed))
    head = _scene(kind, seed % 4)[1]
    if kind == "disc":
        while np.hypot(*(place := rng.uniform([-2300, -1500], [500, 2200]))) > 2200:
            pass
        step = head["CDELT1"]
    else:
        place, step = rng.uniform(-160, 160, 2), 3.3
    own = {key: head[key] for key in ("HGLN_OBS", "HGLT_OBS", "DSUN_OBS", "DATE-OBS", "DATE-AVG") if key in head}
    truth = _header(SHAPE, step, tuple(place), rng.uniform(-12, 12), **own)
    return _sampled(kind, seed % 4, truth), truth, rng


def _wrong(truth: fits.Header, rng: np.random.Generator, scale: float = 1.0, roll: float = 0.0) -> fits.Header:
    header = truth.copy()
    header["CRVAL1"] += rng.uniform(-9, 9) * truth["CDELT1"]
    header["CRVAL2"] += rng.uniform(-9, 9) * truth["CDELT1"]
    header["CDELT1"] *= scale
    header["CDELT2"] *= scale
    turn = np.deg2rad(roll) + np.arctan2(truth["PC2_1"], truth["PC1_1"])
    header.update({"PC1_1": np.cos(turn), "PC1_2": -np.sin(turn), "PC2_1": np.sin(turn), "PC2_2": np.cos(turn)})
    return header


def trial(
    kind: str,
    seed: int,
    change: Change | None = None,
    *,
    noise: float = 0.05,
    lost: float = 0.0,
    scale: float = 1.0,
    roll: float = 0.0,
    **settings: Any,
) -> Trial:
    """Coalign a patch; the error is that of the middle of its image, in pixels of the target."""
    data, truth, rng = _pair(kind, seed)
    reference, head, _ = _scene(kind, seed % 4)
    if change is not None:
        data, reference = change(data, reference, rng)
    data = data + noise * np.nanstd(data) * rng.standard_normal(SHAPE)
    data = np.where(rng.random(SHAPE[1]) < lost, 0.0, data)
    options = {"max_shift": 18.0, "rotation": None} | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = solar.coalign((data, _wrong(truth, rng, scale, roll)), (reference, head), **options)
        middle = [[(SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2]]
        world = WCS(result.corrected_map.fits_header).wcs_pix2world(middle, 0)
        found = WCS(truth).wcs_world2pix(world, 0)[0] - middle[0]
    remedy = None if (scale == 1 and roll == 0) or "model" in settings else _gives_values(result, scale, roll)
    return Trial(found, result.sigma[:2], TOLERANCE, result.flags, ("dx", "dy"), remedy)


def _gives_values(result: solar.CoalignmentResult, scale: float, roll: float) -> bool:
    """Whether a flag says which scale and roll the images want: within 3 standard errors, or 0.5 % and 0.3 degrees."""
    if result.wanted is None:
        return False
    said = dict(zip(result.wanted.names, zip(result.wanted.values, result.wanted.sigma, strict=True), strict=True))
    truth = {"sx": (1 / scale, 0.005), "sy": (1 / scale, 0.005), "angle": (-roll, 0.3)}
    return all(abs(said[name][0] - true) < max(near, 3 * said[name][1]) for name, (true, near) in truth.items())


# --- what happens to the images: target, reference, generator -> both ----------


def _spikes(share: float, height: float) -> Change:
    def change(data: FloatArray, reference: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        hit = rng.random(data.shape) < share
        return data + np.where(hit, rng.exponential(height * np.nanstd(data), data.shape), 0.0), reference

    return change


def _evolved(size: float, amount: float) -> Change:
    def change(data: FloatArray, reference: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        new = ndimage.gaussian_filter(rng.standard_normal(data.shape), size)
        return data + amount * np.nanstd(data) * new / new.std(), reference

    return change


def _column_gain(spread: float) -> Change:
    return lambda data, reference, rng: (data * (1 + spread * rng.standard_normal(data.shape[1])), reference)


def _stripes(height: float) -> Change:
    def change(data: FloatArray, reference: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        return data + height * np.nanstd(data) * rng.standard_normal(data.shape[1]), reference

    return change


def _jitter(spread: float) -> Change:
    def change(data: FloatArray, reference: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        y, x = np.mgrid[: data.shape[0], : data.shape[1]].astype(float)
        moved = y + spread * rng.standard_normal(data.shape[1])
        return ndimage.map_coordinates(data, [moved, x], order=3, mode="nearest"), reference

    return change


def _blob(data: FloatArray, y: float, x: float, width: float, height: float) -> FloatArray:
    iy, ix = np.mgrid[: data.shape[0], : data.shape[1]]
    return data + height * np.nanstd(data) * np.exp(-((iy - y) ** 2 + (ix - x) ** 2) / (2 * width**2))


def _brightenings(number: int) -> Change:
    def change(data: FloatArray, reference: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        for _ in range(number):
            data = _blob(data, *rng.uniform(0, SHAPE[0], 2), rng.uniform(2, 5), rng.uniform(1, 5))
        return data, reference

    return change


def _front(data: FloatArray, reference: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """An arc that brightens what is behind it, in the target alone."""
    iy, ix = np.mgrid[: data.shape[0], : data.shape[1]]
    radius = np.hypot(iy - rng.uniform(-60, 0), ix - rng.uniform(0, SHAPE[1]))
    edge = rng.uniform(90, 150)
    return data + 2.0 * np.nanstd(data) * np.exp(-(((radius - edge) / 6.0) ** 2)), reference


def _vignetting(low: float, high: float) -> Change:
    return lambda data, reference, rng: (data * np.linspace(low, high, data.shape[1]), reference)


def _saturated(share: float) -> Change:
    return lambda data, reference, rng: (np.minimum(data, np.nanquantile(data, share)), reference)


def _gamma(power: float) -> Change:
    return lambda data, reference, rng: (np.clip(data, 0, None) ** power, reference)


def _soft(width: float) -> Change:
    return lambda data, reference, rng: (ndimage.gaussian_filter(data, width), reference)


def _moved_feature(kind: str, seed: int) -> Trial:
    """A bright kernel stands elsewhere in the target than in the reference."""
    _, truth, rng = _pair(kind, seed)
    head = _scene(kind, seed % 4)[1]
    y, x = rng.uniform(0.25, 0.75, 2) * SHAPE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        world = WCS(truth).wcs_pix2world([[x, y]], 0)
        there = WCS(head).wcs_world2pix(world, 0)[0]
    angle, height = rng.uniform(0, 2 * np.pi), 12.0
    moved = (y + 12 * np.sin(angle), x + 12 * np.cos(angle))

    def change(target: FloatArray, other: FloatArray, _: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        spread = np.nanstd(target) / np.nanstd(other)
        return _blob(target, *moved, 4.0, height), _blob(other, there[1], there[0], 4.0, height * spread)

    return trial(kind, seed, change)


def rows() -> list[Row]:
    """All rows; those of the real disc where STACKALIGN_DATA has it."""
    data = Path(os.environ.get("STACKALIGN_DATA", "")) / "solar" / "eui_fsi174_20220401_crop.fits"
    kinds = [*WAVES, *(("disc",) if data.exists() else ())]

    def row(name: str, kind: str, what: Any, change: Change | None = None, **settings: Any) -> Row:
        return Row(f"{name} ({kind})", what, lambda seed: trial(kind, seed, change, **settings))

    found = []
    for kind in kinds:
        found += [row(f"noise {noise:.0%}", kind, "nominal", noise=noise) for noise in (0.02, 0.2, 1.0)]
        found += [
            row("shift and scale fitted", kind, "nominal", scale=1.02, model="shift+scale"),
            row("rigid fitted", kind, "nominal", roll=1.5, model="rigid"),
            row("softer target", kind, "nominal", _soft(1.5)),
            row("gamma 0.6", kind, "nominal", _gamma(0.6)),
            row("vignetting 0.3-1.7", kind, "nominal", _vignetting(0.3, 1.7)),
            row("saturated at 60 %", kind, "nominal", _saturated(0.6)),
        ]
        found += [row(f"roll {roll:g} deg held", kind, "misfit", roll=roll) for roll in (1.0, -3.0, 6.0, -10.0)]
        found += [row(f"pixel {s:+.0%} held", kind, "misfit", scale=1 + s) for s in (0.02, -0.05, 0.1)]
        found += [
            row("spikes 0.2 % x10", kind, "misfit", _spikes(0.002, 10)),
            row("spikes 2 % x10", kind, "misfit", _spikes(0.02, 10)),
            row("spikes 0.2 % x100", kind, "misfit", _spikes(0.002, 100)),
            row("structures of 4 px changed", kind, "misfit", _evolved(4.0, 0.5)),
            row("structures of 2 px changed", kind, "misfit", _evolved(2.0, 0.7)),
            row("gain per column 20 %", kind, "misfit", _column_gain(0.2)),
            row("stripes along columns", kind, "misfit", _stripes(1.0)),
            row("column jitter 1 px", kind, "misfit", _jitter(1.0)),
            row("30 % of columns zero", kind, "misfit", lost=0.3),
            row("15 brightenings", kind, "misfit", _brightenings(15)),
            row("front in one image", kind, "misfit", _front),
            Row(f"bright feature moved ({kind})", "misfit", lambda seed, kind=kind: _moved_feature(kind, seed)),
        ]  # fmt: skip
    return found
