"""What all held parameters together may have done to the fitted ones: a part of their error bars."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stackalign._types import FloatArray

from .climb import FineResult
from .held import Evidence, Held, asked_change, best_held

__all__ = ["HeldPart", "held_part"]

NOISE_LIKE = 1.5
"""Reduced chi-square up to which the residual narrows an uncertainty that was stated. Above it something else is wrong,
which may hide what a parameter does."""
OPEN = {"thickness": 1 / 400, "gl": 1 / 800, "tilt_x": 1 / 8, "tilt_y": 1 / 8}
"""What held parameters may move though nothing asks for it, where their uncertainty is only assumed: a quarter of what
makes a result wrong, as shares of a length and in pixels of tilt. What the residual leaves open beyond that counts.
With twice as much, one of five thicknesses of MgO with a Debye-Waller factor held 30 % too high was 3.5 error bars and
2 % off without a flag; with half as much, error bars of silicon grow by a third where all is right."""


@dataclass(frozen=True, eq=False)
class HeldPart:
    """A part of the error bars.

    Parameters
    ----------
    parts : numpy.ndarray
        (S, P) shifts of the fitted parameters, each alike for all of them, whose squares add up.
    asked : numpy.ndarray
        (P,) what the held parameter moves that the residual asks for beyond doubt.
    changes : dict
        Name of a held parameter to the change of it that was counted.
    """

    parts: FloatArray
    asked: FloatArray
    changes: dict[str, float]


def held_part(evidence: Evidence, fine: FineResult, goodness: float) -> HeldPart:
    """Combine what was known of the held parameters with what the residual says, as two measurements.

    What the residual asks for moves the fitted parameters. This shift counts, less what noise alone would make of it.
    What is left open is part of the error bars where the uncertainty was stated. Where it is only assumed it is not,
    since assumed ones are wide: with them, error bars are five times too large where held values are right. There the
    residual alone decides, unless it leaves so much open that a fitted parameter may be wrong by it.
    """
    items = [item for item in evidence.items if item.uncertainty > 0]
    moves = _moves(items, fine)
    change, posterior, noise = _combined(evidence, items)
    stated = np.array([item.stated for item in items], dtype=bool)
    known = posterior if goodness <= NOISE_LIKE else np.diag([item.uncertainty**2 for item in items])
    shift = change @ moves
    # All that is known was said: nothing is then left to noise, the posterior is exact.
    by_chance = 0.0 if stated.all() else np.max([np.einsum("qp,qr,rp->p", moves, c, moves) for c in noise], axis=0)
    open_ = _root(posterior[np.ix_(~stated, ~stated)]) @ moves[~stated]
    excess = np.maximum(0.0, 1 - _limits(fine) ** 2 / np.maximum(np.square(open_).sum(0), 1e-300))
    beyond = np.sign(shift) * np.sqrt(np.maximum(0.0, shift**2 - (1 - excess) * by_chance))
    asked = _asked(evidence, fine)
    counted = np.where(np.abs(asked) > np.abs(beyond), asked, beyond)
    of_stated = _root(known[np.ix_(stated, stated)]) @ moves[stated]
    parts = np.concatenate([counted[None], of_stated, open_ * np.sqrt(excess)])
    changes = dict.fromkeys((item.name for item in evidence.items), 0.0)
    doubt = np.sqrt(change**2 + np.where(stated, np.diagonal(known), 0.0))
    changes |= {item.name: float(value) for item, value in zip(items, doubt, strict=True)}
    return HeldPart(parts, asked, changes)


def _combined(evidence: Evidence, items: Sequence[Held]) -> tuple[FloatArray, FloatArray, list[FloatArray]]:
    """Most likely changes (Q,), their covariance, and two of what noise makes of them: white, and alike in squares."""
    use = [q for q, item in enumerate(evidence.items) if item.uncertainty > 0]
    left, after = evidence.left[use], evidence.residual
    prior = np.diag([item.uncertainty**-2 for item in items])
    change, posterior, normal = np.zeros(len(use)), np.zeros_like(prior), np.zeros_like(prior)
    for _ in range(2):  # noise is what is left after the change
        variance = max(float(after @ after) / max(1, len(after) - evidence.fitted - 1), 1e-300)
        normal = left @ left.T / variance
        posterior = np.linalg.inv(normal + prior)
        change = posterior @ (left @ evidence.residual) / variance
        after = evidence.residual - change @ left
    pulls = np.stack([np.bincount(evidence.square, row * after) for row in left]) / variance if use else prior
    return change, posterior, [posterior @ each @ posterior for each in (normal, pulls @ pulls.T)]


def _moves(items: Sequence[Held], fine: FineResult) -> FloatArray:
    """(Q, P) derivatives of the fitted parameters by the held ones."""
    return np.array([[item.moves[name] for name in fine.names] for item in items]).reshape(-1, len(fine.names))


def _asked(evidence: Evidence, fine: FineResult) -> FloatArray:
    """(P,) what the held parameter that the residual asks for beyond doubt would move, if there is one."""
    best = best_held(evidence.items)
    if best is None:
        return np.zeros(len(fine.names))
    return np.asarray(_moves([best], fine)[0] * asked_change(best))


def _root(covariance: FloatArray) -> FloatArray:
    """Return (Q, Q) rows whose products add up to the covariance."""
    return np.asarray(np.linalg.cholesky(covariance).T) if len(covariance) else covariance


def _limits(fine: FineResult) -> FloatArray:
    """(P,) what a parameter has to be open by to count; infinite for those of which no share is known."""
    unit = {name: fine.end.model.step if name.startswith("tilt") else abs(fine.point.get(name)) for name in OPEN}
    return np.array([OPEN[name] * unit[name] if name in OPEN else np.inf for name in fine.names])
