"""Drift from pairs of frames: candidates for each pair, and the positions that most pairs agree on."""

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage, sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import spsolve

from stackalign._types import BoolArray, FloatArray, IntArray

from ._spectra import Bins, Frames, Plane, window

__all__ = ["PairGraph", "agreed_positions", "chosen_strides", "measured_pairs", "share_agreeing", "share_still"]

CANDIDATES = 6
"""Peaks of a correlation that are kept of each pair."""

WIDEST, NARROWEST, ROUNDS = 8.0, 0.5, 20
"""The scale, in pixels, of what counts as agreement falls from the first to the second in so many rounds."""

NEAR = 3.0
"""Standard deviations that a candidate may be lower for each factor of e that its distance squared grows."""

ROUND = 0.4
"""Taper of the window of frames that are not aligned yet."""

LOW = 0.65
"""Correlation coefficient of a pair, as a share of that of most neighbours, below which it is taken to be chance."""

AGREEING, LEAST_AGREEING = 0.3, 0.25
"""Weight from which on a pair agrees with the positions, and least share of a frame's pairs that do."""

STILL, CLOSE = 0.5, 1.0
"""Pixels: a pair below the first stands still, and one within the second agrees with a drift."""

COARSE_BYTES = 1 << 28
"""Bytes of spectra that are held at once."""

LEAST_SIDE = 48
"""Pixels of the shorter side of a binned frame."""


@dataclass(frozen=True)
class PairGraph:
    """What was measured between pairs of frames.

    Parameters
    ----------
    pairs : numpy.ndarray
        (P, 2) numbers of frames.
    shifts : numpy.ndarray
        (P, C, 2) candidates for the drift from the first to the second frame, in pixels.
    heights : numpy.ndarray
        (P, C) of their peaks, in standard deviations of the correlation; -inf where there is no such peak.
    coherence : numpy.ndarray
        (P,) what a height of 1 is as a correlation coefficient: it tells chance from a match where a lattice fills the
        correlation with peaks.
    """

    pairs: IntArray
    shifts: FloatArray
    heights: FloatArray
    coherence: FloatArray


def chosen_strides(n_frames: int, pairs_per_frame: int) -> list[int]:
    """Return distances between paired frames, growing by about the golden ratio: 1, 2, 3, 5, 8...

    Parameters
    ----------
    n_frames : int
        Length of the series.
    pairs_per_frame : int
        Largest number of strides.
    """
    strides, following = [1], 2
    while len(strides) < pairs_per_frame and following < n_frames:
        strides.append(following)
        following = max(following + 1, round(following * 1.618))
    return [stride for stride in strides if stride < n_frames]


def measured_pairs(
    frames: Frames, strides: list[int], *, max_step: float | None, budget: int = COARSE_BYTES, workers: int | None
) -> PairGraph:
    """Correlate pairs of frames, weighted by the share of signal that is measured at each frequency.

    Parameters
    ----------
    frames : Frames
    strides : list of int
        Distances between paired frames.
    max_step : float, optional
        Largest drift along each axis between neighbouring frames, in pixels.
    budget : int
        Bytes for the spectra of all frames; they are binned until they fit.
    workers : int, optional
        Threads.

    Returns
    -------
    PairGraph
    """
    spectra, bins, factor = _coarse(frames, budget, workers)
    weights = _signal_weights(spectra, bins)
    longest = None if max_step is None else max_step / factor
    power = np.array([(weights * bins.count * np.abs(one) ** 2).sum(dtype=np.float64) for one in spectra])
    power = np.maximum(power / (bins.shape[0] * bins.shape[1]), 1e-30)
    pairs, shifts, heights, coherence = [], [], [], []
    for stride in strides:
        for i in range(frames.shape[0] - stride):
            cross = spectra[i].conj() * spectra[i + stride] * weights
            plane = fft.irfft2(cross, s=bins.shape, workers=workers)
            peaks, height = _peaks(plane, None if longest is None else longest * stride)
            pairs.append((i, i + stride))
            shifts.append(peaks * factor)
            heights.append(height)
            coherence.append((float(plane.std()) or 1.0) / np.sqrt(power[i] * power[i + stride]))
    return PairGraph(np.array(pairs), np.array(shifts), np.array(heights), np.array(coherence))


def _coarse(frames: Frames, budget: int, workers: int | None) -> tuple[np.ndarray, Bins, int]:
    """Spectra of all frames, binned until they fit."""
    n, height, width = frames.shape
    factor = 1
    while 4 * n * height * width // factor**2 > budget and min(height, width) // (2 * factor) >= LEAST_SIDE:
        factor *= 2
    size = (height // factor, width // factor)
    bins, weights = Bins(size), window(size, ROUND)
    spectra = np.empty((n, size[0], size[1] // 2 + 1), np.complex64)
    step = max(1, (1 << 25) // (4 * height * width))
    for start in range(0, n, step):
        planes = frames.read(start, min(start + step, n))
        planes = planes[:, : size[0] * factor, : size[1] * factor]
        binned = planes.reshape(len(planes), size[0], factor, size[1], factor).mean(axis=(2, 4))
        binned -= binned.mean(axis=(1, 2), keepdims=True)
        spectra[start : start + len(planes)] = fft.rfft2(binned * weights, workers=workers)
    return spectra, bins, factor


def _signal_weights(spectra: np.ndarray, bins: Bins) -> Plane:
    """Weights of the maximum-likelihood correlation of two noisy frames (Hannan and Thomson, Biometrika 60, 469, 1973).

    Noise is white over the outermost fifth of the shells, and what is above it elsewhere is signal.
    """
    power = np.zeros(spectra.shape[1:])
    for one in spectra:
        power += np.abs(one) ** 2
    total = bins.radial(power / len(spectra))
    noise = float(np.median(total[int(0.8 * len(total)) :])) or 1.0
    signal = np.clip(total - noise * (1 + 3 / np.sqrt(len(spectra) * bins.modes)), 0.0, None)
    if not signal.any():
        signal = total
    weights: Plane = ((signal / (noise**2 + 2 * noise * signal))[bins.shell] * bins.used * noise).astype(np.float32)
    return weights


def _peaks(plane: Plane, longest: float | None) -> tuple[FloatArray, FloatArray]:
    """The highest maxima of a cyclic correlation: (C, 2) shifts and (C,) heights in standard deviations."""
    allowed = (plane == ndimage.maximum_filter(plane, 5, mode="wrap")) & (plane > 0)
    if longest is not None:
        y, x = (np.abs(fft.fftfreq(n, 1 / n)) <= max(longest, 1.0) for n in plane.shape)
        allowed &= y[:, None] & x[None]
    rows, columns = np.nonzero(allowed)
    best = np.argsort(-plane[rows, columns], kind="stable")[:CANDIDATES]
    shifts, heights = np.zeros((CANDIDATES, 2)), np.full(CANDIDATES, -np.inf)
    deviation = float(plane.std()) or 1.0
    for k, (row, column) in enumerate(zip(rows[best], columns[best], strict=True)):
        shifts[k] = _wrapped(np.array([row, column]) + _vertex(plane, int(row), int(column)), plane.shape)
        heights[k] = plane[row, column] / deviation
    if not len(best):
        heights[0] = 0.0  # nothing correlates: no shift, with no weight
    return shifts, heights


def _vertex(plane: Plane, row: int, column: int) -> FloatArray:
    """Where a parabola through the neighbours of a maximum has its own, within half a pixel."""
    h, w = plane.shape
    along_y = plane[[(row - 1) % h, row, (row + 1) % h], column].astype(np.float64)
    along_x = plane[row, [(column - 1) % w, column, (column + 1) % w]].astype(np.float64)
    offsets = []
    for before, middle, after in (along_y, along_x):
        bend = before - 2 * middle + after
        offsets.append(float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0)
    return np.array(offsets)


def _wrapped(shift: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    sides = np.array(shape, np.float64)
    wrapped: FloatArray = shift - np.rint(shift / sides) * sides
    return wrapped


def agreed_positions(graph: PairGraph, n_frames: int) -> FloatArray:
    """Positions (N, 2) of the frames that most pairs agree on, by graduated non-convexity.

    Each pair supports the candidate that fits the positions best, less so the lower its peak and the farther off it is;
    the scale of "far" falls from round to round. Pairs that close no loop with the others lose their weight.

    Parameters
    ----------
    graph : PairGraph
    n_frames : int
        Length of the series.

    Returns
    -------
    numpy.ndarray
        (N, 2), of the first frame (0, 0).
    """
    positions = _chained(graph, n_frames)
    first, second = graph.pairs.T
    rows = np.arange(len(graph.pairs))
    edges = sparse.csr_matrix(
        (np.r_[-np.ones(len(rows)), np.ones(len(rows))], (np.r_[rows, rows], np.r_[first, second])),
        shape=(len(rows), n_frames),
    )[:, 1:]
    highest = np.maximum(graph.heights.max(axis=1), 1e-9)
    for scale in np.geomspace(WIDEST, NARROWEST, ROUNDS):
        away = ((graph.shifts - (positions[second] - positions[first])[:, None]) ** 2).sum(axis=2) / scale**2
        support = graph.heights - NEAR * np.log1p(away)
        best = support.argmax(axis=1)
        height = np.clip(graph.heights[rows, best], 0.0, None)
        weight = (height / highest) ** 2 / (1 + away[rows, best]) ** 2 + 1e-12
        weighted = edges.multiply(weight[:, None]).tocsr()
        normal = (edges.T @ weighted).tocsc()
        right = weighted.T @ graph.shifts[rows, best]
        solved = spsolve(normal, right).reshape(n_frames - 1, 2)
        positions = np.vstack([np.zeros((1, 2)), solved])
    return _between_neighbours(positions, _supported(graph.pairs, weight, height * graph.coherence, n_frames))


def share_still(graph: PairGraph) -> float:
    """Share of the pairs whose highest peak is at no shift.

    Parameters
    ----------
    graph : PairGraph
    """
    best = graph.shifts[np.arange(len(graph.pairs)), graph.heights.argmax(axis=1)]
    return float((np.abs(best).max(axis=1) < STILL).mean())


def share_agreeing(graph: PairGraph, positions: FloatArray) -> float:
    """Share of the pairs whose highest peak agrees with the positions.

    Parameters
    ----------
    graph : PairGraph
    positions : numpy.ndarray
        (N, 2) that most pairs agree on.
    """
    first, second = graph.pairs.T
    best = graph.shifts[np.arange(len(first)), graph.heights.argmax(axis=1)]
    miss = ((best - (positions[second] - positions[first])) ** 2).sum(axis=1)
    return float((miss < CLOSE**2).mean())


def _supported(pairs: IntArray, weight: FloatArray, match: FloatArray, n_frames: int) -> BoolArray:
    """(N,) whether enough of a frame's pairs agree with its position: a frame that matches none suits one by chance."""
    agreeing = (weight > AGREEING) & (match >= LOW * np.median(match[: n_frames - 1]))
    total = np.bincount(pairs.ravel(), minlength=n_frames)
    good = np.bincount(pairs[agreeing].ravel(), minlength=n_frames)
    enough: BoolArray = good >= np.maximum(2, LEAST_AGREEING * total)
    return enough


def _between_neighbours(positions: FloatArray, supported: BoolArray) -> FloatArray:
    """Frames without support go where their neighbours are, if most frames have some: one must not stretch the rest."""
    if supported.mean() <= 0.5:
        return positions
    frames = np.arange(len(positions))
    known = frames[supported]
    placed = np.stack([np.interp(frames, known, positions[known, axis]) for axis in (0, 1)], axis=1)
    placed -= placed[0]
    return placed


def _chained(graph: PairGraph, n_frames: int) -> FloatArray:
    """Positions along a tree of pairs of near frames that by-passes those that match none.

    Each pair counts by the candidate that is high and not far longer than most steps.
    """
    first, second = graph.pairs.T
    usual = max(2.0, 1.5 * float(np.median(np.abs(graph.shifts[second == first + 1, 0]))))
    longest = usual**2 * (second - first)
    support = graph.heights - 0.5 * (graph.shifts**2).sum(axis=2) / longest[:, None]
    best = support.argmax(axis=1)
    rows = np.arange(len(best))
    height, shift = graph.heights[rows, best], graph.shifts[rows, best]
    match = height * graph.coherence
    usual_match = np.median(match[second == first + 1])
    # Short distances first, since a lattice jumps more easily over long ones, but by-passing frames that match none.
    cost = (second - first) + n_frames * (match < LOW * usual_match)
    costs = sparse.csr_matrix((cost, (first, second)), shape=(n_frames, n_frames))
    order, parents = csgraph.breadth_first_order(csgraph.minimum_spanning_tree(costs), 0, directed=False)
    steps = {(int(a), int(b)): step for a, b, step in zip(first, second, shift, strict=True)}
    positions = np.zeros((n_frames, 2))
    for frame in order[1:]:
        parent = int(parents[frame])
        step = steps[parent, int(frame)] if parent < frame else -steps[int(frame), parent]
        positions[frame] = positions[parent] + step
    return positions
