"""Diffraction patterns with a known centre, for the table of trust, and what they are drawn with."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["CENTERS", "SIDE", "Scene", "block", "grid", "lattice_points", "middle", "rings_of", "spot", "vectors"]

SIDE = 256
RADII = (26.0, 42.0, 52.0, 68.0, 84.0)
HEIGHTS = (200.0, 90.0, 70.0, 50.0, 30.0)


class Scene(NamedTuple):
    """A pattern, what is valid of it (or None), and its centre (None where there is none)."""

    image: np.ndarray
    mask: np.ndarray | None
    center: tuple[float, float] | None


def grid(center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.indices((SIDE, SIDE)).astype(float)
    return y - center[0], x - center[1]


def middle(rng: np.random.Generator, away: float = 24.0) -> np.ndarray:
    return (SIDE - 1) / 2 + rng.uniform(-away, away, 2)


def block() -> np.ndarray:
    mask = np.ones((SIDE, SIDE), bool)
    mask[: int(0.6 * SIDE), int(0.47 * SIDE) : int(0.53 * SIDE)] = False
    return mask


def vectors(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """Two lattice vectors (row, col) at an angle of 60 to 120 degrees."""
    angle, between = rng.uniform(0, np.pi), np.deg2rad(rng.uniform(60, 120))
    lengths = rng.uniform(low, high, 2)
    angles = np.array([angle, angle + between])
    return lengths[:, None] * np.stack([np.sin(angles), np.cos(angles)], axis=1)


def _disk(clean: np.ndarray, center: np.ndarray, radius: float, height: float, soft: float = 0.6) -> None:
    reach = int(np.ceil(radius + 12 * soft)) + 1
    r0, c0 = (int(np.clip(v - reach, 0, SIDE)) for v in center)
    r1, c1 = (int(np.clip(v + reach + 1, 0, SIDE)) for v in center)
    if r1 <= r0 or c1 <= c0:
        return
    y, x = np.mgrid[r0:r1, c0:c1].astype(float)
    away = np.hypot(y - center[0], x - center[1])
    clean[r0:r1, c0:c1] += height / (1 + np.exp(np.clip((away - radius) / soft, -50, 50)))


def spot(clean: np.ndarray, center: np.ndarray, sigma: float, height: float) -> None:
    reach = int(np.ceil(6 * sigma)) + 1
    r0, c0 = (int(np.clip(v - reach, 0, SIDE)) for v in center)
    r1, c1 = (int(np.clip(v + reach + 1, 0, SIDE)) for v in center)
    if r1 <= r0 or c1 <= c0:
        return
    y, x = np.mgrid[r0:r1, c0:c1].astype(float)
    clean[r0:r1, c0:c1] += height * np.exp(-((y - center[0]) ** 2 + (x - center[1]) ** 2) / (2 * sigma**2))


def lattice_points(vectors: np.ndarray) -> np.ndarray:
    h, k = (a.ravel() for a in np.mgrid[-14:15, -14:15])
    hk = np.stack([h, k], axis=1)
    hk = hk[(hk != 0).any(axis=1)]
    points = hk @ vectors
    return points[np.abs(points).max(axis=1) < 1.5 * SIDE]


def cbed(seed: int, radius: float, ratio: float = 0.6, halo: float = 0.0, counts: float = 240.0) -> Scene:
    """Disks without Friedel's equality; the strongest diffracted one has `ratio` of the direct one's height."""
    rng = np.random.default_rng([1, seed, int(10 * radius)])
    center = middle(rng)
    points = lattice_points(vectors(rng, 2.6 * radius + 10, 3.2 * radius + 22))
    clean = np.full((SIDE, SIDE), 0.5)
    heights = counts * 0.3 * rng.exponential(size=len(points)) * np.exp(-((np.hypot(*points.T) / 100) ** 2))
    heights = np.minimum(heights, ratio * counts) if ratio < 1 else heights * ratio * counts / heights.max()
    for point, height in zip(points, heights, strict=True):
        _disk(clean, center + point, radius, height)
    _disk(clean, center, radius, counts)
    if halo:
        clean += halo * np.exp(-np.hypot(*grid(center)) / 35)
    return Scene(rng.poisson(clean).astype(np.uint16), None, tuple(center))


def precession(seed: int, sigma: float = 1.5) -> Scene:
    """Few spots of nearly equal pairs about a visible beam."""
    rng = np.random.default_rng([2, seed])
    center = middle(rng)
    clean = 30 * np.exp(-np.hypot(*grid(center)) / 40) + 1
    points = lattice_points(vectors(rng, 24, 45))
    for point in points:
        if np.hypot(*point) < 90:
            pair = np.random.default_rng([3, seed, *np.abs(np.rint(10 * point)).astype(int)]).exponential()
            spot(clean, center + point, sigma, 150 * pair * rng.uniform(0.6, 1.4) * np.exp(-np.hypot(*point) / 50))
    spot(clean, center, sigma, 2500)
    return Scene(rng.poisson(clean).astype(np.uint16), None, tuple(center))


def rings_of(rng: np.random.Generator, center: np.ndarray, scale: float = 1.0, halo: float = 120.0) -> np.ndarray:
    r = np.hypot(*grid(center))
    clean = halo * np.exp(-r / 30) + 10
    for radius, height in zip(RADII, HEIGHTS, strict=True):
        clean = clean + scale * height * np.exp(-0.5 * ((r - radius) / 1.5) ** 2)
    return clean


def powder(seed: int) -> Scene:
    rng = np.random.default_rng([4, seed])
    center = middle(rng)
    return Scene(rng.poisson(rings_of(rng, center)).astype(np.float32), block(), tuple(center))


def weak_powder(seed: int) -> Scene:
    rng = np.random.default_rng([5, seed])
    center = middle(rng)
    return Scene(rng.poisson(rings_of(rng, center) / 20).astype(np.uint16), block(), tuple(center))


def arcs(seed: int, count: int = 4) -> Scene:
    rng = np.random.default_rng([6, seed, count])
    center = middle(rng)
    y, x = grid(center)
    r, angle = np.hypot(y, x), np.arctan2(y, x)
    clean = 120 * np.exp(-r / 30) + 10
    for radius, height in zip(RADII, HEIGHTS, strict=True):
        around = sum(
            rng.exponential() * np.exp(-0.5 * (np.angle(np.exp(1j * (angle - a))) / 0.05) ** 2)
            for a in rng.uniform(-np.pi, np.pi, count)
        )
        clean = clean + 4 * height * np.exp(-0.5 * ((r - radius) / 1.5) ** 2) * around
    return Scene(rng.poisson(clean).astype(np.float32), None, tuple(center))


def two_beam(seed: int, low: float = 0.5, high: float = 2.0) -> Scene:
    """A strong diffracted beam; the others of its row are weak."""
    rng = np.random.default_rng([7, seed])
    center, sigma = middle(rng), rng.uniform(1.5, 4.0)
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(20, 45)
    g = length * np.array([np.sin(angle), np.cos(angle)])
    ratio = rng.uniform(low, high)
    clean = 40 * np.exp(-np.hypot(*grid(center)) / 30) + 40 * ratio * np.exp(-np.hypot(*grid(center + g)) / 30) + 3
    for k, height in ((0, 1.0), (1, ratio), (-1, rng.uniform(0.02, 0.15)), (2, rng.uniform(0.02, 0.15))):
        spot(clean, center + k * g, sigma, 1000 * height)
    return Scene(rng.poisson(clean).astype(np.uint16), None, tuple(center))


def row(seed: int) -> Scene:
    """A systematic row with strengths that are no pairs."""
    rng = np.random.default_rng([8, seed])
    center = middle(rng)
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(14, 24)
    g = length * np.array([np.sin(angle), np.cos(angle)])
    clean = 30 * np.exp(-np.hypot(*grid(center)) / 40) + 3
    for k in range(-5, 6):
        spot(
            clean, center + k * g, 2.0, 800 * np.exp(-((k * length / 60) ** 2)) * (1.0 if k == 0 else rng.exponential())
        )
    return Scene(rng.poisson(clean).astype(np.uint16), None, tuple(center))


def quadrant(seed: int) -> Scene:
    rng = np.random.default_rng([9, seed])
    center = middle(rng)
    y, x = grid(center)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[(y > 8) & (x > 8)] = True
    return Scene(rng.poisson(rings_of(rng, center)).astype(np.float32), mask, tuple(center))


def window(seed: int, share: float, spots: bool = False) -> Scene:
    rng = np.random.default_rng([10, seed, int(1000 * share), spots])
    center = middle(rng)
    side = int(SIDE * share**0.5)
    top, left = rng.integers(10, SIDE - side - 10, 2)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[top : top + side, left : left + side] = True
    return Scene(
        _lattice(rng, center) if spots else rng.poisson(rings_of(rng, center)).astype(np.float32), mask, tuple(center)
    )


def _lattice(
    rng: np.random.Generator, center: np.ndarray, low: float = 14, high: float = 20, decay: float = 85
) -> np.ndarray:
    clean = 20 * np.exp(-np.hypot(*grid(center)) / 60) + 2
    points = lattice_points(vectors(rng, low, high))
    salt = int(rng.integers(1 << 30))
    for point in points:
        key = point if (point[0], point[1]) > (0.0, 0.0) else -point
        pair = np.random.default_rng([salt, *(np.rint(10 * key).astype(int) + 100000)]).uniform(0.5, 1.5)
        spot(clean, center + point, 1.4, 400 * pair * np.exp(-((np.hypot(*point) / decay) ** 2)))
    return rng.poisson(clean).astype(np.float32)


def off_detector(seed: int, spots: bool) -> Scene:
    rng = np.random.default_rng([11, seed, spots])
    center = np.array([rng.uniform(-40, -5), rng.uniform(60, 200)])
    if rng.random() < 0.5:
        center = center[::-1]
    image = _lattice(rng, center) if spots else rng.poisson(rings_of(rng, center)).astype(np.float32)
    return Scene(image, None, tuple(center))


def halo_off(seed: int) -> Scene:
    """A lattice behind a block; the diffuse halo has another middle."""
    rng = np.random.default_rng([12, seed])
    center = middle(rng)
    away = rng.uniform(0, 2 * np.pi)
    halo = center + rng.uniform(12, 40) * np.array([np.sin(away), np.cos(away)])
    clean = 400 * np.exp(-((np.hypot(*grid(halo)) / 50) ** 2)) + 5
    for point in lattice_points(vectors(rng, 25, 40)):
        spot(clean, center + point, 1.6, 300 * rng.exponential() * np.exp(-np.hypot(*point) / 60))
    return Scene(rng.poisson(clean).astype(np.float32), block(), tuple(center))


def faint_ring(seed: int) -> Scene:
    rng = np.random.default_rng([13, seed])
    center = middle(rng)
    r = np.hypot(*grid(center))
    clean = 30 + 4 * np.exp(-0.5 * ((r - rng.uniform(45, 75)) / 10) ** 2)
    return Scene(rng.poisson(clean).astype(np.float32), block(), tuple(center))


def nothing(seed: int) -> Scene:
    rng = np.random.default_rng([14, seed])
    y, x = np.indices((SIDE, SIDE)) / SIDE
    kind = seed % 5
    clean = np.full((SIDE, SIDE), 10.0 ** rng.uniform(-1, 2))
    if kind == 1:
        clean = clean * (1 + rng.uniform(-1, 1) * x + rng.uniform(-0.9, 1) * y).clip(0.05)
    if kind == 2:
        clean = clean * (1 + 2 * np.exp(-0.5 * ((y - rng.uniform(0.2, 0.8) - rng.uniform(-0.5, 0.5) * x) / 0.05) ** 2))
    image = rng.poisson(clean).astype(np.float32)
    if kind == 3:
        image[tuple(rng.integers(0, SIDE, (2, 30)))] = 65535 if rng.random() < 0.5 else 20 * image.max() + 20
    if kind == 4:
        image = image * (1 + 0.2 * np.sin(2 * np.pi * (x * rng.uniform(3, 20) + y * rng.uniform(0, 20)))).astype(
            np.float32
        )
    return Scene(image, None, None)


def crystal(seed: int, walkoff: float = 0.6) -> Scene:
    from stackalign.diffraction.synthetic import lattice

    center = tuple(middle(np.random.default_rng([15, seed]), 15))
    made = lattice(SIDE, center, seed, walkoff)
    return Scene(made.image, made.mask, center)


def few_spots_behind_block(seed: int) -> Scene:
    """Few spots of unequal strengths, the beam hidden."""
    rng = np.random.default_rng([16, seed])
    center = middle(rng)
    clean = 20 * np.exp(-np.hypot(*grid(center)) / 50) + 2
    for point in lattice_points(vectors(rng, 28, 45)):
        spot(clean, center + point, 1.6, 300 * rng.exponential() * np.exp(-np.hypot(*point) / 45))
    y, x = grid(center)
    mask = (np.hypot(y, x) > 12) & ~((np.abs(x) < 5) & (y < 0))
    return Scene(rng.poisson(clean).astype(np.float32), mask, tuple(center))


def saturated(seed: int) -> Scene:
    """Eight bits: the direct disk and some others at the top."""
    made = cbed(seed, 5.0, 0.9, halo=20.0, counts=400.0)
    return Scene(np.minimum(made.image, 255).astype(np.uint8), None, made.center)


CENTERS: dict[str, Callable[[int], Scene]] = {
    **{f"cbed, radius {r}": (lambda s, r=r: cbed(s, r)) for r in (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)},
    "cbed, the beam far brighter": lambda s: cbed(s, 1.0 + s % 8, 0.4),
    "cbed with a halo": lambda s: cbed(s, 3.0 + s % 5, 0.8, 30.0),
    "cbed, few electrons": lambda s: cbed(s, 3.0 + s % 5, 0.5, 0.0, 6.0),
    "cbed, another disk brighter": lambda s: cbed(s, 3.0 + s % 5, 1.5, 10.0 * (s % 2)),
    "8 bits, saturated": saturated,
    "precession": precession,
    "powder": powder,
    "powder, few electrons": weak_powder,
    "crystal, walk-off 0": lambda s: crystal(s, 0.0),
    "crystal, walk-off 0.6": crystal,
    "four arcs a ring": arcs,
    "two arcs a ring": lambda s: arcs(s, 2),
    "twelve arcs a ring": lambda s: arcs(s, 12),
    "two beams": two_beam,
    "two beams, the diffracted one brighter": lambda s: two_beam(s, 1.5, 4.0),
    "systematic row": row,
    "quadrant of rings": quadrant,
    "window of 10 % of rings": lambda s: window(s, 0.1),
    "window of 3 % of rings": lambda s: window(s, 0.03),
    "window of 1 % of rings": lambda s: window(s, 0.01),
    "window of 10 % of spots": lambda s: window(s, 0.1, True),
    "window of 3 % of spots": lambda s: window(s, 0.03, True),
    "window of 1 % of spots": lambda s: window(s, 0.01, True),
    "rings about a point off the detector": lambda s: off_detector(s, False),
    "spots about a point off the detector": lambda s: off_detector(s, True),
    "halo off the spots' centre": halo_off,
    "faint ring behind a block": faint_ring,
    "few spots behind a block": few_spots_behind_block,
    "no pattern": nothing,
}
"""Scenes by their seed. The direct beam is seen and brightest in the first nine and in "precession"."""
