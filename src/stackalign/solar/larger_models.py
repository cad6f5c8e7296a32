"""Larger models than that of the header, tried where a fit is poor: what they find is said, not applied."""

from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np

from stackalign._types import FloatArray
from stackalign.registration import RegistrationResult

from .comparison import Comparison
from .grid import Grid, sampled
from .misfit import (
    BETTER,
    CORNER,
    FELL,
    NEAR_BY,
    REFITTED,
    REFITTED_BETTER,
    STEPS,
    Wanted,
    disagreement,
    expected_residual,
    suspicious,
    wanted_beyond,
)
from .phase import Request
from .pixels import PixelTransform
from .polish import Agreement
from .skymodel import SkyFit

__all__ = ["Verdict", "judge_model"]

Asking = Generator[Request, RegistrationResult, Wanted | None]

EXACT = 1.0
"""Pixels at a corner up to which what one linear step finds is as good as what a fit of the larger model finds."""

POOR, POOR_NOISE = 0.1, 10.0
"""A score farther from 1 than the first number and than so many times what noise explains: the engine looks elsewhere
from the same distance on."""

DOUBTS = {"insignificant", "ambiguous", "undetermined", "not_converged"}
"""Flags of a registration that say that its place may be another one."""

FAR_BLOCKS = 320
"""Blocks along the longer side of the grid on which scales and rolls are looked for far away."""

FAR_TURN = 0.2
"""Share of the image's side by which its corners move where the roll or the scale is as wrong as is looked for."""

LOST = {"not_converged": "the images have no optimum near the answer: the model may hold what is wrong"}


@dataclass(frozen=True)
class Verdict:
    """Flags on the model with their sentences, and what a larger model found."""

    details: dict[str, str]
    larger_model: Wanted | None = None


def judge_model(
    view: Comparison,
    correction: PixelTransform,
    moving: FloatArray,
    last: Agreement | None,
    registered: RegistrationResult,
) -> Generator[Request, RegistrationResult, Verdict]:
    """Say what else the images want, and which of their regions disagree.

    The parameters that the model leaves out are tested by a linear step where the answer is, by a climb of the affine
    model from there where that step is long or more than noise is left between the images, and, where that explains
    nothing or the score is poor, by a search over scales and rolls within the whole reach.

    Parameters
    ----------
    view : Comparison
    correction : PixelTransform
        The answer.
    moving : numpy.ndarray
        The reference sampled by it.
    last : Agreement or None
        Of the two images by the answer.
    registered : RegistrationResult
        The last registration of the phase.
    """
    model = view.phase.model
    usable = last is not None and last.usable
    linear = wanted_beyond(model, correction, last) if last is not None and usable else None
    left = (
        last is not None and usable and suspicious(last, expected_residual(view.fixed, moving, last, registered.smooth))
    )
    larger: Wanted | None = None
    if linear is not None and linear.due and linear.corner <= EXACT:
        larger = linear
    elif last is not None and linear is not None and (left or linear.corner > CORNER):
        larger = yield from _near(view, correction, moving, last, registered, left)
    if larger is None and (not usable or left or _poor(registered)):
        larger = yield from _far(view, registered)
    larger = larger or (linear if linear is not None and linear.due else None)
    if larger is not None:
        return Verdict({"model_too_small": larger.sentence(model.name)}, larger)
    if usable and not left:
        return Verdict({})
    said = disagreement(view.fixed, moving) if usable or registered.ok else ""
    if said:
        return Verdict({"inconsistent": f"regions of the image want different shifts: {said}"})
    return Verdict({} if usable or not registered.ok else LOST)


def _poor(registered: RegistrationResult) -> bool:
    explained = registered.noise**2 / max(1.0, 4 * np.pi * min(registered.smooth) ** 2)
    return bool(1.0 - registered.score > POOR + POOR_NOISE * explained or DOUBTS & set(registered.flags))


def _near(
    view: Comparison,
    correction: PixelTransform,
    moving: FloatArray,
    last: Agreement,
    registered: RegistrationResult,
    left: bool,
) -> Asking:
    """What is wanted within the reach of linear steps, or of a climb from where the answer is."""
    free, better = view.free, None
    tried: SkyFit | None = None
    for share in (*STEPS, 0.0):
        if share == 0.0:
            result = yield view.request(moving, model=free.engine)
            tried = yield from _climbed(view, free.fit(correction, view.grid.to_pixels, result))
        elif tried is not None and better is not None and better.residual < last.residual:
            tried = free.read(tried.correction, better)
        else:
            tried = free.read(correction, replace(last, moves=share * last.moves))
        if share and view.distance(tried.correction, correction) > NEAR_BY:
            continue
        better = view.closest(view.sampled(tried.correction), tried.correction, registered.smooth)
        # Where noise hides what a larger model mends, its parameters themselves must be beyond doubt.
        if better is not None and better.residual < (BETTER if left else 1.0) * last.residual:
            beyond = wanted_beyond(view.phase.model, tried.correction, better)
            enough = REFITTED_BETTER if better.residual < FELL * last.residual else REFITTED
            if beyond is not None and beyond.beyond(enough):
                return beyond
        if not left:
            break
    return None


def _climbed(view: Comparison, fit: SkyFit) -> Generator[Request, RegistrationResult, SkyFit]:
    """The affine model on the phase's own grid, from near where it is."""
    free = view.free
    for _ in range(3):
        result = yield view.request(view.sampled(fit.correction), model=free.engine)
        before, fit = fit, free.fit(fit.correction, view.grid.to_pixels, result)
        if view.distance(before.correction, fit.correction) < EXACT:
            break
    return fit


def _far(view: Comparison, registered: RegistrationResult) -> Asking:
    """What is wanted anywhere within the phase's whole reach, at all scales and rolls that the engine looks for."""
    phase, target, free = view.phase, view.target, view.free
    reach = tuple(np.maximum(phase.whole_reach, phase.reach).tolist())
    wide = Grid.around(target.image.shape, reach, target.observation.steps, FAR_BLOCKS, FAR_TURN)
    fixed = wide.framed(target.image)
    moving = sampled(target, view.settings, wide, phase.origin, None)[0]
    settings = {"model": free.engine, "max_shift": max(wide.margin)}
    result = yield Request(fixed, moving, settings | {"smooth": view.settings.smooth})
    if "insignificant" in result.flags or not result.score > registered.score:
        return None
    fit = yield from _climbed(view, free.fit(phase.origin, wide.to_pixels, result))
    moving = view.sampled(fit.correction)
    again = yield view.request(moving, model=free.engine)
    if not 1.0 - again.score < BETTER * (1.0 - registered.score):
        return None
    better = view.closest(moving, fit.correction, again.smooth)
    beyond = None if better is None else wanted_beyond(phase.model, fit.correction, better)
    return beyond if beyond is not None and beyond.due else None
