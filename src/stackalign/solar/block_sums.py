"""Residuals of two images after brightness and contrast, and their products with derivatives, block by block."""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stackalign._types import FloatArray

from .pixels import PixelTransform

__all__ = ["SMALLEST_BLOCK", "Places", "Residual", "Sums", "edges", "robust_residual", "side_of"]

HUBER = 2.5
"""Robust standard deviations of the residual beyond which a pixel's weight falls: costs 1 % where it is Gaussian."""

BLOCK = 32
"""Pixels along a side of a block, several times the length over which residuals of solar images are correlated."""

FEWEST_BLOCKS = 4
"""Blocks along the shorter side, smaller ones where the image is small."""

SMALLEST_BLOCK = 8

SAMPLED = 1 << 16
"""Pixels on which brightness, contrast and the spread of the residual are measured at first."""

WEIGHTINGS = 3
"""Rounds of Huber's weights on those pixels, before one on all."""


@dataclass(frozen=True)
class Places:
    """Where the pixels (y, x) of the compared part are in the image, whose `shape` this is.

    In pixels (x, y) of the image that is ``start + y * down + x * across``.
    """

    start: FloatArray
    across: FloatArray
    down: FloatArray
    shape: tuple[int, int]

    @classmethod
    def of(cls, box: tuple[slice, slice], grid: PixelTransform, shape: tuple[int, int]) -> "Places":
        """Places of a part of a grid, by the grid's transform to the pixels of an image of that shape."""
        start = grid([box[1].start, box[0].start])
        return cls(start, grid.matrix[:, 0], grid.matrix[:, 1], shape)

    def at(self, y: FloatArray, x: FloatArray) -> FloatArray:
        """Positions (..., 2)."""
        return self.start + y[..., None] * self.down + x[..., None] * self.across

    def shares(self, rows: slice, n_columns: int) -> FloatArray:
        """(3, rows, columns) weights of the moves of the middle, the right edge and the lower edge."""
        y, x = np.mgrid[rows, :n_columns].astype(np.float64)
        q = self.at(y, x)
        alpha, beta = (2.0 * q[..., i] / n - (n - 1) / n for i, n in ((0, self.shape[1]), (1, self.shape[0])))
        return np.stack([1.0 - alpha - beta, alpha, beta])


@dataclass(frozen=True)
class Residual:
    """What brightness and contrast leave: planes with 0 where pixels are not used.

    `weight` is Huber's, `inner` is 1 where it is 1.
    """

    values: FloatArray
    weight: FloatArray
    inner: FloatArray
    spread: float
    gain: float


def robust_residual(f: FloatArray, m: FloatArray, use: NDArray[np.bool_]) -> Residual | None:
    """Fit brightness and contrast by Huber's weights: moves that are still to be made are a fraction of a pixel."""
    target, reference = f[use], m[use]
    some = slice(None, None, max(1, target.size // SAMPLED))
    weight = np.ones(target[some].size)
    linear, spread = None, 1.0
    for _ in range(WEIGHTINGS):
        linear = _brightness(target[some], reference[some], weight)
        if linear is None:
            return None
        weight, spread = _huber(np.abs(target[some] - linear[0] - linear[1] * reference[some]))
    assert linear is not None
    every = np.abs(target - linear[0] - linear[1] * reference)
    linear = _brightness(target, reference, 1.0 / np.maximum(every / (HUBER * spread), 1.0))
    if linear is None:
        return None
    residual = target - linear[0] - linear[1] * reference
    size = np.abs(residual)
    weight = 1.0 / np.maximum(size / (HUBER * spread), 1.0)
    gain = linear[1]
    if not np.isfinite(gain) or gain <= 0.05:
        return None
    planes = np.zeros((3, *f.shape))
    for plane, values in zip(planes, (residual, weight, size <= HUBER * spread), strict=True):
        plane[use] = values
    return Residual(planes[0], planes[1], planes[2], spread, gain)


def _brightness(target: FloatArray, reference: FloatArray, weight: FloatArray) -> tuple[float, float] | None:
    """Offset and gain of the reference by weighted least squares; None where it does not vary."""
    weighted = weight * reference
    both, cross = weighted @ reference, weighted.sum()
    try:
        found = np.linalg.solve([[weight.sum(), cross], [cross, both]], [weight @ target, weighted @ target])
    except np.linalg.LinAlgError:
        return None
    return float(found[0]), float(found[1])


def _huber(size: FloatArray) -> tuple[FloatArray, float]:
    """Weights of residuals of this size, and their robust deviation."""
    spread = max(1.4826 * float(np.median(size)), 1e-6)
    return 1.0 / np.maximum(size / (HUBER * spread), 1.0), spread


@dataclass(frozen=True)
class Sums:
    """Sums over blocks, and over the pieces of columns and rows in them.

    Parameters
    ----------
    weighted, inner : numpy.ndarray
        (K, 8, 9) and (K, 8, 8) products of the instruments, brightness, contrast and the six moves of the reference,
        with brightness, contrast, the six moves of the target over the gain, and the residual.
    columns, rows : numpy.ndarray
        (8, blocks, columns) and (8, blocks, rows) products of the instruments with the residual.
    positions : numpy.ndarray
        (K, 2).
    """

    weighted: FloatArray
    inner: FloatArray
    columns: FloatArray
    rows: FloatArray
    positions: FloatArray

    @classmethod
    def of(
        cls,
        f: FloatArray,
        m: FloatArray,
        left: Residual,
        jacobian: FloatArray,
        places: Places,
        use: NDArray[np.bool_],
    ) -> "Sums":
        """Sum up two images, the target `f` and the reference `m`, whose residual this is, where they are used."""
        ny, nx = f.shape
        side = side_of(f.shape)
        ys, xs = ([*edges(n, side), n] for n in f.shape)
        weighted, inner, positions = [], [], []
        columns, rows = np.empty((8, len(ys) - 1, nx)), np.empty((8, len(xs) - 1, ny))
        # Strip by strip, which stay in the cache: all products of all pixels at once would be thirty-six images.
        for k, (top, bottom) in enumerate(itertools.pairwise(ys)):
            strip = slice(top, bottom)
            share, inside = places.shares(strip, nx), use[strip]
            moved = [_moves(plane, strip, jacobian, share, inside) for plane in (m, f)]
            z = np.concatenate([inside[None], np.where(inside, m[strip], 0.0)[None], moved[0]])
            right = np.concatenate([z[:2], moved[1] / left.gain, left.values[None, strip]])
            zw, zi = z * left.weight[strip], z * left.inner[strip]
            pushed = zw * left.values[strip]
            columns[:, k] = pushed.sum(axis=1)
            rows[:, :, strip] = np.moveaxis(np.add.reduceat(pushed, xs[:-1], axis=2), 2, 1)
            for first, last in itertools.pairwise(xs):
                part = right[:, :, first:last].reshape(9, -1)
                weighted.append(zw[:, :, first:last].reshape(8, -1) @ part.T)
                inner.append(zi[:, :, first:last].reshape(8, -1) @ part[:8].T)
                positions.append(places.at(np.array((top + bottom - 1) / 2), np.array((first + last - 1) / 2)))
        return cls(np.array(weighted), np.array(inner), columns, rows, np.array(positions))


def _moves(
    plane: FloatArray, strip: slice, jacobian: FloatArray, share: FloatArray, use: NDArray[np.bool_]
) -> FloatArray:
    """(6, rows, columns) change of a plane's pixels by the moves of the image, by central differences."""
    rows = slice(max(strip.start - 1, 0), min(strip.stop + 1, len(plane)))
    values = np.pad(plane[rows], ((rows.start - strip.start + 1, strip.stop + 1 - rows.stop), (1, 1)))
    slopes = np.stack([values[1:-1, 2:] - values[1:-1, :-2], values[2:, 1:-1] - values[:-2, 1:-1]]) / 2
    along = np.einsum("iyx,ij->jyx", np.where(use, slopes, 0.0), jacobian)
    moved: FloatArray = (share[:, None] * along[None]).reshape(6, *along.shape[1:])
    return moved


def edges(n: int, side: int) -> NDArray[np.intp]:
    """First indices of blocks of about that side."""
    count = max(1, round(n / side))
    return np.arange(count) * n // count


def side_of(shape: tuple[int, ...]) -> int:
    """Pixels along a side of the blocks of an image."""
    return int(np.clip(min(shape[-2:]) // FEWEST_BLOCKS, SMALLEST_BLOCK, BLOCK))
