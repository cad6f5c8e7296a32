"""Scenes for the trust table that differ as much as images do: photographs, micrographs, documents, grains, points."""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates, spline_filter, zoom

__all__ = ["SCENES", "Scene", "scene"]

FloatArray = NDArray[np.float64]
Maker = Callable[[np.random.Generator, tuple[int, int]], FloatArray]

MARGIN = 48
"""Pixels of scene around the reference that the moving image may show."""

ORDER = 3


class Scene:
    """A continuous scene of deviation 1: a cubic spline through the values of a picture, mirrored beyond its edges."""

    def __init__(self, values: FloatArray) -> None:
        values = values - values.mean()
        self._coefficients = spline_filter(values / max(values.std(), 1e-12), ORDER, mode="mirror")

    def __call__(self, y: FloatArray, x: FloatArray) -> FloatArray:
        """Values at points whose (0, 0) is the first pixel of the reference."""
        at = (y + MARGIN, x + MARGIN)
        return map_coordinates(self._coefficients, at, order=ORDER, mode="mirror", prefilter=False)


def scene(name: str, seed: int, shape: tuple[int, int]) -> Scene:
    """One of `SCENES`, with room for a reference of a shape and what moves into it."""
    rng = np.random.default_rng((23, seed))
    height, width = shape[0] + 2 * MARGIN, shape[1] + 2 * MARGIN
    return Scene(SCENES[name](rng, (height, width)))


@cache
def _picture(name: str) -> FloatArray:
    from skimage import color, data

    image = np.asarray(getattr(data, name)(), np.float64)
    return color.rgb2gray(image / image.max()) if image.ndim == 3 else image


def _of_picture(name: str) -> Maker:
    def make(rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
        whole = _picture(name)
        factor = max(1.0, *(n / have for n, have in zip(shape, whole.shape, strict=True)))
        if factor > 1.0:
            whole = zoom(whole, factor * 1.02, order=3)
        y, x = (int(rng.integers(0, have - n + 1)) for have, n in zip(whole.shape, shape, strict=True))
        part = whole[y : y + shape[0], x : x + shape[1]]
        # Sky and paper show nothing.
        return part if part.std() > 0.3 * whole.std() else make(rng, shape)

    return make


def _power_law(exponent: float) -> Maker:
    def make(rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
        f = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
        f[0, 0] = np.inf
        spectrum = np.fft.rfft2(rng.normal(size=shape)) * f ** (-exponent / 2) * (f < 0.35)
        return np.fft.irfft2(spectrum, shape)

    return make


def _grains(rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
    """Voronoi cells of one brightness each, dark at their boundaries."""
    from scipy.spatial import cKDTree

    size = rng.uniform(8, 30)
    n = max(6, int(shape[0] * shape[1] / size**2))
    seeds = rng.uniform(0, 1, (n, 2)) * shape
    grid = np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 2)
    distance, nearest = cKDTree(seeds).query(grid, k=2)
    wall = np.exp(-0.5 * (distance[:, 1] - distance[:, 0]) ** 2)
    return gaussian_filter((rng.uniform(0, 1, n)[nearest[:, 0]] - 0.8 * wall).reshape(shape), 0.8)


def _filaments(rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
    """Curved threads of varying brightness."""
    image = np.zeros(shape)
    for _ in range(max(4, shape[0] * shape[1] // 2500)):
        n = int(rng.integers(60, 250))
        turn = np.cumsum(rng.normal(0, 0.08, n)) + rng.uniform(0, 2 * np.pi)
        y = rng.uniform(0, shape[0]) + np.cumsum(np.sin(turn))
        x = rng.uniform(0, shape[1]) + np.cumsum(np.cos(turn))
        at = np.rint([y, x]).astype(int)
        inside = (at >= 0).all(axis=0) & (at < np.array(shape)[:, None]).all(axis=0)
        image[tuple(at[:, inside])] += rng.uniform(0.3, 1)
    return gaussian_filter(image, 1.2)


def _points(spacing: float, sigma: float) -> Maker:
    """Point sources, brighter ones being rarer, blurred by a Gaussian; one for each area of a spacing squared."""

    def make(rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
        n = max(3, int(shape[0] * shape[1] / spacing**2))
        image = np.zeros(shape)
        image[tuple(rng.integers(0, side, n) for side in shape)] = rng.pareto(2.0, n) + 0.3
        return gaussian_filter(image, sigma)

    return make


def _cells(rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
    """Round cells of nearly one size with dark middles."""
    n = max(4, shape[0] * shape[1] // 900)
    middles = np.ones(shape, bool)
    middles[tuple(rng.integers(0, side, n) for side in shape)] = False
    distance = np.asarray(distance_transform_edt(middles))
    radius = 9 + gaussian_filter(rng.normal(size=shape), 15) * 30
    return gaussian_filter(np.exp(-0.5 * ((distance - radius) / 2.0) ** 2) + 0.3 * (distance < radius), 0.8)


def _disc(rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
    """Part of a disc that is darker towards its limb, with faint structure on it and a faint halo around it."""
    y, x = np.indices(shape).astype(float)
    radius = rng.uniform(0.6, 1.2) * max(shape)
    turn = rng.uniform(0, 2 * np.pi)
    away = radius * rng.uniform(0.6, 1.0)
    r = np.hypot(y - shape[0] / 2 - away * np.sin(turn), x - shape[1] / 2 - away * np.cos(turn)) / radius
    on = 1 / (1 + np.exp((r - 1) * radius / 1.2))
    mu = np.sqrt(np.clip(1 - r**2, 0.0, 1.0))
    texture = gaussian_filter(rng.normal(size=shape), 2.5) * 8
    return on * (0.4 + 0.6 * mu) * (1 + 0.06 * texture) + 0.05 * np.exp(-np.clip(r - 1, 0, None) * 8)


def _folds(rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
    """Winding bands of nearly one width, as of a fingerprint, a magnetic domain or a lamella."""
    f = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
    period = rng.uniform(7, 16)
    spectrum = np.fft.rfft2(rng.normal(size=shape)) * np.exp(-0.5 * ((f * period - 1) / 0.15) ** 2)
    return np.tanh(2 * np.fft.irfft2(spectrum, shape) / np.fft.irfft2(spectrum, shape).std())


SCENES: dict[str, Maker] = {
    **{name: _of_picture(name) for name in (
        "astronaut", "brick", "camera", "cell", "chelsea", "clock", "coffee", "coins", "grass", "gravel",
        "hubble_deep_field", "immunohistochemistry", "microaneurysms", "moon", "page", "retina", "rocket", "text")},
    "power law 1": _power_law(1.0),
    "power law 3": _power_law(3.0),
    "grains": _grains,
    "filaments": _filaments,
    "dense points": _points(7.0, 1.1),
    "sparse points": _points(24.0, 1.4),
    "blurred points": _points(14.0, 3.0),
    "cells": _cells,
    "disc": _disc,
    "folds": _folds,
}  # fmt: skip
"""Name to a maker of the values, from a random generator and a shape. The pictures are those that come with
scikit-image."""
