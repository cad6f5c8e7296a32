"""The last steps of a coalignment on one grid, and what regions of the images say about the answer.

The two images lie on one grid, the reference sampled there by a spline, and what is left between them is a small
fraction of a pixel. So the rest is a linear problem: the residual after brightness and contrast against the
derivatives of the reference. One pass gives the next step, its covariance from blocks and columns of the residual, the
part of an affine transform that the model of the header holds, and the displacement of every block.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign._types import FloatArray

from .block_sums import SMALLEST_BLOCK, Places, Residual, Sums, robust_residual
from .lines import along_lines, cancelling_lines, displaced_lines, joined, positive
from .pixels import PixelTransform
from .sampling import masked_blur

__all__ = ["Agreement", "compare"]


LEAST_SHRUNK = 1e-3
"""Share of a direction that must be left of the normal equations without a block."""

LEAST_SMOOTHING = 0.7
"""Sigma in pixels of the Gaussian over both images: central differences of what is sharper are too small."""


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
    extra, extra_after : numpy.ndarray
        (2, 2, 6, 6) what whole columns, and whole rows, add to the covariance of the estimating equation over that of
        blocks, as the images are and after all `moves`: by their sums, and by their displacements.
    positions : numpy.ndarray
        (K, 2) middles (x, y) of the blocks in pixels of the image.
    block_scores, block_normals : numpy.ndarray
        (K, 6) and (K, 6, 6) what each block contributes to the estimating equation, and to its derivative.
    cancelling : numpy.ndarray
        (6, 6) by which the blocks' contributions are multiplied for its covariance, since over a whole line they
        cancel, as those of a gain or an offset that each column has for itself.
    residual, signal : float
        Variances, robust, of what is left and of the reference as it was scaled.
    """

    moves: FloatArray
    normal: FloatArray
    extra: FloatArray
    extra_after: FloatArray
    positions: FloatArray
    block_scores: FloatArray
    block_normals: FloatArray
    cancelling: FloatArray
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
        parts = scores @ self.cancelling @ slope
        used = (self.block_normals != 0).any(axis=(1, 2))
        n = int(used.sum())
        if n < 3:
            return np.full((size, size), np.inf)
        parts = parts - used[:, None] * parts.sum(axis=0) / n
        without = np.eye(size) - normals @ inverse
        held = _regular(without)
        parts[held] = np.linalg.solve(without[held], parts[held][..., None])[..., 0]
        # In the model's own directions: noise alone would have some of six gain.
        extra = slope.T @ (self.extra if moves is None else self.extra_after) @ slope
        spread = parts.T @ parts + sum(joined(positive(summed), displaced) for summed, displaced in extra)
        covariance: FloatArray = inverse @ spread @ inverse.T
        return covariance if held.all() else np.full((size, size), np.inf)


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
    # Single precision is enough for what is summed over pieces of lines, and half the work.
    f, m = (_standardised(plane, valid).astype(np.float32) for plane in planes)
    use = valid & _has_neighbours(valid)
    if use.sum() < 100 or not (np.std(f[use]) > 0 and np.std(m[use]) > 0):
        return None
    # Derivatives along the header's pixels: m(q) is what the reference shows at so_far(grid(q)).
    jacobian = np.asarray(np.linalg.inv(so_far.matrix @ grid.matrix), np.float64)
    left = robust_residual(f, m, use)
    return None if left is None else _solve(f, m, left, jacobian, Places.of(box, grid, shape), use)


def _regular(matrices: FloatArray) -> NDArray[np.bool_]:
    """Whether square matrices (K, P, P) are far from singular: no direction is shrunk to less than a thousandth."""
    # The determinant is the product of the singular values: where it is large, the least is by the norm of the others.
    size = np.maximum(np.linalg.norm(matrices, axis=(1, 2)), 1e-300)
    regular = np.asarray(np.abs(np.linalg.det(matrices)) > LEAST_SHRUNK * size ** (matrices.shape[1] - 1))
    doubtful = ~regular
    regular[doubtful] = np.linalg.svd(matrices[doubtful], compute_uv=False)[:, -1] > LEAST_SHRUNK
    return regular


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
    surrounded = np.zeros(valid.shape, np.bool_)
    surrounded[1:-1, 1:-1] = valid[:-2, 1:-1] & valid[2:, 1:-1] & valid[1:-1, :-2] & valid[1:-1, 2:]
    return surrounded


def _solve(
    f: NDArray[Any], m: NDArray[Any], left: Residual, jacobian: FloatArray, places: Places, use: NDArray[np.bool_]
) -> Agreement:
    sums = Sums.of(f, m, left, jacobian, places, use)
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
    moved = [part[:, 2:] - shared @ part[:, :2] for part in (sums.column_moves, sums.row_moves)]
    extra = _extra(lines, moved)
    # What all free moves take away is no scatter of lines: a wrong step of the slit displaces each column more.
    along = [places.displacements(moves, f.shape, axis) for axis in (1, 0)]
    rest = [
        pieces - np.einsum("jal,lj->al", move, shift)[:, None] / pieces.shape[1]
        for pieces, move, shift in zip(lines, moved, along, strict=True)
    ]
    cancelling = cancelling_lines(lines)
    signal = left.gain**2 * float(np.var(m[use]))
    return Agreement(
        moves, normal, extra, _extra(rest, moved), sums.positions, scores, normals, cancelling, left.spread**2, signal
    )


def _extra(lines: list[FloatArray], moved: list[FloatArray]) -> FloatArray:
    """What whole columns and rows add to the covariance, from what each contributes and what its moves would."""
    return np.array(
        [
            (along_lines(pieces), displaced_lines(pieces, move, axis))
            for axis, pieces, move in zip((1, 0), lines, moved, strict=True)
        ]
    )


def _symmetric(matrix: FloatArray) -> FloatArray:
    return (matrix + matrix.T) / 2
