"""From the end of a search to a result."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from stackalign._types import FloatArray
from stackalign.refine.result import RefinementResult
from stackalign.refine.simulator import OrientedSimulator

from .climb import FineResult
from .converge import Converged
from .flags import best_held, doubts
from .goodness import between_disks, goodness
from .held import Held, held_parameters
from .search import Candidate, Search

__all__ = ["result"]

HELD_SEEN = 3.0
"""Where the images want a held parameter elsewhere by so many of its standard deviations, what the fitted ones would
move by is in their error bars: with half of it, one in ten results for a Debye-Waller factor that was held 20 % off lay
beyond three of them, without a flag."""


def result(search: Search, candidate: Candidate, converged: Converged, seconds: float) -> RefinementResult:
    """Put a result together, with what is to be warned of."""
    settings, fine = search.settings, converged.fine
    point, data = fine.point, settings.data
    # The climb blurs in pixels of the start; pixels of the result are smaller where gl has grown.
    grown = point.frame.gl / data.frame.gl
    unit = np.where(np.array(fine.names) == "blur", grown, 1.0)
    fit = goodness(fine)
    held = held_parameters(search, fine) if settings.check_held else []
    parts = _systematic(converged, held)
    systematic, covariance = None, fine.covariance * np.outer(unit, unit)
    if parts is not None:
        systematic = dict(zip(fine.names, np.sqrt(np.square(parts).sum(0) * unit**2).tolist(), strict=True))
        for part in parts:
            covariance = covariance + np.outer(part * unit, part * unit)
    sigma = np.sqrt(np.diagonal(covariance))
    return RefinementResult(
        names=fine.names,
        values=_values(fine, grown),
        covariance=covariance,
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
        warnings=tuple(doubts(search, candidate, converged, fit, held, sigma)),
        goodness=fit.total if np.isfinite(fit.total) else None,
        disk_goodness=dict(zip(data.reflections, fit.disks.tolist(), strict=True)),
        held={item.name: _plain_held(item, grown) for item in held},
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


def _systematic(converged: Converged, held: Sequence[Held]) -> FloatArray | None:
    """(S, P) parts of the error bars that are not noise: beams, disks, held parameters; None where none is known."""
    parts = [part for part in (converged.systematic, between_disks(converged.fine)) if part is not None]
    best = best_held(held)
    if best is not None and abs(best.correction) > HELD_SEEN * best.sigma:
        parts.append(np.array([best.moves[name] * best.correction for name in converged.fine.names]))
    return np.array(parts) if parts else None


def _plain_held(item: Held, grown: float) -> dict[str, Any]:
    moves = {name: value * (grown if name == "blur" else 1.0) for name, value in item.moves.items()}
    plain = {name: getattr(item, name) for name in ("value", "sigma", "explains")}
    return {**plain, "wanted": item.correction, "moves": moves}
