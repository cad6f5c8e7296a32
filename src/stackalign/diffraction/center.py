"""Centres of diffraction patterns, without parameters: rings, Friedel pairs, or plain symmetry under inversion."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from scipy.spatial import cKDTree

from stackalign import __version__
from stackalign.backends import Array
from stackalign.backends._threads import governed
from stackalign.errors import DataError
from stackalign.io.provenance import to_jsonable
from stackalign.ops import asarray, bin_mean, masked_ncc, masked_shift, to_numpy
from stackalign.ops._check import n_workers
from stackalign.registration.background import band_pass

from ._center_pairs import FEWEST, find_spots, half_sums, pair_center, pair_score
from ._center_rings import RingScore, ring_candidates
from ._center_smooth import LEFT, radial_center
from ._inputs import checked_images

__all__ = ["CENTER_FLAGS", "Center", "autocenter"]

FloatArray = NDArray[np.float64]

CENTER_FLAGS: Mapping[str, str] = {
    "constant": "the image does not vary: the middle of the frame is given",
    "uncertain": "another centre is nearly as good, or none is good",
}
"""Why a centre should not be trusted; one without flags can be."""

SMALLEST = 8
MIDDLE, COARSE = 512, 128
"""Longest sides of the images in which spots and rings are looked for."""
RINGS, PAIRS = 0.3, 0.25
"""Quality from which rings or pairs are believed at once."""
RING_SCALES = (60, 30, 10)
"""Side of the image in units of the sigma of the background that is taken away, for narrow rings up to wide ones."""
PLAIN = 0.15
"""Confidence from which rings of a scale are taken."""
TRIED = 150
RUNNERS = 5
UNCERTAIN = 0.1


@dataclass(frozen=True)
class Center:
    """Centres of diffraction patterns; arrays have one row per image, or no such axis for a single image.

    Parameters
    ----------
    center : numpy.ndarray
        (N, 2) float64, (row, col) in pixels, 0 = middle of the first pixel.
    confidence : numpy.ndarray
        (N,) from 0, a guess, to 1: how good the centre is, and how much better than any other.
    kind : tuple of str
        For each image what the centre was found by: "rings", "pairs" of spots, or "inversion", the correlation of the
        image with itself turned by half a turn.
    runners_up : numpy.ndarray
        (N, 5, 2): next best centres, NaN where there are fewer.
    runner_scores : numpy.ndarray
        (N, 5): their scores as shares of the best one's.
    flags : tuple of tuple of str
        For each image the keys of `CENTER_FLAGS` that apply.
    """

    center: FloatArray
    confidence: FloatArray
    kind: tuple[str, ...]
    runners_up: FloatArray
    runner_scores: FloatArray
    flags: tuple[tuple[str, ...], ...]

    @property
    def ok(self) -> bool:
        """Tell whether no image is flagged."""
        return not any(self.flags)

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "center": to_jsonable(self.center),
            "confidence": to_jsonable(self.confidence),
            "kind": list(self.kind),
            "runners_up": to_jsonable(self.runners_up),
            "runner_scores": to_jsonable(self.runner_scores),
            "flags": [list(flags) for flags in self.flags],
            "version": __version__,
        }


class _Candidate(NamedTuple):
    score: float
    center: FloatArray


class _Level(NamedTuple):
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


class _Answer(NamedTuple):
    """Centres of one kind, best first, and how good the best is: from 0 to 1."""

    kind: str
    candidates: list[_Candidate]
    quality: float
    part: int = 30
    """Side of the image in units of the sigma of the background at which the best is refined."""

    def confidence(self) -> float:
        """How good the best is, and how much better than the next."""
        if not self.candidates or not self.candidates[0].score > 0:
            return 0.0
        second = self.candidates[1].score if len(self.candidates) > 1 else 0.0
        return float(np.clip(self.quality, 0.0, 1.0) ** 0.5 * (1.0 - second / self.candidates[0].score))


@governed
def autocenter(images: Array, *, mask: Array | None = None, device: str = "auto", workers: int | None = None) -> Center:
    """Find the centres of diffraction patterns of powders and crystals.

    Parameters
    ----------
    images : array
        (H, W) or (N, H, W). NaN and infinite pixels are invalid.
    mask : array, optional
        Boolean, True = valid, (H, W) or (N, H, W): without the beam block and the glare around it.
    device : str
        "auto", "cpu", "cuda" or "cuda:n": where images are correlated with themselves.
    workers : int, optional
        Number of CPU threads.

    Returns
    -------
    Center
        Centres, how certain they are, and the runners-up.

    Raises
    ------
    DataError
        Shapes do not fit, nothing is valid, or images are smaller than 8 pixels.
    TypeError
        Complex images, or a mask that is not boolean.

    Notes
    -----
    Candidates come from three sources: centres about which the distance explains most of an image without its smooth
    background (rings), middles between spots (Friedel pairs), and maxima of the masked correlation of the image with
    itself turned by half a turn, at two scales. Where rings explain a good part of the image they decide. Else pairs
    do: at the true centre the asymmetry of pairs is a smooth trend (the walk-off of a tilted or curved Ewald sphere),
    at other centres of inversion of the lattice it is not, since strengths differ from spot to spot. The best centre
    is refined at full resolution. Rings that are no circles have no single centre.
    """
    given = checked_images(images, mask, device)
    workers = n_workers(workers)  # refused for images without a centre too
    if min(given.values.shape[1:]) < SMALLEST:
        msg = f"images must have sides of at least {SMALLEST} pixels for a centre, got {tuple(np.shape(images))}"
        raise DataError(msg)
    rows = []
    for k in range(len(given.values)):
        valid = None if given.mask is None else given.mask[k if len(given.mask) > 1 else 0]
        rows.append(_center_of(to_numpy(given.values[k]), None if valid is None else to_numpy(valid), device, workers))
    found, confidence, kinds, runners, scores, flags = zip(*rows, strict=True)
    first: Any = 0 if given.single else slice(None)
    arrays = (np.array(a, np.float64)[first] for a in (found, confidence, runners, scores))
    center, sure, others, shares = arrays
    return Center(center, sure, tuple(kinds), others, shares, tuple(flags))


def _center_of(
    image: NDArray[Any], mask: NDArray[np.bool_] | None, device: str, workers: int | None
) -> tuple[Any, ...]:
    """One row of a `Center`."""
    valid = np.isfinite(image) if mask is None else mask & np.isfinite(image)
    inside = image[valid]
    nothing = np.full((RUNNERS, 2), np.nan), np.zeros(RUNNERS)
    if inside.size == 0 or inside.min() == inside.max():
        return 0.5 * (np.array(image.shape) - 1), 0.0, "inversion", *nothing, ("constant",)
    levels = {side: _level(image, valid, side, workers) for side in (MIDDLE, COARSE)}
    inversions = _inversions(levels[MIDDLE], device, workers)
    rings = _rings(levels[COARSE], inversions)
    answer = rings
    # What is round at the widest scale alone may be the envelope of a dense lattice.
    if rings.quality < RINGS or rings.part == RING_SCALES[-1]:
        pairs = _pairs(levels[MIDDLE], inversions)
        answer = _decided(rings, pairs, inversions)
    best, *others = answer.candidates
    center = best.center
    if answer.kind != "pairs":
        center = _refined(image, valid, center, levels[MIDDLE].factor, answer.part, device, workers)
        center = _exact(image, valid, center, levels[COARSE], answer.part)
    runners, scores = nothing
    for k, (score, there) in enumerate(others[:RUNNERS]):
        runners[k], scores[k] = there, score / best.score
    confidence = answer.confidence()
    return center, confidence, answer.kind, runners, scores, ("uncertain",) if confidence < UNCERTAIN else ()


def _exact(image: NDArray[Any], valid: NDArray[np.bool_], center: FloatArray, coarse: _Level, part: int) -> FloatArray:
    """Another centre, where all of the image is a function of the distance from it: no filter misses what is masked."""
    plain, unexplained = radial_center(image, valid, center)
    if unexplained > LEFT:
        return center
    # A background that is round by itself must not hide faint rings about another centre.
    fine, seen = _passed(coarse, max(coarse.image.shape) / part)
    score = RingScore([fine], seen)
    rings = [score.smooth(coarse.down(c), 0) for c in (plain, center)]
    return plain if rings[0] > 0.5 * rings[1] else center


def _decided(rings: _Answer, pairs: _Answer, inversions: list[_Candidate]) -> _Answer:
    """Choose where rings are not plain."""
    plain = rings.quality < RINGS or pairs.confidence() >= UNCERTAIN
    if pairs.candidates and pairs.quality >= PAIRS and plain:
        return pairs
    if rings.quality >= RINGS:
        return rings
    if rings.candidates:
        rivals = [c.score for c in rings.candidates[1:2]] or [0.0]
        if rings.candidates[0].score > 1.5 * rivals[0]:
            return rings
    if pairs.candidates and pairs.quality >= 0.5 * PAIRS:
        return pairs
    if inversions:
        return _Answer("inversion", inversions, inversions[0].score)
    return rings


def _level(image: NDArray[Any], valid: NDArray[np.bool_], side: int, workers: int | None) -> _Level:
    factor = max(1, min(-(-max(image.shape) // side), min(image.shape) // SMALLEST))
    means, counts = bin_mean(
        np.ascontiguousarray(image), factor, mask=np.ascontiguousarray(valid), return_count=True, workers=workers
    )
    enough = counts > 0.4 * factor * factor
    return _Level(np.where(enough, means, 0.0).astype(np.float64), enough, factor)


def _passed(level: _Level, sigma: float) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A level without its background and without the very bright."""
    image = to_numpy(band_pass(level.image[None].astype(np.float32), level.valid[None], max(sigma, 1.5)))[0]
    valid = level.valid & np.isfinite(image)
    values = image[valid]
    limit = float(np.quantile(np.abs(values), 0.98)) if values.size else 0.0
    # Spots and hot pixels would outweigh everything else.
    return np.where(valid, np.clip(image, -limit, limit) if limit > 0 else image, 0.0), valid


def _inversions(level: _Level, device: str, workers: int | None) -> list[_Candidate]:
    """Maxima of the correlation of an image with itself turned by 180 degrees."""
    shape = np.array(level.image.shape)
    found: list[_Candidate] = []
    for part in (8, 32):
        image, valid = _passed(level, max(shape) / part)
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
        lags = np.indices(scores.shape) - np.array(result.origin)[:, None, None]
        share = np.prod(1.0 - np.abs(lags) / shape[:, None, None], axis=0)
        # Of a few pixels any correlation is possible.
        evidence = np.arctanh(np.clip(scores, 0.0, 0.999)) * np.sqrt(share)
        peaks = np.argwhere((maximum_filter(evidence, 7) == evidence) & (evidence > 0))
        order = np.argsort(-evidence[tuple(peaks.T)], kind="stable")[:12]
        for y, x in peaks[order]:
            lag = np.array(result.shift_at((y, x)))
            found.append(_Candidate(float(np.tanh(evidence[y, x])), level.up(0.5 * (shape - 1 + lag))))
    return _distinct(found, 2.0 * level.factor)


def _distinct(candidates: list[_Candidate], distance: float) -> list[_Candidate]:
    """Best first, without those that lie next to a better one."""
    kept: list[_Candidate] = []
    for candidate in sorted(candidates, key=lambda c: -c.score):
        if all(np.hypot(*(candidate.center - other.center)) > distance for other in kept):
            kept.append(candidate)
    return kept


def _rings(coarse: _Level, inversions: list[_Candidate]) -> _Answer:
    """Centres of rings in a coarse image: at the finest scale that shows them."""
    side = max(coarse.image.shape)
    passed = [_passed(coarse, side / part) for part in RING_SCALES]
    valid = np.logical_and.reduce([v for _, v in passed])
    score = RingScore([image for image, _ in passed], valid)
    answers = []
    for which, rough in enumerate(ring_candidates(score, 4)):
        found = [_Candidate(s, coarse.up(c)) for c, s in rough]
        for candidate in inversions[:4]:
            center, s = score.climb(coarse.down(candidate.center), which, 1.0, 0.5)
            found.append(_Candidate(s, coarse.up(center)))
        found = [c for c in _distinct(found, 4.0 * coarse.factor) if c.score > 0]
        answers.append(_Answer("rings", found, found[0].score if found else 0.0, RING_SCALES[which]))
    # A background makes wide rings: they are not asked where there are narrow ones.
    return next((a for a in answers if a.confidence() >= PLAIN), max(answers, key=_Answer.confidence))


def _pairs(level: _Level, inversions: list[_Candidate]) -> _Answer:
    """Centres of pairs of spots."""
    spots = find_spots(level.image, level.valid)
    if len(spots.points) < FEWEST:
        return _Answer("pairs", [], 0.0)
    tree = cKDTree(spots.points)
    quality: dict[float, float] = {}
    starts = [*half_sums(spots, TRIED), *(level.down(c.center) for c in inversions)]
    found = []
    for start in starts:
        center, n = pair_center(spots, tree, start, 3.0)
        score, good = pair_score(spots, center)
        if n >= FEWEST and score > 0:
            found.append(_Candidate(score, level.up(center)))
            quality[score] = good
    found = _distinct(found, 2.0 * level.factor)
    return _Answer("pairs", found, quality[found[0].score] if found else 0.0)


def _refined(
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
        found = masked_shift(
            asarray(np.ascontiguousarray(passed), device),
            asarray(np.ascontiguousarray(passed[::-1, ::-1]), device),
            reference_mask=asarray(seen, device),
            moving_mask=asarray(np.ascontiguousarray(seen[::-1, ::-1]), device),
            max_shift=tuple(int(min(2 * reach, s // 2)) for s in passed.shape),
            workers=workers,
        )
        if not found.score > 0:
            return center
        center = 0.5 * (twice + found.shift)
        if np.abs(found.shift).max() <= 0.5:
            break
    return np.asarray(center)
