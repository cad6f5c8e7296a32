"""The end of a search: simulations of more and more beams, until these no longer move the parameters."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stackalign._types import FloatArray
from stackalign.errors import DataError, StackalignWarning
from stackalign.ops import asarray, to_numpy
from stackalign.refine.simulator import BeamListSimulator

from .climb import FineResult, matters
from .grid import TiltGrid, rectangle
from .model import Model, Point
from .search import Candidate, Search

__all__ = ["Converged", "beams_matter", "converge", "few_beams", "finish", "more_beams", "wider_grid"]

LEVELS = 2
"""Most climbs with more beams, each with the thresholds of the one before divided by `beam_check`."""
ROUNDS = 2
"""Simulations with more beams in one climb, where parameters of the structure move."""
FAR = 10.0
"""Steps of the derivatives; a parameter of the structure that moved further is looked at once more."""
SMALL = 1.0
"""Shift of a parameter by more beams, in standard deviations of its noise, that calls for no further climb; nor does
one that is too small to matter."""
CLOSE = 0.03
"""Change of an intensity by more beams, in units of the incident beam, that calls for no further climb: the error of an
intensity falls by half with the thresholds of the beams, so that what is left is about as much again."""
FEW = 0.05
"""Error of an intensity, in units of the incident beam, from which on the beams are said to be few."""
SLOWEST, FASTEST = 0.75, 0.25
"""Ratio of successive shifts with which the sequence is continued: it is estimated from two of them."""
NEAR, DISTINCT = 50.0, 0.01
"""Excess of a rival's chi-square up to which it is looked at more closely, and by how much its thickness differs."""
MOST_BEAMS = 400
"""Beams beyond which a climb is not worth its time; what they would do is still looked at."""
WIDER = 2.0
"""Spacing of the grid on which the next level is looked at, over that of the fine grid."""

Corners = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Converged:
    """The end of a search.

    Parameters
    ----------
    fine : FineResult
        With more beams, where there was a way to have them.
    systematic : numpy.ndarray or None
        (P,) by how much beams that are still left out may move the parameters; None where it is not known.
    few : str
        What there is to say if the beams are still few.
    failed : str
        Why there was no simulation with more beams, or no look at what yet more would do.
    factor : float
        By what the thresholds of the beams were divided for `fine`.
    beam_tilts : tuple or None
        Corners of the region of tilts for which they were chosen; None for those of the search.
    rival : tuple or None
        Values of another maximum by name, and by how much its squared residual is larger, in units of the noise.
    """

    fine: FineResult
    systematic: FloatArray | None = None
    few: str = ""
    failed: str = ""
    factor: float = 1.0
    beam_tilts: Corners | None = None
    rival: tuple[Mapping[str, float], float] | None = None


@dataclass(frozen=True, eq=False)
class _Corrected:
    """Intensities of a simulation, plus the difference that more beams made nearby."""

    prepared: Any
    few: Any
    more: Any

    def intensities(self, thicknesses: Any, reflections: Any) -> Any:
        values = self.prepared.intensities(thicknesses, reflections)
        return values + self.more.intensities(thicknesses, reflections) - self.few.intensities(thicknesses, reflections)


@dataclass(eq=False)
class _Level:
    """Simulations of one level, made for each grid that a climb asks for, at one set of structure parameters."""

    search: Search
    point: Point
    simulator: BeamListSimulator
    made: dict[TiltGrid, Any] = field(default_factory=dict)

    def prepare(self, changes: Mapping[str, float], grid: TiltGrid) -> Any:
        """Simulate; derivatives by the structure are those of the few beams."""
        search, structure = self.search, self.point.simulator
        if grid not in self.made:
            self.made[grid] = _simulated(search, self.simulator, grid)
        more = self.made[grid]
        return (
            _Corrected(search.prepare(changes, grid), search.prepare(structure, grid), more)
            if search.structure
            else more
        )


def finish(search: Search, contenders: Sequence[tuple[Candidate, FineResult]]) -> tuple[Candidate, Converged]:
    """Converge the best of some candidates, and a rival that it leaves in doubt."""
    (candidate, fine), *others = contenders
    best, spacing = converge(search, fine, search.fine_px()), search.fine_px()
    rivals = [(other, end) for other, end in others if _elsewhere(best.fine, end)]
    if not rivals:
        return candidate, best
    # More beams may change the rival as much as they changed the best.
    margin = 2 * abs(best.fine.score - fine.score) + NEAR / _pixels_per_residual(best.fine)
    other, end = rivals[0]
    if end.score < fine.score - margin:
        return candidate, best
    end = search.climb(end.point, search.fine_grid(end.point, spacing), spacing, 25, "rival") or end
    second = converge(search, end, spacing)
    if second.fine.score > best.fine.score:
        candidate, best, second = other, second, best
    if not _elsewhere(best.fine, second.fine):  # both have climbed the same hill
        return candidate, best
    excess = (best.fine.score - second.fine.score) * _pixels_per_residual(best.fine)
    values = {name: second.fine.point.get(name) for name in second.fine.names}
    return candidate, replace(best, rival=(values, excess))


def _pixels_per_residual(fine: FineResult) -> float:
    """Number of pixels over the share of the variance that is unexplained: scores times this count in chi-square."""
    return len(fine.end.model.pixels.values) / max(1 - fine.score, 1e-12)


def _elsewhere(one: FineResult, other: FineResult) -> bool:
    """Whether two ends are different answers: by a percent of the thickness, or by a pixel of tilt."""
    step = one.end.model.step
    far = [abs(one.point.frame.tilt[axis] - other.point.frame.tilt[axis]) > step for axis in (0, 1)]
    return abs(other.point.thickness / one.point.thickness - 1) > DISTINCT or any(far)


def converge(search: Search, fine: FineResult, spacing_px: float) -> Converged:
    """Climb with more beams, until yet more of them no longer move the parameters.

    Each level divides the thresholds of the beams by `beam_check`. The difference that the next level makes is taken on
    a wider grid and added to the simulated values, and the parameters follow. Where it is small, the search has ended,
    else the climb goes on there. What beams that are still left out may do is the last shift, continued as the
    geometric series that it and the one before it begin.
    """
    step, done = search.settings.beam_check, Converged(fine)
    if not beams_matter(search):
        return done
    region = search.fine_grid(fine.point, spacing_px).corners
    try:
        here = _with_more(search, fine.point.simulator, region, step)
        for k in range(1, LEVELS + 1):
            climbed, level = _climbed(search, done.fine, here, region, step**k, spacing_px)
            if climbed is None:
                return replace(done, failed="the tilt left the simulated area")
            region = wider_grid(climbed).corners
            there = _with_more(search, climbed.point.simulator, region, step ** (k + 1))
            added, change = _difference(search, climbed, level.simulator, there)
            grid = climbed.end.model.grid
            latest = search.climb(climbed.point, grid, spacing_px, 25, "more beams", level.prepare, added)
            if latest is None:
                return replace(done, failed="the tilt left the simulated area")
            latest = replace(latest, converged=latest.converged and climbed.converged)
            noise = np.sqrt(np.maximum(np.diagonal(latest.covariance), 1e-300))
            moved = [_values(b) - _values(a) for a, b in ((done.fine, climbed), (climbed, latest))]
            ratio = _ratio(moved[1] / noise, moved[0] / noise)
            tail = ratio / (1 - ratio)
            least = np.maximum(SMALL * noise, [matters(latest, name) for name in latest.names])
            large = bool((np.abs(moved[1]) > least)[np.array(latest.names) != "blur"].any())
            few = _few(latest, len(there.beams), change * tail, large and ratio >= SLOWEST)
            systematic = np.abs(moved[1]) * tail
            done = Converged(latest, systematic, few, factor=step ** (k + 1), beam_tilts=region)
            if (not large and change < CLOSE) or len(there.beams) > MOST_BEAMS:
                break
            here = there
    except (DataError, ValueError) as error:
        return replace(done, failed=str(error))
    return done


def _values(fine: FineResult) -> FloatArray:
    return np.array([fine.point.get(name) for name in fine.names])


def beams_matter(search: Search) -> bool:
    """Whether there are more beams to be had."""
    simulator = search.settings.simulator
    return search.settings.beam_check > 1 and isinstance(simulator, BeamListSimulator) and simulator.beams is None


def _ratio(ahead: FloatArray, moved: FloatArray) -> float:
    """Ratio of successive shifts, within what a sequence of beams does."""
    return float(np.clip(np.linalg.norm(ahead) / max(float(np.linalg.norm(moved)), 1e-300), FASTEST, SLOWEST))


def _few(fine: FineResult, n_beams: int, left: float, slow: bool) -> str:
    """Say where the sequence was not seen to converge."""
    if left <= FEW and not slow:
        return ""
    return (
        f"{n_beams} beams are few for {fine.point.thickness:g} angstrom: more would still change intensities by some "
        f"{left:.2g} of the incident beam. Lower `strong` and `weak` of the BeamSelection"
    )


def _climbed(
    search: Search, fine: FineResult, simulator: BeamListSimulator, region: Corners, factor: float, spacing_px: float
) -> tuple[FineResult | None, _Level]:
    """Climb with more beams, again where parameters of the structure moved far; with the level that it ended on."""
    latest, level = fine, _Level(search, fine.point, simulator)
    for k in range(ROUNDS if search.structure else 1):
        if k:
            simulator = _with_more(search, latest.point.simulator, region, factor)
            level = _Level(search, latest.point, simulator)
        grid = search.fine_grid(latest.point, spacing_px)
        climbed = search.climb(latest.point, grid, spacing_px, 25, "more beams", level.prepare)
        if climbed is None:
            return None, level
        before, latest = latest.point, replace(climbed, converged=climbed.converged and fine.converged)
        if not any(abs(latest.point.get(p.name) - before.get(p.name)) > FAR * p.step for p in search.structure):
            break
    return latest, level


def _difference(
    search: Search, fine: FineResult, here: BeamListSimulator, there: BeamListSimulator
) -> tuple[FloatArray, float]:
    """(n,) difference at the pixels that more beams make, and the largest change of an intensity."""
    grid, model = wider_grid(fine), fine.end.model
    images = [
        to_numpy(grid.images(_simulated(search, each, grid), [fine.point.thickness], search.reflections))
        for each in (here, there)
    ]
    both = []
    for simulated in images:
        other = Model(model.pixels, grid, _Fixed(simulated).prepare, search.reflections, model.hook, model.step)
        values = other.at(other.filtered(fine.point), fine.point.frame)
        if values is None:
            msg = "the tilt left the simulated area"
            raise ValueError(msg)
        both.append(values)
    return both[1] - both[0], float(np.abs(images[1] - images[0]).max())


@dataclass(frozen=True, eq=False)
class _Fixed:
    """Images (1, R, rows, columns) that were simulated before."""

    images: FloatArray

    def prepare(self, *_: Any) -> "_Fixed":
        return self

    def intensities(self, *_: Any) -> FloatArray:
        return self.images


def wider_grid(fine: FineResult, factor: float = WIDER) -> TiltGrid:
    """Return a grid over the tilts of a climb with fewer nodes; filters may not take images interpolated so far."""
    grid = fine.end.model.grid
    factor = factor if fine.end.model.hook is None else 1.0
    rows, columns = (int(np.ceil((n - 1) / factor)) + 1 for n in grid.shape)
    return TiltGrid(grid.first, factor * grid.spacing, (rows, columns))


def _with_more(search: Search, structure: Mapping[str, float], region: Corners, factor: float) -> BeamListSimulator:
    """Return a simulator with more beams, chosen for these very parameters and a region of tilts."""
    simulator = search.settings.simulator
    assert isinstance(simulator, BeamListSimulator)
    full = search.driven(structure)
    return (simulator.with_parameters(full) if full else simulator).tighter(factor).with_beams(rectangle(region))


def _simulated(search: Search, simulator: BeamListSimulator, grid: TiltGrid) -> Any:
    search.count(grid)
    return simulator.prepare({}, asarray(grid.tilts, device=search.settings.device))


def more_beams(
    search: Search, structure: Mapping[str, float], grid: TiltGrid, factor: float, region: Corners | None = None
) -> Any:
    """Simulate with more beams, chosen for all of the grid or for a region of tilts."""
    return _simulated(search, _with_more(search, structure, region or grid.corners, factor), grid)


def few_beams(search: Search, point: Point) -> str:
    """Return what the simulation says if its beams are few for a point."""
    grid = search.fine_grid(point, search.fine_px())
    prepared = search.prepare(point.simulator, TiltGrid(grid.first, grid.spacing, (1, 1)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prepared.intensities([point.thickness], search.reflections)
    return next((str(item.message) for item in caught if issubclass(item.category, StackalignWarning)), "")
