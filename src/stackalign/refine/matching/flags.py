"""What there is to doubt in a result, in sentences that begin with a key of `stackalign.refine.result.WARNINGS`."""

from collections.abc import Iterator, Sequence

import numpy as np

from stackalign._types import FloatArray
from stackalign.refine.simulator import Reflection

from .climb import FineResult, matters
from .converge import Converged
from .goodness import Goodness, between_disks, significance_between
from .held import Held, best_held
from .levels import few_beams
from .search import Candidate, Search

__all__ = ["doubts"]

DEGENERATE = 0.95
AMBIGUOUS = 16.0
"""Excess of a rival's chi-square below which it may as well be the answer."""
POOR = 0.7
MISFIT = 3.0
"""Reduced chi-square above which a residual is not noise: the noise itself is known to some 20 %."""
UNEXPLAINED, DISK_UNEXPLAINED = 1.5e-4, 0.02
"""Share of the variance, of all disks and of one, below which a residual is too small to be called a misfit, whatever
the noise: beams left out, interpolation and tables of scattering factors make as much."""
WORSE = 3.0
"""Chi-square of a disk over the median of the disks from which on it fits far worse than they do."""
ANTI, ALIKE = 5.0, 6.0
"""Correlation of a disk below 0, and below half of what its noise allows, in standard deviations of chance."""
DISAGREE = 4.0
"""Scatter between the disks over what noise explains, in standard deviations."""
ALL_NOISE, BY_ONE = 1.3, 5.0
"""Reduced chi-square up to which that may be chance, as where one disk alone decides a parameter, unless leaving one
out shifts it by so many standard deviations. In silicon with 5 electrons per pixel, one in six results had a scatter of
4 and a shift of 4; a gradient over all disks, with as much, has a chi-square of 2.7."""
HELD_SIGMA, HELD_SHARE, FAR_SHARE, HELD_MOVES, HELD_MATTERS = 5.0, 0.1, 0.3, 2.0, 3.0
"""A held parameter is said to be wrong when the images want it elsewhere by so many of its standard deviations, that
would explain this share of the residual (more where that is a misfit), and a fitted one would move by so many of its
own and by this much more than is worth to be said."""


def doubts(
    search: Search,
    candidate: Candidate,
    converged: Converged,
    fit: Goodness,
    held: Sequence[Held],
    sigma: FloatArray,
) -> list[str]:
    """Return sentences, each of which begins with a key of `WARNINGS`; none for a result that can be trusted.

    `sigma` are error bars without what is only assumed of held parameters.
    """
    fine = converged.fine
    return [
        *_borders(search, candidate, fine),
        *_undetermined(search, fine, sigma),
        *_beams(search, converged),
        *_ambiguous(converged),
        *_climb(fine),
        *_misfit(fine, fit),
        *_bad_disks(fine, fit, search.reflections),
        *_disagreement(fine, fit),
        *_too_small(fine, fit, best_held(held)),
    ]


def _borders(search: Search, candidate: Candidate, fine: FineResult) -> Iterator[str]:
    point, step = fine.point, search.settings.data.frame.step
    for p in search.parameters:
        value, near = point.get(p.name), 1e-3 * (p.high - p.low)
        if value <= p.low + near or value >= p.high - near:
            yield f"on_border: {p.name} = {value:g} is at the end of its bounds ({p.low:g}, {p.high:g})"
    (left, top), (right, bottom) = candidate.map_tilts
    x, y = point.frame.tilt
    outside = not (min(left, right) - step <= x <= max(left, right) + step)
    outside |= not (min(top, bottom) - step <= y <= max(top, bottom) + step)
    if outside or (candidate.on_border and min(candidate.position_map.shape) > 1):
        yield "on_border: the best position is at the border of the searched area: widen search_radius"


def _undetermined(search: Search, fine: FineResult, sigma: FloatArray) -> Iterator[str]:
    point, step = fine.point, search.settings.data.frame.step
    loose = {"tilt_x": step, "tilt_y": step, "thickness": 0.05 * point.thickness, "gl": 0.01 * point.frame.gl}
    for name, width in zip(fine.names, sigma, strict=True):
        if width > loose.get(name, np.inf):
            yield f"degenerate: {name} is not determined, its error bar is {width:.2g}"
    for i, first in enumerate(fine.names):
        for j in range(i + 1, len(fine.names)):
            if abs(fine.correlation[i, j]) > DEGENERATE:
                second, value = fine.names[j], fine.correlation[i, j]
                yield f"degenerate: {first} and {second} change the disks alike, correlation {value:.3f}"


def _beams(search: Search, converged: Converged) -> Iterator[str]:
    few = converged.few or (few_beams(search, converged.fine.point) if converged.systematic is None else "")
    if few:
        yield f"few_beams: {few}"
    if converged.failed:
        yield f"unchecked: what more beams would change was not looked at: {converged.failed}"


def _ambiguous(converged: Converged) -> Iterator[str]:
    if converged.rival is not None and converged.rival[1] < AMBIGUOUS:
        values, excess = converged.rival
        names = [name for name in values if name == "thickness" or not name.startswith(("tilt", "blur"))]
        listed = ", ".join(f"{name} = {values[name]:.4g}" for name in names or values)
        yield (
            f"ambiguous: {listed} fits as well: its residual is larger by {max(excess, 0):.1f} units of noise "
            f"(chi-square), where {AMBIGUOUS:g} would tell them apart. Narrow the bounds, or measure more disks"
        )


def _climb(fine: FineResult) -> Iterator[str]:
    if fine.score < POOR:
        yield f"poor: the score is {fine.score:.3f}"
    if not fine.converged:
        yield "not_converged: the climb ended before its steps became small"


def _misfit(fine: FineResult, fit: Goodness) -> Iterator[str]:
    if fit.total > MISFIT and (1 - 1 / fit.total) * (1 - fine.score) > UNEXPLAINED:
        yield (
            f"misfit: the residual is {fit.total:.1f} times what noise explains (reduced chi-square): a held "
            "parameter, the crystal, the bounds or the data are wrong, or the model lacks something such as absorption"
        )


def _bad_disks(fine: FineResult, fit: Goodness, reflections: Sequence[Reflection]) -> Iterator[str]:
    count = np.bincount(fine.end.model.pixels.disk)
    for d, hkl in enumerate(reflections):
        name = " ".join(map(str, hkl))
        contrast, chi2, score = fit.contrast[d], fit.disks[d], float(fine.disk_scores[d])
        if score * np.sqrt(count[d]) < -ANTI:  # whatever is known of the noise
            yield f"misfit: the disk of {name} correlates at {score:.2f}: what is bright in one is dark in the other"
            continue
        if not np.isfinite(contrast) or contrast <= 0:
            continue
        possible = float(np.sqrt(contrast / (1 + contrast)))
        if score < 0.5 * possible and (possible - score) * np.sqrt(count[d]) > ALIKE:
            yield f"misfit: the disk of {name} correlates at {score:.2f}, where its noise allows {possible:.2f}"
            continue
        rest = np.delete(fit.disks, d)
        share = (chi2 - 1) / (1 + contrast)  # of the disk's variance
        if len(rest) and chi2 > max(MISFIT, WORSE * float(np.median(rest))) and share > DISK_UNEXPLAINED:
            yield (
                f"inconsistent: the residual of the disk of {name} is {chi2:.1f} times its noise, that of the others "
                f"{np.median(rest):.1f} times: saturation, a wrong index or a neighbour's disk in it"
            )


def _disagreement(fine: FineResult, fit: Goodness) -> Iterator[str]:
    between = between_disks(fine)
    if between is None:
        return
    noise, by_one = np.sqrt(np.diagonal(fine.covariance)), significance_between(fine)
    for name, scatter, own, shift in zip(fine.names, between, noise, by_one, strict=True):
        if fit.total <= ALL_NOISE and shift < BY_ONE:
            continue
        if name != "blur" and scatter > max(DISAGREE * own, matters(fine, name)):
            yield (
                f"inconsistent: the disks disagree about {name} by {scatter:.2g}, where noise explains "
                f"{own:.2g}: look at disk_goodness, and leave out disks that do not belong"
            )


def _too_small(fine: FineResult, fit: Goodness, best: Held | None) -> Iterator[str]:
    """Say which held parameter the images want elsewhere."""
    # Far from the truth, a first-order change of something that is right lowers the residual a little as well.
    needed = HELD_SHARE if not fit.total > MISFIT else FAR_SHARE
    if best is None or abs(best.correction) <= HELD_SIGMA * best.sigma or best.explains <= needed:
        return
    moved = [abs(best.moves[name] * best.correction) for name in fine.names]
    noise = np.sqrt(np.diagonal(fine.covariance))
    own = [
        name
        for name, shift, width in zip(fine.names, moved, noise, strict=True)
        if name != "blur" and shift > max(HELD_MOVES * width, HELD_MATTERS * matters(fine, name))
    ]
    if own:
        name = "thickness" if "thickness" in own else own[0]
        yield (
            f"model_too_small: the images want {best.name} = {best.value + best.correction:.4g} +- {best.sigma:.2g}, "
            f"held at {best.value:.4g}: {name} would move by {best.moves[name] * best.correction:.3g}. Refine it too, "
            "or correct it"
        )
