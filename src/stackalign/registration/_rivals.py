"""Other answers: peaks that score as well as the result, and a direction along which nothing is seen to move."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from stackalign import transforms
from stackalign._types import FloatArray
from stackalign.backends import Array
from stackalign.objectives import AffineNCC
from stackalign.ops import ImagePair, masked_ncc, prepare_pair, resample_affine, score_affine, to_numpy
from stackalign.optimize import gauss_newton

from ._agreement import corners_of, displacement_fields, displacements_at
from ._check import Settings
from ._cubic_samples import CubicSamples, filled
from ._finish import Refined
from ._search import Coarse, Images, coarse_factor, reach_of
from ._trust import least_rival

__all__ = ["open_directions", "open_parameters", "rival_scores", "standing_still", "widened"]


WORTH_A_LOOK, MOST_LOST_BETWEEN = 0.5, 0.375
"""A second whole-pixel score of this share of the first may be refined, and the largest share of its score that a peak
between pixels loses."""

LEAST_SCORE = 1e-3
"""Smallest score of a result that others are compared with."""

RIVALS_AT_ONCE = 1 << 24
"""Pixels of the pairs whose rivals are refined together."""

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

GROWTH, LEAST_SHARE = 3.0, 0.002
"""What is seen to move loses this many times more over the longer way: what interpolation does is the same for both;
and without that it loses this share of what the other direction does. Rings and edges lose up to 0.0006 of it along
themselves, natural scenes of 50 pixels across 0.003 in the direction that is told worst."""


def rival_scores(
    images: Images, seen: Images, fine: Refined, coarse: Coarse, settings: Settings
) -> tuple[FloatArray, FloatArray]:
    """Score (B,) of the best other optimum of each pair, as its own is scored; NaN where none can be as good.

    And what interpolation may take of it.
    """
    rivals, lost = np.full(len(fine.score), np.nan), np.zeros(len(fine.score))
    least = _least_height(fine.score, coarse)
    pairs = np.flatnonzero(coarse.second > least)
    some = max(1, RIVALS_AT_ONCE // (MOST_RIVALS * int(np.prod(images.reference.shape[1:]))))
    for first in range(0, len(pairs), some):
        these = pairs[first : first + some]
        starts = _other_peaks(seen.of(these), fine.parameters[these], least[these], settings)
        these = these[[len(s) > 0 for s in starts]]
        if len(these):
            starts = [s for s in starts if len(s)]
            rivals[these] = _best(images.of(these), fine.of(these), starts, settings.of(these))
            lost[these] = _by_interpolation(fine.of(these), settings.workers)
    return rivals, lost


def _least_height(score: FloatArray, coarse: Coarse) -> FloatArray:
    """Whole-pixel scores (B,) above which a peak may be as good as the result, which scores `score`."""
    share = np.maximum(WORTH_A_LOOK, (1.0 - MOST_LOST_BETWEEN) * least_rival(score) / np.maximum(score, LEAST_SCORE))
    return np.asarray(share * np.minimum(coarse.score, score))


def _by_interpolation(fine: Refined, workers: int | None) -> FloatArray:
    """Loss (B,) of the reference's correlation with itself after half a pixel there and back, by a cubic spline."""
    shape = (int(fine.reference.shape[1]), int(fine.reference.shape[2]))
    planes = filled(fine.reference)
    for s in (0.5, -0.5):
        matrices = np.tile([[1.0, 0.0, s], [0.0, 1.0, s]], (len(fine.score), 1, 1))
        planes = filled(resample_affine(planes, matrices, output_shape=shape, order=3, workers=workers))
    return 1.0 - _score_in_place(fine.reference, planes, workers)


def _score_in_place(reference: Array, planes: Array, workers: int | None) -> FloatArray:
    """Scores (B,) of planes on the reference's pixels."""
    here = np.tile(np.eye(2, 3), (int(reference.shape[0]), 1, 1, 1))
    scores = score_affine(ImagePair(reference, planes, single=False), here, workers=workers)
    return np.asarray(to_numpy(scores)[:, 0])


def _other_peaks(seen: Images, parameters: FloatArray, least: FloatArray, settings: Settings) -> list[FloatArray]:
    """Whole-pixel shifts (K, 2) of local maxima above `least` (B,) away from each result, the highest first."""
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
    starts = []
    for scores, at, height in zip(to_numpy(table.scores), parameters, least, strict=True):
        places = np.argwhere((scores == maximum_filter(scores, 3)) & (scores > height))
        shifts = (places - np.array(table.origin)) * float(factor)
        away = np.abs(shifts - at[:2]).max(axis=1) > max(APART, factor)
        order = np.argsort(-scores[tuple(places[away].T)], kind="stable")[:MOST_RIVALS]
        starts.append(np.asarray(shifts[away][order], np.float64))
    return starts


def _best(images: Images, fine: Refined, starts: list[FloatArray], settings: Settings) -> FloatArray:
    """Highest score (B,) of the optima away from the results that `starts` lead to; NaN where there is none."""
    whole = prepare_pair(images.reference, images.moving, smooth=fine.smooth, workers=settings.workers)
    samples = CubicSamples(whole, fine.smooth, settings.workers)
    of = np.repeat(np.arange(len(starts)), [len(s) for s in starts])
    pairs = ImagePair(samples.pair.reference[of], samples.pair.moving[of], single=False)
    objective = AffineNCC(pairs, settings.model, settings.center, settings.workers)
    bounds, begin = settings.bounds[of], fine.parameters[of]
    begin[:, :2] = np.concatenate(starts)
    begin = np.clip(begin, bounds[..., 0], bounds[..., 1])
    reach = reach_of(settings.model, tuple(images.reference.shape[1:]))
    ends = gauss_newton(
        objective.linearize, begin, tolerance=1e-2 / reach, bounds=bounds, max_step=2.0 / reach, max_iter=RIVAL_STEPS
    )
    apart = np.abs(ends.parameters[:, :2] - fine.parameters[of, :2]).max(axis=1) > APART
    height = np.where(apart, ends.score, -np.inf)
    best = np.array([np.flatnonzero(of == b)[np.argmax(height[of == b])] for b in range(len(starts))])
    matrices = transforms.matrices_from_parameters(ends.parameters[best], settings.model, settings.center)
    cubic = _score_in_place(samples.pair.reference, samples.at(matrices), settings.workers)
    return np.where(apart[best], np.maximum(ends.score[best], cubic), np.nan)


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
    """Do as `open_directions` for all parameters (B, P) at once, so that the farthest pixel moves by one.

    Rings say nothing about an angle, and spokes nothing about a scale. NaN for models of shifts alone.
    """
    shape = (int(fine.reference.shape[1]), int(fine.reference.shape[2]))
    nothing = np.full(fine.parameters.shape, np.nan)
    if fine.parameters.shape[1] == 2:
        return nothing
    here = transforms.matrices_from_parameters(fine.parameters, model, center)
    jacobian = transforms.matrix_jacobian(fine.parameters, model, center)
    # Parameters that move the same pixels in opposite ways move them by little: what counts is what pixels do.
    moves = displacements_at(corners_of(shape), displacement_fields(here, jacobian, shape))
    flat = moves.reshape(len(moves), -1, moves.shape[-1])
    root = np.linalg.cholesky(np.swapaxes(flat, 1, 2) @ flat)
    whiten = np.linalg.inv(np.swapaxes(root, 1, 2))
    directions = whiten @ np.linalg.eigh(np.swapaxes(whiten, 1, 2) @ fine.normal @ whiten)[1]
    weak, strong = (
        d / np.linalg.norm(moves @ d[:, None, :, None], axis=2).max(axis=1)
        for d in (directions[:, :, 0], directions[:, :, -1])
    )
    here = here[:, None]

    def moved(by: FloatArray) -> FloatArray:
        there = transforms.matrices_from_parameters(fine.parameters[:, None] + by, model, center)
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
    # Between pixels noise is averaged: the score gains by that what it does at both distances.
    loss = far - near
    checks = np.stack([far < GROWTH * near, loss < LEAST_SHARE * across, loss < by_noise])
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
