"""From checked images to results: B pairs of one shape in lock-step."""

import dataclasses
from functools import partial

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from stackalign import transforms
from stackalign._types import FloatArray
from stackalign.backends import Array
from stackalign.io.provenance import provenance
from stackalign.objectives import AffineNCC
from stackalign.ops import ImagePair, device_of, prepare_pair

from ._agreement import wanted_text
from ._check import Settings
from ._dead_lines import without_dead_lines
from ._finish import Refined, finish
from ._noise import NOISY, levels, smoothed_noise, smoothing_for, unsmoothed_noise
from ._regions import regions_of, white_residual
from ._rivals import WORTH_A_LOOK, open_directions, open_parameters, rival_scores, standing_still, widened
from ._scales import scales_of
from ._search import Climbed, Coarse, Images, climb, coarse_shifts, matched_smoothing
from ._starts import begun_again
from ._trust import CHANCE, QUICK_SIDE, Evidence, correlated_pixels, flags_of, significance
from .result import RegistrationResult
from .spikes import without_spikes_of

__all__ = ["register_batch"]


MISFIT, LEAST_MISFIT = 3.0, 0.001
"""Images whose score is farther from 1 than this many times their noise, and than the second number, are taken not to
be equally sharp, and the sharper one is smoothed until they agree best."""

LEAST_UNLIKE = 2.2
"""Variance of the residual over that of its own white noise from which on images are taken not to be equally sharp:
blurred ones had 2.5 to 160, noise that is not the same everywhere 1.0 to 1.9."""

MAKES_UP = 0.5
"""Share of the largest part of a direction that a parameter has to have to be named."""

BEYOND_DOUBT = 2 * CHANCE
"""Standard deviations above chance from which on a whole-pixel score is enough."""


def register_batch(fixed: Array, moved: Array, settings: Settings) -> list[RegistrationResult]:
    """Register B pairs of images (B, H, W) and (B, Hm, Wm) with NaN where invalid."""
    fixed, moved = without_dead_lines(fixed, moved)
    (fixed, in_fixed), (moved, in_moved) = without_spikes_of([(fixed, None), (moved, None)])
    pair = prepare_pair(fixed, moved, workers=settings.workers)
    images = Images(pair.reference, pair.moving)
    noise, rough = np.stack(levels(images.reference, images.moving), axis=-1)
    if settings.smooth is None:
        smooth = np.array([smoothing_for(level) for level in noise.max(axis=1)])
    else:
        smooth = np.full(len(noise), settings.smooth)
    found: dict[int, RegistrationResult] = {}
    for sigma in np.unique(smooth):
        chosen = np.flatnonzero(smooth == sigma)
        some = images if len(chosen) == len(noise) else images.of(chosen)
        results = _register_alike(some, float(sigma), noise[chosen], rough[chosen], settings.of(chosen))
        found |= dict(zip(chosen.tolist(), results, strict=True))
    spikes = in_fixed + in_moved
    return [dataclasses.replace(found[b], spikes=int(spikes[b])) if spikes[b] else found[b] for b in range(len(noise))]


def _register_alike(
    images: Images, smooth: float, noise: FloatArray, rough: FloatArray, settings: Settings
) -> list[RegistrationResult]:
    """Register pairs that are smoothed alike.

    `noise` and `rough` (B, 2) are the `levels` of the reference and of the moving image.
    """
    seen = images
    if smooth >= NOISY:
        clean = prepare_pair(images.reference, images.moving, smooth=smooth, workers=settings.workers)
        seen = Images(clean.reference, clean.moving)
    coarse, start = _beginning(seen, settings)
    model, center, workers = settings.model, settings.center, settings.workers
    climbed = climb(images, model, center, start, settings.bounds, smooth, max_iter=settings.max_iter, workers=workers)
    climbed = begun_again(images, seen, climbed, smooth, noise, settings)
    groups = _finished(images, climbed, smooth, noise, rough, settings)
    results: dict[int, RegistrationResult] = {}
    for members, fine in groups:
        some = seen if len(members) == len(noise) else seen.of(members)
        judged = _judged(
            images.of(members),
            some,
            fine,
            coarse.of(members),
            noise[members],
            rough[members],
            settings.of(members),
        )
        results |= dict(zip(members.tolist(), judged, strict=True))
    return [results[b] for b in range(len(noise))]


def _beginning(seen: Images, settings: Settings) -> tuple[Coarse, FloatArray]:
    """What is known of whole-pixel shifts, and the parameters (B, P) from which the climb begins."""
    n_problems = len(settings.bounds)
    if settings.start is not None:
        nothing = np.full(n_problems, np.nan)
        return Coarse(settings.start[:, :2], nothing, nothing, nothing), settings.start
    coarse = coarse_shifts(seen, settings.max_shift, settings.min_overlap, settings.workers)
    start = np.tile(transforms.identity(settings.model), (n_problems, 1))
    # The middle of the images moves by the shift, c does so only where it is the middle: scales are still 1.
    start[:, :2] = coarse.shift
    return coarse, start


def _finished(
    images: Images, climbed: Climbed, smooth: float, noise: FloatArray, rough: FloatArray, settings: Settings
) -> list[tuple[NDArray[np.int64], Refined]]:
    """Last steps of all pairs, in groups of those that were smoothed by the same two widths."""
    model, center, workers = settings.model, settings.center, settings.workers
    every = np.arange(len(noise))
    both = (smooth, smooth)
    # The history is a copy: the last steps may be taken twice.
    fine = finish(None, model, center, climbed.with_history(), settings.bounds, both, noise, workers)
    worse = 1.0 - fine.score > MISFIT * smoothed_noise(noise.max(axis=1), smooth) + LEAST_MISFIT
    if settings.smooth is not None or not worse.any():
        return [(every, fine)]
    chosen = np.flatnonzero(worse)
    widths = _widths(images.of(chosen), fine.of(chosen), smooth, rough[chosen], settings)
    kept = np.concatenate([every[~worse], chosen[[width == both for width in widths]]])
    groups = [(kept, fine if len(kept) == len(every) else fine.of(kept))] if len(kept) else []
    for width in sorted(set(widths) - {both}):
        these = chosen[[w == width for w in widths]]
        redone = finish(
            images.of(these), model, center, climbed.of(these), settings.bounds[these], width, noise[these], workers
        )
        groups.append((these, redone))
    return groups


def _widths(
    images: Images, fine: Refined, smooth: float, rough: FloatArray, settings: Settings
) -> list[tuple[float, float]]:
    """Sigmas for reference and moving image of pairs that their noise does not explain.

    Either one image is less sharp, or the noise is larger than the images by themselves show: that of counts and of
    speckle is where images are bright, and the most of many images is dark.
    """
    power, seen = white_residual(fine, rough)
    more = [smoothing_for(level) for level in unsmoothed_noise(0.5 * seen, smooth)]
    widths = [(max(smooth, s), max(smooth, s)) for s in more]
    unlike = np.flatnonzero(power > LEAST_UNLIKE * seen)
    if len(unlike):
        matched = matched_smoothing(
            images.of(unlike), settings.model, settings.center, fine.parameters[unlike], smooth, settings.workers
        )
        for b, width in zip(unlike.tolist(), matched, strict=True):
            widths[b] = width
    return widths


def _judged(
    images: Images,
    seen: Images,
    fine: Refined,
    coarse: Coarse,
    noise: FloatArray,
    rough: FloatArray,
    settings: Settings,
) -> list[RegistrationResult]:
    """Results of pairs with what speaks against them."""
    shape = (int(images.reference.shape[1]), int(images.reference.shape[2]))
    model, center = settings.model, settings.center
    n_common = fine.overlap * shape[0] * shape[1]
    matrices = transforms.matrices_from_parameters(fine.parameters, model, center)
    record = provenance(settings.to_dict(), [], device=device_of(images.reference))
    peak, above = _peaks(seen, fine.parameters, coarse, n_common, settings)
    regions, counts = regions_of(fine, rough, model, center, _counts(images))
    directions = open_directions(fine, settings.workers)
    left_open = open_parameters(fine, model, center, settings.workers)
    # Less noisy images with such a pattern are put at no shift at all, and what moves is a misfit.
    noisy = max(fine.smooth) >= NOISY
    still = standing_still(images, fine, settings.workers) if noisy else np.zeros(len(noise))
    scales = scales_of(fine, settings.workers)
    rivals, lost = rival_scores(images, seen, fine, coarse, settings)
    agreement = regions.agreement
    spread = fine.covariance + (agreement.together - agreement.alone)
    covariance = widened(spread, directions, left_open, max(shape))
    corners = np.array([[0, 0], [0, shape[1] - 1], [shape[0] - 1, 0], [shape[0] - 1, shape[1] - 1]], np.float64)
    results = []
    for b in range(len(noise)):
        result = RegistrationResult(
            model=model,
            parameters=fine.parameters[b],
            covariance=covariance[b],
            matrix=matrices[b],
            center=center,
            score=float(fine.score[b]),
            second_score=float(coarse.second[b]),
            peak_score=float(peak[b]),
            overlap=float(fine.overlap[b]),
            smooth=fine.smooth,
            noise=float(noise[b].max()),
            n_evaluations=int(np.ceil(fine.work[b])),
            history=np.concatenate(fine.history[b]),
            reason=fine.reason[b],
            flags=(),
            provenance=record,
            goodness=float(regions.goodness[b]),
            systematic=fine.systematic[b] + agreement.together[b],
            displacements=regions.displacements(b, shape),
        )
        evidence = Evidence(
            n_reference=int(counts[0][b]),
            n_moving=int(counts[2][b]),
            constant=not (counts[1][b] and counts[3][b]),
            n_common=float(n_common[b]),
            overlap=result.overlap,
            min_overlap=settings.min_overlap,
            score=result.score,
            significance=float(above[b]),
            detail=float(scales.chance[b]),
            peak=result.peak_score,
            second=result.second_score,
            rival=float(rivals[b]),
            lost=float(lost[b]),
            still=float(still[b]),
            largest_sigma=float(result.sigma_at(corners).max()),
            direction=directions[b],
            left_open=_named(model, left_open[b]),
            on_bound=tuple(np.array(result.names)[fine.on_bound[b]].tolist()),
            reason=result.reason,
            max_iter=settings.max_iter,
            goodness=result.goodness,
            motion=float(regions.motion[b]),
            structure=float(regions.structure[b]),
            clearly=float(regions.clearly[b]),
            as_sharp=fine.smooth[0] == fine.smooth[1],
            wanted=partial(wanted_text, matrices[b], agreement.affine[b], center, shape),
            wanted_significance=float(agreement.significance[b]),
            corner=float(agreement.corner[b]),
            disagreement=float(agreement.disagreement[b]),
            scatter=float(agreement.scatter[b]),
            without=agreement.without[b] + (0.0, 0.0, *transforms.image_center(shape)),
            bent=float(agreement.bent[b]),
            bent_shift=float(agreement.bent_shift[b]),
            scale_significance=float(scales.significance[b]),
            scale_shift=float(scales.shift[b]),
            scale_size=float(scales.size[b]),
        )
        remarks = flags_of(evidence)
        results.append(dataclasses.replace(result, flags=tuple(remarks), remarks=remarks))
    return results


def _peaks(
    seen: Images, parameters: FloatArray, coarse: Coarse, n_common: FloatArray, settings: Settings
) -> tuple[FloatArray, FloatArray]:
    """Score (B,) of each pair as its second peak was scored, and how far it is above chance.

    That of the best whole-pixel shift where it is beyond doubt and far above the second, else the larger of it and that
    of the result.
    """
    peak = np.nan_to_num(coarse.score)
    independent = n_common / correlated_pixels(seen, settings.workers, QUICK_SIDE)
    # Binned images leave fewer pixels to chance than there are: what is beyond doubt on them is so on all.
    doubtful = np.flatnonzero(~(significance(peak, independent) > BEYOND_DOUBT))
    if len(doubtful) and seen.longest > QUICK_SIDE:
        independent[doubtful] = n_common[doubtful] / correlated_pixels(seen.of(doubtful), settings.workers)
    above = significance(peak, independent)
    unsure = ~(above > BEYOND_DOUBT) | (coarse.second > WORTH_A_LOOK * coarse.score)
    if unsure.any():
        pair = ImagePair(seen.reference, seen.moving, single=False)
        objective = AffineNCC(pair, settings.model, settings.center, settings.workers)
        score = np.maximum(objective.score(parameters[:, None])[:, 0], peak)
        peak = np.where(unsure, score, peak)
        above = np.where(unsure, significance(score, independent), above)
    return peak, above


def _named(model: str, direction: FloatArray) -> str:
    """Names of the parameters that make up a direction that is left open; empty where none is."""
    if not np.isfinite(direction).all():
        return ""
    names = np.array(transforms.MODELS[model])
    return ", ".join(names[np.abs(direction) > MAKES_UP * np.abs(direction).max()])


def _counts(images: Images) -> list[Array]:
    """Valid pixels (B,) of the reference, those that are not 0, and the same of the moving image.

    `standardise` makes a plane without variance exactly 0.
    """
    xp = array_namespace(images.reference)
    numbers = []
    for planes in (images.reference, images.moving):
        valid = xp.isfinite(planes)
        numbers += [valid.sum(axis=(1, 2)), (valid & (planes != 0)).sum(axis=(1, 2))]
    return numbers
