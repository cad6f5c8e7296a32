"""`register` and `register_stack`: the way most users take from two images to a transform with an error bar."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign import transforms
from stackalign.backends import Array
from stackalign.backends._threads import governed
from stackalign.io.provenance import provenance
from stackalign.objectives import AffineNCC
from stackalign.ops import ImagePair, asarray, device_of, prepare_pair, to_numpy
from stackalign.ops.transfer import unwrapped

from ._check import Settings, checked_images, checked_settings
from ._noise import NOISY, noise_levels, smoothed_noise, smoothing_for
from ._search import Coarse, Images, climb, coarse_shifts, finish, matched_smoothing
from ._trust import Evidence, correlated_pixels, flags_of, significance
from .result import RegistrationResult, RegistrationStack

__all__ = ["register", "register_stack"]

FloatArray = NDArray[np.float64]

MISFIT, LEAST_MISFIT = 3.0, 0.001
"""Images whose score is farther from 1 than this many times their noise, and than the second number, are taken not to
be equally sharp, and the sharper one is smoothed until they agree best."""

BATCH_BYTES = 1 << 27
"""Bytes of images that are worked on in lock-step; more would leave the caches of a CPU, and fill no GPU better."""


@governed
def register(
    reference: Any,
    moving: Any,
    *,
    model: str = "shift",
    reference_mask: Any = None,
    moving_mask: Any = None,
    max_shift: float | None = None,
    smooth: float | str = "auto",
    start: ArrayLike | Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    center: ArrayLike | None = None,
    min_overlap: float = 0.3,
    max_iter: int = 60,
    device: str = "auto",
    workers: int | None = None,
) -> RegistrationResult:
    """Find the transform that brings one image onto another.

    The best whole-pixel shift of all is found by masked normalised cross-correlation (Padfield, IEEE Trans. Image
    Process. 21, 2706, 2012); from there Gauss-Newton steps climb the masked normalised cross-correlation of the model
    over a short pyramid of binned images. The covariance comes from the residual between the images at the optimum,
    tile by tile, so that it holds for correlated residuals too.

    Parameters
    ----------
    reference : array_like
        (H, W) real numbers; NaN and infinite pixels are invalid.
    moving : array_like
        (Hm, Wm). Brightness and contrast may differ from the reference's.
    model : str
        "shift", "shift+scale", "rigid", "similarity" or "affine", see `stackalign.transforms.MODELS`.
    reference_mask, moving_mask : array_like, optional
        Boolean, of the image's shape, True = valid.
    max_shift : float, optional
        Longest shift along each axis in pixels; any by default.
    smooth : float or "auto"
        Sigma in pixels of a Gaussian over both images, normalised by the masks, that takes away the preference of
        bilinear interpolation for half-pixel shifts. "auto" chooses it by the measured noise: 0 for clean images.
    start : array_like or mapping, optional
        (P,) parameters, or some by name, from which the search starts; the whole-pixel stage is then left out, and
        nothing is known about other peaks.
    bounds : mapping, optional
        Parameter name to (lower, upper); scales from 0.5 to 2 by default, and shifts within `max_shift`.
    center : array_like, optional
        (2,) the point (y, x) about which scale and angle act; the middle of the reference by default.
    min_overlap : float
        Share of the reference that both images must have. Below it a result is flagged, and shifts are not looked for
        where the overlap is less than this share of the largest.
    max_iter : int
        Largest number of steps on each level of the pyramid.
    device : str
        "cpu", "cuda", "cuda:n" or "auto": where the images are, else a GPU that can be used, else the CPU.
    workers : int, optional
        Number of CPU threads; one per core by default. Results do not depend on it.

    Returns
    -------
    RegistrationResult
        ``result.ok`` is False where a flag says why the numbers should not be trusted.

    Raises
    ------
    ValueError
        Shapes, the model or a setting do not fit, or the images are not two-dimensional.
    TypeError
        Complex or object types, or a mask that is not boolean.

    Warns
    -----
    StackalignWarning
        A mask leaves less than 5 % of an image: is its polarity right? True = valid.

    See Also
    --------
    register_stack : many pairs, faster than one by one.
    """
    reference, moving = unwrapped(reference, "reference"), unwrapped(moving, "moving")
    if np.ndim(reference) != 2 or np.ndim(moving) != 2:
        msg = (
            f"reference and moving must be 2-D images, got {np.shape(reference)} and "
            f"{np.shape(moving)}; register_stack takes stacks"
        )
        raise ValueError(msg)
    found: RegistrationResult = register_stack(
        reference,
        moving,
        model=model,
        reference_mask=reference_mask,
        moving_mask=moving_mask,
        max_shift=max_shift,
        smooth=smooth,
        start=start,
        bounds=bounds,
        center=center,
        min_overlap=min_overlap,
        max_iter=max_iter,
        device=device,
        workers=workers,
    )[0]
    return found


@governed
def register_stack(
    reference: Any,
    moving: Any,
    *,
    model: str = "shift",
    reference_mask: Any = None,
    moving_mask: Any = None,
    max_shift: float | None = None,
    smooth: float | str = "auto",
    start: ArrayLike | Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    center: ArrayLike | None = None,
    min_overlap: float = 0.3,
    max_iter: int = 60,
    device: str = "auto",
    workers: int | None = None,
) -> RegistrationStack:
    """Find the transforms of B pairs of images in lock-step; each pair gets what `register` would give it.

    Parameters
    ----------
    reference : array_like
        (H, W), one for all, or (B, H, W).
    moving : array_like
        (B, Hm, Wm), or (Hm, Wm) for a single one.
    model, reference_mask, moving_mask, max_shift, smooth, bounds, center, min_overlap, max_iter, device, workers
        As in `register`; a mask is one frame for all or one for each.
    start : array_like or mapping, optional
        (P,) for all pairs or (B, P), or some parameters by name.

    Returns
    -------
    RegistrationStack
        A sequence of B `RegistrationResult`; ``.columns()`` is the table of all of them.

    Raises
    ------
    ValueError
        Shapes, the model or a setting do not fit.
    TypeError
        Complex or object types, or a mask that is not boolean.

    Warns
    -----
    StackalignWarning
        A mask leaves less than 5 % of an image: is its polarity right? True = valid.
    """
    fixed = checked_images(asarray(reference, device), "reference", _on(reference_mask, device))
    moved = checked_images(asarray(moving, device), "moving", _on(moving_mask, device))
    n_problems = max(fixed.shape[0], moved.shape[0])
    settings = checked_settings(
        model,
        n_problems,
        tuple(fixed.shape[1:]),
        max_shift=max_shift,
        smooth=smooth,
        start=start,
        bounds=bounds,
        center=center,
        min_overlap=min_overlap,
        max_iter=max_iter,
        workers=workers,
    )
    for images, name in ((fixed, "reference"), (moved, "moving")):
        if images.shape[0] not in (1, n_problems):
            msg = (
                f"reference and moving must hold one image or the same number, got {fixed.shape[0]} and "
                f"{moved.shape[0]} ({name} has {images.shape[0]})"
            )
            raise ValueError(msg)
    per_pair = 4 * (int(np.prod(fixed.shape[1:])) + int(np.prod(moved.shape[1:])))
    batch = max(1, BATCH_BYTES // per_pair)
    results: list[RegistrationResult] = []
    for first in range(0, n_problems, batch):
        some = slice(first, min(first + batch, n_problems))
        results += _register_batch(_take(fixed, some), _take(moved, some), settings.of(some))
    return RegistrationStack(results)


def _on(mask: Any, device: str) -> Array | None:
    return None if mask is None else asarray(mask, device)


def _take(images: Array, some: slice) -> Array:
    """The images of some pairs; one image for all is repeated."""
    if images.shape[0] == 1:
        return images.repeat(some.stop - some.start, axis=0)
    return images[some]


def _register_batch(fixed: Array, moved: Array, settings: Settings) -> list[RegistrationResult]:
    pair = prepare_pair(fixed, moved, workers=settings.workers)
    images = Images(pair.reference, pair.moving)
    noise = np.maximum(noise_levels(images.reference), noise_levels(images.moving))
    if settings.smooth is None:
        smooth = np.array([smoothing_for(level) for level in noise])
    else:
        smooth = np.full(len(noise), settings.smooth)
    found: dict[int, RegistrationResult] = {}
    for sigma in np.unique(smooth):
        chosen = np.flatnonzero(smooth == sigma)
        some = images if len(chosen) == len(noise) else images.of(chosen)
        for index, result in zip(
            chosen, _register_alike(some, float(sigma), noise[chosen], settings.of(chosen)), strict=True
        ):
            found[int(index)] = result
    return [found[b] for b in range(len(noise))]


def _register_alike(images: Images, smooth: float, noise: FloatArray, settings: Settings) -> list[RegistrationResult]:
    """Register pairs that are smoothed alike."""
    n_problems = len(noise)
    seen = images
    if smooth >= NOISY:
        clean = prepare_pair(images.reference, images.moving, smooth=smooth, workers=settings.workers)
        seen = Images(clean.reference, clean.moving)
    if settings.start is None:
        coarse = coarse_shifts(seen, settings.max_shift, settings.min_overlap, settings.workers)
        start = np.tile(transforms.identity(settings.model), (n_problems, 1))
        # The middle of the images moves by the shift, c does so only where it is the middle: scales are still 1.
        start[:, :2] = coarse.shift
    else:
        nothing = np.full(n_problems, np.nan)
        coarse = Coarse(settings.start[:, :2], nothing, nothing, nothing)
        start = settings.start
    model, center, workers = settings.model, settings.center, settings.workers
    climbed = climb(images, model, center, start, settings.bounds, smooth, max_iter=settings.max_iter, workers=workers)
    of_reference = noise_levels(images.reference)
    both = (smooth, smooth)
    # A copy of the history: the last steps may be taken twice.
    every = np.arange(n_problems)
    fine = finish(images, model, center, climbed.of(every), settings.bounds, both, of_reference, workers)
    worse = 1.0 - np.array([f.score for f in fine]) > MISFIT * smoothed_noise(noise, smooth) + LEAST_MISFIT
    if settings.smooth is None and worse.any():
        chosen = np.flatnonzero(worse)
        some = images.of(chosen)
        at = np.array([fine[b].parameters for b in chosen])
        widths = matched_smoothing(some, model, center, at, smooth, workers)
        for width in sorted(set(widths) - {both}):
            these = chosen[[w == width for w in widths]]
            redone = finish(
                images.of(these),
                model,
                center,
                climbed.of(these),
                settings.bounds[these],
                width,
                of_reference[these],
                workers,
            )
            for b, again in zip(these, redone, strict=True):
                fine[b] = again
    parameters = np.array([f.parameters for f in fine])
    n_common = np.array([f.overlap for f in fine]) * images.reference.shape[1] * images.reference.shape[2]
    matrices = transforms.matrices_from_parameters(parameters, settings.model, settings.center)
    record = provenance(settings.to_dict(), [], device=device_of(images.reference))
    # As the whole-pixel shifts were scored, so that the second peak can be compared with it.
    as_seen = AffineNCC(ImagePair(seen.reference, seen.moving, single=False), settings.model, settings.center)
    peak = np.maximum(as_seen.score(parameters[:, None])[:, 0], np.nan_to_num(coarse.score))
    above = significance(peak, n_common / correlated_pixels(seen))
    results = []
    for b in range(n_problems):
        result = RegistrationResult(
            model=settings.model,
            parameters=fine[b].parameters,
            covariance=fine[b].covariance,
            matrix=matrices[b],
            center=settings.center,
            score=fine[b].score,
            second_score=float(coarse.second[b]),
            peak_score=float(peak[b]),
            overlap=fine[b].overlap,
            smooth=fine[b].smooth,
            noise=float(noise[b]),
            n_evaluations=int(np.ceil(fine[b].work)),
            history=fine[b].history,
            reason=fine[b].reason,
            flags=(),
            provenance=record,
        )
        results.append(_with_flags(result, images, b, fine[b].on_bound, float(n_common[b]), float(above[b]), settings))
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
