"""Where the centre of a pattern may be: candidates from rings, pairs of spots, and symmetry under inversion."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from scipy.spatial import cKDTree

from stackalign._types import FloatArray
from stackalign.ops import asarray, bin_mean, masked_ncc, masked_shift, to_numpy
from stackalign.registration.background import band_pass

from ._center_pairs import (
    FEWEST,
    NO_PAIRS,
    PairEvidence,
    Partners,
    find_spots,
    half_sums,
    pair_centers,
    pair_score,
    pair_sigma,
)
from ._center_rings import RingScore, ring_candidates
from ._center_smooth import LEFT, radial_center, uneven

__all__ = [
    "RING_SCALES",
    "Answer",
    "Candidate",
    "Level",
    "Pairs",
    "exact",
    "inversions_of",
    "level_of",
    "pairs_of",
    "passed",
    "refined",
    "rings_of",
]


UNEVEN = 4.0 * LEFT
"""Share of an image that differs between neighbours on a ring from which no centre explains all of it."""
SMALLEST = 8
RING_SCALES = (60, 30, 10)
"""Side of the image in units of the sigma of the background that is taken away, for narrow rings up to wide ones."""
PLAIN = 0.15
"""Confidence from which rings of a scale are taken."""
TRIED = 150
REACH = 3.0
"""Pixels by which the middle of a pair is off the place where it is looked for."""
SAME = 0.02
"""Pixels."""


class Candidate(NamedTuple):
    score: float
    center: FloatArray


class Level(NamedTuple):
    """A binned image, what is valid of it, and the factor."""

    image: FloatArray
    valid: NDArray[np.bool_]
    factor: int

    def up(self, center: FloatArray) -> FloatArray:
        """Pixels of the image of a point of this level."""
        return np.asarray(center * self.factor + 0.5 * (self.factor - 1))

    def down(self, center: FloatArray) -> FloatArray:
        """Point of this level of pixels of the image."""
        return np.asarray((center - 0.5 * (self.factor - 1)) / self.factor)


class Answer(NamedTuple):
    """Centres of one kind, best first, and how good the best is: from 0 to 1."""

    kind: str
    candidates: list[Candidate]
    quality: float
    part: int = 30
    """Side of the image in units of the sigma of the background at which the best is refined."""

    def confidence(self) -> float:
        """How good the best is, and how much better than the next."""
        if not self.candidates or not self.candidates[0].score > 0:
            return 0.0
        second = self.candidates[1].score if len(self.candidates) > 1 else 0.0
        return float(np.clip(self.quality, 0.0, 1.0) ** 0.5 * (1.0 - second / self.candidates[0].score))


def exact(
    image: NDArray[Any], valid: NDArray[np.bool_], center: FloatArray, coarse: Level, part: int
) -> tuple[FloatArray, float]:
    """Another centre, where all of the image is a function of the distance from it: no filter misses what is masked.

    Also returns the share of the image that this does not explain, 1 where the other centre is to be kept.
    """
    if uneven(image, valid, center) > UNEVEN:
        return center, 1.0
    plain, unexplained = radial_center(image, valid, center)
    if unexplained > LEFT:
        return center, 1.0
    # A background that is round by itself must not hide faint rings about another centre.
    fine, seen = passed(coarse, max(coarse.image.shape) / part)
    score = RingScore([fine], seen)
    rings = [score.smooth(coarse.down(c), 0) for c in (plain, center)]
    return (plain, unexplained) if rings[0] > 0.5 * rings[1] else (center, 1.0)


def level_of(image: NDArray[Any], valid: NDArray[np.bool_], side: int, workers: int | None) -> Level:
    factor = max(1, min(-(-max(image.shape) // side), min(image.shape) // SMALLEST))
    means, counts = bin_mean(
        np.ascontiguousarray(image), factor, mask=np.ascontiguousarray(valid), return_count=True, workers=workers
    )
    enough = counts > 0.4 * factor * factor
    return Level(np.where(enough, means, 0.0).astype(np.float64), enough, factor)


def passed(level: Level, sigma: float) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A level without its background and without the very bright."""
    image = to_numpy(band_pass(level.image[None].astype(np.float32), level.valid[None], max(sigma, 1.5)))[0]
    valid = level.valid & np.isfinite(image)
    values = image[valid]
    limit = float(np.quantile(np.abs(values), 0.98)) if values.size else 0.0
    # Spots and hot pixels would outweigh everything else.
    return np.where(valid, np.clip(image, -limit, limit) if limit > 0 else image, 0.0), valid


def inversions_of(level: Level, device: str, workers: int | None) -> list[Candidate]:
    """Maxima of the correlation of an image with itself turned by 180 degrees."""
    shape = np.array(level.image.shape)
    candidates: list[Candidate] = []
    for part in (8, 32):
        image, valid = passed(level, max(shape) / part)
        turned = asarray(np.ascontiguousarray(image[::-1, ::-1]), device)
        result = masked_ncc(
            asarray(image, device),
            turned,
            reference_mask=asarray(valid, device),
            moving_mask=asarray(np.ascontiguousarray(valid[::-1, ::-1]), device),
            overlap_ratio=0.05,
            workers=workers,
        )
        scores = to_numpy(result.scores).astype(np.float64)
        sides = zip(scores.shape, result.origin, shape, strict=True)
        share = np.outer(*(1.0 - np.abs(np.arange(n) - origin) / side for n, origin, side in sides))
        # Of a few pixels any correlation is possible.
        evidence = np.arctanh(np.clip(scores, 0.0, 0.999)) * np.sqrt(share)
        peaks = np.argwhere((maximum_filter(evidence, 7) == evidence) & (evidence > 0))
        order = np.argsort(-evidence[tuple(peaks.T)], kind="stable")[:12]
        for y, x in peaks[order]:
            lag = np.array(result.shift_at((y, x)))
            candidates.append(Candidate(float(np.tanh(evidence[y, x])), level.up(0.5 * (shape - 1 + lag))))
    return _distinct(candidates, 2.0 * level.factor)


def _distinct(candidates: list[Candidate], distance: float) -> list[Candidate]:
    """Best first, without those that lie next to a better one."""
    kept: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: -c.score):
        if all(np.hypot(*(candidate.center - other.center)) > distance for other in kept):
            kept.append(candidate)
    return kept


def rings_of(coarse: Level, inversions: list[Candidate]) -> Answer:
    """Centres of rings in a coarse image: at the finest scale that shows them."""
    side = max(coarse.image.shape)
    scales = [passed(coarse, side / part) for part in RING_SCALES]
    valid = np.logical_and.reduce([v for _, v in scales])
    score = RingScore([image for image, _ in scales], valid)
    answers: list[Answer] = []
    # A background makes wide rings: they are not asked where there are narrow ones.
    for scales_together in ([0], list(range(1, len(RING_SCALES)))):
        for which, rough in zip(scales_together, ring_candidates(score, scales_together, 4), strict=True):
            candidates = [Candidate(s, coarse.up(c)) for c, s in rough]
            for candidate in inversions[:4]:
                center, s = score.climb(coarse.down(candidate.center), which, 1.0, 0.5)
                candidates.append(Candidate(s, coarse.up(center)))
            candidates = [c for c in _distinct(candidates, 4.0 * coarse.factor) if c.score > 0]
            answers.append(Answer("rings", candidates, candidates[0].score if candidates else 0.0, RING_SCALES[which]))
            if answers[-1].confidence() >= PLAIN:
                return answers[-1]
    return max(answers, key=Answer.confidence)


class Pairs(NamedTuple):
    """Centres of pairs of spots, what speaks for the best, its standard error in pixels, and the number of spots."""

    answer: Answer
    evidence: PairEvidence
    sigma: float
    n_spots: int


def pairs_of(level: Level, inversions: list[Candidate], near: FloatArray | None = None) -> Pairs:
    """Centres of pairs of spots; of a place that is known, the one near it."""
    spots = find_spots(level.image, level.valid)
    nothing = Pairs(Answer("pairs", [], 0.0), NO_PAIRS, np.inf, len(spots.points))
    if len(spots.points) < FEWEST:
        return nothing
    tree = cKDTree(spots.points)
    evidence: dict[float, PairEvidence] = {}
    candidates = []
    if near is None:
        starts = [*half_sums(spots, TRIED), *(level.down(c.center) for c in inversions)]
    else:
        starts = [level.down(near)]
    centers, counts = pair_centers(Partners(spots, REACH), np.array(starts), REACH)
    centers = centers[counts >= FEWEST]
    # Many starts end at the same centre, but for rounding.
    _, first = np.unique(np.rint(centers / SAME), axis=0, return_index=True)
    for center in centers[np.sort(first)]:
        here = pair_score(spots, center)
        if here.score > 0:
            candidates.append(Candidate(here.score, level.up(center)))
            evidence[here.score] = here
    candidates = _distinct(candidates, 2.0 * level.factor)
    if not candidates:
        return nothing
    best = evidence[candidates[0].score]
    sigma = level.factor * pair_sigma(spots, tree, level.down(candidates[0].center))
    return Pairs(Answer("pairs", candidates, best.quality), best, sigma, len(spots.points))


def refined(
    image: NDArray[Any],
    valid: NDArray[np.bool_],
    center: FloatArray,
    factor: int,
    part: int,
    device: str,
    workers: int | None,
) -> FloatArray:
    """Correlate what lies around a centre with itself turned, at full resolution."""
    size = np.array(image.shape)
    reach = 4 * factor
    for _ in range(3):
        twice = np.clip(np.rint(2 * center).astype(int), 0, 2 * (size - 1))
        low, high = np.maximum(0, twice - (size - 1)), np.minimum(size - 1, twice)
        if (high - low < SMALLEST).any():
            return center
        window = tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))
        pixels, mask = image[window].astype(np.float32)[None], valid[window][None]
        passed = band_pass(pixels, mask, max(2.0, max(image.shape) / part))[0]
        seen = mask[0] & np.isfinite(passed)
        registered = masked_shift(
            asarray(np.ascontiguousarray(passed), device),
            asarray(np.ascontiguousarray(passed[::-1, ::-1]), device),
            reference_mask=asarray(seen, device),
            moving_mask=asarray(np.ascontiguousarray(seen[::-1, ::-1]), device),
            max_shift=tuple(int(min(2 * reach, s // 2)) for s in passed.shape),
            workers=workers,
        )
        if not registered.score > 0:
            return center
        center = 0.5 * (twice + registered.shift)
        if np.abs(registered.shift).max() <= 0.5:
            break
    return np.asarray(center)
