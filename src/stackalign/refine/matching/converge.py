"""The end of a search: simulations of more and more beams, until these no longer move the parameters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stackalign._types import FloatArray
from stackalign.errors import DataError
from stackalign.refine.simulator import BeamListSimulator

from .climb import FineResult, matters, scattered_shift
from .goodness import goodness
from .grid import TiltGrid
from .levels import Corners, Level, Simulated, difference, simulate, wider_grid, with_more
from .search import Candidate, Search

__all__ = ["Converged", "beams_matter", "converge", "find", "finish"]

LEVELS = 5
"""Most climbs with more beams after the first, each with the thresholds of the one before divided by `beam_check`."""
FOLLOWED = 2
"""Climbs with one difference, which is made anew where the one before has ended."""
ROUNDS = 2
"""Simulations with more beams in one climb, where parameters of the structure move."""
FAR = 10.0
"""Steps of the derivatives; a parameter of the structure that moved further is looked at once more."""
USEFUL = 0.1
"""Share of the squared residual that a level has to take away, for the next to be made because of the residual alone:
a wrong model leaves one that beams do not mend."""
SHOWS = 0.3
"""Share of the noise that the next change may add to the residual. With 1, gold at 240 angstrom ended at a reduced
chi-square of 3.7, and SrTiO3 at 1.8 and with disks that disagreed, where another level gave 1.3 and no flag."""
SMALL = 1.0
"""What beams left out may shift a parameter by, in standard deviations of its noise, that calls for no further climb;
nor does a shift that is too small to matter."""
FEW_SHARE, FEW_PX = 0.01, 0.5
"""Shift that beams left out may still make from which on they are said to be few: share of a parameter, pixels of the
tilt."""
FEW_NAMES = ("thickness", "tilt_x", "tilt_y", "gl", "kv")
FEW_VARIANCE = 0.02
"""Share of the disks' variance that the last beams changed from which on they are few, whatever the parameters do."""
SLOWEST, FASTEST = 0.75, 0.25
"""Ratio of successive shifts with which the sequence is continued: it is estimated from two of them."""
LIKELY = 0.8
"""Standard deviation of what beams that are left out may still shift, over that series: with the whole of it, errors of
the thickness were 0.6 to 0.8 of their error bars in Si, GaAs, SrTiO3 and Au, and 1.2 to 1.5 in MgO, Cu and Ge."""
NEAR, DISTINCT = 50.0, 0.01
"""Excess of a rival's chi-square up to which it is looked at more closely, and by how much its thickness differs."""
MOST_BEAMS = 400
"""Beams beyond which a climb is not worth its time; what they would do is still looked at."""
SECOND_SCAN = 4.0
"""By what thresholds of beams are divided in a second scan, where the first one had too few of them."""
HOPELESS, NO_CLOSER = 3.0, 0.2
"""Reduced chi-square, and residual over that of the scan's few beams, above which a scan with more of them is made."""


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
    simulated : Simulated or None
        The simulation with most beams, of which `fine` is.
    """

    fine: FineResult
    systematic: FloatArray | None = None
    few: str = ""
    failed: str = ""
    factor: float = 1.0
    beam_tilts: Corners | None = None
    rival: tuple[Mapping[str, float], float] | None = None
    simulated: Simulated | None = None


def find(search: Search, net: TiltGrid, counts: Mapping[str, int], method: str) -> tuple[Candidate, Converged]:
    """Scan, climb and converge; once more from the beginning where the scan had too few beams to find the hill."""
    ends: list[tuple[Candidate, Converged]] = []
    for factor in (1.0, SECOND_SCAN):
        search.start_over(factor)
        search.fix_beams(net.corners)
        candidates = search.scan(net, counts, simplex=method == "nelder-mead" and bool(search.structure))
        contenders = search.refine(candidates, net)
        ends.append(finish(search, contenders))
        if not _wrong_hill(contenders, ends[-1][1]):
            break
    return max(ends, key=lambda end: end[1].fine.score)


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


def _wrong_hill(contenders: Sequence[tuple[Candidate, FineResult]], best: Converged) -> bool:
    """Whether more beams brought the best candidate of a scan little closer to the disks, and that is not noise.

    Where the simulation of the scan is of too few beams, as in strong scatterers, its best hill need not be the right
    one.
    """
    if best.factor == 1 or not goodness(best.fine).total > HOPELESS:
        return False
    return 1 - best.fine.score > NO_CLOSER * (1 - contenders[0][1].score)


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

    Each level divides the thresholds of the beams by `beam_check`. The first one is simulated on the fine grid. What
    the further ones change is taken on a wider grid and added to the simulated values, and the parameters follow. What
    beams that are still left out may do is the last shift, continued as the geometric series that it and the one before
    it begin.
    """
    step, first, done = search.settings.beam_check, search.beam_factor, Converged(fine, factor=search.beam_factor)
    if not beams_matter(search):
        return done
    try:
        region = search.fine_grid(fine.point, spacing_px).corners
        here = with_more(search, fine.point.simulator, region, first * step)
        climbed, level = _climbed(search, fine, here, first * step, spacing_px)
        if climbed is None:
            return replace(done, failed="the tilt left the simulated area")
        for further in _levels(search, fine, climbed, level, spacing_px):
            done = further
    except (DataError, ValueError) as error:
        return replace(done, failed=str(error))
    return done


def _levels(
    search: Search, fine: FineResult, climbed: FineResult, level: Level, spacing_px: float
) -> Iterator[Converged]:
    """Follow what more and more beams change, from a climb on `level` that came after `fine`; the last one counts."""
    step, first, grid = search.settings.beam_check, search.beam_factor, wider_grid(climbed)
    few = simulate(search, level.simulator, grid)
    before, latest, change = fine, climbed, np.zeros(len(climbed.end.values))
    for k in range(1, LEVELS + 1):
        factor = first * step ** (k + 1)
        there = with_more(search, climbed.point.simulator, grid.corners, factor)
        more = Simulated(there, grid, simulate(search, there, grid))
        further = _followed(search, latest, level, grid, (few, more.prepared), spacing_px)
        if further is None:
            msg = "the tilt left the simulated area"
            raise DataError(msg)
        before, earlier, latest = latest, before, further.fine
        last, change = further.change - change, further.change
        left = _left_over(earlier, before, latest, last)
        said = _few(latest, len(there.beams), left, last)
        yield Converged(latest, LIKELY * left, said, "", factor, grid.corners, simulated=more)
        useful = 1 - latest.score < (1 - USEFUL) * (1 - before.score)
        if _settled(latest, left, last, useful) or len(there.beams) > MOST_BEAMS:
            return


def _values(fine: FineResult) -> FloatArray:
    return np.array([fine.point.get(name) for name in fine.names])


def beams_matter(search: Search) -> bool:
    """Whether there are more beams to be had."""
    simulator = search.settings.simulator
    return search.settings.beam_check > 1 and isinstance(simulator, BeamListSimulator) and simulator.beams is None


def _ratio(ahead: FloatArray, moved: FloatArray) -> float:
    """Ratio of successive shifts, within what a sequence of beams does."""
    return float(np.clip(np.linalg.norm(ahead) / max(float(np.linalg.norm(moved)), 1e-300), FASTEST, SLOWEST))


def _left_over(before: FineResult, climbed: FineResult, latest: FineResult, added: FloatArray) -> FloatArray:
    """(P,) what beams that are still left out may shift, from the last two levels and the change between them.

    The last shift is the sum of what its change of the intensities does in each square of pixels. Where these cancel by
    chance, they need not do so the next time: the shift counts as no smaller than their scatter.
    """
    noise = np.sqrt(np.maximum(np.diagonal(latest.covariance), 1e-300))
    moved = [_values(b) - _values(a) for a, b in ((before, climbed), (climbed, latest))]
    geometry = np.array(latest.names) != "blur"  # how far the blur moves says little of the others
    ratio = _ratio((moved[1] / noise)[geometry], (moved[0] / noise)[geometry])
    return np.maximum(np.abs(moved[1]), scattered_shift(latest.end, added)) * ratio / (1 - ratio)


def _settled(fine: FineResult, systematic: FloatArray, change: FloatArray, useful: bool) -> bool:
    """Whether more beams would change nothing that matters; `useful` is whether the last ones mended the residual.

    What matters is measured by noise. Of a residual that is more, beams left out may be the cause.
    """
    noise = np.sqrt(np.maximum(np.diagonal(fine.covariance), 1e-300))
    least = np.maximum(SMALL * noise, [matters(fine, name) for name in fine.names])
    if (systematic > least)[np.array(fine.names) != "blur"].any():
        return False
    # The next change is about half of the last one, and ought to be lost in what is unexplained anyway.
    unexplained = 1 - fine.score
    if useful:
        unexplained *= SHOWS / max(1.0, np.nan_to_num(goodness(fine).total, nan=1.0))
    return bool(0.25 * np.square(fine.end.profiled(change[None])).sum() < unexplained)


def _few(fine: FineResult, n_beams: int, systematic: FloatArray, change: FloatArray) -> str:
    """Say what beams that are left out may still do, if it is much."""
    doing = ""
    if np.square(fine.end.profiled(change[None])).sum() > FEW_VARIANCE:
        doing = "the last of them still changed how the disks look"
    for name, shift in zip(fine.names, systematic, strict=True):
        limit = FEW_PX * fine.end.model.step if name.startswith("tilt") else FEW_SHARE * abs(fine.point.get(name))
        if name in FEW_NAMES and shift > limit:
            doing = f"more may still shift {name} by {shift:.2g}"
            break
    if not doing:
        return ""
    return (
        f"{n_beams} beams are few for {fine.point.thickness:g} angstrom: {doing}. "
        "Lower `strong` and `weak` of the BeamSelection"
    )


def _climbed(
    search: Search, fine: FineResult, simulator: BeamListSimulator, factor: float, spacing_px: float
) -> tuple[FineResult | None, Level]:
    """Climb with more beams, again where parameters of the structure moved far; with the level that it ended on."""
    region = search.fine_grid(fine.point, spacing_px).corners
    latest, level = fine, Level(search, fine.point, simulator)
    for k in range(ROUNDS if search.structure else 1):
        if k:
            simulator = with_more(search, latest.point.simulator, region, factor)
            level = Level(search, latest.point, simulator)
        grid = search.fine_grid(latest.point, spacing_px)
        climbed = search.climb(latest.point, grid, spacing_px, 25, "more beams", level.prepare)
        if climbed is None:
            return None, level
        before, latest = latest.point, replace(climbed, converged=climbed.converged and fine.converged)
        if not any(abs(latest.point.get(p.name) - before.get(p.name)) > FAR * p.step for p in search.structure):
            break
    return latest, level


@dataclass(frozen=True, eq=False)
class _Further:
    """A climb with a change (n,) added to the simulated values."""

    fine: FineResult
    change: FloatArray


def _followed(
    search: Search, start: FineResult, level: Level, grid: TiltGrid, prepared: tuple[Any, Any], spacing_px: float
) -> _Further | None:
    """Climb with the difference of two prepared simulations on a grid added, made once more where the climb ended."""
    latest = start
    for _ in range(FOLLOWED):
        change = difference(search, latest, grid, prepared)
        climb = search.climb(latest.point, latest.end.model.grid, spacing_px, 25, "more beams", level.prepare, change)
        if climb is None:
            return None
        latest = replace(climb, converged=climb.converged and start.converged)
    return _Further(latest, change)
