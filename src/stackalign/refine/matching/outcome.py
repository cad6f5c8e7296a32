"""From the end of a search to a result."""

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
from .held import Held, held_parameters
from .search import Candidate, Search
from .together import held_part

__all__ = ["result"]


def result(search: Search, candidate: Candidate, converged: Converged, seconds: float) -> RefinementResult:
    """Put a result together, with what is to be warned of."""
    settings, fine = search.settings, converged.fine
    point, data = fine.point, settings.data
    # The climb blurs in pixels of the start; pixels of the result are smaller where gl has grown.
    grown = point.frame.gl / data.frame.gl
    unit = np.where(np.array(fine.names) == "blur", grown, 1.0)
    fit = goodness(fine)
    evidence = held_parameters(search, converged) if settings.check_held else None
    held = [] if evidence is None else evidence.items
    of_held = None if evidence is None else held_part(evidence, fine, fit.total)
    own = [part for part in (converged.systematic, between_disks(fine)) if part is not None]
    parts = np.concatenate([np.reshape(own, (-1, len(fine.names))), *([] if of_held is None else [of_held.parts])])
    asked = own if of_held is None else [*own, of_held.asked]
    seen = np.sqrt(np.diagonal(fine.covariance) + sum(np.square(part) for part in asked))
    return RefinementResult(
        names=fine.names,
        values=_values(fine, grown),
        covariance=(fine.covariance + parts.T @ parts) * np.outer(unit, unit),
        systematic=_by_name(fine, np.sqrt(np.square(parts).sum(0)) * unit) if len(parts) else None,
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
        warnings=tuple(doubts(search, candidate, converged, fit, held, seen * unit)),
        goodness=fit.total if np.isfinite(fit.total) else None,
        disk_goodness=dict(zip(data.reflections, fit.disks.tolist(), strict=True)),
        held={item.name: _plain_held(item, of_held.changes[item.name], grown) for item in held} if of_held else {},
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


def _by_name(fine: FineResult, values: FloatArray) -> dict[str, float]:
    return dict(zip(fine.names, values.tolist(), strict=True))


def _plain_held(item: Held, change: float, grown: float) -> dict[str, Any]:
    moves = {name: value * (grown if name == "blur" else 1.0) for name, value in item.moves.items()}
    plain = {name: getattr(item, name) for name in ("value", "sigma", "explains", "uncertainty")}
    return {**plain, "wanted": item.correction, "change": change, "moves": moves}
