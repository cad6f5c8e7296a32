"""From the end of a search to a result."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from stackalign._types import FloatArray
from stackalign.refine.result import RefinementResult
from stackalign.refine.simulator import OrientedSimulator

from .climb import FineResult
from .converge import Converged
from .flags import doubts
from .goodness import between_disks, goodness
from .held import Held, asked_change, best_held, held_parameters, plausible_change
from .search import Candidate, Search

__all__ = ["result"]


def result(search: Search, candidate: Candidate, converged: Converged, seconds: float) -> RefinementResult:
    """Put a result together, with what is to be warned of."""
    settings, fine = search.settings, converged.fine
    point, data = fine.point, settings.data
    # The climb blurs in pixels of the start; pixels of the result are smaller where gl has grown.
    grown = point.frame.gl / data.frame.gl
    unit = np.where(np.array(fine.names) == "blur", grown, 1.0)
    fit = goodness(fine)
    held = held_parameters(search, fine) if settings.check_held else []
    best = best_held(held)
    changes = {item.name: plausible_change(item, fit.total, item is best) for item in held}
    asked = {item.name: asked_change(item, item is best) for item in held}
    parts = _systematic(converged, held, changes)
    systematic = None
    if len(parts):
        systematic = dict(zip(fine.names, (np.sqrt(np.square(parts).sum(0)) * unit).tolist(), strict=True))
    seen = np.sqrt(np.diagonal(fine.covariance) + np.square(_systematic(converged, held, asked)).sum(0)) * unit
    return RefinementResult(
        names=fine.names,
        values=_values(fine, grown),
        covariance=(fine.covariance + parts.T @ parts) * np.outer(unit, unit),
        systematic=systematic,
        correlation=fine.correlation,
        score=fine.score,
        disk_scores=dict(zip(data.reflections, fine.disk_scores.tolist(), strict=True)),
        frame=point.frame,
        wavenumber=_wavenumber(search, fine),
        position_map=candidate.position_map,
        map_tilts=candidate.map_tilts,
        history=tuple(search.history),
        n_decompositions=search.n_decompositions,
        n_tilts=search.n_tilts,
        n_evaluations=len(search.history),
        seconds=seconds,
        warnings=tuple(doubts(search, candidate, converged, fit, held, seen)),
        goodness=fit.total if np.isfinite(fit.total) else None,
        disk_goodness=dict(zip(data.reflections, fit.disks.tolist(), strict=True)),
        held={item.name: _plain_held(item, changes[item.name], grown) for item in held},
        beam_factor=converged.factor,
        beam_tilts=converged.beam_tilts or search.beam_tilts,
    )


def _values(fine: FineResult, grown: float) -> dict[str, float]:
    point = fine.point
    values = {"tilt_x": point.frame.tilt[0], "tilt_y": point.frame.tilt[1], "thickness": point.thickness}
    values |= {"gl": point.frame.gl, "rotation": point.frame.rotation, "blur": point.blur * grown}
    return values | dict(point.simulator)


def _wavenumber(search: Search, fine: FineResult) -> float | None:
    simulator = search.settings.simulator
    if not isinstance(simulator, OrientedSimulator):
        return None
    kv = fine.point.simulator.get("kv", simulator.beam.kv)
    return replace(simulator.beam, kv=kv).wavenumber


def _systematic(converged: Converged, held: Sequence[Held], changes: Mapping[str, float]) -> FloatArray:
    """(S, P) parts of the error bars that are not noise: beams, disks, held parameters."""
    names = converged.fine.names
    parts = [part for part in (converged.systematic, between_disks(converged.fine)) if part is not None]
    parts += [np.array([item.moves[n] for n in names]) * changes[item.name] for item in held if changes[item.name] > 0]
    return np.array(parts).reshape(-1, len(names))


def _plain_held(item: Held, change: float, grown: float) -> dict[str, Any]:
    moves = {name: value * (grown if name == "blur" else 1.0) for name, value in item.moves.items()}
    plain = {name: getattr(item, name) for name in ("value", "sigma", "explains", "uncertainty")}
    return {**plain, "wanted": item.correction, "change": change, "moves": moves}
