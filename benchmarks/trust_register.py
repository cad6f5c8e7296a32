"""Situations for `register`: pairs sampled from continuous scenes, where the model holds and where it does not."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter

import stackalign
from _trust import Row, Trial
from _trust_wild import wild_rows
from stackalign import transforms

FloatArray = NDArray[np.float64]
Field = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]

SIDE, MARGIN = 192, 64
TOLERANCE = 0.05
"""Pixels, anywhere in the image; scales and turns are counted by how far they move a corner."""


def _red(rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
    layers = [gaussian_filter(rng.normal(size=shape), s) for s in (1.8, 6.0, 17.0)]
    return sum(a * x / x.std() for a, x in zip((1.0, 1.0, 2.0), layers, strict=True))


def _white(rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    band = np.hypot(fy, fx) < 0.2
    return np.fft.irfft2(np.fft.rfft2(rng.normal(size=shape)) * band, shape)


def _blobs(rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
    points = np.zeros(shape)
    n = shape[0] * shape[1] // 400
    points[tuple(rng.integers(0, side, n) for side in shape)] = rng.uniform(0.3, 1.0, n)
    return gaussian_filter(points, 3.2)


SCENES = {"red": _red, "white": _white, "blobs": _blobs}


@cache
def _coefficients(kind: str, seed: int) -> FloatArray:
    shape = (SIDE + 2 * MARGIN,) * 2
    scene = SCENES[kind](np.random.default_rng((7, seed)), shape)
    return spline_filter((scene - scene.mean()) / scene.std(), 5, mode="mirror")


def _at(kind: str, seed: int, y: FloatArray, x: FloatArray) -> FloatArray:
    at = (y + MARGIN, x + MARGIN)
    return map_coordinates(_coefficients(kind, seed), at, order=5, mode="mirror", prefilter=False)


def _noisy(images: list[FloatArray], noise: float, seed: int) -> list[FloatArray]:
    rng = np.random.default_rng((11, seed))
    return [image + noise * rng.normal(size=image.shape) for image in images]


def _judged(result: Any, matrix: FloatArray) -> Trial:
    """Errors of the parameters if the model can express the truth, else of where it leads middle and corners."""
    points = np.array([[0.5, 0.5], [0, 0], [0, 1], [1, 0], [1, 1]]) * (SIDE - 1.0)
    try:
        truth = transforms.parameters_from_matrices(matrix[None], result.center, result.model)[0]
    except ValueError:
        errors = transforms.apply(result.matrix, points) - transforms.apply(matrix, points)
        sigmas = result.sigma_at(points)
        return Trial(
            [np.abs(errors[0]).max(), np.abs(errors[1:]).max()],
            [sigmas[0].max(), sigmas[1:].max()],
            TOLERANCE,
            result.flags,
            ("middle", "corner"),
        )
    reach = {"dy": 1.0, "dx": 1.0, "angle": np.deg2rad(SIDE / np.sqrt(2))}
    limits = [TOLERANCE / reach.get(name, SIDE / 2) for name in result.names]
    return Trial(result.parameters - truth, result.sigma, limits, result.flags, result.names)


def _transformed(
    kind: str,
    model: str = "shift",
    noise: float = 0.05,
    affine: dict[str, float] | None = None,
    change: Callable[[list[FloatArray], np.random.Generator], list[FloatArray]] | None = None,
    **settings: Any,
) -> Callable[[int], Trial]:
    """A scene moved by a random shift, by `affine` beyond it, and then changed."""

    def make(seed: int) -> Trial:
        rng = np.random.default_rng((13, seed))
        truth = transforms.identity("affine")
        truth[:2] = rng.uniform(-6, 6, 2)
        for name, value in (affine or {}).items():
            sign = rng.choice((-1.0, 1.0))
            truth[transforms.MODELS["affine"].index(name)] += sign * value
        matrix = transforms.matrices_from_parameters(truth, "affine", transforms.image_center((SIDE, SIDE)))
        grid = np.moveaxis(np.indices((SIDE, SIDE)).astype(float), 0, -1)
        back = transforms.apply(transforms.invert(matrix), grid)
        images = [_at(kind, seed, grid[..., 0], grid[..., 1]), _at(kind, seed, back[..., 0], back[..., 1])]
        images = _noisy(images, noise, seed)
        if change is not None:
            images = change(images, rng)
        return _judged(stackalign.register(*images, model=model, workers=1, **settings), matrix)

    return make


def _made(
    maker: Callable[[int, np.random.Generator], tuple[list[FloatArray], tuple[float, float]]],
    noise: float = 0.05,
    **settings: Any,
) -> Callable[[int], Trial]:
    """Images of a maker's own, with the shift (dy, dx) by which the content of the second one has moved."""

    def make(seed: int) -> Trial:
        images, shift = maker(seed, np.random.default_rng((17, seed)))
        matrix = transforms.matrices_from_parameters(-np.asarray(shift), "shift", transforms.image_center((SIDE, SIDE)))
        return _judged(stackalign.register(*_noisy(images, noise, seed), workers=1, **settings), matrix)

    return make


def _grid() -> tuple[FloatArray, FloatArray]:
    y, x = np.indices((SIDE, SIDE)).astype(float)
    return y, x


def _partly_moved(kind: str, share: float = 0.5):
    """Two layers of structures, of which one has moved by 4 pixels against the other."""

    def maker(seed: int, rng: np.random.Generator):
        y, x = _grid()
        turn = rng.uniform(0, 2 * np.pi)
        dy, dx = 4 * np.sin(turn), 4 * np.cos(turn)
        layer = [np.sqrt(1 - share) * _at(kind, seed, y, x), np.sqrt(share) * _at(kind, seed + 500, y, x)]
        moved = np.sqrt(1 - share) * _at(kind, seed, y - 2.3, x + 1.6)
        moved = moved + np.sqrt(share) * _at(kind, seed + 500, y - 2.3 - dy, x + 1.6 - dx)
        return [layer[0] + layer[1], moved], (2.3, -1.6)

    return maker


def _warped(kind: str, size: float):
    def maker(seed: int, rng: np.random.Generator):
        y, x = _grid()
        fields = [gaussian_filter(rng.normal(size=y.shape), 40, mode="wrap") for _ in range(2)]
        u, v = (size * f / f.std() for f in fields)
        return [_at(kind, seed, y, x), _at(kind, seed, y - 2.3 + u - u.mean(), x + 1.6 + v - v.mean())], (2.3, -1.6)

    return maker


def _torn(kind: str):
    """One half of the image has moved by 1.5 pixels more."""

    def maker(seed: int, rng: np.random.Generator):
        y, x = _grid()
        beyond = 1.5 * (x > rng.uniform(60, 130))
        return [_at(kind, seed, y, x), _at(kind, seed, y - 2.3 + beyond, x + 1.6)], (2.3, -1.6)

    return maker


def _feature_moved(kind: str):
    def maker(seed: int, rng: np.random.Generator):
        y, x = _grid()
        cy, cx = rng.uniform(60, 130, 2)
        bright = [14 * np.exp(-0.5 * ((y - cy - m) ** 2 + (x - cx + m) ** 2) / 6.0**2) for m in (0.0, 5.0)]
        return [_at(kind, seed, y, x) + bright[0], _at(kind, seed, y - 2.3, x + 1.6) + bright[1]], (2.3, -1.6)

    return maker


def _unrelated(kind: str):
    def maker(seed: int, rng: np.random.Generator):
        y, x = _grid()
        return [_at(kind, seed, y, x), _at(kind, seed + 1000, y, x)], (0.0, 0.0)

    return maker


def _lattice(seed: int, rng: np.random.Generator):
    y, x = _grid()
    turn, opening = rng.uniform(0, np.pi), rng.uniform(np.pi / 3, np.pi / 2)
    periods, phases = rng.uniform(6, 36, 2), rng.uniform(0, 2 * np.pi, 2)
    shift = rng.uniform(-4, 4, 2)

    def at(dy: float, dx: float) -> FloatArray:
        waves = [
            np.cos(2 * np.pi * ((y - dy) * np.sin(a) + (x - dx) * np.cos(a)) / p + q)
            for a, p, q in zip((turn, turn + opening), periods, phases, strict=True)
        ]
        return waves[0] + waves[1] + 0.4 * waves[0] * waves[1]

    return [at(0, 0), at(*shift)], tuple(shift)


def _lines(seed: int, rng: np.random.Generator):
    """Lines without a period, in one direction: what moves along them is not seen."""
    y, x = _grid()
    profile = gaussian_filter(rng.normal(size=2000), 2.5)
    turn, along = rng.uniform(0, np.pi), 4.0
    across = y * np.sin(turn) + x * np.cos(turn)
    coefficients = spline_filter(profile / profile.std(), 5)
    images = [map_coordinates(coefficients, [(across - m) + 1000], order=5, prefilter=False) for m in (0.0, 2.4)]
    shift = (2.4 * np.sin(turn) + along * np.cos(turn), 2.4 * np.cos(turn) - along * np.sin(turn))
    return images, shift


def _static(kind: str, weight: float, what: str):
    """A weak scene that moves under something strong that does not."""

    def maker(seed: int, rng: np.random.Generator):
        y, x = _grid()
        dy, dx = rng.choice((-1, 1), 2) * rng.uniform(3, 9, 2)
        images = [_at(kind, seed, y, x), _at(kind, seed, y - dy, x - dx)]
        if what == "hot":
            still = np.zeros_like(y)
            still[tuple(rng.integers(0, SIDE, (2, 25)))] = weight
        elif what == "gain":
            gain = 1 + weight * rng.normal(size=y.shape)
            images = [0.1 * image + 1.0 for image in images]
            return [image * gain * 10 for image in images], (dy, dx)
        else:
            still = weight * ((x < 60) | (y > 150))
        return [image + still for image in images], (dy, dx)

    return maker


def _spiked(share: float, size: float):
    def change(images: list[FloatArray], rng: np.random.Generator) -> list[FloatArray]:
        for image in images:
            hit = rng.random(image.shape) < share
            image[hit] += size * image.std() * rng.uniform(0.5, 1.5, int(hit.sum()))
        return images

    return change


def _counted(kind: str, counts: tuple[float, float]) -> Callable[[int], Trial]:
    def make(seed: int) -> Trial:
        rng = np.random.default_rng((19, seed))
        y, x = _grid()
        shift = rng.uniform(-6, 6, 2)
        images = [_at(kind, seed, y, x), _at(kind, seed, y - shift[0], x - shift[1])]
        low, high = min(i.min() for i in images), max(i.max() for i in images)
        images = [rng.poisson(c * (i - low) / (high - low)).astype(float) for c, i in zip(counts, images, strict=True)]
        matrix = transforms.matrices_from_parameters(-np.asarray(shift), "shift", transforms.image_center((SIDE, SIDE)))
        return _judged(stackalign.register(*images, workers=1), matrix)

    return make


def _shaded(images: list[FloatArray], rng: np.random.Generator) -> list[FloatArray]:
    """The moving image is brighter on one side, smoothly."""
    y, x = _grid()
    return [images[0], images[1] * (1 + 0.1 * (x - SIDE / 2) / SIDE) + 0.1 * y / SIDE]


def _blurred(images: list[FloatArray], rng: np.random.Generator) -> list[FloatArray]:
    """The moving image has a wider point-spread function."""
    return [images[0], gaussian_filter(images[1], 1.5)]


def _evolved(weight: float) -> Callable[[list[FloatArray], np.random.Generator], list[FloatArray]]:
    """New structures in the moving image that have nothing to do with the old ones."""

    def change(images: list[FloatArray], rng: np.random.Generator) -> list[FloatArray]:
        other = _red(rng, images[1].shape)
        return [images[0], images[1] + weight * other / other.std()]

    return change


def _nominal() -> list[Row]:
    rows = [
        Row(f"{kind}, {model}, noise {noise:.0%}", "nominal", _transformed(kind, model, noise, affine))
        for kind in SCENES
        for model, affine in (("shift", None), ("shift+scale", {"sy": 0.004, "sx": 0.006}))
        for noise in (0.0, 0.02, 0.05, 0.2, 0.5)
    ]
    rows += [
        Row(f"{kind}, rigid, noise 5%", "nominal", _transformed(kind, "rigid", 0.05, {"angle": 1.5})) for kind in SCENES
    ]
    rows += [
        Row(f"red, counts {a:g} and {b:g}", "nominal", _counted("red", (a, b)), 30)
        for a, b in ((340, 340), (340, 34), (34, 34), (340, 3), (3, 3), (340, 1), (1, 1))
    ]
    rows += [
        Row("red, shaded by 10%", "nominal", _transformed("red", change=_shaded)),
        Row("white, shaded by 10%", "nominal", _transformed("white", change=_shaded)),
        Row("red, wider point spread", "nominal", _transformed("red", noise=0.02, change=_blurred)),
        Row("blobs, wider point spread", "nominal", _transformed("blobs", noise=0.02, change=_blurred)),
    ]
    return rows


LEFT_OUT = [
    ("red", "shift", {"sy": 0.01, "sx": 0.01}),
    ("red", "shift", {"sy": 0.05, "sx": 0.05}),
    ("red", "shift", {"angle": 1.0}),
    ("red", "shift", {"angle": 3.0}),
    ("red", "shift", {"angle": 6.0}),
    ("red", "shift+scale", {"angle": 2.0}),
    ("red", "rigid", {"sx": 0.01}),
    ("white", "shift", {"sy": 0.02, "sx": 0.02}),
    ("white", "shift", {"angle": 2.0}),
    ("white", "rigid", {"shear": 0.01}),
    ("blobs", "shift", {"sx": 0.02}),
    ("blobs", "shift", {"sy": 0.05, "sx": 0.05}),
    ("blobs", "shift", {"angle": 3.0}),
    ("blobs", "shift", {"angle": 10.0}),
]
"""Scene, model, and what of the truth the model leaves out."""

BEYOND = [
    ("white", "shift+scale", {"sy": 0.06, "sx": 0.06}),
    ("white", "shift+scale", {"sy": 0.1, "sx": 0.1}),
    ("white", "rigid", {"angle": 8.0}),
    ("white", "similarity", {"angle": 12.0, "sy": 0.05, "sx": 0.05}),
    ("red", "rigid", {"angle": 14.0}),
]


def _misfits() -> list[Row]:
    def said(affine: dict[str, float]) -> str:
        return " ".join(f"{name} {value:g}" for name, value in affine.items())

    rows = [
        Row(f"{kind}, {model}, left out: {said(affine)}", "misfit", _transformed(kind, model, affine=affine))
        for kind, model, affine in LEFT_OUT
    ]
    rows += [
        Row(f"{kind}, {model} of {said(affine)}", "misfit", _transformed(kind, model, affine=affine))
        for kind, model, affine in BEYOND
    ]
    rows += [Row(f"{kind}, half of the structures moved", "misfit", _made(_partly_moved(kind))) for kind in SCENES]
    rows += [
        Row(f"{kind}, a quarter of the structures moved", "misfit", _made(_partly_moved(kind, 0.25))) for kind in SCENES
    ]
    rows += [Row(f"{kind}, warped by 0.7 px", "misfit", _made(_warped(kind, 0.7))) for kind in ("red", "white")]
    rows += [Row(f"{kind}, torn by 1.5 px", "misfit", _made(_torn(kind))) for kind in ("red", "blobs")]
    rows += [Row(f"{kind}, a bright feature moved", "misfit", _made(_feature_moved(kind))) for kind in SCENES]
    rows += [Row("red, new structures of 30%", "misfit", _transformed("red", change=_evolved(0.3)))]
    rows += [Row(f"{kind}, unrelated", "misfit", _made(_unrelated(kind))) for kind in SCENES]
    rows += [
        Row("lattice, clean", "misfit", _made(_lattice, 0.0)),
        Row("lattice, noise 2%", "misfit", _made(_lattice, 0.02)),
        Row("lattice, noise 30%", "misfit", _made(_lattice, 0.3)),
        Row("lines, clean", "misfit", _made(_lines, 0.0)),
        Row("lines, noise 3%", "misfit", _made(_lines, 0.03)),
        Row("red, hot pixels that stand still", "misfit", _made(_static("red", 200.0, "hot"))),
        Row("red, gain pattern that stands still", "misfit", _made(_static("red", 0.2, "gain"))),
        Row("white, block edges that stand still", "misfit", _made(_static("white", 8.0, "edge"))),
        Row("red, spikes 0.2% x 100", "misfit", _transformed("red", change=_spiked(0.002, 100.0))),
        Row("red, spikes 2% x 10", "misfit", _transformed("red", change=_spiked(0.02, 10.0))),
        Row("white, spikes 1% x 30", "misfit", _transformed("white", change=_spiked(0.01, 30.0))),
    ]
    return rows


def rows() -> list[Row]:
    """Nominal rows first, and then those in which all is drawn."""
    return _nominal() + _misfits() + wild_rows()
