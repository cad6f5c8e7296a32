"""The last steps of a coalignment on one grid, and what regions of the images say about the answer.

The two images lie on one grid, the reference sampled there by a spline, and what is left between them is a small
fraction of a pixel. So the rest is a linear problem: the residual after brightness and contrast against the
derivatives of the reference. One pass gives the next step, its covariance from blocks and columns of the residual, the
part of an affine transform that the model of the header holds, and the displacement of every block.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stackalign._types import FloatArray

from .pixels import PixelTransform
from .sampling import masked_blur

__all__ = ["Agreement", "compare"]


LEAST_SMOOTHING = 0.7
"""Sigma in pixels of the Gaussian over both images: central differences of what is sharper are too small."""

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

LAGS = 12
"""Lines over which residuals of whole lines are taken to hang together: the images were smoothed by up to 3 pixels."""


@dataclass(frozen=True)
class Agreement:
    """What one linear comparison says.

    Parameters
    ----------
    moves : numpy.ndarray
        (6,) by how far the middle (x, y), right edge and lower edge of the image have still to move, in pixels of the
        image by its uncorrected header, if all of an affine transform is free.
    normal : numpy.ndarray
        (6, 6) information on these in units of the residual's variance.
    extra : numpy.ndarray
        (6, 6) covariance of the estimating equation that whole columns and rows add to that of blocks.
    positions : numpy.ndarray
        (K, 2) middles (x, y) of the blocks in pixels of the image.
    block_scores, block_normals : numpy.ndarray
        (K, 6) and (K, 6, 6) what each block contributes to the estimating equation, and to its derivative.
    residual, signal : float
        Variances, robust, of what is left and of the reference as it was scaled.
    """

    moves: FloatArray
    normal: FloatArray
    extra: FloatArray
    positions: FloatArray
    block_scores: FloatArray
    block_normals: FloatArray
    residual: float
    signal: float

    @property
    def usable(self) -> bool:
        """Whether the images determine anything."""
        if not (np.isfinite(self.normal).all() and np.isfinite(self.moves).all()):
            return False
        return bool(np.linalg.eigvalsh(self.normal)[0] > 0)

    def covariance(self, slope: FloatArray, moves: FloatArray | None = None) -> FloatArray:
        """Covariance (P, P) of parameters whose change moves the image by `slope` (6, P).

        Each block is counted by what leaving it out would change (the jackknife): where one carries the answer, the
        answer is as uncertain as that block. `moves` (6,) are those that are still to be made; none by default.
        """
        scores = self.block_scores if moves is None else self.block_scores - self.block_normals @ moves
        normals = np.einsum("ip,kij,jq->kpq", slope, self.block_normals, slope)
        total = normals.sum(axis=0)
        size = len(total)
        if not np.isfinite(total).all() or np.linalg.eigvalsh(_symmetric(total))[0] <= 0:
            return np.full((size, size), np.inf)
        inverse = np.linalg.inv(total)
        parts = scores @ slope
        used = (self.block_normals != 0).any(axis=(1, 2))
        n = int(used.sum())
        if n < 3:
            return np.full((size, size), np.inf)
        parts = parts - used[:, None] * parts.sum(axis=0) / n
        without = np.eye(size) - normals @ inverse
        held = np.linalg.svd(without, compute_uv=False)[:, -1] > 1e-3
        parts[held] = np.linalg.solve(without[held], parts[held][..., None])[..., 0]
        spread = parts.T @ parts + slope.T @ self.extra @ slope
        found: FloatArray = inverse @ spread @ inverse.T
        return found if held.all() else np.full((size, size), np.inf)


def compare(
    fixed: FloatArray,
    moving: FloatArray,
    grid: PixelTransform,
    so_far: PixelTransform,
    shape: tuple[int, int],
    smooth: tuple[float, float],
) -> Agreement | None:
    """Compare two images of one grid; None where they have too little in common.

    Parameters
    ----------
    fixed, moving : numpy.ndarray
        The target and the reference sampled on its grid by the correction `so_far`; NaN is invalid.
    grid : PixelTransform
        From the grid to the target's pixels.
    so_far : PixelTransform
    shape : (int, int)
        Of the target, (ny, nx).
    smooth : (float, float)
        Sigma in pixels of the Gaussians over the two, at least `LEAST_SMOOTHING`.
    """
    valid = np.isfinite(fixed) & np.isfinite(moving)
    box = _box(valid)
    if box is None:
        return None
    valid = valid[box]
    planes = [
        masked_blur(np.where(valid, image[box], 0.0), valid, (max(width, LEAST_SMOOTHING),) * 2)
        for image, width in ((fixed, smooth[0]), (moving, smooth[1]))
    ]
    f, m = (_standardised(plane, valid) for plane in planes)
    use = valid & _has_neighbours(valid)
    if use.sum() < 100 or not (np.std(f[use]) > 0 and np.std(m[use]) > 0):
        return None
    # Derivatives along the header's pixels: m(q) is what the reference shows at so_far(grid(q)).
    jacobian = np.asarray(np.linalg.inv(so_far.matrix @ grid.matrix), np.float64)
    return _solve(f, m, jacobian, _Places.of(box, grid, shape), use)


def _box(valid: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    rows, columns = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
    if len(rows) < SMALLEST_BLOCK or len(columns) < SMALLEST_BLOCK:
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _standardised(plane: FloatArray, valid: NDArray[np.bool_]) -> FloatArray:
    values = plane[valid]
    spread = float(values.std())
    standard: FloatArray = (plane - values.mean()) / (spread if spread > 0 else 1.0)
    return standard


def _has_neighbours(valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether the four neighbours of a pixel are valid too."""
    found = np.zeros(valid.shape, np.bool_)
    found[1:-1, 1:-1] = valid[:-2, 1:-1] & valid[2:, 1:-1] & valid[1:-1, :-2] & valid[1:-1, 2:]
    return found


@dataclass(frozen=True)
class _Places:
    """Where the pixels (y, x) of the compared part are in the image, whose `shape` this is.

    In pixels (x, y) of the image that is ``start + y * down + x * across``.
    """

    start: FloatArray
    across: FloatArray
    down: FloatArray
    shape: tuple[int, int]

    @classmethod
    def of(cls, box: tuple[slice, slice], grid: PixelTransform, shape: tuple[int, int]) -> "_Places":
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
class _Residual:
    """What brightness and contrast leave: planes with 0 where pixels are not used.

    `weight` is Huber's, `inner` is 1 where it is 1.
    """

    values: FloatArray
    weight: FloatArray
    inner: FloatArray
    spread: float
    gain: float


def _robust_residual(f: FloatArray, m: FloatArray, use: NDArray[np.bool_]) -> _Residual | None:
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
    return _Residual(planes[0], planes[1], planes[2], spread, gain)


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


def _solve(
    f: FloatArray, m: FloatArray, jacobian: FloatArray, places: _Places, use: NDArray[np.bool_]
) -> Agreement | None:
    left = _robust_residual(f, m, use)
    if left is None:
        return None
    sums = _Sums.of(f, m, left, jacobian, places, use)
    whole = sums.weighted.sum(axis=0)
    # Moves less what brightness and contrast can do of them.
    shared = np.linalg.solve(whole[:2, :2], whole[2:, :2].T).T
    # Noise is in both derivatives, and not the same: their product has that of the scene alone.
    normal = _symmetric(whole[2:, 2:8] - shared @ whole[:2, 2:8])
    scores = (sums.weighted[:, 2:, 8] - sums.weighted[:, :2, 8] @ shared.T) / left.gain
    moves = np.linalg.lstsq(normal, scores.sum(axis=0), rcond=1e-12)[0]
    # How the equation changes with the moves: pixels whose weight falls as their residual grows do not count.
    normals = sums.inner[:, 2:, 2:8] - shared @ sums.inner[:, :2, 2:8]
    normals = (normals + np.swapaxes(normals, 1, 2)) / 2
    lines = [(part[2:] - np.tensordot(shared, part[:2], 1)) / left.gain for part in (sums.columns, sums.rows)]
    extra = _along_lines(lines[0]) + _along_lines(lines[1])
    signal = left.gain**2 * float(np.var(m[use]))
    return Agreement(moves, normal, extra, sums.positions, scores, normals, left.spread**2, signal)


@dataclass(frozen=True)
class _Sums:
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
        left: _Residual,
        jacobian: FloatArray,
        places: _Places,
        use: NDArray[np.bool_],
    ) -> "_Sums":
        ny, nx = f.shape
        side = _side(f.shape)
        ys, xs = ([*_edges(n, side), n] for n in f.shape)
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


def _edges(n: int, side: int) -> NDArray[np.intp]:
    """First indices of blocks of about that side."""
    count = max(1, round(n / side))
    return np.arange(count) * n // count


def _side(shape: tuple[int, ...]) -> int:
    return int(np.clip(min(shape[-2:]) // FEWEST_BLOCKS, SMALLEST_BLOCK, BLOCK))


def _along_lines(pieces: FloatArray) -> FloatArray:
    """What the covariance of the sum gains because whole lines hang together, from their pieces (6, blocks, lines).

    Sums over whole columns, or rows, are compared with those over their pieces in the blocks, which the blocks count.
    """
    counted = _long_run(pieces)
    # Where lines have nothing in common the difference is noise, of this share of what it is made of.
    chance = np.sqrt(4.0 * min(LAGS, pieces.shape[2]) / (3.0 * pieces.shape[2]))
    return _positive(_long_run(pieces.sum(axis=1, keepdims=True)) - (1.0 + chance) * counted)


def _long_run(parts: FloatArray) -> FloatArray:
    """Covariance (6, 6) of the sum over lines of parts (6, rows, lines), the rows independent (Newey and West 1987)."""
    total = np.einsum("arl,brl->ab", parts, parts)
    for lag in range(1, min(LAGS, parts.shape[2])):
        across = np.einsum("arl,brl->ab", parts[..., lag:], parts[..., :-lag])
        total = total + (1.0 - lag / LAGS) * (across + across.T)
    return _symmetric(total)


def _symmetric(matrix: FloatArray) -> FloatArray:
    return (matrix + matrix.T) / 2


def _positive(matrix: FloatArray) -> FloatArray:
    """The part of a symmetric matrix with positive eigenvalues."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    found: FloatArray = (vectors * np.clip(values, 0.0, None)) @ vectors.T
    return found
