"""Patterns with known centres, rings and spots, of a powder or a crystal behind a beam block."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign._types import FloatArray

__all__ = ["SyntheticPattern", "beam_block", "create_test_pattern", "lattice", "powder", "powder_profile"]


RADII = np.array([52.0, 85.0, 104.0, 137.0, 168.0, 190.0])
AMPLITUDES = np.array([1.0, 0.45, 0.35, 0.25, 0.15, 0.1])
WIDTH = 2.2
COUNTS = 200.0
LATTICE = np.array([[31.3, 4.1], [-11.7, 29.2]])
"""(row, col) of the two reciprocal vectors, in pixels at n = 512."""
SIGMA = 1.8
BLOCKED = 3.0


@dataclass(frozen=True)
class SyntheticPattern:
    """An image, its mask, and what is true of it.

    Parameters
    ----------
    image, mask : numpy.ndarray
        (n, n), float32 counts and what is valid of them.
    clean : numpy.ndarray
        (n, n) expected counts.
    center : tuple of float
        (row, col).
    spots, amplitudes, background : numpy.ndarray
        (S, 2) positions (row, col), (S,) heights in counts, and (S,) expected counts there without the spot.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.bool_]
    clean: FloatArray
    center: tuple[float, float]
    spots: FloatArray
    amplitudes: FloatArray
    background: FloatArray


def beam_block(n: int) -> NDArray[np.bool_]:
    """Mask of the usual beam block: rows 0 .. 0.6n, columns 0.47n .. 0.53n."""
    mask = np.ones((n, n), bool)
    mask[: int(0.6 * n), int(0.47 * n) : int(0.53 * n)] = False
    return mask


def powder_profile(radius: FloatArray, n: int = 512) -> FloatArray:
    """Counts of the powder at these distances from the centre."""
    s = n / 512
    rings = [
        a * np.exp(-((radius - r * s) ** 2) / (2 * (WIDTH * s) ** 2)) for r, a in zip(RADII, AMPLITUDES, strict=True)
    ]
    counts: FloatArray = COUNTS * (0.6 * np.exp(-radius / (60 * s)) + 0.05 + sum(rings))
    return counts


def create_test_pattern(
    kind: str = "powder",
    n: int = 512,
    *,
    center: tuple[float, float] | None = None,
    seed: int = 0,
    walkoff: float = 0.0,
    noise: bool = True,
    blocked: bool = True,
) -> SyntheticPattern:
    """Make a diffraction pattern of which everything is known.

    Parameters
    ----------
    kind : str
        "powder": six rings on an exponential halo; "lattice": spots of Friedel-symmetric random strengths on a halo.
    n : int
        Pixels along each side.
    center : tuple of float, optional
        (row, col); the middle by default.
    seed : int
        Of the noise, and of the strengths of spots.
    walkoff : float
        How much brighter one side is than the other, as where the Ewald sphere is tilted: 0 to 1.
    noise : bool
        Poisson noise.
    blocked : bool
        Whether a beam block hides the direct beam.

    Returns
    -------
    SyntheticPattern

    Raises
    ------
    ValueError
        Another kind.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import diffraction
    >>> made = diffraction.create_test_pattern("powder", 256, center=(130.0, 126.5))
    >>> made.image.shape, made.center, bool(made.mask.all())  # part is hidden by a beam block
    ((256, 256), (130.0, 126.5), False)
    """
    makers: dict[str, Any] = {"powder": powder, "lattice": lattice}
    if kind not in makers:
        msg = f"kind must be one of {sorted(makers)}, got {kind!r}"
        raise ValueError(msg)
    made: SyntheticPattern = makers[kind](n, center, seed, walkoff, noise=noise, blocked=blocked)
    return made


def powder(
    n: int = 512,
    center: tuple[float, float] | None = None,
    seed: int = 0,
    walkoff: float = 0.0,
    *,
    noise: bool = True,
    blocked: bool = True,
) -> SyntheticPattern:
    """Six rings on an exponential halo; `walkoff` makes one side brighter than the other."""
    middle = (0.5 * (n - 1),) * 2 if center is None else center
    dy, dx = np.arange(n)[:, None] - middle[0], np.arange(n)[None, :] - middle[1]
    clean = powder_profile(np.hypot(dy, dx), n) * (1 + walkoff * (0.8 * dy + 0.6 * dx) / (n / 2))
    empty = np.empty((0, 2))
    return _observed(np.maximum(clean, 0.0), middle, seed, noise, blocked, empty, empty[:, 0], empty[:, 0])


def lattice(
    n: int = 512,
    center: tuple[float, float] | None = None,
    seed: int = 0,
    walkoff: float = 0.0,
    *,
    counts: float = 400.0,
    noise: bool = True,
    blocked: bool = True,
) -> SyntheticPattern:
    """Spots with Friedel-symmetric random amplitudes on a halo, without the direct beam where it is blocked."""
    middle = (0.5 * (n - 1),) * 2 if center is None else center
    rng = np.random.default_rng(seed)
    reach = int(np.ceil(n / 20))
    h, k = (a.ravel() for a in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    drawn = rng.uniform(0.5, 1.5, (2 * reach + 1, 2 * reach + 1))
    drawn = 0.5 * (drawn + drawn[::-1, ::-1])
    offsets = np.stack([h, k], axis=1) @ LATTICE
    distance = np.hypot(*offsets.T)
    tilt = np.maximum(1 + walkoff * (offsets @ [0.8, 0.6]) / (n / 2), 0.0)
    scale = counts / 400.0
    amplitudes = counts * drawn.ravel() * np.exp(-((distance / (0.33 * n)) ** 2)) * tilt
    spots = offsets + middle
    inside = ((spots >= -5 * SIGMA) & (spots <= n - 1 + 5 * SIGMA)).all(axis=1)
    spots, amplitudes, distance = spots[inside], amplitudes[inside], distance[inside]
    dy, dx = np.arange(n)[:, None] - middle[0], np.arange(n)[None, :] - middle[1]
    clean = scale * (20 * np.exp(-np.hypot(dy, dx) / (0.25 * n)) + 2)
    half = int(np.ceil(6 * SIGMA))
    for (y, x), amplitude in zip(spots, amplitudes, strict=True):
        rows = np.arange(max(0, int(y) - half), min(n, int(y) + half + 2))
        columns = np.arange(max(0, int(x) - half), min(n, int(x) + half + 2))
        if rows.size and columns.size:
            spot = np.exp(-((rows - y) ** 2)[:, None] / (2 * SIGMA**2) - ((columns - x) ** 2) / (2 * SIGMA**2))
            clean[np.ix_(rows, columns)] += amplitude * spot
    seen = ((spots >= 0) & (spots <= n - 1)).all(axis=1)
    halo = scale * (20 * np.exp(-distance / (0.25 * n)) + 2)
    return _observed(clean, middle, seed + 1000, noise, blocked, spots[seen], amplitudes[seen], halo[seen])


def _observed(
    clean: FloatArray,
    center: tuple[float, float],
    seed: int,
    noise: bool,
    blocked: bool,
    spots: FloatArray,
    amplitudes: FloatArray,
    background: FloatArray,
) -> SyntheticPattern:
    n = len(clean)
    mask = beam_block(n) if blocked else np.ones((n, n), bool)
    clean = np.where(mask, clean, BLOCKED)
    image = np.random.default_rng(seed).poisson(clean) if noise else clean
    return SyntheticPattern(image.astype(np.float32), mask, clean, center, spots, amplitudes, background)
