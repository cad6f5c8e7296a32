"""Arrays that cases are made of."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from conformance._op import Sample

__all__ = [
    "MASKS",
    "SAMPLE_DTYPES",
    "SAMPLE_SHAPES",
    "SHAPES",
    "SIZES",
    "beside_a_radius",
    "candidates",
    "random_centers",
    "random_mask",
    "random_matrices",
    "random_pixels",
    "random_plane",
    "random_stack",
    "samples",
]

SHAPES = [(1, 1), (1, 7), (9, 1), (3, 5), (8, 8), (37, 41), (20, 300)]
"""(H, W): single pixel, row, column, odd, a whole group of rows, odd above one group, wider than the lanes."""

SIZES = {
    "1x1": ((1, 1), (1, 1)),
    "3x5": ((3, 5), (3, 5)),
    "37x41": ((37, 41), (37, 41)),
    "64x300": ((64, 300), (64, 300)),
    "onto_smaller": ((37, 41), (30, 64)),
    "onto_larger": ((40, 33), (150, 70)),
}
"""Shapes of reference and moving image."""

SAMPLE_DTYPES = ("uint16", "float32", "int32", "float64")
SAMPLE_SHAPES = ((3, 37, 41), (3, 64, 64), (3, 12, 300))  # less than a block wide, even, and more than a block wide
MASKS = ("none", "shared", "each")


def random_pixels(rng, shape, dtype, low=0.0):
    """Poisson-like values of a type, negative ones only where `low` asks for them."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        values = rng.gamma(0.6, 20.0, shape) + low * rng.random(shape)
        return values.astype(kind)
    top = min(np.iinfo(kind).max, 60000)
    return (rng.poisson(np.minimum(rng.gamma(0.6, 20.0, shape), top)) + np.rint(low * rng.random(shape))).astype(kind)


def random_centers(rng, n, shape):
    """Integer, half, arbitrary, outside, and too far."""
    h, w = shape
    some = np.array([[h // 2, w // 2], [h / 2, w / 2], [-3.25, w + 2.5], [2e6, 0.0], [0.1, 0.3]])
    return np.concatenate([some, rng.uniform(-1, max(shape), (max(0, n - 5), 2))])[:n]


def random_stack(rng, shape, dtype, n=6, low=0.0):
    patterns = random_pixels(rng, (n, *shape), dtype, low)
    patterns[0] = patterns[0, 0, 0]  # constant
    if n > 1:
        patterns[1] = 0  # empty
    return patterns


def random_mask(rng, n, shape, kind):
    if kind == "none":
        return None
    if kind == "shared":
        return rng.random((1, *shape)) < 0.7
    if kind == "each":
        mask = rng.random((n, *shape)) < 0.7
        mask[-1] = False
        return mask
    return np.ones((1, *shape), np.bool_)


def beside_a_radius(dtype):
    """One pixel per pattern, at a squared distance of i*i and at the next float above: inside i, and not."""
    i = np.repeat(np.arange(1, 21), 2)
    next_square = np.spacing(i * i * 1.0) * np.tile([0.25, 1.0], 20)
    patterns = np.zeros((40, 21, 24), dtype)
    patterns[np.arange(40), 10, 3 + i] = 3
    centers = np.stack([10 + np.sqrt(next_square), np.full(40, 3.0)], axis=1)
    return patterns, centers


def random_plane(rng, shape, holes):
    """Noise of mean 0 and deviation 1, some of it NaN: what `standardise` returns."""
    plane = rng.normal(size=shape).astype(np.float32)
    plane[rng.random(shape) < holes] = np.nan
    return plane


def random_matrices(rng, problems, n, kind):
    """Pull matrices near the identity: diagonal in a few groups, rotated and sheared, or both in turns."""
    m = np.zeros((problems, n, 2, 3))
    m[..., 0, 0] = m[..., 1, 1] = 1.0
    m[..., :, 2] = rng.uniform(-4, 4, (problems, n, 2))
    m[:, ::2, 1, 2] = 0.25
    m[:, 1::3, 0, 0] = rng.uniform(0.4, 2.1, m[:, 1::3, 0, 0].shape)
    m[:, 2::5, 1, 1] = -0.9
    m[:, 2::5, 1, 2] = 11.5
    if kind != "diagonal":
        some = slice(None, None, 1 if kind == "rotated" else 2)
        m[:, some, :, :2] += rng.normal(0, 0.2, m[:, some, :, :2].shape)
    return m


def samples(dtype: str, shapes: Any = SAMPLE_SHAPES, masks: Any = MASKS) -> Iterator[Sample]:
    """Patterns with a bright disk on a background, the same whatever other shapes and masks are asked for."""
    for shape in shapes:
        rng = np.random.default_rng((20, *shape))
        n, height, width = shape
        y, x = np.mgrid[:height, :width]
        middle = rng.uniform(0.3, 0.7, (n, 2)) * (height, width)
        disk = np.exp(-(((y - middle[:, :1, None]) / 5) ** 2 + ((x - middle[:, 1:, None]) / 7) ** 2))
        values = 200 * disk + 3 * rng.random(shape)
        if np.dtype(dtype).kind != "u":
            values[2] -= 40  # sums that do not grow with the radius
        values[1, -1, -1] = 60000  # several fractions end at the last radius
        if np.dtype(dtype).kind in "iu":
            values = values.clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
        # One pattern more on each side: a wrong index reads another number, not another allocation.
        padded = np.full((n + 2, height, width), 77, dtype)
        patterns = padded[1:-1]
        patterns[...] = values
        if np.dtype(dtype).kind == "f":
            patterns[0, 5, 7], patterns[1, 3, 3], patterns[2, -1, -1] = np.nan, np.inf, -np.inf
        every = rng.random(shape) < 0.8
        every[:, :2] = False
        # On the frame, on its corner pixel, and outside; distances that are whole numbers are the delicate ones.
        centers = np.array([middle[0], [0.0, 0.0], [-30.5, width + 10.0]])
        corners = np.array([[3, 4], [-5, width - 6], [height + 3, -200]], np.int64)
        for mask in masks:
            chosen = {"none": None, "shared": every[:1].copy(), "each": every}[mask]
            yield Sample(f"{dtype} {height}x{width} mask={mask}", patterns, chosen, centers, corners)


def candidates(problems: int) -> np.ndarray:
    """Matrices that take every path, in an order that no path has to itself."""
    shifts = np.array([[0, 0], [0.5, 0], [0.25, 1.75], [-2.5, 1.75], [3, 1.75], [-9.75, 1.75], [200, 1.75], [1, -1]])
    shifts = np.concatenate([shifts, np.stack([np.linspace(-3.3, 15.7, 19), np.full(19, 0.375)], 1)])  # a large group
    m = np.zeros((len(shifts) + 9, 2, 3))
    m[:, 0, 0] = m[:, 1, 1] = 1.0
    m[: len(shifts), :, 2] = shifts
    rest = m[len(shifts) :]
    rest[0, :, 0], rest[0, :, 1] = (1.03, 0.0), (0.0, 0.97)  # rows that repeat and rows that are left out
    rest[1, :, 0] = 1.6, 0.0  # more rows than a warp keeps
    rest[2, :, 0], rest[2, 0, 2] = (-1.0, 0.0), 31.5  # upside down
    for i, angle in enumerate((0.02, -0.3, 1.6)):
        c, s = np.cos(angle), np.sin(angle)
        rest[3 + i] = [[c, s, 1.3 - 9 * s], [-s, c, 2.1 + 9 * s]]
    rest[6] = [[1.0, 0.0, 0.0], [0.25, 1.0, -2.0]]
    rest[7] = [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]  # exact hits on every pixel, beside NaN as well
    rest[8, 0, ::2] = 0.2, 1.0  # further down in the first tile than the others of its group, further up in the next
    every = np.tile(m, (problems, 1, 1, 1))
    every[1, :, :, 2] += 0.125
    every[2] = every[2, ::-1]
    return every
