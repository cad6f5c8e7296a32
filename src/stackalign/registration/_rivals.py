"""Other answers: peaks that score as well as the result, and a direction along which nothing is seen to move."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from stackalign import transforms
from stackalign._types import FloatArray
from stackalign.objectives import AffineNCC
from stackalign.ops import ImagePair, masked_ncc, prepare_pair, resample_affine, score_affine, to_numpy
from stackalign.optimize import gauss_newton

from ._check import Settings
from ._finish import CubicSamples, Refined, filled
from ._search import Coarse, Images, coarse_factor, reach_of

__all__ = ["open_directions", "open_parameters", "rival_scores", "standing_still", "widened"]


WORTH_A_LOOK = 0.5
"""A second whole-pixel score of this share of the first is refined: a rival between pixels loses up to a third."""

MOST_RIVALS = 6

APART = 2.0
"""Pixels from the result beyond which an optimum is another one."""

RIVAL_STEPS = 25

NEAR_BY, FAR_OFF = 0.75, 3.0
"""Pixels by which images are moved along the direction in which they vary least."""

FALL = 0.05
"""Loss of score over `FAR_OFF` pixels that settles a direction whatever else is the case."""

PEAK_OF_PIXELS = 0.7
"""Share of the fall over two pixels that a peak made by single pixels has over one; a smooth peak has a quarter."""

GROWTH, LEAST_SHARE = 3.0, 0.01
"""What is seen to move loses this many times more over the longer way: what interpolation does is the same for both;
and it loses this share of what the other direction does."""


def rival_scores(
    images: Images, seen: Images, fine: Refined, coarse: Coarse, settings: Settings
) -> tuple[FloatArray, FloatArray]:
    """Score (B,) of the best other optimum of each pair, as its own is scored; NaN where there is no sign of one.

    And what interpolation may take of it.
    """
    found, lost = np.full(len(fine.score), np.nan), np.zeros(len(fine.score))
    for b in np.flatnonzero(coarse.second > WORTH_A_LOOK * coarse.score):
        this = np.array([b])
        starts = _other_peaks(seen.of(this), fine.parameters[b], settings)
        if len(starts):
            found[b] = _best(images.of(this), fine.of(this), starts, settings.of(this))
            lost[b] = _by_interpolation(fine.of(this), settings.workers)
    return found, lost


def _by_interpolation(fine: Refined, workers: int | None) -> float:
    """Loss of the reference's correlation with itself after half a pixel there and back, by a cubic spline."""
    there, back = (np.array([[[1.0, 0.0, s], [0.0, 1.0, s]]]) for s in (0.5, -0.5))
    shape = (int(fine.reference.shape[1]), int(fine.reference.shape[2]))
    planes = filled(fine.reference)
    for matrix in (there, back):
        planes = filled(resample_affine(planes, matrix, output_shape=shape, order=3, workers=workers))
    pair = ImagePair(fine.reference, planes, single=False)
    return 1.0 - float(to_numpy(score_affine(pair, np.eye(2, 3)[None], workers=workers))[0, 0])


def _other_peaks(seen: Images, parameters: FloatArray, settings: Settings) -> FloatArray:
    """Whole-pixel shifts (K, 2) of local maxima away from the result, the highest first."""
    factor = coarse_factor(seen)
    small = seen.binned(factor, settings.workers)
    window = None if settings.max_shift is None else max(1, int(np.ceil(settings.max_shift / factor)))
    table = masked_ncc(
        small.reference,
        small.moving,
        max_shift=window,
        overlap_ratio=settings.min_overlap,
        workers=settings.workers,
    )
    scores = to_numpy(table.scores)[0]
    places = np.argwhere((scores == maximum_filter(scores, 3)) & (scores > 0))
    heights = scores[tuple(places.T)]
    shifts = (places - np.array(table.origin)) * float(factor)
    away = np.abs(shifts - parameters[:2]).max(axis=1) > max(APART, factor)
    order = np.argsort(-heights[away], kind="stable")[:MOST_RIVALS]
    return np.asarray(shifts[away][order], np.float64)


def _best(images: Images, fine: Refined, starts: FloatArray, settings: Settings) -> float:
    whole = prepare_pair(images.reference, images.moving, smooth=fine.smooth, workers=settings.workers)
    samples = CubicSamples(whole, fine.smooth, settings.workers)
    pair = samples.pair
    n = len(starts)
    many = ImagePair(pair.reference.repeat(n, axis=0), pair.moving.repeat(n, axis=0), single=False)
    objective = AffineNCC(many, settings.model, settings.center, settings.workers)
    bounds = np.repeat(settings.bounds, n, axis=0)
    begin = np.tile(fine.parameters, (n, 1))
    begin[:, :2] = starts
    begin = np.clip(begin, bounds[..., 0], bounds[..., 1])
    reach = reach_of(settings.model, tuple(images.reference.shape[1:]))
    ends = gauss_newton(
        objective.linearize, begin, tolerance=1e-2 / reach, bounds=bounds, max_step=2.0 / reach, max_iter=RIVAL_STEPS
    )
    apart = np.abs(ends.parameters[:, :2] - fine.parameters[:, :2]).max(axis=1) > APART
    if not apart.any():
        return float("nan")
    best = np.argmax(np.where(apart, ends.score, -2.0))
    matrix = transforms.matrices_from_parameters(ends.parameters[best : best + 1], settings.model, settings.center)
    resampled = samples.at(matrix)
    there = ImagePair(pair.reference, resampled, single=False)
    return float(
        max(ends.score[best], to_numpy(score_affine(there, np.eye(2, 3)[None], workers=settings.workers))[0, 0])
    )


def open_directions(fine: Refined, workers: int | None) -> FloatArray:
    """Direction (B, 2) of unit length along which a shift of each pair cannot be told, NaN where it can."""
    square = fine.sums.sum(axis=1)[:, [29, 35, 35, 41]].reshape(-1, 2, 2)
    directions = np.linalg.eigh(square)[1]
    weak, strong = directions[:, :, 0], directions[:, :, 1]

    def moved(by: FloatArray) -> FloatArray:
        matrices = np.tile(np.eye(2, 3), (*by.shape[:2], 1, 1))
        matrices[..., 2] = by
        return matrices

    return np.where(_is_open(fine, weak, strong, moved, workers)[:, None], weak, np.nan)


def open_parameters(fine: Refined, model: str, center: FloatArray, workers: int | None) -> FloatArray:
    """Do as `open_directions` for all parameters (B, P) at once, in units that move the farthest pixel by one.

    Rings say nothing about an angle, and spokes nothing about a scale. NaN for models of shifts alone.
    """
    reach = reach_of(model, tuple(fine.reference.shape[1:]))
    nothing = np.full((len(fine.score), len(reach)), np.nan)
    if len(reach) == 2:
        return nothing
    directions = np.linalg.eigh(fine.normal / np.outer(reach, reach))[1]
    weak, strong = (d / np.abs(d).max(axis=1, keepdims=True) for d in (directions[:, :, 0], directions[:, :, -1]))
    here = transforms.matrices_from_parameters(fine.parameters, model, center)[:, None]

    def moved(by: FloatArray) -> FloatArray:
        there = transforms.matrices_from_parameters(fine.parameters[:, None] + by / reach, model, center)
        back = np.linalg.inv(here[..., :2])
        return np.concatenate([back @ there[..., :2], back @ (there[..., 2:] - here[..., 2:])], axis=-1)

    return np.where(_is_open(fine, weak, strong, moved, workers)[:, None], weak, nothing)


def _is_open(
    fine: Refined, weak: FloatArray, strong: FloatArray, moved: Callable[[FloatArray], FloatArray], workers: int | None
) -> NDArray[np.bool_]:
    """Whether the score does not fall along a direction (B, D) as it does along another one."""
    steps = np.stack([0 * weak, NEAR_BY * weak, -NEAR_BY * weak, FAR_OFF * weak, -FAR_OFF * weak,
                      FAR_OFF * strong, -FAR_OFF * strong], axis=1)  # fmt: skip
    pair = ImagePair(fine.reference, fine.resampled, single=False)
    scores = to_numpy(score_affine(pair, moved(steps), workers=workers))
    near, far, across = (scores[:, 0] - scores[:, k : k + 2].mean(axis=1) for k in (1, 3, 5))
    # Smoothed noise has so many independent pixels.
    n_common = fine.sums[..., 0].sum(axis=1)
    pixels = np.maximum(n_common / max(4.0 * np.pi * min(fine.smooth) ** 2, 1.0), 1.0)
    # Two deviations of what the noise does to a loss of this size.
    by_noise = 16.0 * (1.0 - scores[:, 0]) / pixels
    checks = np.stack([far < GROWTH * near, far < LEAST_SHARE * across, far < by_noise])
    return np.asarray(checks.any(axis=0) & (far <= FALL))


def standing_still(images: Images, fine: Refined, workers: int | None) -> FloatArray:
    """How far the score at no shift at all stands above that of one pixel aside, (B,) in deviations of chance.

    Of the images as they are: a pattern of the detector's pixels is in both at the same place, and smoothing hides it.
    0 where the peak is as wide as the scene's structure, which is not a pattern of pixels, and for results at 0.
    """
    steps = np.array([[0, 0], *((k * y, k * x) for k in (1, 2) for y, x in ((0, 1), (0, -1), (1, 0), (-1, 0)))])
    matrices = np.tile(np.eye(2, 3), (len(steps), 1, 1))
    matrices[:, :, 2] = steps
    pair = ImagePair(images.reference, images.moving, single=False)
    scores, overlap = score_affine(pair, matrices, return_overlap=True, workers=workers)
    here, n_common = to_numpy(scores), to_numpy(overlap)[:, 0] * pair.reference.shape[1] * pair.reference.shape[2]
    one, two = here[:, 0] - here[:, 1:5].mean(axis=1), here[:, 0] - here[:, 5:].mean(axis=1)
    # The score and the mean of four others, each with the variance 1 / n.
    height = one * np.sqrt(n_common / 1.25)
    away = np.abs(fine.parameters[:, :2]).max(axis=1) > 1.0
    return np.where(away & (one > PEAK_OF_PIXELS * two), height, 0.0)


def widened(covariance: FloatArray, directions: FloatArray, open_at: FloatArray, longest: int) -> FloatArray:
    """Covariance (B, P, P) with the length of the image as the error along directions that are open.

    `directions` (B, 2) are of shifts in pixels, `open_at` (B, P) of all parameters in their own units.
    """
    along = np.zeros((2, *open_at.shape))
    along[0, :, :2], along[1] = np.nan_to_num(directions), np.nan_to_num(open_at)
    return np.asarray(covariance + float(longest) ** 2 * (along[..., :, None] * along[..., None, :]).sum(axis=0))
