"""Other places to begin at, for pairs of fine texture that a scale or a turn hides from whole-pixel shifts."""

import itertools
from typing import Any

import numpy as np

from stackalign import transforms
from stackalign._types import FloatArray
from stackalign.ops import masked_shift, resample_affine

from ._check import Settings
from ._noise import smoothed_noise
from ._search import Climbed, Images, climb

__all__ = ["begun_again"]


LOST, LOST_NOISE = 0.1, 10.0
"""A climb whose score is farther from 1 than the first number and than so many times what noise explains is taken to
have ended in another place than the true one."""

PATCH, LEAST_PATCH = 96, 48
"""Side in pixels of the part of the moving image that is looked for, and the smallest: the smaller it is, the less a
scale or a turn does to its edges."""

LARGEST = 256
"""Longest side of the images in which it is looked for; larger ones are binned."""

STEP = 3.0
"""Pixels by which the edge of the patch moves from one scale or angle to the next."""

LARGEST_SCALE, LARGEST_ANGLE = 0.12, 16.0
"""How far scales, as a share, and angles, in degrees, are looked for."""


def begun_again(
    images: Images, seen: Images, climbed: Climbed, smooth: float, noise: FloatArray, settings: Settings
) -> Climbed:
    """Replace climbs that ended far from the truth by better ones, from a patch that is found at several scales."""
    names = transforms.MODELS[settings.model]
    if settings.start is not None or not set(names) - {"dy", "dx", "shear"}:
        return climbed
    score = np.array([rows[-1][-1, -1] for rows in climbed.history])
    explained = smoothed_noise(noise.max(axis=1), smooth)
    for b in np.flatnonzero(1.0 - score > LOST + LOST_NOISE * explained):
        this = np.array([b])
        start, place = _found(seen.of(this), settings)
        again = _climbed(images.of(this), start, place, smooth, settings.of(this))
        if again.history[0][-1][-1, -1] > score[b]:
            climbed = climbed.replaced(int(b), again)
    return climbed


def _candidates(settings: Settings, half: float) -> FloatArray:
    """Parameters (K, P) of the model with the scales and angles that are tried; shifts are 0."""
    names = transforms.MODELS[settings.model]
    counts = int(np.ceil(LARGEST_SCALE * half / STEP)), int(np.ceil(np.deg2rad(LARGEST_ANGLE) * half / STEP))
    scales = 1.0 + STEP / half * np.arange(-counts[0], counts[0] + 1)
    angles = np.rad2deg(STEP / half) * np.arange(-counts[1], counts[1] + 1)
    scaled = [k for k, name in enumerate(names) if name in ("sy", "sx", "scale")]
    turned = [k for k, name in enumerate(names) if name == "angle"]
    rows = []
    for scale, angle in itertools.product(scales if scaled else (1.0,), angles if turned else (0.0,)):
        row = transforms.identity(settings.model)
        row[scaled], row[turned] = scale, angle
        rows.append(row)
    within = settings.bounds[0]
    candidates = np.array(rows)
    allowed = ((candidates >= within[:, 0]) & (candidates <= within[:, 1]))[:, 2:].all(axis=1)
    return candidates[allowed] if allowed.any() else candidates[:1]


def _found(seen: Images, settings: Settings) -> tuple[FloatArray, FloatArray]:
    """Parameters (1, P) at which a patch from the middle of the moving image is found, and its place (y, x, half)."""
    factor = max(1, -(-seen.longest // LARGEST))
    small = seen.binned(factor, settings.workers)
    side = int(np.clip(small.shortest // 2, LEAST_PATCH, PATCH))
    candidates = _candidates(settings, 0.5 * side)
    matrices = transforms.matrices_from_parameters(candidates, settings.model, np.zeros(2))[:, :, :2]
    middle = transforms.image_center(tuple(small.moving.shape))
    of_patch = np.full(2, 0.5 * (side - 1))
    pulls = np.concatenate([matrices, (middle - matrices @ of_patch)[:, :, None]], axis=2)
    patches = resample_affine(small.moving[0], pulls, output_shape=(side, side), workers=settings.workers)
    seen_at = masked_shift(small.reference[0], patches, overlap_ratio=0.5, workers=settings.workers)
    scores = np.atleast_1d(seen_at.score)
    best = int(np.argmax(scores))
    # A bin's middle lies (factor - 1) / 2 after its first pixel.
    aside = 0.5 * (factor - 1)
    there = aside + factor * (of_patch + np.atleast_2d(seen_at.shift)[best])
    forward = np.linalg.inv(matrices[best])
    start = candidates[best].copy()
    start[:2] = there - settings.center + forward @ (settings.center - aside - factor * middle)
    return start[None], np.array([*there, 0.5 * factor * side])


def _climbed(images: Images, start: FloatArray, place: FloatArray, smooth: float, settings: Settings) -> Climbed:
    """Climb with the patch alone, whose edges are near where they belong, and then with all."""
    y, x, half = place
    first, last = (np.maximum(np.array([y, x]) + sign * half, 0).astype(np.int64) for sign in (-1, 1))
    part = images.reference.copy()
    part[:, : first[0]] = np.nan
    part[:, last[0] + 1 :] = np.nan
    part[:, :, : first[1]] = np.nan
    part[:, :, last[1] + 1 :] = np.nan
    within = np.clip(start, settings.bounds[..., 0], settings.bounds[..., 1])
    model, center, bounds = settings.model, settings.center, settings.bounds
    limits: dict[str, Any] = {"max_iter": settings.max_iter, "workers": settings.workers, "coarsest": 1}
    near = climb(Images(part, images.moving), model, center, within, bounds, smooth, **limits)
    return climb(images, model, center, near.parameters, bounds, smooth, **limits)
