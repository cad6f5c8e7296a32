"""Synthetic diffraction patterns."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["create_test_data", "iter_test_data"]


def iter_test_data(
    n_patterns: int = 100,
    image_size: int = 256,
    noise_level: float = 0.1,
    *,
    seed: int | None = None,
    dtype: DTypeLike = np.float32,
    counts: float | None = None,
    background: float = 0.0,
    radius: float = 0.3,
) -> Iterator[NDArray[np.generic]]:
    """Yield the patterns of `create_test_data` one by one, (S, S); nothing else is held in memory.

    Parameters
    ----------
    n_patterns, image_size, noise_level, seed, dtype, counts, background, radius
        As for `create_test_data`.

    Returns
    -------
    iterator of numpy.ndarray
        (S, S) each.

    Examples
    --------
    >>> from stackalign import crop
    >>> [pattern.shape for pattern in crop.iter_test_data(2, 16)]
    [(16, 16), (16, 16)]
    """
    from scipy.special import j1

    if n_patterns < 1 or image_size < 1:
        msg = f"n_patterns and image_size must be at least 1, got {n_patterns} and {image_size}"
        raise ValueError(msg)
    if noise_level < 0 or background < 0 or radius <= 0 or (counts is not None and counts <= 0):
        msg = "noise_level and background must not be negative, radius and counts must be positive"
        raise ValueError(msg)
    rng = np.random.default_rng(seed)
    axis = np.linspace(-1.0, 1.0, image_size) if image_size > 1 else np.zeros(1)
    kind = np.dtype(dtype)
    for _ in range(n_patterns):
        a = max(rng.normal(radius, radius / 6), radius / 6)  # a disk of no size would have no Airy pattern
        cy, cx = rng.normal(0.0, 0.1, 2)
        u = np.pi * np.hypot(axis[:, None] - cy, axis[None, :] - cx) / a
        pattern = np.ones_like(u)
        np.divide(2.0 * j1(u), u, out=pattern, where=u > 1e-8)
        pattern = pattern**2 + background
        if counts is not None:
            pattern = rng.poisson(pattern * (counts / pattern.sum())).astype(np.float64)
        if noise_level:
            scale = noise_level if counts is None else noise_level * pattern.max(initial=0.0)
            pattern = np.maximum(pattern + rng.normal(0.0, scale, pattern.shape), 0.0)
        if kind.kind in "iu":
            limits = np.iinfo(kind)
            pattern = np.clip(np.rint(pattern), limits.min, limits.max)
        yield pattern.astype(kind)


def create_test_data(
    n_patterns: int = 100,
    image_size: int = 256,
    noise_level: float = 0.1,
    *,
    seed: int | None = None,
    dtype: DTypeLike = np.float32,
    counts: float | None = None,
    background: float = 0.0,
    radius: float = 0.3,
) -> NDArray[np.generic]:
    """Make Airy patterns of varying size and position.

    Parameters
    ----------
    n_patterns : int
    image_size : int
        Side S, in pixels.
    noise_level : float
        Standard deviation of the Gaussian noise, relative to the peak; values below 0 are cut off. At 0.1 the noise
        that is left fills the frame and there is little to crop: `counts` makes more realistic patterns.
    seed : int, optional
        Of the random numbers; a new one each time by default.
    dtype : dtype
        Integers are rounded and clipped to their range; they want `counts`.
    counts : float, optional
        Mean number of electrons per pattern, Poisson-distributed over the pixels.
    background : float
        Constant added before counting, relative to the peak.
    radius : float
        Mean parameter a of ``(2 J1(u) / u)**2`` with ``u = pi r / a``, in units of half the frame.

    Returns
    -------
    numpy.ndarray
        (N, 1, S, S).

    Examples
    --------
    >>> from stackalign import crop
    >>> crop.create_test_data(n_patterns=3, image_size=16).shape
    (3, 1, 16, 16)
    """
    out = np.empty((n_patterns, 1, image_size, image_size), dtype)
    patterns = iter_test_data(
        n_patterns,
        image_size,
        noise_level,
        seed=seed,
        dtype=dtype,
        counts=counts,
        background=background,
        radius=radius,
    )
    for k, pattern in enumerate(patterns):
        out[k, 0] = pattern
    return out
