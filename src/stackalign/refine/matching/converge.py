"""The end of a search: what beams left out do to the parameters, and the correction for it."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stackalign._types import FloatArray
from stackalign.errors import DataError, StackalignWarning
from stackalign.ops import asarray
from stackalign.refine.simulator import BeamListSimulator

from .climb import FineResult
from .grid import TiltGrid, rectangle
from .model import Point
from .search import Search

__all__ = ["Converged", "converge", "few_beams", "more_beams"]

SHARE = 0.5
"""What the beams that are still left out may do, in units of what those added at the end did."""
ROUNDS = 2
"""Simulations with more beams, where parameters of the structure move."""
FAR = 10.0
"""Steps of the derivatives; a parameter of the structure that moved further is looked at once more."""


@dataclass(frozen=True, eq=False)
class Converged:
    """The end of a search.

    Parameters
    ----------
    fine : FineResult
        With more beams, where there was a way to have them.
    shift : numpy.ndarray or None
        (P,) by how much these moved the parameters; None where it is not known.
    few : str
        What the simulation with more beams says if these are still few.
    failed : str
        Why there was no such simulation.
    factor : float
        By what the thresholds of the beams were divided for `fine`.
    beam_tilts : tuple or None
        Corners of the region of tilts for which they were chosen; None for those of the search.
    """

    fine: FineResult
    shift: FloatArray | None = None
    few: str = ""
    failed: str = ""
    factor: float = 1.0
    beam_tilts: tuple[tuple[float, float], tuple[float, float]] | None = None

    @property
    def systematic(self) -> FloatArray | None:
        """(P,) what the beams that are still left out may do."""
        return None if self.shift is None else SHARE * self.shift


@dataclass(frozen=True, eq=False)
class _Corrected:
    """Intensities of a simulation, plus the difference that more beams made nearby."""

    prepared: Any
    few: Any
    more: Any

    def intensities(self, thicknesses: Any, reflections: Any) -> Any:
        found = self.prepared.intensities(thicknesses, reflections)
        return found + self.more.intensities(thicknesses, reflections) - self.few.intensities(thicknesses, reflections)


def converge(search: Search, fine: FineResult, spacing_px: float) -> Converged:
    """Climb again with more beams.

    Derivatives with respect to the structure are still those of the few beams, to which the difference that more beams
    make at one set of parameters is added: one or two simulations with more beams are enough, whatever is refined.
    """
    factor, simulator = search.settings.beam_check, search.settings.simulator
    if factor == 1 or not isinstance(simulator, BeamListSimulator) or simulator.beams is not None:
        return Converged(fine)
    started = np.array([fine.point.get(name) for name in fine.names])
    few = ""
    found = fine
    for _ in range(ROUNDS if search.dear else 1):
        point, made = found.point, dict[TiltGrid, tuple[Any, Any]]()

        def prepare(changes: Mapping[str, float], grid: TiltGrid, point: Any = point, made: Any = made) -> Any:
            if grid not in made:
                before = search.prepare(point.simulator, grid) if search.dear else None
                made[grid] = before, more_beams(search, point.simulator, grid, factor)
            before, more = made[grid]
            return _Corrected(search.prepare(changes, grid), before, more) if search.dear else more

        grid = search.fine_grid(point, spacing_px)
        try:
            climbed = search.climb(point, grid, spacing_px, 25, "more beams", prepare)
        except (DataError, ValueError) as error:
            return Converged(found, failed=str(error))
        if climbed is None:
            return Converged(found, failed="the tilt left the simulated area")
        few = _few(next(iter(made.values()))[1], climbed.point.thickness, search.reflections)
        found = replace(climbed, converged=climbed.converged and fine.converged)
        steps = {p.name: p.step for p in search.dear}
        if not any(abs(found.point.get(n) - point.get(n)) > FAR * step for n, step in steps.items()):
            break
    ended = np.array([found.point.get(name) for name in found.names])
    return Converged(found, ended - started, few, factor=factor, beam_tilts=next(reversed(made)).corners)


def more_beams(
    search: Search,
    changes: Mapping[str, float],
    grid: TiltGrid,
    factor: float,
    region: tuple[tuple[float, float], tuple[float, float]] | None = None,
) -> Any:
    """Simulate with more beams, chosen for these very parameters, and for all of the grid or for a region of tilts."""
    simulator: Any = search.settings.simulator
    full = search.driven(changes)
    simulator = (simulator.with_parameters(full) if full else simulator).tighter(factor)
    simulator = simulator.with_beams(rectangle(grid.corners if region is None else region))
    search.count(grid)
    return simulator.prepare({}, asarray(grid.tilts, device=search.settings.device))


def few_beams(search: Search, point: Point) -> str:
    """Return what the simulation says if its beams are few for a point."""
    grid = search.fine_grid(point, search.fine_px())
    prepared = search.prepare(point.simulator, TiltGrid(grid.first, grid.spacing, (1, 1)))
    return _few(prepared, point.thickness, search.reflections)


def _few(prepared: Any, thickness: float, reflections: Any) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prepared.intensities([thickness], reflections)
    return next((str(item.message) for item in caught if issubclass(item.category, StackalignWarning)), "")
