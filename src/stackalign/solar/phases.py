"""The phases of a coalignment, each a loop: sample the reference where the target is thought to be, register, correct.

A phase is a generator that yields the pair of images that it wants registered and is sent the result. So one driver
serves a single map, and another hundreds of them in lock-step.
"""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import numpy as np

from stackalign._types import FloatArray
from stackalign.errors import DataError
from stackalign.registration import RegistrationResult

from .comparison import Comparison
from .larger_models import Verdict, judge_model
from .phase import NEAR, Phase, Registering, Request, Settings
from .phase_result import PhaseResult
from .pixels import PixelTransform
from .polish import Agreement
from .skymodel import SkyFit
from .target import Target

__all__ = ["run_phase"]


FARTHEST = 1.5
"""Pixels beyond which a linear step is not believed."""

LITTLE = 0.7
"""A round that moves the image by more than this share of the round before goes back and forth."""


@dataclass
class _Progress:
    """Where a phase is: its correction, and how it came there."""

    correction: PixelTransform
    fit: SkyFit | None = None
    moving: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    moves: list[float] = field(default_factory=list)
    registrations: list[RegistrationResult] = field(default_factory=list)
    last: Agreement | None = None


def run_phase(phase: Phase, target: Target, settings: Settings, start: PixelTransform) -> Registering:
    """Work on one phase, from the correction that is known so far."""
    began = time.perf_counter()
    view = Comparison.of(phase, target, settings)
    at = _Progress(start)
    exact = max(phase.binning) == 1 and not phase.rough
    yield from _climb(view, at, exact)
    verdict = Verdict({})
    if exact:
        verdict = yield from judge_model(view, at.correction, at.moving, at.last, at.registrations[-1])
    assert at.fit is not None
    overlap = at.registrations[-1].overlap * view.fixed.size / max(1, int(np.isfinite(view.fixed).sum()))
    return PhaseResult(
        name=phase.name,
        model=phase.model.name,
        parameters=at.fit.parameters,
        covariance=at.fit.covariance,
        correction=at.fit.correction,
        score=at.registrations[-1].score,
        overlap=overlap,
        flags=tuple(dict.fromkeys([*_flags(view, at, overlap, start), *verdict.details])),
        binning=phase.binning,
        moves=tuple(at.moves),
        registrations=tuple(at.registrations),
        target=view.fixed,
        reference=at.moving,
        coverage=view.coverage,
        plan=view.plan,
        seconds=time.perf_counter() - began,
        details=verdict.details,
        larger_model=verdict.larger_model,
    )


def _climb(view: Comparison, at: _Progress, exact: bool) -> Generator[Request, RegistrationResult, None]:
    """Register and correct until nothing moves; then, for the last phase, take linear steps until nothing does."""
    phase, settings, model = view.phase, view.settings, view.phase.model
    at.moving = view.sampled(at.correction)
    for _ in range(settings.max_rounds):
        _check_overlap(view, at.moving)
        at.registrations.append((yield view.request(at.moving, search=phase.search and not at.registrations)))
        fit, before = model.fit(at.correction, view.grid.to_pixels, at.registrations[-1]), at.fit
        move = view.distance(fit.correction, at.correction)
        if before is not None and move > LITTLE * at.moves[-1]:
            # Going back and forth: from either side the interpolation prefers the other.
            fit = model.between(before, fit)
            move = view.distance(fit.correction, at.correction)
        at.moves.append(move)
        at.fit, at.correction = fit, fit.correction
        if exact:
            at.moving = view.sampled(at.correction)
            if _polish(view, at) or move <= phase.tolerance(settings) or _enough(settings, at.registrations):
                return
        elif move <= phase.tolerance(settings) or _enough(settings, at.registrations):
            return
        else:
            at.moving = view.sampled(at.correction)


def _check_overlap(view: Comparison, moving: FloatArray) -> None:
    if (np.isfinite(moving) & np.isfinite(view.fixed)).any() or (view.phase.search and np.isfinite(moving).any()):
        return
    msg = (
        f"{view.target.observation.name} and {view.target.reference.name} do not overlap; check their pointing, "
        "observers and dates, or allow a longer max_shift"
    )
    raise DataError(msg)


def _polish(view: Comparison, at: _Progress) -> bool:
    """Take linear steps until nothing moves; False where the first shows that the registration was not near enough."""
    for k in range(view.settings.max_rounds):
        at.last = view.agreement(at.moving, at.correction, at.registrations[-1].smooth)
        if at.last is None or not at.last.usable:
            return False
        fit = view.phase.model.read(at.correction, at.last)
        move = view.distance(fit.correction, at.correction)
        if not move < (NEAR if k == 0 else FARTHEST):
            return False
        at.moves.append(move)
        at.fit, at.correction = fit, fit.correction
        if move <= view.settings.tolerance:
            return True
        at.moving = view.sampled(at.correction)
    return True


def _enough(settings: Settings, registrations: Sequence[RegistrationResult]) -> bool:
    return settings.enough is not None and settings.enough([result.score for result in registrations])


def _flags(view: Comparison, at: _Progress, overlap: float, start: PixelTransform) -> tuple[str, ...]:
    """The engine's flags, those on overlap and error bars by the target's own pixels and model."""
    phase, settings, model, registrations, fit = view.phase, view.settings, view.phase.model, at.registrations, at.fit
    assert fit is not None
    own = ("small_overlap", "undetermined", "model_too_small", "inconsistent", "misfit")
    flags = [name for name in registrations[-1].flags if name not in own]
    if flags[:1] and flags[0] in ("empty", "constant", "few_pixels"):
        return tuple(flags)
    if "ambiguous" in registrations[0].flags and "ambiguous" not in flags:
        flags.append("ambiguous")
    if overlap < settings.min_overlap:
        flags.append("small_overlap")
    if not model.largest_sigma(fit) < max(phase.binning):
        flags.append("undetermined")
    moved = np.abs(fit.correction.shift_at(model.center) - start.shift_at(model.center))[::-1]
    if (moved >= np.array(phase.reach) - 1e-6).any() and "on_bound" not in flags:
        flags.append("on_bound")
    tolerance = phase.tolerance(settings) if phase.rough or max(phase.binning) > 1 else settings.tolerance
    still_moves = at.moves[-1] > tolerance and not _enough(settings, registrations)
    if still_moves and "not_converged" not in flags:
        flags.append("not_converged")
    return tuple(flags)
