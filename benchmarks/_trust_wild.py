"""Rows in which all but the fault is drawn: scene, model, size, motion, noise, type of the numbers."""

from collections.abc import Callable
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

import stackalign
from _trust import Row, Trial
from _trust_faults import FAULTS, NOMINAL, Fault, View
from _trust_scenes import SCENES, scene
from stackalign import transforms

__all__ = ["draw", "judged", "wild_rows"]

FloatArray = NDArray[np.float64]

TOLERANCE = 0.05
"""Pixels, anywhere in the image."""

MODELS = {
    "shift": {},
    "shift+scale": {"sy": 0.02, "sx": 0.02},
    "rigid": {"angle": 3.0},
    "similarity": {"scale": 0.02, "angle": 3.0},
    "affine": {"sy": 0.02, "sx": 0.02, "angle": 2.0, "shear": 0.02},
}
"""Deviation of each parameter but the shifts."""

NOISES = (0.0, 0.01, 0.03, 0.1, 0.3)
TYPES = ("float64", "float64", "float32", "uint8", "uint16", "int16")


def judged(result: Any, matrix: FloatArray | None, shape: tuple[int, int]) -> Trial:
    """Errors of where the result leads the middle and the corners; all are wrong where no matrix is right."""
    points = np.array([[0.5, 0.5], [0, 0], [0, 1], [1, 0], [1, 1]]) * (np.array(shape) - 1.0)
    names = ("middle",) * 2 + ("corner",) * 8
    if matrix is None:
        return Trial(np.full(10, np.nan), np.ones(10), TOLERANCE, result.flags, names)
    errors = transforms.apply(result.matrix, points) - transforms.apply(matrix, points)
    return Trial(errors.ravel(), result.sigma_at(points).ravel(), TOLERANCE, result.flags, names)


def draw(
    key: str, seed: int, fault: Fault, name: str | None = None, model: str | None = None
) -> tuple[list[NDArray[Any]], str, FloatArray | None]:
    """A pair of images, the model to register them by, and the true matrix, or None where there is none.

    The same for the same `key` and `seed`.
    """
    rng = np.random.default_rng((29, crc32(key.encode()), seed))
    drawn = str(rng.choice(list(SCENES)))
    name = name or drawn
    model = model or str(rng.choice(list(MODELS), p=[0.4, 0.15, 0.15, 0.1, 0.2]))
    shape = (int(np.exp(rng.uniform(np.log(48), np.log(320)))), int(np.exp(rng.uniform(np.log(48), np.log(320)))))
    if rng.random() < 0.05:
        shape = (int(rng.integers(400, 600)), int(rng.integers(400, 600)))
    noise = float(rng.choice(NOISES))
    truth = transforms.identity(model)
    for k, parameter in enumerate(transforms.MODELS[model]):
        if parameter in ("dy", "dx"):
            truth[k] = rng.uniform(-1, 1) * min(10.0, 0.08 * min(shape)) if rng.random() < 0.9 else rng.integers(-3, 4)
        else:
            truth[k] += MODELS[model][parameter] * np.clip(rng.normal(), -2, 2)
    matrix = transforms.matrices_from_parameters(truth, model, transforms.image_center(shape))
    # Neither image is on the pixels of the scene.
    grid = np.moveaxis(np.indices(shape).astype(float), 0, -1) + rng.uniform(0, 1, 2)
    offset = grid[0, 0]
    back = transforms.apply(transforms.invert(matrix), grid - offset) + offset
    other = str(rng.choice([n for n in SCENES if n != name]))
    view = View(scene(name, seed, shape), scene(other, seed, shape), grid, back, rng)
    there = view.there if fault.move is None else fault.move(view)
    if fault.affine:
        matrix = _affine_through(there - offset)
    images = _images(view, there, fault, noise)
    return [_typed(image, str(rng.choice(TYPES)), rng) for image in images], model, matrix if fault.answered else None


def _affine_through(shown: FloatArray) -> FloatArray:
    """Pull matrix of a motion for which pixels of the moving image show these points (H, W, 2) of the reference."""
    pixels = np.indices(shown.shape[:2]).reshape(2, -1).astype(float)
    points = np.column_stack([shown.reshape(-1, 2), np.ones(pixels.shape[1])])
    return np.linalg.lstsq(points, pixels.T, rcond=None)[0].T


def _images(view: View, there: FloatArray, fault: Fault, noise: float) -> tuple[FloatArray, FloatArray]:
    reference = view.sampled(view.here)
    contrast = max(float(reference.std()), 1e-6)
    images = (reference / contrast, view.sampled(there) / contrast)
    if fault.before is not None:
        images = fault.before(view, images)
    spread = float(images[0].std())
    noisy = tuple(image + noise * spread * view.rng.normal(size=image.shape) for image in images)
    return noisy if fault.after is None else fault.after(view, noisy)  # type: ignore[return-value]


def _typed(image: FloatArray, kind: str, rng: np.random.Generator) -> NDArray[Any]:
    """Numbers as a camera gives them, with room above and below; what has a type of its own keeps it."""
    if image.dtype == np.uint8 or kind.startswith("float"):
        gain = rng.uniform(0.5, 3.0)
        return image if image.dtype == np.uint8 else (100.0 + gain * image).astype(kind)
    low, high = float(image.min()), float(image.max())
    top = {"uint8": 255, "uint16": int(rng.choice([1000, 4095, 60000])), "int16": 2000}[kind]
    return np.rint((image - low) / max(high - low, 1e-9) * top * rng.uniform(0.5, 1.0)).astype(kind)


def _made(key: str, fault: Fault, first: int, name: str | None = None) -> Callable[[int], Trial]:
    def make(seed: int) -> Trial:
        images, model, matrix = draw(key, first + seed, fault, name)
        return judged(stackalign.register(*images, model=model, workers=1), matrix, images[0].shape[-2:])

    return make


def wild_rows(first: int = 0) -> list[Row]:
    """A nominal row for each scene and a misfit row for each fault; other inputs for each `first` seed."""
    rows = [Row(f"drawn, {name}", "nominal", _made(name, NOMINAL, first, name)) for name in SCENES]
    rows += [Row(f"drawn, {name}", "misfit", _made(name, fault, first)) for name, fault in FAULTS.items()]
    return rows
