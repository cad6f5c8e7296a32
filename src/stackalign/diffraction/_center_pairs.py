"""Centres of crystals: spots come in Friedel pairs, of equal strength but for a trend across the image."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, maximum_filter
from scipy.spatial import cKDTree

from stackalign._types import FloatArray

__all__ = [
    "NO_PAIRS",
    "PairEvidence",
    "Partners",
    "Spots",
    "find_spots",
    "half_sums",
    "pair_centers",
    "pair_score",
    "pair_sigma",
]


WIDTHS = (1.2, 2.0, 3.5)
"""Sigmas in pixels of the spots that are looked for."""
SIGNIFICANT = 6.0
MOST = 300
FEWEST = 6
SPREAD = 0.25
"""Scatter of the asymmetry of spots that do not belong together."""
LEAST_SPREAD = 0.04
SEEN = 6.0
"""Strength in units of the noise from which the far end of a pair counts."""
NEAR = 1.5
"""Distance in pixels up to which a spot is the partner of another."""


FINEST = 0.01
"""Standard error in pixels that no centre of pairs goes below: shapes of spots are sampled."""


class Spots(NamedTuple):
    """Spots (K, 2), their strengths (K,), the filtered image they come from, its noise, and where it is valid."""

    points: FloatArray
    strengths: FloatArray
    response: FloatArray
    noise: float
    usable: NDArray[np.bool_]


def find_spots(image: FloatArray, valid: NDArray[np.bool_]) -> Spots:
    """Find spots of the width that stands out most."""
    by_width = [_spots(image, valid, width) for width in WIDTHS]
    return max(by_width, key=lambda s: float(np.sort(s.strengths / s.noise)[-50:].sum()) if len(s.points) else 0.0)


def _spots(image: FloatArray, valid: NDArray[np.bool_], width: float) -> Spots:
    narrow, share = _smooth(image, valid, 0.8 * width)
    wide, _ = _smooth(image, valid, 2.5 * width)
    usable = valid & (share > 0.97)
    response = np.where(usable, narrow - wide, 0.0)
    level = np.sqrt(np.maximum(np.where(usable, wide, 0.0) - wide[usable].min(initial=0.0), 0.0))
    level = np.maximum(level, 1e-3 * level.max(initial=0.0) + 1e-30)
    ratio = response / level  # noise of counts grows with the root of what is around
    inside = ratio[usable]
    noise = 1.4826 * float(np.median(np.abs(inside - np.median(inside)))) if inside.size else 0.0
    if noise <= 0.0:
        noise = 1e-3 * float(np.abs(inside).max(initial=0.0)) + 1e-30
    peak = (maximum_filter(response, 2 * int(np.ceil(width)) + 1) == response) & (ratio > SIGNIFICANT * noise)
    peak[[0, -1], :] = peak[:, [0, -1]] = False
    points = np.argwhere(peak)
    strengths = response[peak]
    order = np.argsort(-strengths, kind="stable")[:MOST]
    points = points[order]
    typical = noise * float(np.median(level[usable])) if usable.any() else 1.0
    return Spots(_tops(response, points), strengths[order], response, typical, usable)


def _smooth(image: FloatArray, valid: NDArray[np.bool_], sigma: float) -> tuple[FloatArray, FloatArray]:
    """Gaussian mean of the valid pixels, and the share of the weights that they have."""
    if valid.all():
        whole = gaussian_filter(image.astype(np.float32), sigma, truncate=3.0, mode="nearest")
        return whole.astype(np.float64), np.ones(image.shape, np.float32)
    share = gaussian_filter(valid.astype(np.float32), sigma, truncate=3.0, mode="nearest")
    total = gaussian_filter(np.where(valid, image, 0).astype(np.float32), sigma, truncate=3.0, mode="nearest")
    return (total / np.maximum(share, 1e-6)).astype(np.float64), share


def _tops(response: FloatArray, points: NDArray[np.int64]) -> FloatArray:
    """Places of maxima to fractions of a pixel, by parabolas through the logarithms of three pixels."""
    out = points.astype(np.float64)
    y, x = points.T
    middle = response[y, x]
    floor = 1e-3 * middle
    for axis, (dy, dx) in enumerate(((1, 0), (0, 1))):
        a, b, c = (np.log(np.maximum(v, floor)) for v in (response[y - dy, x - dx], middle, response[y + dy, x + dx]))
        curvature = a - 2 * b + c
        out[:, axis] += np.where(curvature < 0, np.clip(0.5 * (a - c) / np.minimum(curvature, -1e-9), -0.5, 0.5), 0.0)
    return out


def half_sums(spots: Spots, count: int) -> FloatArray:
    """Centres (K, 2) about which most spots meet another one."""
    p = spots.points
    i, j = np.triu_indices(len(p), 1)
    middles = 0.5 * (p[i] + p[j])
    ratio = np.minimum(spots.strengths[i], spots.strengths[j]) / np.maximum(spots.strengths[i], spots.strengths[j])
    shape = spots.response.shape
    cells = np.rint(middles).astype(np.int64)
    votes = _box(np.bincount(cells[:, 0] * shape[1] + cells[:, 1], ratio, shape[0] * shape[1]).reshape(shape))
    peaks = np.argwhere((maximum_filter(votes, 7) == votes) & (votes > 0))
    order = np.argsort(-votes[tuple(peaks.T)], kind="stable")[:count]
    return peaks[order].astype(np.float64)


def _box(votes: NDArray[Any]) -> FloatArray:
    padded = np.pad(votes, 1)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return np.asarray(rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:])


class Partners:
    """Which spot is nearest to a place, from a table of pixels: a tree takes ten times as long for so many places."""

    def __init__(self, spots: Spots, reach: float) -> None:
        self.points, self.strengths = spots.points, spots.strengths
        self.margin = int(np.ceil(reach)) + 2
        shape = np.array(spots.response.shape) + 2 * self.margin
        self.table = np.full(tuple(shape), -1, np.int32)
        window = np.arange(-self.margin + 1, self.margin)
        steps = np.stack(np.meshgrid(window, window, indexing="ij"), axis=-1).reshape(-1, 2)
        away = np.hypot(*steps.T)
        places = np.rint(spots.points).astype(np.int64) + self.margin
        for step in steps[np.argsort(-away, kind="stable")][away[np.argsort(-away, kind="stable")] <= reach + 1.0]:
            self.table[places[:, 0] + step[0], places[:, 1] + step[1]] = np.arange(len(places))

    def __call__(self, places: FloatArray) -> tuple[NDArray[np.int32], FloatArray]:
        """Index of the spot near each place (..., 2), -1 for none, and its distance."""
        cells = np.rint(places).astype(np.int64) + self.margin
        limit = np.array(self.table.shape) - 1
        inside = ((cells >= 0) & (cells <= limit)).all(axis=-1)
        cells = np.clip(cells, 0, limit)
        index = np.where(inside, self.table[cells[..., 0], cells[..., 1]], -1)
        away = places - self.points[np.maximum(index, 0)]
        return index, np.hypot(away[..., 0], away[..., 1])


def _medians(values: FloatArray, chosen: NDArray[np.bool_]) -> FloatArray:
    """Median of the chosen values of each row; of none, infinity."""
    ordered = np.sort(np.where(chosen, values, np.inf), axis=1)
    count = chosen.sum(axis=1)
    each = np.arange(len(values))
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, np.maximum(count - 1, 0))
    return np.asarray(0.5 * (ordered[each, low] + ordered[each, high]))


def pair_centers(partners: Partners, starts: FloatArray, reach: float) -> tuple[FloatArray, NDArray[np.int64]]:
    """Move centres (S, 2) to the middles of the pairs around them; also returns the numbers of pairs."""
    centers, counts = np.array(starts, np.float64), np.zeros(len(starts), np.int64)
    moving = np.ones(len(starts), bool)
    points, strengths = partners.points, partners.strengths
    for radius in (reach, NEAR):
        which = np.flatnonzero(moving)
        index, distance = partners(2 * centers[which, None] - points)
        paired = (index >= 0) & (distance <= radius)
        counts[which] = paired.sum(axis=1)
        enough = counts[which] >= 3
        moving[which[~enough]] = False
        which, index, paired = which[enough], index[enough], paired[enough]
        if not len(which):
            break
        middles = 0.5 * (points + points[np.maximum(index, 0)])
        weight = np.sqrt(np.minimum(strengths, strengths[np.maximum(index, 0)]))
        center = np.stack([_medians(middles[..., k], paired) for k in (0, 1)], axis=1)
        off = np.hypot(*np.moveaxis(middles - center[:, None], 2, 0))
        kept = paired & (off <= np.maximum(3.0 * _medians(off, paired), 1e-6)[:, None])
        weight = np.where(kept, weight, 0.0)
        centers[which] = (weight[..., None] * middles).sum(axis=1) / weight.sum(axis=1)[:, None]
    return centers, counts


def pair_sigma(spots: Spots, tree: cKDTree, center: FloatArray) -> float:
    """Standard error along an axis of a centre, from the scatter of the middles of its pairs."""
    distance, partner = tree.query(2 * center - spots.points, distance_upper_bound=NEAR)
    paired = np.flatnonzero(np.isfinite(distance))
    if len(paired) < 4:
        return float("inf")
    middles = 0.5 * (spots.points[paired] + spots.points[partner[paired]])
    # Both ends of a pair are here: half as many are independent.
    scatter = float(np.sqrt(((middles - center) ** 2).mean(axis=0).max()))
    return float(np.hypot(scatter / np.sqrt(len(paired) / 2), FINEST))


def _solved(normal: FloatArray, right: FloatArray) -> FloatArray:
    """Solution of two normal equations; the shortest one where they are not independent."""
    (a, b), (_, c) = normal.tolist()
    determinant = a * c - b * b
    if not determinant > 1e-9 * a * c:
        return np.asarray(np.linalg.lstsq(normal, right, rcond=None)[0])
    u, v = right.tolist()
    return np.array([(c * u - b * v) / determinant, (a * v - b * u) / determinant])


class PairEvidence(NamedTuple):
    """What pairs say of a centre: their score, quality from 0 to 1, log of the evidence, and number."""

    score: float
    quality: float
    evidence: float
    pairs: float


NO_PAIRS = PairEvidence(0.0, 0.0, 0.0, 0.0)


def pair_score(spots: Spots, center: FloatArray) -> PairEvidence:
    """Score a centre by the evidence that spots and what stands opposite of them are as strong, but for a linear trend.

    The asymmetry (a - b) / (a + b) of a pair is a linear function of its direction where the strength is; its scatter
    about that is compared with that of spots that have nothing to do with each other. Pairs count as far as both are
    seen: spots with nothing opposite neither speak for a centre nor, on the far side of a strong trend, against it.
    The sum is divided by the root of their number, or centres with more pairs of worse agreement would win, and
    multiplied by the root of how good pairs are by themselves, from 0 to 1, which is returned as well.
    """
    across = 2 * center - spots.points
    edge = np.array(spots.response.shape) - 1
    inside = ((across >= 0) & (across <= edge)).all(axis=1)
    across = np.clip(across, 0, edge)
    place = np.rint(across).astype(np.int64)
    offset = spots.points - center
    inside &= spots.usable[place[:, 0], place[:, 1]] & ((offset**2).sum(axis=1) > 4 * NEAR**2)
    if inside.sum() < FEWEST:
        return NO_PAIRS
    a, offset = spots.strengths[inside], offset[inside]
    b = np.maximum(map_coordinates(spots.response, across[inside].T, order=1), 0.0)
    asymmetry = (a - b) / (a + b)
    # Both ends of a pair of found spots are here: each half counts half.
    weight = 0.5 * b**2 / (b**2 + (SEEN * spots.noise) ** 2)
    variance = (spots.noise / (a + b)) ** 2
    trend = np.zeros(2)
    residual = asymmetry
    for _ in range(4):
        robust = weight / (variance + LEAST_SPREAD**2) / (1.0 + (residual / (3 * LEAST_SPREAD)) ** 2)
        normal = (offset * robust[:, None]).T @ offset
        trend = _solved(normal, offset.T @ (robust * asymmetry))
        residual = asymmetry - offset @ trend
    spread = np.sqrt(residual**2 + LEAST_SPREAD**2)
    evidence = float((weight * np.log(SPREAD / spread)).sum())
    pairs = float(weight.sum())
    seen = min(1.0, pairs / (0.25 * len(a)))
    quality = max(0.0, evidence / (pairs + 1.0) / np.log(SPREAD / LEAST_SPREAD) * seen)
    score = float(np.sqrt(quality) * evidence / np.sqrt(pairs + 1.0))
    return PairEvidence(score, float(quality), evidence, pairs)
