"""All frames at once: each against the mean of the others, with error bars and what speaks against an answer."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from stackalign._types import FloatArray

from ._search import NEAR, Filters, Mean, Search, Smoothness, rivals
from ._spectra import BLOCK_BYTES, Bins, Frames, Spectrum, aligned_spectra, has_region

__all__ = ["Joint", "joint_solution"]

GLOBAL_ROUNDS, LOCAL_ROUNDS = 4, 8
"""Largest numbers of searches over all shifts, and of Gauss-Newton steps."""

SETTLED, CONVERGED = 0.3, 2e-3
"""Pixels: no frame moves farther in the last search, and in the last step."""

LONGEST_STEP = 0.5
"""Pixels of a Gauss-Newton step."""

TILE, LEAST_TILES = 16, 6
"""Side of the tiles, in pixels, whose gradients are taken to be independent, and their least number along an axis."""

BLOCK_MOVES, LEAST_GAIN, LEAST_LIKELY = 8, 5.0, 20.0
"""Largest number of jumps that are taken back in a round, the log-likelihood that a jump must win, and the least that
the content of a frame must have against noise where it jumps to."""


@dataclass(frozen=True)
class Joint:
    """Positions of frames that were solved for together.

    Parameters
    ----------
    positions : numpy.ndarray
        (n, 2) drift of each frame, that of the first is 0.
    covariance : numpy.ndarray
        (n, 2, 2) of each frame against the mean of the others.
    rival : numpy.ndarray
        (n,) probability, given the noise, that the frame belongs at another maximum of its correlation, or that it and
        all frames on its side of some moment do.
    evidence : numpy.ndarray
        (n,) log-likelihood ratio of the frame's content against nothing but noise.
    score : numpy.ndarray
        (n,) correlation coefficient of the frame and the mean of the others, over frequencies with signal.
    """

    positions: FloatArray
    covariance: FloatArray
    rival: FloatArray
    evidence: FloatArray
    score: FloatArray


def joint_solution(
    frames: Frames, positions: FloatArray, first: int, *, max_move: float | None, workers: int | None
) -> Joint:
    """Move each frame to where it agrees best with the mean of the others, until none moves.

    Parameters
    ----------
    frames : Frames
    positions : numpy.ndarray
        (n, 2) to begin with, n at least 3; all frames must show a common region.
    first : int
        Number of the first frame.
    max_move : float, optional
        Largest change along each axis in a search, in pixels.
    workers : int, optional
        Threads.

    Returns
    -------
    Joint
    """
    positions, shape = positions - positions[0], (frames.shape[1], frames.shape[2])
    for _ in range(GLOBAL_ROUNDS):
        if not has_region(positions, shape):
            return _unsolved(positions)
        moves = _searched(frames, positions, first, max_move, workers)[0]
        if not has_region(positions + moves, shape):
            break
        positions = positions + moves
        positions, blocks_moved = _closed(frames, positions - positions[0], first, max_move, workers)
        if np.abs(moves).max() < SETTLED and not blocks_moved:
            break
    # Measured once: with each round more of the noise is aligned as well, and would pass for signal.
    filters = Mean.of(frames, positions, first, workers).filters
    for _ in range(LOCAL_ROUNDS):
        steps, judged = _stepped(frames, positions, first, filters, workers)
        if not has_region(positions + steps, shape):
            break
        positions = positions + steps
        positions -= positions[0]
        if np.abs(steps).max() < CONVERGED:
            break
    splits = _splits(frames, positions, first, workers)
    _, rival, evidence = _searched(frames, positions, first, None, workers)
    return replace(judged, positions=positions, rival=np.maximum(rival, _of_sides(splits.rival)), evidence=evidence)


def _unsolved(positions: FloatArray) -> Joint:
    """Frames that have nothing in common where they are: nothing is known."""
    n = len(positions)
    return Joint(positions, np.full((n, 2, 2), np.inf), np.ones(n), np.zeros(n), np.zeros(n))


def _searched(
    frames: Frames, positions: FloatArray, first: int, max_move: float | None, workers: int | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(n, 2) whole-pixel moves to where frames agree with the mean of the others, (n,) rivals and evidence."""
    search = Search(frames, positions, first, workers)
    moves, rival, evidence = np.zeros_like(positions), np.zeros(len(positions)), np.zeros(len(positions))
    prior = Smoothness(positions, search.lags)
    inside = search.inside(max_move)
    for some, spectra in search.blocks:
        maps = search.maps(search.mean.of_others(spectra), spectra)
        evidence[some] = maps[:, 0, 0]
        maps -= np.stack([prior.cost(k) for k in range(some.start, some.start + len(maps))])
        rival[some] = rivals(maps, search.inside(None))
        for k, plane in enumerate(maps, some.start):
            total = np.where(inside, plane, -np.inf)
            row, column = np.unravel_index(total.argmax(), total.shape)
            move = np.array([-search.lags[0][row], -search.lags[1][column]])
            # A jump must be worth it: all frames move at once, and the template would dissolve.
            jump = np.abs(move).max() > NEAR
            likely = total[row, column] + prior.cost(k)[row, column]
            if total[row, column] > total[0, 0] + LEAST_GAIN * jump and (not jump or likely > LEAST_LIKELY):
                moves[k] = move
    return moves, rival, evidence


def _stepped(
    frames: Frames, positions: FloatArray, first: int, filters: Filters | None, workers: int | None
) -> tuple[FloatArray, Joint]:
    """A Gauss-Newton step (n, 2), and what is known where it starts."""
    mean = Mean.of(frames, positions, first, workers, filters)
    bins, blocks = aligned_spectra(frames, positions, first, workers)
    n = len(positions)
    gradient, meat = np.zeros((n, 2)), np.zeros((n, 2, 2))
    score = np.zeros(n)
    curvature = np.zeros((2, 2))
    small = max(1, BLOCK_BYTES // (32 * bins.shape[0] * bins.shape[1]))
    for some, block in blocks:
        for start in range(0, len(block), small):
            spectra = block[start : start + small]
            rows = slice(some.start + start, some.start + start + len(spectra))
            others = mean.of_others(spectra)
            cross = others.conj() * spectra * (mean.weight * bins.count)
            gradient[rows] = np.stack([-(k * cross.imag).sum(axis=(1, 2)) for k in bins.k], axis=1)
            curvature += _curvature(bins, cross.real.sum(axis=0))
            meat[rows] = _scatter(mean, others, spectra, workers)
            score[rows] = _scores(mean, others, spectra)
    # The curvature of one frame is as noisy as the frame; all frames show the same, so that theirs has one expectation.
    inverse = np.linalg.pinv(curvature / n, hermitian=True)
    steps = gradient @ inverse
    steps /= np.maximum(np.abs(steps).max(axis=1, keepdims=True) / LONGEST_STEP, 1.0)
    covariance = inverse @ meat @ inverse
    covariance[~(np.diagonal(covariance, axis1=1, axis2=2) > 0).all(axis=1)] = np.inf
    return steps, Joint(positions, covariance, score, score, score)


def _curvature(bins: Bins, real: NDArray[np.floating]) -> FloatArray:
    ky, kx = bins.k
    yx = float((ky * kx * real).sum())
    return np.array([[float((ky * ky * real).sum()), yx], [yx, float((kx * kx * real).sum())]])


def _scatter(mean: Mean, others: Spectrum, spectra: Spectrum, workers: int | None) -> FloatArray:
    """(m, 2, 2) variance of the gradients, from how those of tiles scatter.

    Tiles are counted, not frequencies, since the window makes neighbouring frequencies alike, and few of them carry a
    lattice; what moves or changes in a part of the frame alone scatters them too.
    """
    h, w = mean.bins.shape
    edges = [np.linspace(0, side, max(LEAST_TILES, round(side / TILE)) + 1).astype(int)[:-1] for side in (h, w)]
    residual = fft.irfft2((spectra - others) * mean.weight, s=(h, w), workers=workers) * (h * w)
    tiles = []
    for k in mean.bins.k:
        product = fft.irfft2(1j * k * others, s=(h, w), workers=workers) * residual
        sums = np.add.reduceat(np.add.reduceat(product, edges[0], axis=1), edges[1], axis=2)
        tiles.append(sums.reshape(len(spectra), -1).astype(np.float64))
    gradients = np.stack(tiles, axis=1)
    scatter: FloatArray = gradients @ gradients.transpose(0, 2, 1)
    return scatter


@dataclass(frozen=True)
class _Splits:
    """The mean of the first s frames against that of the others, for s from 1 to n - 1."""

    move: FloatArray
    """(n - 1, 2) whole pixels by which the frames from s on correlate best, more than where they are."""
    gain: FloatArray
    """(n - 1,) log-likelihood that the move wins."""
    rival: FloatArray
    """(n - 1,) probability of other moves."""


def _splits(
    frames: Frames, positions: FloatArray, first: int, workers: int | None, max_move: float | None = None
) -> _Splits:
    """Frames may agree with their likes before and after a jump by a cell of a lattice; the means tell."""
    search = Search(frames, positions, first, workers)
    mean, n, inside = search.mean, len(positions), search.inside(max_move)
    move, gain, rival = np.zeros((n - 1, 2)), np.zeros(n - 1), np.zeros(n - 1)
    before, prior = np.zeros_like(mean.total), Smoothness(positions, search.lags)
    for some, spectra in search.blocks:
        for k, spectrum in enumerate(spectra):
            before += spectrum
            s = some.start + k + 1
            if s == n:
                break
            # The template is what is known of all frames but those that are held.
            held = ((mean.total - before) / (n - s)).astype(np.complex64)
            template = ((before / s) * mean.share).astype(np.complex64)
            plane = search.maps(template[None], held[None], s * (n - s) / n)[0]
            plane -= prior.of_step(positions[s] - positions[s - 1])
            rival[s - 1] = rivals(plane[None], search.inside(None))[0]
            total = np.where(inside, plane, -np.inf)
            row, column = np.unravel_index(total.argmax(), total.shape)
            move[s - 1] = -search.lags[0][row], -search.lags[1][column]
            gain[s - 1] = total[row, column] - total[0, 0]
    return _Splits(move, gain, rival)


def _closed(
    frames: Frames, positions: FloatArray, first: int, max_move: float | None, workers: int | None
) -> tuple[FloatArray, bool]:
    """Move all frames from some moment on, where that makes them agree with those before; tell whether any moved."""
    for moved in range(BLOCK_MOVES):
        splits = _splits(frames, positions, first, workers, max_move)
        s = int(splits.gain.argmax())
        if splits.gain[s] < LEAST_GAIN or np.abs(splits.move[s]).max() <= NEAR:
            return positions, moved > 0
        moved_on = positions.copy()
        moved_on[s + 1 :] += splits.move[s]
        if not has_region(moved_on, (frames.shape[1], frames.shape[2])):
            return positions, moved > 0
        positions = moved_on
    return positions, True


def _of_sides(rival: FloatArray) -> FloatArray:
    """(n,) of frames, from that of n - 1 splits: the side of a doubtful split with fewer frames is in doubt."""
    n = len(rival) + 1
    doubt = np.zeros(n)
    for k in np.flatnonzero(rival > 0):
        side = slice(0, k + 1) if 2 * (k + 1) < n else slice(k + 1, n)
        doubt[side] = np.maximum(doubt[side], rival[k])
    return doubt


def _scores(mean: Mean, others: Spectrum, spectra: Spectrum) -> FloatArray:
    """(m,) Pearson's coefficient over frequencies with signal."""
    seen = mean.share > 0
    counts = mean.bins.count[seen]
    a, b = others[:, seen], spectra[:, seen]
    joint = ((a.conj() * b).real * counts).sum(axis=1)
    scale = np.sqrt(((np.abs(a) ** 2) * counts).sum(axis=1) * ((np.abs(b) ** 2) * counts).sum(axis=1))
    coefficient: FloatArray = np.divide(
        joint, scale, out=np.where(np.abs(spectra).max(axis=(1, 2)) > 0, 0.0, np.nan), where=scale > 0
    ).astype(np.float64)
    return coefficient
