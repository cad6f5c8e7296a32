"""The last steps of a coalignment on one grid, and what regions of the images say about the answer.

The two images lie on one grid, the reference sampled there by a spline, and what is left between them is a small
fraction of a pixel. So the rest is a linear problem: the residual after brightness and contrast against the
derivatives of the reference. One pass gives the next step, its covariance from blocks and columns of the residual, the
part of an affine transform that the model of the header holds, and the displacement of every block.
"""

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
    gm, gf = _gradient(m), _gradient(f)
    use = valid & np.isfinite(gm).all(axis=0) & np.isfinite(gf).all(axis=0)
    if use.sum() < 100 or not (np.nanstd(f[use]) > 0 and np.nanstd(m[use]) > 0):
        return None
    # Derivatives along the header's pixels: m(q) is what the reference shows at so_far(grid(q)).
    jacobian = np.linalg.inv(so_far.matrix @ grid.matrix)
    gm, gf = (np.einsum("iyx,ij->jyx", g, jacobian) for g in (gm, gf))
    ny, nx = shape
    y, x = np.mgrid[box]
    q = grid(np.stack([x, y], axis=-1).astype(np.float64))
    alpha, beta = (2.0 * q[..., i] / n - (n - 1) / n for i, n in ((0, nx), (1, ny)))
    share = np.stack([1.0 - alpha - beta, alpha, beta])
    return _solve(f, m, gf, gm, share, use, q)


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


def _gradient(plane: FloatArray) -> FloatArray:
    """(2, ny, nx) central differences along x and y; NaN where a neighbour is invalid."""
    found = np.full((2, *plane.shape), np.nan)
    found[0, :, 1:-1] = (plane[:, 2:] - plane[:, :-2]) / 2
    found[1, 1:-1] = (plane[2:] - plane[:-2]) / 2
    return found


def _solve(
    f: FloatArray,
    m: FloatArray,
    gf: FloatArray,
    gm: FloatArray,
    share: FloatArray,
    use: NDArray[np.bool_],
    q: FloatArray,
) -> Agreement | None:
    m, f = np.where(use, m, 0.0), np.where(use, f, 0.0)
    gm, gf = np.where(use, gm, 0.0), np.where(use, gf, 0.0)
    ones = use.astype(np.float64)
    # (8, ny, nx): brightness, contrast, and the six moves; of the reference as instruments, of the target as slopes.
    z = np.concatenate([ones[None], m[None], (share[:, None] * gm[None]).reshape(6, *m.shape)])
    slopes = (share[:, None] * gf[None]).reshape(6, *m.shape)
    flat = z.reshape(8, -1)
    # Weights from what brightness and contrast leave: moves that are still to be made are a fraction of a pixel.
    weight = ones.copy()
    for _ in range(3):
        w = weight.ravel()
        zw = flat[:2] * w
        try:
            plain = np.linalg.solve(zw @ flat[:2].T, zw @ f.ravel())
        except np.linalg.LinAlgError:
            return None
        residual = (f.ravel() - plain @ flat[:2]).reshape(f.shape)
        spread = max(1.4826 * float(np.median(np.abs(residual[use]))), 1e-6)
        weight = ones / np.maximum(np.abs(residual) / (HUBER * spread), 1.0)
    gain = float(plain[1])
    if not np.isfinite(gain) or gain <= 0.05:
        return None
    w = weight.ravel()
    zw = flat[:2] * w
    plain = np.linalg.solve(zw @ flat[:2].T, zw @ f.ravel())
    residual = (f.ravel() - plain @ flat[:2]).reshape(f.shape)
    # Noise is in both derivatives, and not the same: their product has that of the scene alone.
    right = np.concatenate([flat[:2], slopes.reshape(6, -1) / gain])
    clean = flat[2:] - np.linalg.solve(zw @ flat[:2].T, zw @ flat[2:].T).T @ flat[:2]
    contributions = (clean * (w * residual.ravel())).reshape(6, *f.shape) / gain
    normal = _symmetric((clean * w) @ right[2:].T)
    moves = np.linalg.lstsq(normal, contributions.sum(axis=(1, 2)), rcond=1e-12)[0]
    # How the equation changes with the moves: pixels whose weight falls as their residual grows do not count.
    inner = (ones * (np.abs(residual) <= HUBER * spread)).ravel()
    pieces = (clean * inner).reshape(6, *f.shape)
    blocks = _blocks(contributions, pieces, right[2:].reshape(6, *f.shape), q)
    extra = _along_lines(contributions)
    return Agreement(moves, normal, extra, *blocks, spread**2, gain**2 * float(np.var(m[use])))


def _edges(n: int, side: int) -> NDArray[np.intp]:
    """First indices of blocks of about that side."""
    count = max(1, round(n / side))
    return np.arange(count) * n // count


def _side(shape: tuple[int, ...]) -> int:
    return int(np.clip(min(shape[-2:]) // FEWEST_BLOCKS, SMALLEST_BLOCK, BLOCK))


def _blocks(
    contributions: FloatArray, instruments: FloatArray, slopes: FloatArray, q: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Positions (K, 2), sums of contributions (K, 6) and normal matrices (K, 6, 6) of the blocks."""
    side = _side(contributions.shape)
    ys, xs = (_edges(n, side) for n in contributions.shape[1:])

    def over(values: FloatArray) -> FloatArray:
        total: FloatArray = np.add.reduceat(np.add.reduceat(values, ys, axis=-2), xs, axis=-1)
        return total.reshape(*values.shape[:-2], -1)

    # Row by row of the blocks: all products of all pixels at once would be thirty-six images.
    normals = [
        np.add.reduceat(np.einsum("ayx,byx->abx", instruments[:, rows], slopes[:, rows]), xs, axis=-1)
        for rows in (slice(a, b) for a, b in zip(ys, [*ys[1:], q.shape[0]], strict=True))
    ]
    count = over(np.ones(q.shape[:2]))
    positions = np.stack([over(q[..., i]) / count for i in (0, 1)], axis=-1)
    normal = np.moveaxis(np.concatenate(normals, axis=-1), -1, 0)
    return positions, over(contributions).T, (normal + np.swapaxes(normal, 1, 2)) / 2


def _along_lines(contributions: FloatArray) -> FloatArray:
    """What the covariance of the sum of contributions gains because whole columns, or rows, hang together."""
    side = _side(contributions.shape)
    extra = np.zeros((6, 6))
    for axis in (1, 2):
        parts = np.add.reduceat(contributions, _edges(contributions.shape[axis], side), axis=axis)
        extra = extra + _positive(_outer(parts.sum(axis=axis)) - _outer(parts.reshape(6, -1)))
    return extra


def _symmetric(matrix: FloatArray) -> FloatArray:
    return (matrix + matrix.T) / 2


def _outer(parts: FloatArray) -> FloatArray:
    """Sum of products (P, P) of parts (P, K), each about their mean, for K independent ones."""
    n = int((parts != 0).any(axis=0).sum())
    about = parts - parts.sum(axis=1, keepdims=True) / max(n, 1) * (parts != 0).any(axis=0)
    found: FloatArray = about @ about.T * (n / max(n - 1, 1))
    return found


def _positive(matrix: FloatArray) -> FloatArray:
    """The part of a symmetric matrix with positive eigenvalues."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    found: FloatArray = (vectors * np.clip(values, 0.0, None)) @ vectors.T
    return found
