"""From checked images to results: B pairs of one shape in lock-step."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import transforms
from stackalign.backends import Array
from stackalign.io.provenance import provenance
from stackalign.objectives import AffineNCC
from stackalign.ops import ImagePair, device_of, prepare_pair, to_numpy

from ._check import Settings
from ._finish import Refined, finish
from ._noise import NOISY, noise_levels, smoothed_noise, smoothing_for
from ._search import Climbed, Coarse, Images, climb, coarse_shifts, matched_smoothing
from ._trust import Evidence, correlated_pixels, flags_of, significance
from .result import RegistrationResult

__all__ = ["register_batch"]

FloatArray = NDArray[np.float64]

MISFIT, LEAST_MISFIT = 3.0, 0.001
"""Images whose score is farther from 1 than this many times their noise, and than the second number, are taken not to
be equally sharp, and the sharper one is smoothed until they agree best."""


def register_batch(fixed: Array, moved: Array, settings: Settings) -> list[RegistrationResult]:
    """Register B pairs of images (B, H, W) and (B, Hm, Wm) with NaN where invalid."""
    pair = prepare_pair(fixed, moved, workers=settings.workers)
    images = Images(pair.reference, pair.moving)
    noise = np.stack([noise_levels(images.reference), noise_levels(images.moving)], axis=1)
    if settings.smooth is None:
        smooth = np.array([smoothing_for(level) for level in noise.max(axis=1)])
    else:
        smooth = np.full(len(noise), settings.smooth)
    found: dict[int, RegistrationResult] = {}
    for sigma in np.unique(smooth):
        chosen = np.flatnonzero(smooth == sigma)
        some = images if len(chosen) == len(noise) else images.of(chosen)
        results = _register_alike(some, float(sigma), noise[chosen], settings.of(chosen))
        found |= dict(zip(chosen.tolist(), results, strict=True))
    return [found[b] for b in range(len(noise))]


def _register_alike(images: Images, smooth: float, noise: FloatArray, settings: Settings) -> list[RegistrationResult]:
    """Register pairs that are smoothed alike; `noise` (B, 2) is that of the reference and of the moving image."""
    seen = images
    if smooth >= NOISY:
        clean = prepare_pair(images.reference, images.moving, smooth=smooth, workers=settings.workers)
        seen = Images(clean.reference, clean.moving)
    coarse, start = _beginning(seen, settings)
    model, center, workers = settings.model, settings.center, settings.workers
    climbed = climb(images, model, center, start, settings.bounds, smooth, max_iter=settings.max_iter, workers=workers)
    groups = _finished(images, climbed, smooth, noise, settings)
    results: dict[int, RegistrationResult] = {}
    independent = correlated_pixels(seen, settings.workers)
    for members, fine in groups:
        some = seen if len(members) == len(noise) else seen.of(members)
        judged = _judged(
            images.of(members),
            some,
            fine,
            coarse.of(members),
            noise[members],
            independent[members],
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
    images: Images, climbed: Climbed, smooth: float, noise: FloatArray, settings: Settings
) -> list[tuple[NDArray[np.int64], Refined]]:
    """Last steps of all pairs, in groups of those that were smoothed by the same two widths."""
    model, center, workers = settings.model, settings.center, settings.workers
    every = np.arange(len(noise))
    both = (smooth, smooth)
    # A copy of the history: the last steps may be taken twice.
    fine = finish(images, model, center, climbed.of(every), settings.bounds, both, workers)
    worse = 1.0 - fine.score > MISFIT * smoothed_noise(noise.max(axis=1), smooth) + LEAST_MISFIT
    if settings.smooth is not None or not worse.any():
        return [(every, fine)]
    chosen = np.flatnonzero(worse)
    widths = matched_smoothing(images.of(chosen), model, center, fine.parameters[chosen], smooth, workers)
    kept = np.concatenate([every[~worse], chosen[[width == both for width in widths]]])
    groups = [(kept, fine if len(kept) == len(every) else fine.of(kept))] if len(kept) else []
    for width in sorted(set(widths) - {both}):
        these = chosen[[w == width for w in widths]]
        redone = finish(images.of(these), model, center, climbed.of(these), settings.bounds[these], width, workers)
        groups.append((these, redone))
    return groups


def _judged(
    images: Images,
    seen: Images,
    fine: Refined,
    coarse: Coarse,
    noise: FloatArray,
    correlated: FloatArray,
    settings: Settings,
) -> list[RegistrationResult]:
    """Results of pairs with what speaks against them."""
    n_common = fine.overlap * images.reference.shape[1] * images.reference.shape[2]
    matrices = transforms.matrices_from_parameters(fine.parameters, settings.model, settings.center)
    record = provenance(settings.to_dict(), [], device=device_of(images.reference))
    # As the whole-pixel shifts were scored, so that the second peak can be compared with it.
    as_seen = AffineNCC(
        ImagePair(seen.reference, seen.moving, single=False), settings.model, settings.center, settings.workers
    )
    peak = np.maximum(as_seen.score(fine.parameters[:, None])[:, 0], np.nan_to_num(coarse.score))
    above = significance(peak, n_common / correlated)
    results = []
    for b in range(len(noise)):
        result = RegistrationResult(
            model=settings.model,
            parameters=fine.parameters[b],
            covariance=fine.covariance[b],
            matrix=matrices[b],
            center=settings.center,
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
        )
        results.append(
            _with_flags(result, images, b, bool(fine.on_bound[b]), float(n_common[b]), float(above[b]), settings)
        )
    return results


def _with_flags(
    result: RegistrationResult,
    images: Images,
    b: int,
    on_bound: bool,
    n_common: float,
    above: float,
    settings: Settings,
) -> RegistrationResult:
    planes = [to_numpy(plane[b]) for plane in (images.reference, images.moving)]
    counts = [int(np.isfinite(plane).sum()) for plane in planes]
    # `standardise` makes a plane without variance exactly 0.
    constant = any(not np.nan_to_num(plane).any() for plane in planes)
    height, width = images.reference.shape[1:]
    corners = np.array([[0, 0], [0, width - 1], [height - 1, 0], [height - 1, width - 1]], np.float64)
    evidence = Evidence(
        n_reference=counts[0],
        n_moving=counts[1],
        constant=constant,
        n_common=n_common,
        overlap=result.overlap,
        min_overlap=settings.min_overlap,
        score=result.score,
        significance=above,
        peak=result.peak_score,
        second=result.second_score,
        largest_sigma=float(result.sigma_at(corners).max()),
        on_bound=on_bound,
        reason=result.reason,
    )
    flags: Any = flags_of(evidence)
    return dataclasses.replace(result, flags=flags)
