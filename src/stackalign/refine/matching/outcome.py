"""From the end of a search to a result."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray

from stackalign._types import FloatArray
from stackalign.errors import StackalignWarning
from stackalign.ops import to_numpy
from stackalign.refine.frames import DisplayFrame
from stackalign.refine.preprocess import apply_simulated
from stackalign.refine.result import RefinementResult
from stackalign.refine.simulator import Reflection

from .climb import FineResult
from .converge import Converged, few_beams, more_beams
from .goodness import Goodness, between_disks, goodness
from .grid import TiltGrid, blurred
from .held import Held, held_parameters
from .measured import ANTI_ALIAS, Measured, Template
from .search import Candidate, Search

if TYPE_CHECKING:
    from stackalign.refine.coarse import CoarseRefine

__all__ = ["disks", "result"]

DEGENERATE = 0.95
POOR = 0.7
MISFIT = 3.0
"""Reduced chi-square above which a residual is not noise: the noise itself is known to some 20 %."""
UNEXPLAINED, DISK_UNEXPLAINED = 1.5e-4, 0.02
"""Share of the variance, of all disks and of one, below which a residual is too small to be called a misfit, whatever
the noise: beams left out, interpolation and tables of scattering factors make as much."""
WORSE = 3.0
"""Chi-square of a disk over the median of the disks from which on it fits far worse than they do."""
DISAGREE = 4.0
"""Scatter between the disks over what noise explains, in standard deviations."""
MATTERS = {"tilt_x": 0.1, "tilt_y": 0.1, "thickness": 2e-3, "gl": 1e-3, "rotation": 0.05, "kv": 2e-4}
"""What is worth to be said of a parameter: pixels of tilt, shares of a length, degrees."""
HELD_SEEN, HALF = 3.0, 0.5
"""Where the images want a held parameter elsewhere by so many of its standard deviations, half of what the fitted ones
would move by is in their error bars: it may as well be something else that is missing."""
HELD_SIGMA, HELD_SHARE, FAR_SHARE, HELD_MOVES, HELD_MATTERS = 5.0, 0.1, 0.3, 2.0, 3.0
"""A held parameter is said to be wrong when the images want it elsewhere by so many of its standard deviations, that
would explain this share of the residual (more where that is a misfit), and a fitted one would move by so many of its
own and by this much more than is worth to be said."""


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
    counted = {"n_decompositions": search.n_decompositions, "n_tilts": search.n_tilts}
    fit = goodness(fine)
    held = held_parameters(search, fine) if refiner.check_held else []
    parts = _systematic(found, held)
    systematic, covariance = None, fine.covariance * np.outer(unit, unit)
    if parts is not None:
        systematic = dict(zip(fine.names, np.sqrt(np.square(parts).sum(0) * unit**2).tolist(), strict=True))
        for part in parts:
            covariance = covariance + np.outer(part * unit, part * unit)
    sigma = np.sqrt(np.diagonal(covariance))
    warnings = _warnings(refiner, search, chosen, found, sigma)
    warnings += _doubts(fine, fit, held, refiner.data.reflections)
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
        **counted,
        n_evaluations=len(search.history),
        seconds=seconds,
        warnings=tuple(warnings),
        goodness=fit.total if np.isfinite(fit.total) else None,
        disk_goodness=dict(zip(refiner.data.reflections, fit.disks.tolist(), strict=True)),
        held={item.name: _plain_held(item, grown) for item in held},
        beam_factor=found.factor,
        beam_tilts=found.beam_tilts or search.beam_tilts,
        _refiner=refiner,
    )


def _systematic(found: Converged, held: Sequence[Held]) -> FloatArray | None:
    """(S, P) parts of the error bars that are not noise: beams, disks, held parameters; None where none is known."""
    parts = [part for part in (found.systematic, between_disks(found.fine)) if part is not None]
    best = _best(held)
    if best is not None and abs(best.wanted) > HELD_SEEN * best.sigma:
        parts.append(np.array([HALF * best.moves[name] * best.wanted for name in found.fine.names]))
    return np.array(parts) if parts else None


def _best(held: Sequence[Held]) -> Held | None:
    """The held parameter that would lower the residual most."""
    return max((item for item in held if _plausible(item)), key=lambda item: item.explains, default=None)


def _plain_held(item: Held, grown: float) -> dict[str, Any]:
    moves = {name: value * (grown if name == "blur" else 1.0) for name, value in item.moves.items()}
    plain = {name: getattr(item, name) for name in ("value", "wanted", "sigma", "explains")}
    return {**plain, "moves": moves}


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


def _doubts(fine: FineResult, fit: Goodness, held: Sequence[Held], reflections: Sequence[Reflection]) -> list[str]:
    """Say where the residual is not what the noise makes, where disks disagree, and what else the images want."""
    found = []
    names = [" ".join(map(str, hkl)) for hkl in reflections]
    best = _best(held)
    if fit.total > MISFIT and (1 - 1 / fit.total) * (1 - fine.score) > UNEXPLAINED:
        found.append(
            f"misfit: the residual is {fit.total:.1f} times what noise explains (reduced chi-square): a held "
            "parameter, the crystal, the bounds or the data are wrong, or the model lacks something such as absorption"
        )
    found += _bad_disks(fine, fit, names)
    between = between_disks(fine)
    if between is not None:
        for name, scatter, own in zip(fine.names, between, np.sqrt(np.diagonal(fine.covariance)), strict=True):
            if name != "blur" and scatter > max(DISAGREE * own, _matters(fine, name)):
                found.append(
                    f"inconsistent: the disks disagree about {name} by {scatter:.2g}, where noise explains "
                    f"{own:.2g}: look at disk_goodness, and leave out disks that do not belong"
                )
    # Far from the truth, a first-order change of something that is right lowers the residual a little as well.
    needed = HELD_SHARE if not fit.total > MISFIT else FAR_SHARE
    if best is not None and abs(best.wanted) > HELD_SIGMA * best.sigma and best.explains > needed:
        moved = np.array([abs(best.moves[name] * best.wanted) for name in fine.names])
        noise = np.sqrt(np.diagonal(fine.covariance))
        own = [
            name
            for name, shift, width in zip(fine.names, moved, noise, strict=True)
            if name != "blur" and shift > max(HELD_MOVES * width, HELD_MATTERS * _matters(fine, name))
        ]
        if own:
            name = "thickness" if "thickness" in own else own[0]
            found.append(
                f"model_too_small: the images want {best.name} = {best.value + best.wanted:.4g} +- {best.sigma:.2g}, "
                f"held at {best.value:.4g}: {name} would move by {best.moves[name] * best.wanted:.3g}. Refine it too, "
                "or correct it"
            )
    return found


def _matters(fine: FineResult, name: str) -> float:
    unit = 1.0 if name == "rotation" else fine.end.model.step if name.startswith("tilt") else abs(fine.point.get(name))
    return MATTERS.get(name, 0.0) * unit


def _plausible(item: Held) -> bool:
    """Whether a parameter may have the value that the images want."""
    value = item.value + item.wanted
    if item.name == "rotation":
        return abs(item.wanted) < 5
    return value >= 0 and (item.name not in ("kv", "gl") or abs(item.wanted) < 0.1 * item.value)


def _bad_disks(fine: FineResult, fit: Goodness, names: Sequence[str]) -> list[str]:
    found = []
    count = np.bincount(fine.end.model.pixels.disk)
    for d, name in enumerate(names):
        contrast, chi2, score = fit.contrast[d], fit.disks[d], float(fine.disk_scores[d])
        if not np.isfinite(contrast) or contrast <= 0:
            continue
        possible = float(np.sqrt(contrast / (1 + contrast)))
        if score < 0.5 * possible and (possible - score) * np.sqrt(count[d]) > 8:
            found.append(f"misfit: the disk of {name} correlates at {score:.2f}, where its noise allows {possible:.2f}")
            continue
        rest = np.delete(fit.disks, d)
        share = (chi2 - 1) / (1 + contrast)  # of the disk's variance
        if len(rest) and chi2 > max(MISFIT, WORSE * float(np.median(rest))) and share > DISK_UNEXPLAINED:
            found.append(
                f"inconsistent: the residual of the disk of {name} is {chi2:.1f} times its noise, that of the others "
                f"{np.median(rest):.1f} times: saturation, a wrong index or a neighbour's disk in it"
            )
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
    prepared = _as_refined(refiner, search, found, grid)
    images = to_numpy(grid.images(prepared, [found.values["thickness"]], refiner.data.reflections))[0]
    images = blurred(np, images, found.values["blur"] / step_px)
    images = apply_simulated(refiner.preprocess, images, step_px)
    # The measured disks are smoothed against aliasing, and sampled between pixels: so are the simulated ones.
    between = _between_pixels(refiner, frame, spacing, template)
    images = np.stack(
        [blurred(np, image, float(np.hypot(ANTI_ALIAS, b / step_px))) for image, b in zip(images, between, strict=True)]
    )[:, pad : pad + h, pad : pad + w]
    shown = np.where(template.weights > 0, template.values, np.nan)
    groups = [slice(None)] if refiner.metric == "joint" else [slice(d, d + 1) for d in range(len(images))]
    scaled = np.array(images, dtype=np.float64)
    for group in groups:
        use = template.weights[group] > 0
        x, y = scaled[group][use], template.values[group][use]
        slope = float(((x - x.mean()) * (y - y.mean())).sum() / max(((x - x.mean()) ** 2).sum(), 1e-300))
        scaled[group] = (scaled[group] - x.mean()) * slope + y.mean()
    return shown, np.where(template.weights > 0, scaled, np.nan)


def _between_pixels(
    refiner: "CoarseRefine", frame: DisplayFrame, spacing: float, template: Template
) -> NDArray[np.float64]:
    """(D,) width in pixels of the blur that linear interpolation at the nodes of a template makes, on average."""
    data = refiner.data.with_frame(gl=frame.gl, rotation=frame.rotation, flip=frame.flip, center=frame.center)
    nodes = np.indices(template.values.shape[1:]).reshape(2, -1)
    widths = []
    for d in range(len(template.values)):
        matrix = data.pull_matrix(d, spacing, template.origin)
        share = (matrix[:, :2] @ nodes + matrix[:, 2:]) % 1.0
        widths.append(np.sqrt((share * (1 - share)).mean()))
    return np.array(widths)


def _as_refined(refiner: "CoarseRefine", search: Search, found: RefinementResult, grid: TiltGrid) -> Any:
    """The simulation of the result, with as many beams, on another grid."""
    dear = {p.name: found.values[p.name] for p in search.dear}
    with catch_warnings():
        simplefilter("ignore", StackalignWarning)  # they are among the result's
        if found.beam_factor > 1 and hasattr(refiner.simulator, "tighter"):
            return more_beams(search, dear, grid, found.beam_factor, found.beam_tilts)
        search.fix_beams(found.beam_tilts or grid.corners)
        return search.prepare(dear, grid)
