"""What whole columns and rows of an image have in common: gains, offsets, and displacements of their own."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from stackalign._types import FloatArray

__all__ = ["along_lines", "cancelling_lines", "displaced_lines", "joined", "positive"]

LAGS = 12
"""Lines over which residuals of whole lines are taken to hang together: the images were smoothed by up to 3 pixels."""

SIGMAS = 3.0
"""Standard errors within which an answer is taken to be: as far out, few lines are worth less than many."""

LEAST_LEFT = 0.2
"""Share of the variance of blocks that is left at least where contributions cancel along lines."""

BASIS = np.kron([[1.0, 1.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], np.eye(2))
"""From contributions to the moves of the middle, the right and the lower edge, (x, y) of each, to those to what is
common to all, what grows along x, and what grows along y."""


def along_lines(pieces: FloatArray) -> FloatArray:
    """Find what the covariance (6, 6) of the sum of contributions gains because whole lines hang together.

    Sums over whole columns, or rows, are compared with those over their pieces in the blocks, which the blocks count.
    Along some directions it may lose: only what is `positive` along those of a model counts.

    Parameters
    ----------
    pieces : numpy.ndarray
        (6, blocks, lines) contributions to the estimating equation.
    """
    chance = _chance(pieces.shape[2])
    return _long_run(pieces.sum(axis=1, keepdims=True)) - (1.0 + chance) * _long_run(pieces)


def cancelling_lines(lines: Sequence[FloatArray]) -> FloatArray:
    """Matrix (6, 6) for the contributions of blocks that over whole lines cancel more than chance would have it.

    So do those of a gain or an offset that each column has for itself, for a move along the columns.
    """
    share = np.ones(6)
    for pieces in lines:
        parts = np.einsum("ab,bkl->akl", BASIS, pieces)
        whole, counted = (np.diagonal(_long_run(p)) for p in (parts.sum(axis=1, keepdims=True), parts))
        ratio = np.divide(whole, counted, out=np.ones(6), where=counted > 0)
        share = np.minimum(share, ratio + _chance(pieces.shape[2]))
    root = np.sqrt(np.clip(share, LEAST_LEFT, 1.0))
    factors: FloatArray = BASIS.T @ (root[:, None] * np.linalg.inv(BASIS).T)
    return factors


def displaced_lines(pieces: FloatArray, moves: FloatArray, axis: int) -> FloatArray:
    """Covariance (6, 6) of the sum of contributions where each line is displaced along itself: jitter of a slit.

    How far lines are displaced is measured on all of them, by random effects (DerSimonian and Laird 1986); what that
    does to the sum follows from what each line weighs. The few lines that carry an answer do not scatter about it.

    Parameters
    ----------
    pieces : numpy.ndarray
        (6, blocks, lines) contributions to the estimating equation.
    moves : numpy.ndarray
        (2, 6, lines) what a displacement of a line by a pixel along x, or y, contributes.
    axis : int
        0 for lines along x, 1 for lines along y.
    """
    pushed = BASIS[axis] @ pieces.sum(axis=1)
    noise = np.square(np.einsum("a,akl->kl", BASIS[axis], pieces)).sum(axis=0)
    weight = BASIS[axis] @ moves[axis]
    used = weight > FAINT * weight.max()
    if used.sum() < FEWEST or not weight.max() > 0:
        return np.zeros((6, 6))
    # The noise of a line is that of all, by what it weighs: its own few pieces know it badly.
    level = noise[used].sum() / weight[used].sum()
    heavy = weight[used]
    shift = pushed[used] / heavy
    shift = shift - heavy @ shift / heavy.sum()
    surplus = heavy @ np.square(shift) / level - (heavy.size - 1)
    if surplus <= SIGMAS * np.sqrt(2.0 * (heavy.size - 1) * ALIKE):
        return np.zeros((6, 6))  # no more than by chance
    row = np.zeros(len(weight))
    row[used] = shift * np.sqrt(heavy)
    correlation = _correlation(row, used.astype(np.float64))
    together = float(_lagged_sums((weight * used)[None], correlation)[0, 0])
    # What the lines have in common went into the answer: so much less is left of their scatter.
    left = max(heavy.sum() - together / heavy.sum(), heavy.sum() / heavy.size)
    lines = max(2.0, float(heavy.sum() ** 2 / max(together, 1e-300)))
    few = float(stats.t.ppf(stats.norm.cdf(SIGMAS), lines) / SIGMAS) ** 2
    covariance: FloatArray = few * surplus * level / left * positive(_lagged_sums(moves[axis], correlation))
    return covariance


FAINT = 0.02
"""Share of what the line with most structure weighs, below which a line says nothing of its displacement."""

FEWEST = 8
"""Lines that must show their displacement for it to be measured."""

ALIKE = 4.0
"""Neighbouring lines of which one tells as much as all: both images were smoothed."""


def _correlation(values: FloatArray, known: FloatArray) -> FloatArray:
    """(LAGS,) correlation of lines with those so many lines on, until it is none."""
    n = min(LAGS, len(values))
    pairs = np.array([known[: len(known) - lag] @ known[lag:] for lag in range(n)])
    products: FloatArray = np.array([values[: len(values) - lag] @ values[lag:] for lag in range(n)])
    correlation: FloatArray = np.divide(products, pairs, out=np.zeros(n), where=pairs > 0)
    if correlation[0] > 0:
        correlation /= correlation[0]
    ends = np.flatnonzero(correlation < 2.0 / np.sqrt(np.maximum(pairs, 1.0)))
    correlation[ends[0] if len(ends) else n :] = 0.0
    return correlation


def _lagged_sums(parts: FloatArray, correlation: FloatArray) -> FloatArray:
    """(C, C) sums over lines (C, lines) of the products with those so many lines on, by their correlation."""
    total = np.zeros((len(parts), len(parts)))
    for lag, rho in enumerate(correlation):
        product = rho * parts[:, lag:] @ parts[:, : parts.shape[1] - lag].T
        total += product if lag == 0 else product + product.T
    return total


def joined(first: FloatArray, second: FloatArray) -> FloatArray:
    """The smallest covariance of the kind that is nowhere below either: they are two measures of one thing."""
    return first + positive(second - first)


def _chance(n: int) -> float:
    """Share by which a sum over lines that have nothing in common differs from what its pieces say, by noise."""
    return float(np.sqrt(4.0 * min(LAGS, n) / (3.0 * n)))


def _long_run(parts: FloatArray) -> FloatArray:
    """Covariance (6, 6) of the sum over lines of parts (6, rows, lines), the rows independent (Newey and West 1987)."""
    # Products of lines up to LAGS apart with weights that fall linearly are those of sums over LAGS lines.
    running = np.cumsum(np.pad(parts, ((0, 0), (0, 0), (LAGS, LAGS - 1))), axis=2)
    windows = (running[..., LAGS:] - running[..., :-LAGS]).reshape(len(parts), -1)
    total: FloatArray = windows @ windows.T / LAGS
    return total


def positive(matrix: FloatArray) -> FloatArray:
    """The part of a symmetric matrix with positive eigenvalues."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    nearest: FloatArray = (vectors * np.clip(values, 0.0, None)) @ vectors.T
    return nearest
