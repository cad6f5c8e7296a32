"""Simulations of one more level of beams each, on grids that serve a climb."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stackalign._types import FloatArray
from stackalign.errors import StackalignWarning
from stackalign.ops import asarray, to_numpy
from stackalign.refine.simulator import BeamListSimulator

from .climb import FineResult
from .grid import TiltGrid, rectangle
from .model import Model, Point
from .search import Search

__all__ = [
    "Corners",
    "Level",
    "Simulated",
    "difference",
    "few_beams",
    "more_beams",
    "simulate",
    "wider_grid",
    "with_more",
]

WIDER = 2.0
"""Spacing of the grid on which the next level is looked at, over that of the fine grid."""


Corners = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Simulated:
    """A simulator whose beams are fixed, and what it gave on a grid."""

    simulator: BeamListSimulator
    grid: TiltGrid
    prepared: Any


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
class Level:
    """Simulations of one level, made for each grid that a climb asks for, at one set of structure parameters."""

    search: Search
    point: Point
    simulator: BeamListSimulator
    made: dict[TiltGrid, Any] = field(default_factory=dict)

    def prepare(self, changes: Mapping[str, float], grid: TiltGrid) -> Any:
        """Simulate; derivatives by the structure are those of the few beams."""
        search, structure = self.search, self.point.simulator
        if grid not in self.made:
            self.made[grid] = simulate(search, self.simulator, grid)
        more = self.made[grid]
        return (
            _Corrected(search.prepare(changes, grid), search.prepare(structure, grid), more)
            if search.structure
            else more
        )


def difference(search: Search, fine: FineResult, grid: TiltGrid, prepared: tuple[Any, Any]) -> FloatArray:
    """(n,) difference at the pixels that more beams make."""
    model, both = fine.end.model, []
    for each in prepared:
        images = to_numpy(grid.images(each, [fine.point.thickness], search.reflections))
        other = Model(model.pixels, grid, _Fixed(images).prepare, search.reflections, model.hook, model.step)
        values = other.at(other.filtered(fine.point), fine.point.frame)
        if values is None:
            msg = "the tilt left the simulated area"
            raise ValueError(msg)
        both.append(values)
    return both[1] - both[0]


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


def with_more(search: Search, structure: Mapping[str, float], region: Corners, factor: float) -> BeamListSimulator:
    """Return a simulator with more beams, chosen for these very parameters and a region of tilts."""
    simulator = search.settings.simulator
    assert isinstance(simulator, BeamListSimulator)
    full = search.driven(structure)
    return (simulator.with_parameters(full) if full else simulator).tighter(factor).with_beams(rectangle(region))


def simulate(search: Search, simulator: BeamListSimulator, grid: TiltGrid) -> Any:
    """Simulate a grid, which is counted."""
    search.count(grid)
    return simulator.prepare({}, asarray(grid.tilts, device=search.settings.device))


def more_beams(
    search: Search, structure: Mapping[str, float], grid: TiltGrid, factor: float, region: Corners | None = None
) -> Any:
    """Simulate with more beams, chosen for all of the grid or for a region of tilts."""
    return simulate(search, with_more(search, structure, region or grid.corners, factor), grid)


def few_beams(search: Search, point: Point) -> str:
    """Return what the simulation says if its beams are few for a point."""
    grid = search.fine_grid(point, search.fine_px())
    prepared = search.prepare(point.simulator, TiltGrid(grid.first, grid.spacing, (1, 1)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prepared.intensities([point.thickness], search.reflections)
    return next((str(item.message) for item in caught if issubclass(item.category, StackalignWarning)), "")
