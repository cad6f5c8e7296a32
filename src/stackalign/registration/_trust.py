"""Flags: what speaks against a result, each with a sentence. What they mean stands in `result.FLAGS`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len, rfft2

from stackalign.ops.transfer import fetched

from ._search import SMALLEST_LEVEL, Images

__all__ = [
    "QUICK_SIDE",
    "Evidence",
    "correlated_pixels",
    "fits_badly",
    "flags_of",
    "least_rival",
    "significance",
]

FEWEST_PIXELS = 100
"""Valid common pixels below which nothing is claimed."""

SECOND_PEAK = 0.8
"""A second peak of this share of the first means that it might as well be the other. The share is that of Fisher's z,
``atanh(score)``: 0.9 beside 0.99 is far less than 0.9 of it."""

RIVAL, LEAST_RIVAL, MOST_LOST = 2.0, 0.0005, 0.005
"""A rival is as good as the result if it is no farther from 1 than this many times what the result is, which is what
noise explains, and what interpolation was seen to take, at most the third number, and the second one."""

LARGEST_SIGMA = 1.5
"""Pixels. A larger error bar anywhere in the image says that a parameter was left open."""

CHANCE = 4.5
"""Standard deviations of the score of unrelated images below which it says nothing. The best of all shifts and
scales is found: one of 80 unrelated pairs had more, 5.2; natural images with 20 % noise have 5 or more."""

CHANCE_OF_DETAIL = 8.0
"""The same for what is left of the images without their smooth parts, at the scale where it is the clearest: an edge or
a limb is one thing to whole images, and many pixels here. A few large structures are all in a few pixels: it is
higher."""

STANDS_STILL = 6.0
"""Deviations of chance from which on a peak of single pixels at no shift is one."""

QUICK_SIDE, CHANCE_SIDE = 128, 256
"""Longest sides of the images that chance is measured on, the second where the first leaves a doubt."""

MISFIT, MISFIT_MOTION = 5.0, 0.5
"""Variance of the residual over that of its noise, and pixels of motion that would leave as much, beyond both of which
the images do not fit. Scenes that do have 0.9 to 3.5 and, with noise that is not white or with uneven brightness, more,
but less than 0.45 px; structures that moved by 4 px 100 or more, and 1.9 px."""

STRUCTURED, CLEARLY, STRUCTURED_MOTION = 1.3, 6.0, 0.08
"""Variance of blocks of the residual over that of its noise, deviations of chance of that, and pixels of motion, beyond
all of which the residual shows something. Chance has six deviations once in a billion; the first number is how badly
the noise may be known. Of 572 pairs without a fault one had more of all three, by 1.38 and 0.23 px: with motions above
0.06 px the largest ratio of the others was 1.26."""

UNLIKE = 5.5
"""Factor of that motion where one image is less sharp than the other: a real one with a Gaussian of 2.5 px had 0.2."""

TOO_SMALL, TOO_SMALL_CORNER = 5.0, 0.1
"""Standard errors, and pixels at a corner, beyond both of which the images want a parameter that the model has not."""

INCONSISTENT, INCONSISTENT_SHIFT = 3.0, 0.15
"""Mean square of the regions' shifts in units of their errors, and pixels that they scatter beyond these errors."""

CARRIED = 5.0
"""Standard errors by which the answer changes without one of nine regions, from which on that one carries it."""

BENT, BENT_SHIFT = 2.25, 0.15
"""Standard errors, and pixels, beyond both of which a displacement that is quadratic in the place is wanted.

Six numbers have such a mean square by chance once in 25 000. Of 1000 pairs without one, none had more than 1.9 and
0.1 px."""

SCALES_DISAGREE = 4.25
"""Deviations of chance by which structures of one scale want another shift: one pair in 15 000 has more, with six
scales looked at. Of 572 pairs without a fault none had more than 4.0."""


COMB, COMB_SHIFT = 6.0, 0.3
"""Standard errors, and pixels, beyond both of which odd and even lines of one image stand apart and those of the other
do not. Of 466 pairs without a fault the nearest had 5.3, of a photograph that was scanned so; 19 of 20 interlaced ones
had 10 or more, and 0.58 px or more."""


@dataclass(frozen=True)
class Evidence:
    """What is known of one pair after the search."""

    n_reference: int
    n_moving: int
    constant: bool
    n_common: float
    overlap: float
    min_overlap: float
    score: float
    significance: float
    detail: float
    peak: float
    second: float
    rival: float
    lost: float
    still: float
    largest_sigma: float
    direction: NDArray[np.float64]
    left_open: str
    on_bound: tuple[str, ...]
    reason: str
    max_iter: int
    goodness: float
    motion: float
    structure: float
    clearly: float
    as_sharp: bool
    left_out: Callable[[], str]
    left_out_significance: float
    corner: float
    disagreement: float
    scatter: float
    without: NDArray[np.float64]
    bent: float
    bent_shift: float
    scale_significance: float
    scale_shift: float
    scale_size: float
    comb: float
    comb_significance: float


def fits_badly(
    goodness: NDArray[np.float64],
    motion: NDArray[np.float64],
    structure: NDArray[np.float64],
    clearly: NDArray[np.float64],
    *,
    as_sharp: bool,
) -> NDArray[np.bool_]:
    """Whether residuals are more than noise, and more than what leaves shifts as they are.

    `as_sharp` is that both images are: else the difference of their point-spread functions is left as well.
    """
    least = STRUCTURED_MOTION if as_sharp else UNLIKE * STRUCTURED_MOTION
    strong = (goodness > MISFIT) & (motion > MISFIT_MOTION)
    structured = (structure > STRUCTURED) & (clearly > CLEARLY) & (motion > least)
    return np.asarray(strong | structured)


def flags_of(e: Evidence) -> dict[str, str]:
    """Flags of a pair with what they say, the gravest first; after one that leaves nothing to judge, no other."""
    if not (e.n_reference and e.n_moving):
        which = "reference" if not e.n_reference else "moving image"
        return {"empty": f"the {which} has no valid pixel: check its mask, True = valid"}
    if e.constant:
        return {"constant": "an image has one value everywhere: nothing can be seen to move"}
    if e.n_common < FEWEST_PIXELS:
        return {
            "few_pixels": f"{e.n_common:.0f} valid pixels are compared, fewer than {FEWEST_PIXELS}: use larger images, "
            "or check the masks"
        }
    return {name: text for name, (is_set, text) in (_of_data(e) | _of_answer(e) | _of_model(e)).items() if is_set}


def _of_data(e: Evidence) -> dict[str, tuple[bool, str]]:
    return {
        "small_overlap": (
            e.overlap < e.min_overlap,
            f"the images share {e.overlap:.0%} of the reference, less than min_overlap = {e.min_overlap:.0%}: pass a "
            "larger reference or a smaller min_overlap",
        ),
    }


def _left_open(e: Evidence) -> tuple[bool, str]:
    """Whether a direction is left open, and what to say where that or an error bar leaves the answer open."""
    open_direction = bool(np.isfinite(e.direction).all())
    along = "an error bar is infinite or" if not np.isfinite(e.largest_sigma) else "an error bar is"
    left_open = f"{along} {e.largest_sigma:.2g} px: hold a parameter by bounds, or use a smaller model"
    if open_direction:
        y, x = e.direction
        left_open = (
            f"nothing is seen to move along (y, x) = ({y:.2f}, {x:.2f}), a direction in which the images do not vary: "
            "only the component across it is known"
        )
    elif e.left_open:
        left_open = f"the images do not vary with {e.left_open}: hold it by bounds, or use a smaller model"
    return open_direction, left_open


def _of_answer(e: Evidence) -> dict[str, tuple[bool, str]]:
    second = e.second if np.isnan(e.rival) else e.rival
    as_good = bool(np.isfinite(e.second)) and bool(_fisher(e.second) > SECOND_PEAK * _fisher(e.peak))
    if np.isfinite(e.rival):
        allowed = RIVAL * (1.0 - e.score) + min(RIVAL * e.lost, MOST_LOST) + LEAST_RIVAL
        near = 1.0 - e.rival < allowed and e.rival > SECOND_PEAK * e.score
        as_good |= near or bool(_fisher(e.rival) > SECOND_PEAK * _fisher(e.score))
    open_direction, left_open = _left_open(e)
    return {
        "insignificant": (
            not (e.significance > CHANCE or e.detail > CHANCE_OF_DETAIL),
            f"the score {e.score:.3f} is {e.significance:.1f} standard deviations of what unrelated images reach, less "
            f"than {CHANCE}: use larger or less noisy images, or limit max_shift",
        ),
        "ambiguous": (
            as_good or e.still > STANDS_STILL,
            f"another shift scores {second:.4f} beside {e.score:.4f}: limit max_shift to less than half a period, or "
            "pass a start"
            if as_good
            else f"a pattern of single pixels stands still, {e.still:.0f} deviations above chance, and all else moves: "
            "correct the images for the detector's pattern",
        ),
        "undetermined": (open_direction or bool(e.left_open) or not e.largest_sigma < LARGEST_SIGMA, left_open),
        "on_bound": (
            bool(e.on_bound),
            f"{', '.join(e.on_bound)} ended on a bound, the true value may lie beyond: widen bounds or max_shift",
        ),
        "not_converged": (
            e.reason in ("max_iter", "flat"),
            f"the search ended ({e.reason}) before its steps became small: raise max_iter from {e.max_iter}, or pass a "
            "start",
        ),
    }


def _of_model(e: Evidence) -> dict[str, tuple[bool, str]]:
    goodness, motion, structure, clearly = (np.array(x) for x in (e.goodness, e.motion, e.structure, e.clearly))
    bad = bool(fits_badly(goodness, motion, structure, clearly, as_sharp=e.as_sharp))
    seen = max(e.goodness, e.structure)
    small = e.left_out_significance > TOO_SMALL and e.corner > TOO_SMALL_CORNER
    disagree = _disagreement(e)
    return {
        "model_too_small": (
            small,
            f"the images want {e.left_out() if small else 'nothing'}, which moves a corner by {e.corner:.2f} px and is "
            f"{e.left_out_significance:.0f} standard errors away: use a model with it, or correct the images",
        ),
        "inconsistent": (bool(disagree), disagree),
        "misfit": (
            bad,
            f"the residual is {seen:.2g} times its noise, as much as a motion by {e.motion:.1f} px would leave: "
            "the images do not show the same; look at their difference, mask what changed, or pass a start",
        ),
    }


def least_rival(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores (B,) below which no rival of results that score `score` is as good as they are."""
    near = np.maximum(SECOND_PEAK * score, 1.0 - RIVAL * (1.0 - score) - MOST_LOST - LEAST_RIVAL)
    return np.asarray(np.minimum(near, np.tanh(SECOND_PEAK * _fisher(score))))


def _disagreement(e: Evidence) -> str:
    """Say which parts of the images disagree; empty where none do."""
    if e.disagreement > INCONSISTENT and e.scatter > INCONSISTENT_SHIFT:
        return (
            f"regions of the image disagree by {e.scatter:.2f} px beyond their errors: parts have moved against each "
            "other or one of the images is distorted; mask what moved, or register parts by themselves"
        )
    if e.bent > BENT and e.bent_shift > BENT_SHIFT:
        return (
            f"the images are bent against each other by {e.bent_shift:.2f} px, smoothly over the frame and "
            f"{e.bent:.0f} standard errors beyond any model: correct them for distortion, or register parts alone"
        )
    if e.comb_significance > COMB and e.comb > COMB_SHIFT:
        return (
            f"odd and even lines of one image stand {e.comb:.1f} px farther apart than those of the other, "
            f"{e.comb_significance:.0f} standard errors, as those of interlaced frames and of scans to and fro do: "
            "register odd and even lines by themselves, or correct the scan"
        )
    moved, errors, y, x = e.without
    if errors > CARRIED:
        return (
            f"the region around (y, x) = ({y:.0f}, {x:.0f}) carries the answer, which is {moved:.2f} px another "
            f"without it, {errors:.1f} standard errors: mask what stands still or moves there by itself"
        )
    if e.scale_significance > SCALES_DISAGREE:
        return (
            f"structures of about {3 * e.scale_size:.0f} px would have the images moved on by {e.scale_shift:.2f} px, "
            f"{e.scale_significance:.1f} deviations of chance: something stands still or moves by itself, such as a "
            "pattern of the detector or stray light; correct the images for it, or mask it"
        )
    return ""


def _fisher(score: float | NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.arctanh(np.clip(score, -1.0 + 1e-12, 1.0 - 1e-12)), np.float64)


def correlated_pixels(images: Images, workers: int | None, side: int = CHANCE_SIDE) -> NDArray[np.float64]:
    """How many pixels (B,) count as one when the images of a pair are compared.

    The score of unrelated images with the autocorrelations a and b has the variance ``sum(a * b) / n``, the sum taken
    over all lags. Measured on images of at most `side` pixels: coarser ones can only make it larger.
    """
    factor = 1
    while images.longest > factor * side and images.shortest >= 2 * factor * SMALLEST_LEVEL:
        factor *= 2
    small = images.binned(factor, workers)
    planes = [np.nan_to_num(p) for p in fetched((small.reference, small.moving))]
    # Each axis is padded by itself: a square of the longest side would be large for long, thin images.
    shape = [next_fast_len(2 * max(p.shape[axis] for p in planes), real=axis == 2) for axis in (1, 2)]
    powers = [_power(p, shape) for p in planes]
    # The sum over all lags of two autocorrelations is that over all frequencies of the powers, by Parseval's theorem.
    # Each lag is seen by fewer pixels the longer it is: as measured, not divided, an autocorrelation fades out.
    weights = np.full(shape[1] // 2 + 1, 2.0)
    weights[0] = 1.0
    if shape[1] % 2 == 0:
        weights[-1] = 1.0
    totals = [(p.sum(axis=1, dtype=np.float64) * weights).sum(axis=1) for p in powers]
    both = ((powers[0] * powers[1]).sum(axis=1, dtype=np.float64) * weights).sum(axis=1)
    least = np.finfo(np.float32).tiny
    per_bin = shape[0] * shape[1] * both / np.maximum(totals[0] * totals[1], least)
    return np.asarray(np.maximum(per_bin, 1.0) * factor**2, np.float64)


def _power(planes: NDArray[np.float32], shape: list[int]) -> NDArray[np.float32]:
    """Powers (B, rows, columns) of planes that are padded to a shape; planes without variance have none."""
    spectrum = rfft2(planes - planes.mean(axis=(1, 2), keepdims=True), shape)
    return np.asarray(spectrum.real**2 + spectrum.imag**2)


def significance(score: NDArray[np.float64], independent: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviations by which a score lies above 0 when `independent` pixels were compared (Fisher's z)."""
    return np.asarray(_fisher(score) * np.sqrt(np.maximum(independent - 3.0, 1.0)), np.float64)
