"""Residuals of two images after brightness and contrast, and their products with derivatives, block by block."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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


SHAPES = 6
"""Polynomials of second degree in two coordinates."""

LEAST_GAIN = 0.05
"""Least contrast of the images to each other that is no accident."""

BENT = 0.05
"""Share of the residual's variance that a contrast that varies, or a bent response, must explain to be fitted."""

BENT_SAMPLED = 1 << 13
"""Pixels on which that is tried."""

BENT_CHANCE = 300.0
"""Over the number of pixels, what those fits explain of a residual that is noise."""

QUANTILES = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.87, 0.92, 0.95, 0.97, 0.98, 0.987, 0.992, 0.995, 0.997)
"""Of brightness, at which the curve between two images has knots."""

MAD = 1.4826
"""Standard deviations of a Gaussian in its median deviation."""

KNOT = 64
"""Pixels that must be beyond a knot."""


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

    @property
    def linear(self) -> FloatArray:
        """(3, 3) weights of the moves of the middle, the right edge and the lower edge: constant, along y, along x."""
        alpha, beta = (
            np.array([2.0 * self.start[i] / n - (n - 1) / n, 2.0 * self.down[i] / n, 2.0 * self.across[i] / n])
            for i, n in ((0, self.shape[1]), (1, self.shape[0]))
        )
        return np.stack([np.array([1.0, 0.0, 0.0]) - alpha - beta, alpha, beta])

    def displacements(self, moves: FloatArray, shape: tuple[int, ...], axis: int) -> FloatArray:
        """(lines, 2) displacements (x, y) of the lines of a part of this shape by the moves (6,) of the image.

        Of the columns for axis 1, of the rows for axis 0, each in its middle.
        """
        at = [np.arange(n, dtype=np.float64) if i == axis else np.array([(n - 1) / 2]) for i, n in enumerate(shape)]
        q = self.at(*np.broadcast_arrays(*at))
        alpha, beta = (2.0 * q[..., i] / n - (n - 1) / n for i, n in ((0, self.shape[1]), (1, self.shape[0])))
        weights = np.stack([1.0 - alpha - beta, alpha, beta], axis=-1)
        moved: FloatArray = weights @ moves.reshape(3, 2)
        return moved


@dataclass(frozen=True)
class Residual:
    """What brightness and contrast leave: planes with 0 where pixels are not used.

    `weight` is Huber's, `inner` is True where it is 1; `gain` is the contrast in the middle.
    """

    values: FloatArray
    weight: FloatArray
    inner: NDArray[np.bool_]
    spread: float
    gain: float


def robust_residual(f: NDArray[Any], m: NDArray[Any], use: NDArray[np.bool_]) -> Residual | None:
    """Fit brightness and contrast by Huber's weights: moves that are still to be made are a fraction of a pixel.

    Both may vary over the image as polynomials of second degree do, and the brightness of the one image may be any
    smooth function of that of the other: vignetting and a bent response move nothing, and are no noise either.
    """
    where = np.flatnonzero(use)
    some = where[:: max(1, len(where) // SAMPLED)]
    plain = _fitted(np.stack([np.ones(some.size), m.flat[some]]), m.flat[some], f.flat[some], bent=False)
    some = where[:: max(1, len(where) // BENT_SAMPLED)]
    scale = np.maximum(np.array(f.shape) / 2.0, 1.0)
    rows, columns = np.divmod(some, f.shape[1])
    reference, shapes = m.flat[some], _shapes(rows / scale[0] - 1.0, columns / scale[1] - 1.0)
    bent = _fitted(np.concatenate([shapes, shapes * reference]), reference, f.flat[some], bent=True)
    if plain is None:
        return None
    share = bent.spread / plain.spread if bent is not None else 1.0
    chosen, linear = plain, np.zeros(2 * SHAPES)
    linear[[0, SHAPES]] = plain.linear
    if bent is not None and share**2 < 1.0 - BENT - BENT_CHANCE / some.size:
        chosen, linear = bent, bent.linear
    gain = float(np.mean(linear[SHAPES:] @ shapes))
    if not np.isfinite(gain) or gain <= LEAST_GAIN:
        return None
    if chosen is plain:
        values = f - (float(plain.linear[0]) + float(plain.linear[1]) * m)
    else:
        y, x = (2.0 * np.arange(n, dtype=f.dtype) / max(n, 2) - 1.0 for n in f.shape)
        offset, contrast = (_surface(part, y, x) for part in (linear[:SHAPES], linear[SHAPES:]))
        values = f - offset - contrast * m
    values[~use] = 0.0
    if chosen.curve is not None:
        values[use] -= chosen.curve(m[use]).astype(f.dtype)
    size = np.abs(values) / (HUBER * chosen.spread)
    return Residual(values, use / np.maximum(size, 1.0), use & (size <= 1.0), chosen.spread, gain)


@dataclass(frozen=True)
class Fitted:
    """Brightness and contrast on some pixels.

    Parameters
    ----------
    linear : numpy.ndarray
        Coefficients.
    curve : Curve or None
        What is added, by the brightness of the reference.
    spread : float
        Of what is left, over all.
    """

    linear: FloatArray
    curve: "Curve | None"
    spread: float


def _fitted(design: FloatArray, reference: FloatArray, target: FloatArray, *, bent: bool) -> Fitted | None:
    weight = np.ones(target.size)
    bend = np.zeros(target.size)
    curve = Curve.of(reference if bent else reference[:0])
    cell = curve.nearest(reference) if bent else None
    spread = 1.0
    for _ in range(WEIGHTINGS):
        linear = _least_squares(design, target - bend, weight)
        if linear is None:
            return None
        left = target - linear @ design
        if cell is not None:
            curve = curve.fitted(cell, left, weight)
            bend = curve(reference)
        size = np.abs(left - bend)
        spread = max(MAD * float(np.median(size)), 1e-6)
        weight = 1.0 / np.maximum(size / (HUBER * spread), 1.0)
    linear = _least_squares(design, target - bend, weight)
    return None if linear is None else Fitted(linear, curve if bent else None, spread)


def _shapes(y: FloatArray, x: FloatArray) -> FloatArray:
    return np.stack([np.ones(y.shape), y, x, y * y, y * x, x * x])


def _surface(linear: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
    """The polynomial with these coefficients of `_shapes` on a grid of coordinates."""
    one, along_y, along_x, yy, yx, xx = linear.tolist()
    rows = one + along_y * y + yy * y * y
    columns = along_x * x + xx * x * x
    surface: FloatArray = rows[:, None] + columns + (yx * y)[:, None] * x
    return surface


def _least_squares(design: FloatArray, target: FloatArray, weight: FloatArray) -> FloatArray | None:
    """Coefficients (P,) of the rows of a design (P, N); None where the reference does not vary."""
    weighted = design * weight
    normal = weighted @ design.T
    scale = np.sqrt(np.diagonal(normal))
    if not (scale > 0).all():
        return None
    scaled: FloatArray = np.linalg.lstsq(normal / np.outer(scale, scale), weighted @ target / scale, rcond=1e-10)[0]
    return scaled / scale


@dataclass(frozen=True)
class Curve:
    """A function of brightness that is straight between knots, as one image's depends on the other's."""

    knots: FloatArray
    values: FloatArray

    @classmethod
    def of(cls, brightness: FloatArray) -> "Curve":
        """The curve 0, with knots at quantiles that get denser towards the brightest pixels."""
        enough = KNOT / max(brightness.size, 1)
        shares = np.array([share for share in QUANTILES if enough <= share <= 1.0 - enough])
        knots = np.unique(np.quantile(brightness, shares)) if shares.size else np.zeros(1)
        return cls(knots, np.zeros(knots.size))

    def nearest(self, brightness: FloatArray) -> NDArray[np.intp]:
        """Number of the knot that is nearest to each brightness."""
        return np.searchsorted((self.knots[1:] + self.knots[:-1]) / 2, brightness)

    def fitted(self, cell: NDArray[np.intp], left: FloatArray, weight: FloatArray) -> "Curve":
        """The curve through the weighted means of what is left, around each knot, which is `nearest` to the pixels."""
        if self.knots.size < 3:
            return self
        total = np.bincount(cell, weight, self.knots.size)
        means = np.bincount(cell, weight * left, self.knots.size) / np.maximum(total, 1e-12)
        return Curve(self.knots, means)

    def __call__(self, brightness: FloatArray) -> FloatArray:
        """Values at some brightness."""
        values: FloatArray = np.interp(brightness, self.knots, self.values)
        return values


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
    column_moves, row_moves : numpy.ndarray
        (2, 8, columns) and (2, 8, rows) products of the instruments with a move of the target along x and y.
    positions : numpy.ndarray
        (K, 2).
    """

    weighted: FloatArray
    inner: FloatArray
    columns: FloatArray
    rows: FloatArray
    column_moves: FloatArray
    row_moves: FloatArray
    positions: FloatArray

    @classmethod
    def of(
        cls,
        f: NDArray[Any],
        m: NDArray[Any],
        left: Residual,
        jacobian: FloatArray,
        places: Places,
        use: NDArray[np.bool_],
    ) -> "Sums":
        """Sum up two images, the target `f` and the reference `m`, whose residual this is, where they are used."""
        ny, nx = f.shape
        side = side_of(f.shape)
        ys, xs = ([*edges(n, side), n] for n in f.shape)
        products, positions = [], []
        columns, rows = np.empty((8, len(ys) - 1, nx)), np.empty((8, len(xs) - 1, ny))
        column_moves, row_moves = np.zeros((2, 8, nx)), np.empty((2, 8, ny))
        linear, x = places.linear, np.arange(nx, dtype=f.dtype)
        weights = linear.astype(f.dtype)[..., None, None]
        # Strip by strip, which stay in the cache: all products of all pixels at once would be thirty-six images.
        for k, (top, bottom) in enumerate(itertools.pairwise(ys)):
            strip, y = slice(top, bottom), np.arange(top, bottom, dtype=f.dtype)
            inside, residual = use[strip], left.values[strip]
            along, along_f = (_slopes(plane, strip, jacobian, inside) for plane in (m, f))
            along_f /= left.gain
            base = np.concatenate([inside[None], np.where(inside, m[strip], 0.0)[None], along])
            lines = _Lines(linear, y, x)
            pushed = base * (left.weight[strip] * residual)
            columns[:, k] = lines.down(pushed)
            rows[:, :, strip] = np.moveaxis(lines.across(pushed, xs[:-1]), 2, 1)
            for axis in (0, 1):
                moved = base * (left.inner[strip] * along_f[axis])
                column_moves[axis] += lines.down(moved)
                row_moves[axis][:, strip] = lines.across(moved, [0])[..., 0]
            share = weights[:, 0] + weights[:, 1] * y[:, None] + weights[:, 2] * x
            z = np.stack([_with_moves(base, share, weight[strip]) for weight in (left.weight, left.inner)])
            right = np.concatenate(
                [_with_moves(np.concatenate([base[:2], along_f]), share), residual[None].astype(np.float32)]
            )
            for first, last in itertools.pairwise(xs):
                products.append(z[..., first:last].reshape(16, -1) @ right[..., first:last].reshape(9, -1).T)
                positions.append(places.at(np.array((top + bottom - 1) / 2), np.array((first + last - 1) / 2)))
        weighted, inner = np.moveaxis(np.array(products).reshape(-1, 2, 8, 9), 1, 0)
        return cls(weighted, inner[..., :8], columns, rows, column_moves, row_moves, np.array(positions))


def _with_moves(
    planes: FloatArray, share: FloatArray, weight: FloatArray | NDArray[np.bool_] | float = 1.0
) -> FloatArray:
    """(8, rows, columns) two instruments and six moves from those two and the slopes, times a weight.

    In single precision, which is enough for a sum over a block and half the work.
    """
    made = np.empty((8, *planes.shape[1:]), np.float32)
    np.multiply(planes, weight, out=made[:4])
    for i in (2, 1, 0):  # the slopes make way for their own products last
        np.multiply(share[i], made[2:4], out=made[2 + 2 * i : 4 + 2 * i])
    return made


@dataclass(frozen=True)
class _Lines:
    """Sums along columns and rows of (4, rows, columns): the two instruments and the slopes (x, y), times something.

    Moves of the middle and two edges are slopes times shares, which are linear along both axes; so two sums of each
    plane are enough. `linear` is that of `Places`.
    """

    linear: FloatArray
    y: FloatArray
    x: FloatArray

    def down(self, planes: FloatArray) -> FloatArray:
        """(8, columns) sums over rows."""
        plain, first = np.moveaxis(np.stack([np.ones_like(self.y), self.y]) @ planes, 1, 0)
        return self._moves(plain, first, 1, self.linear[:, 2, None] * self.x)

    def across(self, planes: FloatArray, starts: Sequence[int]) -> FloatArray:
        """(8, rows, blocks) sums over the columns of blocks that start there."""
        plain = np.add.reduceat(planes, starts, axis=2)
        first = np.add.reduceat(planes[2:] * self.x, starts, axis=2)
        return self._moves(plain, np.concatenate([plain[:2], first]), 2, self.linear[:, 1, None] * self.y)

    def _moves(self, plain: FloatArray, first: FloatArray, axis: int, other: FloatArray) -> FloatArray:
        """Instruments and six moves from sums of the planes and of their first moments along an axis.

        `other` (3, lines) is what shares gain along the other one.
        """
        shape = (-1, *[1] * (plain.ndim - 2))
        along = [
            (self.linear[i, 0] + other[i]).reshape(shape) * plain[2:] + self.linear[i, axis] * first[2:]
            for i in range(3)
        ]
        return np.concatenate([plain[:2], *along])


def _slopes(plane: FloatArray, strip: slice, jacobian: FloatArray, use: NDArray[np.bool_]) -> FloatArray:
    """(2, rows, columns) change of a plane's pixels by a move of the image along x and y, by central differences."""
    rows = slice(max(strip.start - 1, 0), min(strip.stop + 1, len(plane)))
    values = np.pad(plane[rows], ((rows.start - strip.start + 1, strip.stop + 1 - rows.stop), (1, 1)))
    x, y = values[1:-1, 2:] - values[1:-1, :-2], values[2:, 1:-1] - values[:-2, 1:-1]
    across, down = (jacobian / 2.0).astype(plane.dtype)
    return np.where(use, np.stack([x * across[0] + y * down[0], x * across[1] + y * down[1]]), 0.0)


def edges(n: int, side: int) -> NDArray[np.intp]:
    """First indices of blocks of about that side."""
    count = max(1, round(n / side))
    return np.arange(count) * n // count


def side_of(shape: tuple[int, ...]) -> int:
    """Pixels along a side of the blocks of an image."""
    return int(np.clip(min(shape[-2:]) // FEWEST_BLOCKS, SMALLEST_BLOCK, BLOCK))
