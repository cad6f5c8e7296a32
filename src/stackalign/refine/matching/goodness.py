"""What the residual says of the model: reduced chi-square, agreement of the disks, and parameters that were held."""

from dataclasses import dataclass

import numpy as np

from stackalign._types import FloatArray

from .climb import End, FineResult, squares

__all__ = ["Goodness", "between_disks", "goodness", "significance_between"]


@dataclass(frozen=True, eq=False)
class Goodness:
    """The residual in units of the noise.

    Parameters
    ----------
    total : float
        Reduced chi-square over all pixels; NaN where the noise is not known.
    disks : numpy.ndarray
        (D,) of each disk.
    smooth : numpy.ndarray
        (D,) the same of the sums over squares of pixels, in which noise averages out and what is smooth remains.
    contrast : numpy.ndarray
        (D,) variance of the measured disk without its noise, over its noise.
    """

    total: float
    disks: FloatArray
    smooth: FloatArray
    contrast: FloatArray


def goodness(fine: FineResult) -> Goodness:
    """Compare the residual with the noise of the pixels."""
    end = fine.end
    pixels, disk = end.model.pixels, end.model.pixels.disk
    n = int(disk[-1]) + 1
    noise = np.full(len(disk), np.nan) if pixels.noise is None else pixels.noise
    known = np.isfinite(noise) & (noise > 0)
    if not known.any():
        nothing = np.full(n, np.nan)
        return Goodness(float("nan"), nothing, nothing, nothing)
    residual = _residual(end, np.where(known, noise, np.inf))
    chi2 = np.where(known, residual**2 / np.where(known, noise, 1.0), 0.0)
    counts = np.bincount(disk, known, n)
    left = max(0.1, 1 - (len(fine.names) + 2) / max(1.0, counts.sum()))
    square = squares(pixels)
    of_square = np.zeros(square.max() + 1, dtype=np.int64)
    of_square[square] = disk
    sums = np.bincount(square, np.where(known, residual, 0.0))
    variances = np.bincount(square, np.where(known, noise, 0.0))
    some = variances > 0
    smooth = np.bincount(of_square[some], sums[some] ** 2 / variances[some], n) / np.bincount(
        of_square[some], minlength=n
    )
    mean = np.bincount(disk, pixels.values, n) / np.bincount(disk, minlength=n)
    spread = np.bincount(disk, np.where(known, (pixels.values - mean[disk]) ** 2, 0.0), n)
    level = np.bincount(disk, np.where(known, noise, 0.0), n)
    with np.errstate(invalid="ignore", divide="ignore"):
        disks = np.bincount(disk, chi2, n) / counts / left
        contrast = spread / level - 1
    return Goodness(float(chi2.sum() / counts.sum() / left), disks, smooth, contrast)


def _residual(end: End, noise: FloatArray) -> FloatArray:
    """Measured less scaled simulated values: one scale and one offset per group, from weighted least squares."""
    groups, values, simulated = end.correlation.groups, end.model.pixels.values, end.values
    n, weight = len(end.correlation.scores), 1 / noise
    total = np.maximum(np.bincount(groups, weight, n), 1e-300)
    x = simulated - (np.bincount(groups, weight * simulated, n) / total)[groups]
    y = values - (np.bincount(groups, weight * values, n) / total)[groups]
    slope = np.bincount(groups, weight * x * y, n) / np.maximum(np.bincount(groups, weight * x * x, n), 1e-300)
    return np.asarray(y - slope[groups] * x)


def between_disks(fine: FineResult) -> FloatArray | None:
    """(P,) scatter of the parameters between the disks beyond that of the error bars; None for less than three disks.

    Each disk is left out in turn, to first order; the jackknife's variance less the one that the residual explains.
    """
    moved, _ = _without_each(fine)
    n = len(moved)
    if n < 3:
        return None
    variance = (n - 1) / n * np.square(moved - moved.mean(0)).sum(0)
    return np.asarray(np.sqrt(np.maximum(0.0, variance - np.diagonal(fine.covariance))))


def significance_between(fine: FineResult) -> FloatArray:
    """(P,) largest shift by one disk that is left out, in standard deviations of what noise makes of it."""
    moved, expected = _without_each(fine)
    return np.asarray((np.abs(moved) / expected).max(0))


def _without_each(fine: FineResult) -> tuple[FloatArray, FloatArray]:
    """(D, P) shifts of the parameters without each of the disks, and what noise makes of them."""
    end = fine.end
    disk = end.model.pixels.disk
    jacobian, residual = end.profiled(end.rows), end.residual
    scale = np.sqrt(np.maximum(np.square(jacobian).sum(1), 1e-300))
    jacobian = jacobian / scale[:, None]
    normal = jacobian @ jacobian.T
    variance = np.diagonal(np.linalg.pinv(normal, rcond=1e-9, hermitian=True))
    moves, growth = [], []
    for d in range(int(disk[-1]) + 1):
        part = jacobian[:, disk == d]
        inverse = np.linalg.pinv(normal - part @ part.T, rcond=1e-9, hermitian=True)
        moves.append(-inverse @ (part @ residual[disk == d]) / scale)
        growth.append(np.diagonal(inverse) / np.maximum(variance, 1e-300) - 1)
    expected = np.sqrt(np.maximum(growth, 1e-12) * np.diagonal(fine.covariance))
    return np.array(moves), np.maximum(expected, 1e-300)
