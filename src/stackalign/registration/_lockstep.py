"""From checked images to results: B pairs of one shape in lock-step."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from stackalign import transforms
from stackalign._types import FloatArray
from stackalign.backends import Array
from stackalign.ops import prepare_pair

from ._check import Settings
from ._dead_lines import without_dead_lines
from ._finish import Refined, finish
from ._noise import NOISY, levels, smoothed_noise, smoothing_for, unsmoothed_noise
from ._regions import white_residual
from ._search import Climbed, Coarse, Images, climb, coarse_shifts, matched_smoothing
from ._starts import begun_again
from ._verdict import judged
from .result import RegistrationResult
from .spikes import without_spikes_of

__all__ = ["register_batch"]


MISFIT, LEAST_MISFIT = 3.0, 0.001
"""Images whose score is farther from 1 than this many times their noise, and than the second number, are taken not to
be equally sharp, and the sharper one is smoothed until they agree best."""

LEAST_UNLIKE = 2.2
"""Variance of the residual over that of its own white noise from which on images are taken not to be equally sharp:
blurred ones had 2.5 to 160, noise that is not the same everywhere 1.0 to 1.9."""


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
    of_pair: dict[int, RegistrationResult] = {}
    for sigma in np.unique(smooth):
        chosen = np.flatnonzero(smooth == sigma)
        some = images if len(chosen) == len(noise) else images.of(chosen)
        results = _register_alike(some, float(sigma), noise[chosen], rough[chosen], settings.of(chosen))
        of_pair |= dict(zip(chosen.tolist(), results, strict=True))
    spikes = in_fixed + in_moved
    return [
        dataclasses.replace(of_pair[b], spikes=int(spikes[b])) if spikes[b] else of_pair[b] for b in range(len(noise))
    ]


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
        verdicts = judged(
            images.of(members),
            some,
            fine,
            coarse.of(members),
            noise[members],
            rough[members],
            settings.of(members),
        )
        results |= dict(zip(members.tolist(), verdicts, strict=True))
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
