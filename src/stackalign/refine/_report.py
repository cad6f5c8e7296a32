"""From the end of a search to a result."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stackalign.ops import to_numpy

from ._converge import Converged, few_beams
from ._grid import TiltGrid, blurred
from ._measured import Measured
from ._search import Candidate, Search
from .preprocess import apply_simulated
from .result import RefinementResult

if TYPE_CHECKING:
    from .coarse import CoarseRefine

__all__ = ["disks", "result"]

FloatArray = NDArray[np.float64]
DEGENERATE = 0.95
POOR = 0.7


def result(
    refiner: "CoarseRefine", search: Search, chosen: Candidate, found: Converged, seconds: float
) -> RefinementResult:
    """Put a result together, with what is to be warned of."""
    fine = found.fine
    point = fine.point
    values = {"tilt_x": point.frame.tilt[0], "tilt_y": point.frame.tilt[1], "thickness": point.thickness}
    # The climb blurs in pixels of the start; pixels of the result are smaller where gl has grown.
    grown = point.frame.gl / refiner.data.frame.gl
    unit = np.where(np.array(fine.names) == "blur", grown, 1.0)
    values |= {"gl": point.frame.gl, "rotation": point.frame.rotation, "blur": point.blur * grown}
    values |= point.simulator
    beam = getattr(refiner.simulator, "beam", None)
    if beam is not None and "kv" in point.simulator:
        beam = replace(beam, kv=point.simulator["kv"])
    covariance, systematic = fine.covariance * np.outer(unit, unit), None
    if found.systematic is not None:
        systematic = dict(zip(fine.names, np.abs(found.systematic * unit).tolist(), strict=True))
        covariance = covariance + np.outer(found.systematic * unit, found.systematic * unit)
    scores = dict(zip(refiner.data.reflections, fine.disk_scores.tolist(), strict=True))
    return RefinementResult(
        names=fine.names,
        values=values,
        covariance=covariance,
        systematic=systematic,
        correlation=fine.correlation,
        score=fine.score,
        disk_scores=scores,
        frame=point.frame,
        wavenumber=None if beam is None else beam.wavenumber,
        position_map=chosen.position_map,
        map_tilts=chosen.map_tilts,
        history=tuple(search.history),
        n_decompositions=search.n_decompositions,
        n_tilts=search.n_tilts,
        n_evaluations=len(search.history),
        seconds=seconds,
        warnings=tuple(_warnings(refiner, search, chosen, found, np.sqrt(np.diagonal(covariance)))),
        _refiner=refiner,
    )


def _warnings(
    refiner: "CoarseRefine", search: Search, chosen: Candidate, converged: Converged, sigma: FloatArray
) -> list[str]:
    fine = converged.fine
    found = []
    point, step = fine.point, refiner.data.frame.step
    for p in search.parameters:
        value, near = point.get(p.name), 1e-3 * (p.high - p.low)
        if value <= p.low + near or value >= p.high - near:
            found.append(f"on_border: {p.name} = {value:g} is at the end of its bounds ({p.low:g}, {p.high:g})")
    (left, top), (right, bottom) = chosen.map_tilts
    x, y = point.frame.tilt
    outside = not (min(left, right) - step <= x <= max(left, right) + step)
    outside |= not (min(top, bottom) - step <= y <= max(top, bottom) + step)
    if outside or (chosen.on_border and min(chosen.position_map.shape) > 1):
        found.append("on_border: the best position is at the border of the searched area: widen search_radius")
    loose = {"tilt_x": step, "tilt_y": step, "thickness": 0.05 * point.thickness, "gl": 0.01 * point.frame.gl}
    for name, width in zip(fine.names, sigma, strict=True):
        if width > loose.get(name, np.inf):
            found.append(f"degenerate: {name} is not determined, its error bar is {width:.2g}")
    for i, first in enumerate(fine.names):
        for j in range(i + 1, len(fine.names)):
            if abs(fine.correlation[i, j]) > DEGENERATE:
                second, value = fine.names[j], fine.correlation[i, j]
                found.append(f"degenerate: {first} and {second} change the disks alike, correlation {value:.3f}")
    few = converged.few or (few_beams(search, point) if converged.shift is None else "")
    if few:
        found.append(f"few_beams: {few}")
    if converged.failed:
        found.append(f"unchecked: what more beams would change was not looked at: {converged.failed}")
    if fine.score < POOR:
        found.append(f"poor: the score is {fine.score:.3f}")
    if not fine.converged:
        found.append("not_converged: the climb ended before its steps became small")
    return found


def disks(refiner: "CoarseRefine", found: RefinementResult, step_px: float) -> tuple[FloatArray, FloatArray]:
    """See `CoarseRefine.disks`."""
    names = [name for name in found.names if name not in ("tilt_x", "tilt_y", "blur")]
    search = Search(refiner, [refiner._wanted(n, None, dict.fromkeys(names)) for n in names], None)
    measured = Measured(refiner.data, refiner.roi, refiner.preprocess)
    frame, spacing = found.frame, step_px * found.frame.step
    template = measured.template(frame, spacing)
    top, left = template.origin
    h, w = template.values.shape[1:]
    pad = int(np.ceil(4 * max(found.values["blur"], 0.5) / step_px)) + 1
    first = frame.tilt[0] + (left - pad) * spacing, frame.tilt[1] - (top - pad) * spacing
    grid = TiltGrid(first, spacing, (h + 2 * pad, w + 2 * pad))
    search.fix_beams(grid)
    dear = {p.name: found.values[p.name] for p in search.dear}
    prepared = search.prepare(dear, grid)
    images = to_numpy(grid.images(prepared, [found.values["thickness"]], refiner.data.reflections))[0]
    images = blurred(np, images, found.values["blur"] / step_px)
    images = apply_simulated(refiner.preprocess, images, step_px)[:, pad : pad + h, pad : pad + w]
    shown = np.where(template.weights > 0, template.values, np.nan)
    groups = [slice(None)] if refiner.metric == "joint" else [slice(d, d + 1) for d in range(len(images))]
    scaled = np.array(images, dtype=np.float64)
    for group in groups:
        use = template.weights[group] > 0
        x, y = scaled[group][use], template.values[group][use]
        slope = float(((x - x.mean()) * (y - y.mean())).sum() / max(((x - x.mean()) ** 2).sum(), 1e-300))
        scaled[group] = (scaled[group] - x.mean()) * slope + y.mean()
    return shown, np.where(template.weights > 0, scaled, np.nan)
