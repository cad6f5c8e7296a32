"""Pairs of diffraction patterns with a known shift, for the table of trust."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from _trust_centers import SIDE, block, grid, lattice_points, middle, rings_of, spot, vectors

__all__ = ["PAIRS", "Pair"]


class Pair(NamedTuple):
    """Two patterns, what is valid of both (or None), and the shift of the second onto the first (None: unrelated)."""

    one: np.ndarray
    two: np.ndarray
    mask: np.ndarray | None
    shift: np.ndarray | None


def _crystal_of(seed: int, center: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng([20, seed])
    clean = 20 * np.exp(-np.hypot(*grid(center)) / 60) + 2
    for point in lattice_points(vectors(rng, 20, 34)):
        key = point if (point[0], point[1]) > (0.0, 0.0) else -point
        pair = np.random.default_rng([21, seed, *(np.rint(10 * key).astype(int) + 100000)]).uniform(0.5, 1.5)
        spot(clean, center + point, 1.5, 400 * pair * np.exp(-((np.hypot(*point) / 85) ** 2)))
    return clean


def _pair(seed: int, sample: str, change: str = "") -> Pair:
    """Two frames of a sample that has moved, and what the detector adds to both."""
    rng = np.random.default_rng([22, seed])
    center, moved = middle(rng, 10), rng.uniform(-10, 10, 2)
    if change == "still":
        moved = np.zeros(2)
    where = (center, center + moved)
    clean = [_crystal_of(seed, c) if sample == "crystal" else rings_of(rng, c) for c in where]
    mask = block() if change == "masked block" else None
    if change == "few electrons":
        clean = [0.03 * c for c in clean]
    if change == "halo":
        halo = 3000 * np.exp(-(np.hypot(*grid(np.full(2, (SIDE - 1) / 2))) ** 2) / 5000)
        clean = [c + halo for c in clean]
    if change == "gain":
        gain = 1 + 0.05 * rng.standard_normal((SIDE, SIDE))
        clean = [(200 + 0.5 * rings_of(rng, c, 1.0, 0.0)) * gain for c in where]
    if change == "open block":
        clean = [np.where(block(), c, 3.0) for c in clean]
    one, two = (rng.poisson(c).astype(np.float32) for c in clean)
    if change == "hot pixels":
        places = tuple(rng.integers(0, SIDE, (2, 30)))
        one[places] = two[places] = 65535
    return Pair(one, two, mask, -moved)


def _unrelated(seed: int, one: str, two: str) -> Pair:
    rng = np.random.default_rng([23, seed])

    def made(kind: str, salt: int) -> np.ndarray:
        center = middle(rng, 12)
        level = np.full((SIDE, SIDE), 10.0 ** rng.uniform(-1, 2))
        clean = {"crystal": _crystal_of(seed + salt, center), "rings": rings_of(rng, center, 1.0, 0.0)}.get(kind, level)
        return rng.poisson(clean).astype(np.float32)

    return Pair(made(one, 0), made(two, 5000), None, None)


PAIRS: dict[str, Callable[[int], Pair]] = {
    **{
        f"{sample}, {change or 'moved'}": (lambda s, a=sample, c=change: _pair(s, a, c))
        for sample in ("powder", "crystal")
        for change in ("", "still", "masked block", "few electrons")
    },
    "powder, hot pixels stand still": lambda s: _pair(s, "powder", "hot pixels"),
    "powder, a gain pattern stands still": lambda s: _pair(s, "powder", "gain"),
    "powder, a block without a mask stands still": lambda s: _pair(s, "powder", "open block"),
    "powder, a halo stands still": lambda s: _pair(s, "powder", "halo"),
    "noise and noise": lambda s: _unrelated(s, "noise", "noise"),
    "rings and noise": lambda s: _unrelated(s, "rings", "noise"),
    "crystal and noise": lambda s: _unrelated(s, "crystal", "noise"),
    "crystal and another crystal": lambda s: _unrelated(s, "crystal", "crystal"),
}
"""Pairs by their seed; the first eight are as the model says."""
