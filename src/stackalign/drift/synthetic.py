"""Series of frames whose drift is known."""

from dataclasses import dataclass

import numpy as np

from stackalign._types import FloatArray

__all__ = ["TestSeries", "create_test_series"]

ROOM = 1.5
"""The scene is this many times as long as a frame along each axis, at least."""


@dataclass(frozen=True)
class TestSeries:
    """Frames of one scene, and the truth.

    Parameters
    ----------
    images : numpy.ndarray
        (N, H, W) float32 counts.
    shifts : numpy.ndarray
        (N, 2) pixels by which the content of each frame must be moved to lie on the first frame's.
    """

    __test__ = False  # no test class, though its name begins like one

    images: np.ndarray
    shifts: FloatArray


def create_test_series(
    n: int = 50,
    shape: tuple[int, int] = (128, 128),
    *,
    counts: float = 10.0,
    step: float = 0.8,
    lattice: float | None = None,
    contrast: float = 0.5,
    seed: int = 0,
) -> TestSeries:
    """Make frames with Poisson noise of a scene that drifts by a random walk with a steady part.

    Parameters
    ----------
    n : int
        Number of frames.
    shape : tuple of int
        (H, W) in pixels.
    counts : float
        Mean counts of a pixel.
    step : float
        Standard deviation in pixels of a step along each axis.
    lattice : float, optional
        Period in pixels of a lattice with eight defects; structures of all sizes without one.
    contrast : float
        Standard deviation of the scene, as a share of its mean.
    seed : int
        The same seed gives the same series.

    Returns
    -------
    TestSeries

    Examples
    --------
    >>> from stackalign.drift import create_test_series
    >>> made = create_test_series(5, (64, 64))
    >>> made.images.shape, made.shifts[0].tolist()
    ((5, 64, 64), [0.0, 0.0])
    """
    rng = np.random.default_rng([seed, n, *shape])
    drift = np.cumsum(rng.normal(size=(n, 2)) * step + rng.normal(size=2) * 0.3 * step, axis=0)
    drift -= drift[0]
    reach = int(np.ceil(np.abs(drift).max())) + 8
    sides = [max(side + 2 * reach, int(ROOM * side)) for side in shape]
    scene = _lattice(sides, lattice, rng) if lattice else _structures(sides, rng)
    spectrum = np.fft.rfft2(np.clip(1 + contrast * scene / scene.std(), 0.05, None))
    ky, kx = np.fft.fftfreq(sides[0])[:, None], np.fft.rfftfreq(sides[1])[None]
    images = np.empty((n, *shape), np.float32)
    top, left = (sides[0] - shape[0]) // 2, (sides[1] - shape[1]) // 2
    for frame, (dy, dx) in zip(images, drift, strict=True):
        moved = np.fft.irfft2(spectrum * np.exp(-2j * np.pi * (ky * dy + kx * dx)), s=tuple(sides))
        frame[:] = rng.poisson(counts * np.clip(moved[top : top + shape[0], left : left + shape[1]], 0, None))
    return TestSeries(images, 0.0 - drift)


def _structures(sides: list[int], rng: np.random.Generator) -> FloatArray:
    """Noise whose power falls with frequency, and that has nothing near the Nyquist frequency."""
    k = np.hypot(np.fft.fftfreq(sides[0])[:, None], np.fft.rfftfreq(sides[1])[None])
    falling = np.exp(-((k / 0.2) ** 2)) / (k + 0.02) ** 1.5
    scene: FloatArray = np.fft.irfft2(np.fft.rfft2(rng.normal(size=sides)) * falling, s=tuple(sides))
    scene -= scene.mean()
    return scene


def _lattice(sides: list[int], period: float, rng: np.random.Generator) -> FloatArray:
    """Two waves at an angle, defects, and a slow background."""
    y, x = np.mgrid[: sides[0], : sides[1]]
    angle = rng.uniform(0.1, 0.7)
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    scene: FloatArray = np.cos(2 * np.pi * along / period) + np.cos(2 * np.pi * across / (1.2 * period))
    for _ in range(8):
        cy, cx = rng.uniform(0, sides[0]), rng.uniform(0, sides[1])
        scene -= 1.5 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 8)
    slow = np.exp(-((np.hypot(np.fft.fftfreq(sides[0])[:, None], np.fft.rfftfreq(sides[1])[None]) * 90) ** 2) / 2)
    background = np.fft.irfft2(np.fft.rfft2(rng.normal(size=sides)) * slow, s=tuple(sides))
    scene += 0.5 * background / background.std() - scene.mean()
    return scene
