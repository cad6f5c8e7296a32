"""Frames of diffraction patterns, and detectors: counts, gain and read noise, 8 bits, logarithms, gaps."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

__all__ = ["DETECTORS", "SHAPES", "Array", "Frame", "Pattern", "detected", "frame_of"]

Array = np.ndarray
SHAPES = ((256, 256), (192, 256), (301, 257), (200, 320), (144, 144), (280, 255))


class Frame(NamedTuple):
    """Distances (row, col) of all pixels from the centre, and the scale: 1 for a frame of 256 pixels."""

    y: Array
    x: Array
    center: Array
    scale: float

    @property
    def r(self) -> Array:
        return np.hypot(self.y, self.x)


class Pattern(NamedTuple):
    """An image, what is valid of it (or None), and its centre (None where there is none)."""

    image: Array
    mask: Array | None
    center: tuple[float, float] | None


def frame_of(rng: np.random.Generator, away: float = 0.1, shape: tuple[int, int] | None = None) -> Frame:
    """A frame with its centre off the middle by up to a share of its sides."""
    shape = shape or SHAPES[rng.integers(len(SHAPES))]
    center = 0.5 * (np.array(shape) - 1) + rng.uniform(-away, away, 2) * shape
    y, x = np.indices(shape).astype(float)
    return Frame(y - center[0], x - center[1], center, min(shape) / 256)


def _gapped(image: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    mask = np.ones(image.shape, bool)
    row, column = (int(rng.integers(n // 4, 3 * n // 4)) for n in image.shape)
    mask[row : row + 3] = False
    mask[:, column : column + 3] = False
    return np.where(mask, image, 0), mask


def detected(rng: np.random.Generator, clean: Array, detector: str) -> tuple[Array, Array | None]:
    """What a detector makes of expected electrons, and its mask."""
    counts = rng.poisson(np.maximum(clean, 0)).astype(float)
    if detector == "gain and read noise":
        gain = rng.uniform(2, 40)
        blurred = gaussian_filter(gain * counts, 0.6)
        return (blurred + rng.normal(100, 3, clean.shape)).astype(np.float32), None
    if detector == "8 bits":
        return np.clip(counts * 255 / max(1.0, np.quantile(counts, 0.9995)), 0, 255).astype(np.uint8), None
    if detector == "logarithm":
        logs = np.log1p(counts)
        return (255 * logs / logs.max()).astype(np.uint8), None
    if detector == "dark subtracted":
        return (counts * 8 + rng.normal(0, 4, clean.shape) + rng.normal(0, 1.5, clean.shape[1])).astype(
            np.float32
        ), None
    if detector == "gaps":
        return _gapped(counts.astype(np.uint32), rng)
    if detector == "hot pixels":
        counts[tuple(rng.integers(0, n, 12) for n in clean.shape)] = 20 * counts.max() + 50
    if detector == "gain per pixel":
        return (counts * (1 + 0.03 * rng.standard_normal(clean.shape))).astype(np.float32), None
    return counts.astype(np.uint16 if counts.max() < 65536 else np.uint32), None


DETECTORS = (
    "counts", "gain and read noise", "8 bits", "logarithm", "dark subtracted", "gaps", "hot pixels", "gain per pixel",
)  # fmt: skip
