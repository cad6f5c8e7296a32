"""Held-out patterns with known centres: other crystals and instruments than those on which anything was tuned.

Each situation draws the frame (square or not, odd or even), the scale, the crystal or powder, and the detector from its
seed.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from _detected_diffraction import DETECTORS, SHAPES, Array, Frame, Pattern, detected, frame_of

__all__ = ["HELD_OUT"]


def _basis(rng: np.random.Generator, short: float, long: float) -> Array:
    """Two vectors (row, col) of a lattice with an angle of 60, 90, or any between 65 and 115 degrees."""
    turn = rng.uniform(0, 2 * np.pi)
    between = np.deg2rad(rng.choice([60.0, 90.0, rng.uniform(65, 115)]))
    lengths = np.array([1.0, rng.choice([1.0, rng.uniform(1.0, long / short)])]) * short
    angles = np.array([turn, turn + between])
    return lengths[:, None] * np.stack([np.sin(angles), np.cos(angles)], axis=1)


class Beams(NamedTuple):
    """Places about the centre (K, 2), and structure factors' squares, pairs of which are equal."""

    g: Array
    strength: Array


def _beams(rng: np.random.Generator, vectors: Array, decay: float, atoms_in_cell: int = 0) -> Beams:
    """Diffracted beams of a cell with a few atoms: strengths fall off with the distance, and are Friedel's pairs."""
    reach = 22
    hk = np.stack([a.ravel() for a in np.mgrid[-reach : reach + 1, -reach : reach + 1]], axis=1)
    hk = hk[(hk != 0).any(axis=1)]
    atoms = rng.random((atoms_in_cell or rng.integers(1, 4), 2))
    weights = rng.uniform(0.4, 1.0, len(atoms))
    factor = np.abs((weights * np.exp(2j * np.pi * hk @ atoms.T)).sum(axis=1)) ** 2 / weights.sum() ** 2
    g = hk @ vectors
    return Beams(g, factor * np.exp(-((np.hypot(*g.T) / decay) ** 2)))


def _excited(g: Array, tilt: Array, width: float) -> Array:
    """How far beams are excited: those near the Laue circle through the direct beam about `tilt`."""
    error = (g**2).sum(axis=1) - 2 * g @ tilt
    return np.exp(-((error / width) ** 2))


def _placed(frame: Frame, place: Array, reach: float) -> tuple[slice, slice] | None:
    at = frame.center + place
    low = np.maximum(np.floor(at - reach), 0).astype(int)
    high = np.minimum(np.ceil(at + reach) + 1, frame.y.shape).astype(int)
    return None if (high <= low).any() else (slice(low[0], high[0]), slice(low[1], high[1]))


def _add_disk(clean: Array, frame: Frame, place: Array, radius: float, height: float, fringes: Array | None) -> None:
    window = _placed(frame, place, radius + 6)
    if window is None:
        return
    dy, dx = frame.y[window] - place[0], frame.x[window] - place[1]
    inside = 1 / (1 + np.exp(np.clip((np.hypot(dy, dx) - radius) / 0.5, -40, 40)))
    if fringes is not None:
        inside = inside * (0.55 + 0.45 * np.cos((fringes[0] * dy + fringes[1] * dx) / max(radius, 1) + fringes[2]))
    clean[window] += height * inside


def _add_spot(clean: Array, frame: Frame, place: Array, sigma: float, height: float) -> None:
    """A Gaussian with the tails that a detector's point spread adds."""
    window = _placed(frame, place, 9 * sigma)
    if window is None:
        return
    square = ((frame.y[window] - place[0]) ** 2 + (frame.x[window] - place[1]) ** 2) / sigma**2
    clean[window] += height * (0.93 * np.exp(-0.5 * square) + 0.07 / (1 + square) ** 1.5)


def _diffuse(frame: Frame, rng: np.random.Generator, height: float) -> Array:
    s = frame.scale
    return height * (0.7 * np.exp(-frame.r / (25 * s)) + 0.3 / (1 + (frame.r / (60 * s)) ** 2)) + rng.uniform(0.2, 3)


def cbed(rng: np.random.Generator, frame: Frame, radius: float, halo: float = 12.0) -> Array:
    """Disks with fringes; a crystal a little off its zone axis; the direct disk is seen and the strongest."""
    counts = 10 ** rng.uniform(1.5, 2.7)
    short = 2.3 * radius + rng.uniform(5, 16)
    beams = _beams(rng, _basis(rng, short, 1.6 * short), rng.uniform(50, 110) * frame.scale)
    tilt = rng.normal(0, 10, 2) * frame.scale
    excited = _excited(beams.g, tilt, (rng.uniform(45, 90) * frame.scale) ** 2)
    strength = beams.strength * (0.2 + excited) * rng.lognormal(0, 0.5, len(beams.g))
    strength *= rng.uniform(0.15, 0.5) / strength.max()
    clean = _diffuse(frame, rng, halo * counts / 240)
    for g, height in zip(beams.g, strength, strict=True):
        if height > 1e-3:
            fringes = np.array([*rng.normal(0, 2.5, 2), rng.uniform(0, 6)])
            _add_disk(clean, frame, g, radius, counts * height, fringes)
    _add_disk(clean, frame, np.zeros(2), radius, counts, np.array([*rng.normal(0, 0.8, 2), 0.0]))
    return clean


def cbed_other_brighter(rng: np.random.Generator, frame: Frame) -> Array:
    """Dynamical: a diffracted disk is as bright as the direct one or brighter."""
    radius = rng.uniform(2, 7)
    clean = cbed(rng, frame, radius, 4.0)
    short = 2.3 * radius + rng.uniform(6, 20)
    angle = rng.uniform(0, 2 * np.pi)
    height = clean.max() * rng.uniform(0.9, 2.5)
    _add_disk(clean, frame, short * np.array([np.sin(angle), np.cos(angle)]), radius, height, None)
    return clean


def precession(rng: np.random.Generator, frame: Frame) -> Array:
    beams = _beams(rng, _basis(rng, 14 * frame.scale, 32 * frame.scale), rng.uniform(55, 90) * frame.scale)
    strength = beams.strength * rng.lognormal(0, 0.25, len(beams.g)) * (np.hypot(*beams.g.T) < 100 * frame.scale)
    clean = _diffuse(frame, rng, 30)
    sigma = rng.uniform(1.1, 2.2)
    for g, height in zip(beams.g, strength / strength.max(), strict=True):
        if height > 1e-3:
            _add_spot(clean, frame, g, sigma, 300 * height)
    _add_spot(clean, frame, np.zeros(2), sigma * 1.1, 10 ** rng.uniform(3, 3.8))
    return clean


def _radii(rng: np.random.Generator, scale: float) -> tuple[Array, Array, float]:
    """Rings of a cubic powder: radii, heights and width."""
    family = np.array([[3, 4, 8, 11, 12, 16, 19, 20], [2, 4, 6, 8, 10, 12, 14, 16], [3, 8, 11, 16, 19, 24, 27, 32]])
    squares = family[rng.integers(3)]
    radii = np.sqrt(squares) * rng.uniform(14, 24) * scale
    heights = rng.uniform(0.2, 1.0, 8) * np.exp(-((radii / (70 * scale)) ** 2))
    return radii, heights / heights.max(), float(rng.uniform(1.1, 2.4))


def rings(rng: np.random.Generator, frame: Frame, counts: float = 150.0, r: Array | None = None) -> Array:
    radii, heights, width = _radii(rng, frame.scale)
    r = frame.r if r is None else r
    clean = _diffuse(frame, rng, counts * rng.uniform(0.2, 0.8))
    for radius, height in zip(radii, heights, strict=True):
        clean = clean + counts * height * np.exp(-0.5 * ((r - radius) / width) ** 2)
    return clean


def texture(rng: np.random.Generator, frame: Frame) -> Array:
    """Rings that are brighter in some directions, each in its own."""
    angle = np.arctan2(frame.y, frame.x)
    radii, heights, width = _radii(rng, frame.scale)
    clean = _diffuse(frame, rng, 60)
    for radius, height in zip(radii, heights, strict=True):
        around = 1 + rng.uniform(0.3, 0.9) * np.cos(2 * (angle - rng.uniform(0, np.pi)))
        clean = clean + 150 * height * around * np.exp(-0.5 * ((frame.r - radius) / width) ** 2)
    return clean


def grains(rng: np.random.Generator, frame: Frame, count: int) -> Array:
    """Arcs of a few grains on each ring."""
    angle = np.arctan2(frame.y, frame.x)
    radii, heights, width = _radii(rng, frame.scale)
    clean = _diffuse(frame, rng, 80)
    for radius, height in zip(radii, heights, strict=True):
        for _ in range(int(rng.poisson(count)) + 1):
            off = np.angle(np.exp(1j * (angle - rng.uniform(0, 2 * np.pi))))
            arc = np.exp(-0.5 * (off / rng.uniform(0.02, 0.12)) ** 2 - 0.5 * ((frame.r - radius) / width) ** 2)
            clean = clean + 400 * height * rng.exponential() * arc
    return clean


def elliptical(rng: np.random.Generator, frame: Frame) -> Array:
    """Rings stretched by up to 5 % along some direction."""
    turn, ratio = rng.uniform(0, np.pi), rng.uniform(1.01, 1.05)
    along = frame.y * np.sin(turn) + frame.x * np.cos(turn)
    across = frame.y * np.cos(turn) - frame.x * np.sin(turn)
    return rings(rng, frame, r=np.hypot(along * ratio, across / ratio))


def lattice(rng: np.random.Generator, frame: Frame, walkoff: float = 0.5, spread: float = 0.1, atoms: int = 6) -> Array:
    """A thin crystal: Friedel's pairs but for a trend; no direct beam.

    One or two atoms in a cell make every middle between spots a centre of inversion but for the fall-off.
    """
    decay = rng.uniform(70, 110) * frame.scale
    beams = _beams(rng, _basis(rng, 13 * frame.scale, 22 * frame.scale), decay, atoms)
    side = np.array([np.sin(a := rng.uniform(0, 2 * np.pi)), np.cos(a)])
    trend = 1 + walkoff * np.clip(beams.g @ side / (100 * frame.scale), -1, 1)
    strength = beams.strength * trend * rng.lognormal(0, spread, len(beams.g))
    clean = _diffuse(frame, rng, 25)
    sigma = rng.uniform(1.1, 2.0)
    for g, height in zip(beams.g, strength / strength.max(), strict=True):
        if height > 2e-3:
            _add_spot(clean, frame, g, sigma, 500 * height)
    return clean


def holz(rng: np.random.Generator, frame: Frame) -> Array:
    """A zone axis with the ring of the first order Laue zone, its reflections, and the direct beam."""
    clean = precession(rng, frame)
    radius = rng.uniform(85, 105) * frame.scale
    for a in np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(30, 70)))):
        place = (radius + rng.normal(0, 0.8)) * np.array([np.sin(a), np.cos(a)])
        _add_spot(clean, frame, place, 1.3, 60 * rng.exponential())
    return clean


def two_beam(rng: np.random.Generator, frame: Frame) -> Array:
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(16, 50) * frame.scale
    g = length * np.array([np.sin(angle), np.cos(angle)])
    ratio, sigma = np.exp(rng.uniform(-1, 1)), rng.uniform(1.2, 4.0)
    clean = _diffuse(frame, rng, 20)
    far = Frame(frame.y - g[0], frame.x - g[1], frame.center + g, frame.scale)
    clean += ratio * _diffuse(far, rng, 20)
    for k, height in ((0, 1.0), (1, ratio), (-1, 0.1 * rng.random()), (2, 0.1 * rng.random()), (-2, 0.01), (3, 0.01)):
        _add_spot(clean, frame, k * g, sigma, 1500 * height)
    return clean


def row(rng: np.random.Generator, frame: Frame) -> Array:
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(10, 24) * frame.scale
    g = length * np.array([np.sin(angle), np.cos(angle)])
    tilt = rng.normal(0, 1.5)
    clean = _diffuse(frame, rng, 20)
    sigma = rng.uniform(1.2, 2.5)
    for k in range(-8, 9):
        height = rng.exponential() * np.exp(-(((k - tilt) / 4) ** 2))
        _add_spot(clean, frame, k * g, sigma, 900 * (max(height, 0.6) if k == 0 else height))
    return clean


def off_halo(rng: np.random.Generator, frame: Frame) -> Array:
    """A halo about another point than the spots."""
    clean = lattice(rng, frame)
    a, far = rng.uniform(0, 2 * np.pi), rng.uniform(12, 40) * frame.scale
    away = np.hypot(frame.y - far * np.sin(a), frame.x - far * np.cos(a))
    return clean + rng.uniform(100, 400) * np.exp(-((away / (45 * frame.scale)) ** 2))


def faint_ring(rng: np.random.Generator, frame: Frame) -> Array:
    radius, width = rng.uniform(35, 80) * frame.scale, rng.uniform(4, 12) * frame.scale
    level = 10 ** rng.uniform(0.7, 2)
    return level * (1 + rng.uniform(0.05, 0.3) * np.exp(-0.5 * ((frame.r - radius) / width) ** 2))


def amorphous(rng: np.random.Generator, frame: Frame) -> Array:
    """Broad halos of an amorphous film about the centre."""
    clean = _diffuse(frame, rng, 200)
    for radius, height in ((38, 60), (66, 25)):
        clean = clean + height * np.exp(-0.5 * ((frame.r - radius * frame.scale) / (9 * frame.scale)) ** 2)
    return clean


def kikuchi(rng: np.random.Generator, frame: Frame, spots: bool) -> Array:
    clean = precession(rng, frame) if spots else _diffuse(frame, rng, 60) + 20
    for _ in range(int(rng.integers(3, 7))):
        a, offset = rng.uniform(0, np.pi), rng.normal(0, 50) * frame.scale
        across = frame.y * np.cos(a) - frame.x * np.sin(a) - offset
        band, width = rng.uniform(8, 22) * frame.scale, rng.uniform(1.0, 2.5)
        clean = clean * (
            1 + 0.4 * np.exp(-0.5 * (across / width) ** 2) - 0.3 * np.exp(-0.5 * ((across - band) / width) ** 2)
        )
    return clean


def ice(rng: np.random.Generator, frame: Frame) -> Array:
    """A crystal with its direct beam under rings of ice."""
    clean = precession(rng, frame)
    for radius, height in zip(np.array([30, 32, 34, 44, 57, 62]) * frame.scale, rng.uniform(5, 40, 6), strict=True):
        clean = clean + height * np.exp(-0.5 * ((frame.r - radius) / 1.3) ** 2)
    return clean


def nothing(rng: np.random.Generator, frame: Frame) -> Array:
    """No pattern: flat, a slope, a band, stripes, a grid of a support film, cosmic rays, a shadow's edge."""
    shape = frame.y.shape
    y, x = np.indices(shape) / np.array(shape)[:, None, None]
    clean = np.full(shape, 10 ** rng.uniform(-1.5, 2.5))
    kind = rng.integers(7)
    if kind == 1:
        clean = clean * (1 + rng.uniform(-0.8, 0.8) * x + rng.uniform(-0.1, 0.8) * y**2)
    if kind == 2:
        clean = clean * (1 + 3 * np.exp(-0.5 * ((y + rng.uniform(-1, 1) * x - rng.uniform(0.2, 0.8)) / 0.04) ** 2))
    if kind == 3:
        clean = clean * (1.3 + np.sin(2 * np.pi * (rng.uniform(2, 30) * x + rng.uniform(2, 30) * y)))
    if kind == 4:
        clean = clean * (1.3 + np.sign(np.sin(40 * x) * np.sin(40 * y)))
    if kind == 5:
        for _ in range(8):
            clean[tuple(int(rng.integers(0, n)) for n in shape)] *= 10 ** rng.uniform(1, 4)
    if kind == 6:
        clean = clean * (0.2 + 0.8 / (1 + np.exp(-(x + rng.uniform(-1, 1) * y - 0.5) / 0.02)))
    return clean


def _block(rng: np.random.Generator, frame: Frame, radius: float = 9.0) -> Array:
    """True where a beam stop, a disk on a rod, hides nothing."""
    a, size = rng.uniform(0, 2 * np.pi), radius * frame.scale
    along = frame.y * np.sin(a) + frame.x * np.cos(a)
    across = frame.y * np.cos(a) - frame.x * np.sin(a)
    return ~((frame.r < size) | ((along > 0) & (np.abs(across) < 0.45 * size)))


def _window(rng: np.random.Generator, frame: Frame, share: float) -> Array:
    shape = np.array(frame.y.shape)
    sides = np.maximum(8, (shape * share**0.5 * rng.uniform(0.8, 1.25) ** np.array([1, -1])).astype(int))
    sides = np.minimum(sides, shape)
    low = [int(rng.integers(0, n - s + 1)) for n, s in zip(shape, sides, strict=True)]
    mask = np.zeros(frame.y.shape, bool)
    mask[low[0] : low[0] + sides[0], low[1] : low[1] + sides[1]] = True
    return mask


def _made(
    make: Callable[..., Array], seed: int, salt: int, *, away: float = 0.1, hide: str = "", share: float = 0.0
) -> Pattern:
    rng = np.random.default_rng([77, salt, seed])
    frame = frame_of(rng, away)
    clean = make(rng, frame)
    mask = _block(rng, frame) if hide == "stop" else None
    if hide == "window":
        mask = _window(rng, frame, share)
    if hide == "quadrant":
        mask = (frame.y * rng.choice([-1, 1]) > 5) & (frame.x * rng.choice([-1, 1]) > 5)
    if hide == "stop":
        clean = np.where(mask, clean, 0.02 * clean.mean())
    image, good = detected(rng, clean, DETECTORS[seed % len(DETECTORS)])
    mask = good if mask is None else mask if good is None else mask & good
    center = None if make is nothing else (float(frame.center[0]), float(frame.center[1]))
    return Pattern(image, mask, center)


def _off(make: Callable[..., Array], seed: int, salt: int) -> Pattern:
    """The centre is beyond an edge of the detector."""
    rng = np.random.default_rng([78, salt, seed])
    shape = SHAPES[rng.integers(len(SHAPES))]
    center = np.array([-rng.uniform(0.02, 0.2), rng.uniform(0.2, 0.8)])[:: rng.choice([-1, 1])] * shape
    y, x = np.indices(shape).astype(float)
    frame = Frame(y - center[0], x - center[1], center, min(shape) / 256)
    image, mask = detected(rng, make(rng, frame), DETECTORS[seed % len(DETECTORS)])
    return Pattern(image, mask, (float(center[0]), float(center[1])))


_SITUATIONS: dict[str, Callable[[int, int], Pattern]] = {
    **{
        f"cbed, radius {r}": (lambda s, k, r=r: _made(partial(cbed, radius=r), s, k))
        for r in (1.0, 2.0, 3.0, 4.5, 6.0, 8.0)
    },
    "cbed, another disk as bright": partial(_made, cbed_other_brighter),
    "precession": partial(_made, precession),
    "zone axis with HOLZ": partial(_made, holz),
    "Kikuchi lines and spots": partial(_made, partial(kikuchi, spots=True)),
    "spots and ice": partial(_made, ice),
    "powder": partial(_made, rings),
    "powder behind a stop": partial(_made, rings, hide="stop"),
    "textured powder": partial(_made, texture),
    "elliptical rings": partial(_made, elliptical),
    "crystal behind a stop": partial(_made, lattice, hide="stop"),
    "simple crystal behind a stop": partial(_made, partial(lattice, atoms=1), hide="stop"),
    "crystal of unequal pairs": partial(_made, partial(lattice, spread=0.6), hide="stop"),
    "few grains": partial(_made, partial(grains, count=2)),
    "many grains": partial(_made, partial(grains, count=12)),
    "two beams": partial(_made, two_beam),
    "systematic row": partial(_made, row),
    "quadrant of rings": partial(_made, rings, hide="quadrant"),
    **{
        f"window of {share:.0%} of {name}": partial(_made, make, hide="window", share=share)
        for share in (0.1, 0.03, 0.01)
        for name, make in (("rings", rings), ("spots", lattice))
    },
    "rings about a point off the detector": partial(_off, rings),
    "spots about a point off the detector": partial(_off, lattice),
    "halo off the spots' centre": partial(_made, off_halo, hide="stop"),
    "faint ring behind a stop": partial(_made, faint_ring, hide="stop"),
    "amorphous halos": partial(_made, amorphous),
    "Kikuchi lines alone": partial(_made, partial(kikuchi, spots=False), away=0.2),
    "no pattern": partial(_made, nothing),
}

HELD_OUT: dict[str, Callable[[int], Pattern]] = {
    name: partial(lambda seed, make, salt: make(seed, salt), make=make, salt=salt)
    for salt, (name, make) in enumerate(_SITUATIONS.items())
}
"""Patterns by their seed."""
