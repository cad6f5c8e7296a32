"""Whether an alignment is more than chance, and whether all that two images show has moved alike."""

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import maximum_filter
from scipy.stats import norm

from stackalign._types import FloatArray
from stackalign.backends import Array
from stackalign.ops import bin_mean, masked_ncc, to_numpy
from stackalign.registration.background import band_pass

from ._align_bands import TOGETHER, Apart, apart_of
from ._align_left import STILL, Left, common_part
from ._align_plain import Limits, Plain, agreement, moved_otherwise, plain

__all__ = ["ALIKE", "CHANCE", "Judged", "judged", "without_hot_pixels"]

_Images = tuple[NDArray[np.float32], NDArray[np.bool_]]

CHANCE = 8.5
"""Standard deviations of the score of unrelated images below which it says nothing: crystals with few strong spots
correlate by up to 8 with other ones, and true pairs of powders and crystals from 13 on."""
RARE = 2e-3
"""Chance that the best of all shifts of unrelated images passes."""
FINE_SIDE = 256
"""Longest side of the images whose autocorrelation is taken."""
SIDE = 128
"""Longest side of the images in which a second movement is looked for."""
SIGMA = 2.0
"""Sigma in binned pixels of the background: wider ones leave halos that outweigh rings."""
SMALLEST = 16
SECOND = 0.2
"""Share of the main maximum's height that something which moved differently has at least."""
REPEATED = 0.5
"""Correlation of the reference with itself from which a shift is a repetition of a lattice."""
ALIKE = 0.9
"""Share of the fine structure of two images that agrees at their shift: 0.97 and more for the same sample."""
AGREED = 0.6
"""Share of the deviations that are needed where the fine structure agrees as that of the same sample does: that of
unrelated images agrees by up to 0.4."""
APART = 2.0
"""Standard deviations by which the maximum without the background is higher than what is at the shift found."""
PLAIN = 6.0
"""Standard deviations from which a second movement is believed."""
NEAR = 2
"""Pixels of the binned images up to which a maximum belongs to the main one."""
STANDS_OUT = 8.0
LONELY = 0.1
"""Height of the highest neighbour of a hot pixel, as a share of its own."""
CROWD = 0.01
EIGHT = np.array([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x])
SAMPLED = 1 << 14
"""Pixels that tell the usual ones of an image."""


class Judged(NamedTuple):
    """What is known of one alignment.

    `significance` is in standard deviations of the score of unrelated images, `needed` what it should be. `other` is
    the shift of what moved differently, NaN where nothing does, and `strength` how high it correlates beside the main
    maximum. `alike` is how much of what both images show agrees at the shift, NaN where that cannot be told. `left` is
    the share of the image that is in the difference twice, with either sign, and `lag` how far apart. `apart` is by how
    much a band of the spectra wants another shift.
    """

    significance: float
    needed: float
    other: FloatArray
    strength: float
    alike: float = float("nan")
    left: float = 0.0
    lag: FloatArray = np.zeros(2)
    apart: Apart = TOGETHER


NOTHING = np.full(2, np.nan)


def without_hot_pixels(images: NDArray[Any]) -> NDArray[Any]:
    """Images (N, H, W) in which pixels far above all of their neighbours but one have the neighbours' median.

    They stand still, and outweigh what moves.
    """
    cleaned = images
    size = images[0].size if len(images) else 0
    # Odd, so that samples run through all columns.
    stride = max(1, size // SAMPLED) | 1
    for k, image in enumerate(images):
        finite = np.isfinite(image) if image.dtype.kind == "f" else np.ones(image.shape, bool)
        values = image.ravel()[::stride]
        values = values[finite.ravel()[::stride]].astype(np.float64)
        if not values.size:
            continue
        if values.min() == values.max():
            values = image[finite].astype(np.float64)
        middle, deviation = float(values.mean()), float(values.std())
        # The hot ones may make most of the deviation.
        usual = values[np.abs(values - middle) <= 3 * deviation]
        # Of few electrons most pixels have none, and the others do not stand out by having one.
        middle, deviation = float(usual.mean()), max(float(usual.std()), _step(values))
        high = np.flatnonzero((image > middle + STANDS_OUT * deviation) & finite)
        if not len(high):
            continue
        around = _next_to(image, high, np.array([[0, 1], [0, -1]]))
        # Most are on spots, where the next pixel in the row says so.
        flat = image.ravel()[high].astype(np.float64)
        high = high[~(np.fmin.reduce(around, axis=1) - middle >= LONELY * (flat - middle))]
        if not len(high):
            continue
        places = np.stack(np.unravel_index(high, image.shape), axis=1)
        around = _next_to(image, high, EIGHT)
        known = np.isfinite(around).sum(axis=1) > 1
        places, around = places[known], around[known]
        height = image[tuple(places.T)].astype(np.float64) - middle
        # The second of them: two hot pixels may touch.
        second = np.sort(np.where(np.isfinite(around), around, -np.inf), axis=1)[:, -2]
        lonely = second - middle < LONELY * height
        # Where electrons are few, so are all of their pixels.
        if 0 < lonely.sum() <= CROWD * size:
            if cleaned is images:
                cleaned = images.copy()
            cleaned[k][tuple(places[lonely].T)] = np.nanmedian(around[lonely], axis=1)
    return cleaned


def _step(values: FloatArray) -> float:
    """Least difference of values from the lowest: an electron of a detector that counts few, next to nothing else."""
    lowest = float(values.min())
    above = values[values > lowest]
    return float(above.min()) - lowest if above.size else 0.0


def _next_to(image: NDArray[Any], flat: NDArray[np.intp], steps: NDArray[np.int_]) -> FloatArray:
    """Values (K, S) of pixels at steps (S, 2) from those of flat indices; NaN beyond the edge and where invalid."""
    places = np.stack(np.unravel_index(flat, image.shape), axis=1)[:, None] + steps
    inside: NDArray[np.bool_] = np.asarray(((places >= 0) & (places < image.shape)).all(axis=2))
    rows, columns = np.moveaxis(np.where(inside[..., None], places, 0), 2, 0)
    values = image[rows, columns].astype(np.float64)
    return np.asarray(np.where(inside & np.isfinite(values), values, np.nan))


def judged(
    onto: Array,
    images: Array,
    onto_valid: Array | None,
    valid: Array | None,
    measured: tuple[FloatArray, FloatArray, FloatArray],
    workers: int | None,
) -> list[Judged]:
    """Judge alignments of images (N, H, W) onto one (H, W), by their shifts (N, 2), scores and overlaps (N,)."""
    height, width = onto.shape
    factor = max(1, -(-max(height, width) // SIDE))
    if min(height, width) // factor < SMALLEST:
        factor = max(1, min(height, width) // SMALLEST)
    lone = None if onto_valid is None else onto_valid[None]
    fixed, moving = _binned(onto[None], lone, factor), _binned(images, valid, factor)
    shifts, scores, overlaps = measured
    obvious = Plain(np.zeros(len(shifts), bool), np.zeros(len(shifts)), np.full(len(shifts), np.nan))
    if min(fixed[0].shape[1:]) >= SMALLEST:
        obvious = plain(fixed, moving, shifts / factor, SIGMA, Limits(CHANCE, NEAR, SECOND, PLAIN, REPEATED, ALIKE))
    comparison = _Comparison(onto[None], lone, fixed, factor, workers)
    result = []
    for k in range(len(shifts)):
        if not scores[k] > 0:
            result.append(Judged(0.0, CHANCE, NOTHING, 0.0))
        elif obvious.clear[k]:
            result.append(Judged(float(obvious.significance[k]), CHANCE, NOTHING, 0.0, float(obvious.alike[k])))
        else:
            only = slice(k, k + 1)
            own = None if valid is None else valid[only] if len(valid) > 1 else valid
            part = moving[0][only], moving[1][only]
            result.append(comparison.judged(images[only], own, part, shifts[k], float(scores[k]), float(overlaps[k])))
    return result


class _Comparison:
    """One reference with which images are compared in full; what is known of it is computed once, when first needed."""

    def __init__(self, onto: Array, valid: Array | None, binned: _Images, factor: int, workers: int | None) -> None:
        self._onto, self._valid, self._binned = onto, valid, binned
        self._factor, self._workers = factor, workers
        self._size = int(onto.shape[1] * onto.shape[2])
        self._finer = max(1, -(-max(onto.shape[1:]) // FINE_SIDE))

    @cached_property
    def _power(self) -> FloatArray:
        fine, seen = _binned(self._onto, self._valid, self._finer)
        return _autocorrelation(fine[0], seen[0])

    @cached_property
    def _passed(self) -> "_Passed":
        return _passed(*self._binned, SIGMA)

    @cached_property
    def _own(self) -> "_Own":
        """What the reference correlates with itself by, anywhere near a shift."""
        scores, first = _map(self._passed, self._passed, self._workers)
        return _Own(maximum_filter(scores, 3), first, _autocorrelation(self._passed.image, self._passed.valid))

    def judged(
        self, image: Array, valid: Array | None, binned: _Images, shift: FloatArray, score: float, overlap: float
    ) -> Judged:
        """Judge one image (1, H, W)."""
        fine, seen = _binned(image, valid, self._finer)
        power = _autocorrelation(fine[0], seen[0])
        per_pixel = max(float((self._power * power).sum()), 1.0) * self._finer**2
        independent = overlap * _count(self._valid, self._size) / per_pixel
        z = float(np.arctanh(min(score, 1 - 1e-12)) * np.sqrt(max(independent - 3.0, 1.0)))
        other, strength, alike, left, apart = NOTHING, 0.0, float("nan"), Left(0.0, np.zeros(2)), TOGETHER
        if min(binned[0].shape[1:]) >= SMALLEST:
            part = _passed(*binned, SIGMA)
            cross = _map(self._passed, part, self._workers)
            alike = float(agreement(self._binned, binned, shift[None] / self._factor, SIGMA)[0])
            other, strength, sharp = _second(cross, self._own, self._passed, part, shift / self._factor)
            # A halo is one structure, however bright; what is left without it may be many.
            z = max(z, sharp)
            pair = self._on_each_other(image, valid, shift)
            if pair is not None:
                still = bool((np.abs(shift) < STILL * self._factor).all())
                left, apart = self._left(*pair, still), self._apart(*pair)
        # Of as many shifts as are apart, the best is found.
        tried = max(4.0 * self._size / per_pixel, 1.0)
        needed = max(CHANCE, float(norm.isf(RARE / tried))) * (AGREED if alike >= ALIKE and not left.share else 1.0)
        return Judged(z, needed, other * self._factor, strength, alike, left.share, left.lag * self._factor, apart)

    def _on_each_other(self, image: Array, valid: Array | None, shift: FloatArray) -> "_Pair | None":
        """Parts of images that lie on each other but for less than a pixel; None where they are too small."""
        whole, onto, moved = common_part((int(image.shape[1]), int(image.shape[2])), shift)
        one, two = self._onto[:, *onto], image[:, *moved]
        some, also = (None if v is None else v[:, *p] for v, p in ((self._valid, onto), (valid, moved)))
        seen = also if some is None else some if also is None else some & also
        if min(int(n) for n in one.shape[1:]) < SMALLEST * self._factor:
            return None
        return _Pair(one, two, seen, shift - whole)

    def _left(self, one: Array, two: Array, seen: Array | None, shift: FloatArray, still: bool) -> Left:
        """What has moved otherwise: whole pixels are laid on each other before binning."""
        pair = [_binned(part, seen, self._factor) for part in (one, two)]
        return moved_otherwise(pair[0], pair[1], shift / self._factor, SIGMA, still)

    def _apart(self, one: Array, two: Array, seen: Array | None, shift: FloatArray) -> Apart:
        """What bands of the spectra want in addition to the shift."""
        (first, valid), (second, also) = (_binned(part, seen, self._finer) for part in (one, two))
        both = valid[0] & also[0]
        apart = apart_of(first[0], second[0], both, shift / self._finer, SIGMA * self._factor / self._finer)
        return Apart(apart.shift * self._finer, apart.period * self._finer)


class _Pair(NamedTuple):
    """Parts (1, H, W) of two images that show the same, what is valid of both, and the shift that is left."""

    one: Array
    two: Array
    seen: Array | None
    shift: FloatArray


def _count(valid: Array | None, size: int) -> float:
    return float(size) if valid is None else float(to_numpy(valid).sum())


def _binned(images: Array, valid: Array | None, factor: int) -> _Images:
    means, counts = bin_mean(images, factor, mask=valid, return_count=True)
    pixels, seen = to_numpy(means).astype(np.float32), to_numpy(counts) > 0.4 * factor * factor
    return np.where(seen, pixels, np.float32(0)), seen


def _autocorrelation(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> FloatArray:
    """Of the valid pixels about their mean, for all lags, 1 at none."""
    shape = [next_fast_len(2 * n, real=True) for n in image.shape]
    level = image[valid].mean(dtype=np.float64) if valid.any() else 0.0
    spectrum = rfft2(np.where(valid, image - np.float32(level), 0), shape)
    correlation = irfft2(np.abs(spectrum) ** 2, shape)
    return np.asarray(correlation / max(float(correlation[0, 0]), 1e-300), np.float64)


class _Passed(NamedTuple):
    image: NDArray[np.float32]
    valid: NDArray[np.bool_]


class _Own(NamedTuple):
    """Of the reference: highest score of itself around each shift, the first of these, and its autocorrelation."""

    repeats: FloatArray
    first: FloatArray
    power: FloatArray


def _passed(images: NDArray[np.float32], valid: NDArray[np.bool_], sigma: float) -> _Passed:
    image = np.asarray(band_pass(images, valid, sigma))[0]
    seen = valid[0] & np.isfinite(image)
    return _Passed(np.where(seen, image, np.float32(0)).astype(np.float32), seen)


def _map(one: _Passed, other: _Passed, workers: int | None) -> tuple[FloatArray, FloatArray]:
    """Scores of all whole-pixel shifts, and the shift (row, col) of the first of them."""
    result = masked_ncc(
        one.image,
        other.image,
        reference_mask=one.valid,
        moving_mask=other.valid,
        overlap_ratio=0.3,
        workers=workers,
    )
    return np.asarray(result.scores, np.float64), np.asarray(result.shift_at((0, 0)), np.float64)


def _second(
    cross: tuple[FloatArray, FloatArray],
    own: _Own,
    one: _Passed,
    other: _Passed,
    shift: FloatArray,
) -> tuple[FloatArray, float, float]:
    """Shift of what correlates beside the main maximum and is no repetition of the reference itself.

    Where all has moved by the same shift, the correlation is that of the reference with itself, moved by it and lower.
    Also returns the correlation there, and the deviations of the correlation without the background at the shift.
    """
    scores, first = cross
    indices = np.indices(scores.shape)
    places = indices + first[:, None, None]
    away = np.abs(places - shift[:, None, None]).max(axis=0)
    near = away <= NEAR + 0.5
    main = float(scores[near].max(initial=0.0))
    repeats = own.repeats
    at = np.rint(indices + (first - shift - own.first)[:, None, None]).astype(int)
    inside = ((at >= 0) & (at < np.array(repeats.shape)[:, None, None])).all(axis=0)
    at = np.clip(at, 0, np.array(repeats.shape)[:, None, None] - 1)
    expected = np.where(inside, repeats[tuple(at)], 0.0)
    # Of few pixels any correlation is possible.
    lag = np.abs(places)
    share = np.prod(np.maximum(1.0 - lag / np.array(one.image.shape)[:, None, None], 0.0), axis=0)
    rest = np.where(near, 0.0, share * (scores - max(main, 0.0) * np.maximum(expected, 0.0)))
    power = own.power * _autocorrelation(other.image, other.valid)
    pixels = float(min(one.valid.sum(), other.valid.sum()))
    independent = max(pixels / max(float(power.sum()), 1.0) - 3.0, 1.0)

    def deviations(value: float) -> float:
        return float(np.arctanh(min(max(value, 0.0), 0.999)) * np.sqrt(independent))

    # Without the smooth background the maximum may lie elsewhere.
    whole = share * scores
    best = np.unravel_index(int(np.argmax(whole)), whole.shape)
    here = float(whole[away <= 1.0 + 1e-6].max(initial=0.0))
    z = deviations(here)
    # Between repetitions of a lattice the binned images cannot tell, the full ones have.
    alone = expected[best] < REPEATED
    if away[best] > 1.5 and alone and deviations(float(whole[best])) > max(PLAIN, z + APART):
        return _place(best, first), float(scores[best]), z
    top = np.unravel_index(int(np.argmax(rest)), rest.shape)
    value = float(rest[top])
    if deviations(value) < PLAIN or value < SECOND * max(main, 1e-3):
        return NOTHING, 0.0, z
    return _place(top, first), value, z


def _place(index: tuple[Any, ...], first: FloatArray) -> FloatArray:
    """Shift of an element of a map whose first one is known."""
    return np.asarray(np.array(index, np.float64) + first, np.float64)
