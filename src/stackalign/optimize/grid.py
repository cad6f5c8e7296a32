"""Exhaustive search over a grid, and a pyramid of grids."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from stackalign._carriers import plain_array
from stackalign._types import FloatArray

from ._grid import local_maxima, vertex
from ._lockstep import Finish, Request, ScoreFunction, Search, drive, starts_array
from .result import OptimizeResult

__all__ = ["GridResult", "grid_search", "pyramid_search"]


@dataclass(frozen=True)
class GridResult(OptimizeResult):
    """Outcome of a grid: an `OptimizeResult` with the runners-up.

    Parameters
    ----------
    candidates : numpy.ndarray
        (B, top, P) the highest distinct local maxima, highest first, refined where that was asked for; rows of NaN
        where there are fewer.
    candidate_scores : numpy.ndarray
        (B, top), likewise.
    surface : numpy.ndarray
        (B, n_1, ..., n_P) all scores of the grid, of the coarsest one for a pyramid.
    """

    candidates: FloatArray
    candidate_scores: FloatArray
    surface: FloatArray


def grid_search(
    score: ScoreFunction,
    axes: Sequence[ArrayLike],
    *,
    origin: ArrayLike | None = None,
    top: int = 5,
    chunk: int = 65536,
    refine: bool = False,
) -> GridResult:
    """Score every point of a grid and return the highest local maxima.

    Parameters
    ----------
    score : callable
        ``score(params (B, K, P)) -> (B, K)``, finite, higher is better.
    axes : sequence of array_like
        P increasing 1-D arrays; the grid is their product, the last axis varying fastest. One value freezes a
        parameter.
    origin : array_like, optional
        (P,) or (B, P) that is added to the grid of each problem; by default 0, and one problem.
    top : int
        Number of maxima returned at most. Two of them are never neighbours on the grid.
    chunk : int
        Largest number of candidates in one call, counted over all problems.
    refine : bool
        Also score the top of the paraboloid through the 3^P points around each maximum, and keep it if it is higher.

    Returns
    -------
    GridResult
        The reason is "exhausted". The history holds every point, the grid under iteration 0 and the tops of the
        paraboloids under 1. On the bound: the best lies on the rim of the grid.

    Raises
    ------
    ValueError
        A setting or a shape does not fit, or a score is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> def score(params):  # a hill with its top at (3, -1), for any number of candidates
    ...     return 1 - 0.01 * ((params - (3.0, -1.0)) ** 2).sum(axis=-1)
    >>> from stackalign.optimize import grid_search
    >>> found = grid_search(score, (np.arange(-4.0, 7.0, 1.5), np.arange(-4.0, 7.0, 1.5)), refine=True)
    >>> found.parameters.round(6)
    array([[ 3., -1.]])
    >>> found.surface.shape
    (1, 8, 8)
    """
    lines = _axes(axes)
    _check_least(top=top, chunk=chunk)
    return _run(score, lines, origin, top, 1, chunk, refine)


def pyramid_search(
    score: ScoreFunction,
    axes: Sequence[ArrayLike],
    *,
    levels: int,
    keep: int = 3,
    origin: ArrayLike | None = None,
    chunk: int = 65536,
    refine: bool = True,
) -> GridResult:
    """Search a grid, then ever finer grids around its highest maxima.

    Each level after the first halves the steps and scores the 3^P points around each of the `keep` best; the best of
    each such set goes on. All sets of all problems go out together, `chunk` permitting.

    Parameters
    ----------
    score : callable
        ``score(params (B, K, P)) -> (B, K)``, finite, higher is better.
    axes : sequence of array_like
        The first grid, as in `grid_search`; evenly spaced.
    levels : int
        Number of grids, the first included.
    keep : int
        Number of maxima that are followed.
    origin : array_like, optional
        As in `grid_search`.
    chunk : int
        Largest number of candidates in one call, counted over all problems.
    refine : bool
        After the last level, try the top of the paraboloid through the points around each of the maxima.

    Returns
    -------
    GridResult
        The reason is "exhausted". The history holds every point, under its level; the search for the tops of the
        paraboloids is one more level. No candidate leaves the first grid.

    Raises
    ------
    ValueError
        A setting or a shape does not fit, an axis is not evenly spaced, or a score is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> def score(params):  # a hill with its top at (3, -1), for any number of candidates
    ...     return 1 - 0.01 * ((params - (3.0, -1.0)) ** 2).sum(axis=-1)
    >>> from stackalign.optimize import pyramid_search
    >>> found = pyramid_search(score, (np.linspace(-8, 8, 9), np.linspace(-8, 8, 9)), levels=4)
    >>> found.parameters.round(6)
    array([[ 3., -1.]])
    >>> int(found.n_evaluations[0]) < 33 * 33
    True
    """
    lines = _axes(axes)
    _check_least(levels=levels, keep=keep, chunk=chunk)
    for p, line in enumerate(lines):
        if len(line) > 2 and not np.allclose(np.diff(line), (line[-1] - line[0]) / (len(line) - 1), rtol=1e-6, atol=0):
            msg = f"axes of a pyramid must be evenly spaced; axis {p} is not"
            raise ValueError(msg)
    return _run(score, lines, origin, keep, levels, chunk, refine)


def _axes(axes: Sequence[ArrayLike]) -> list[FloatArray]:
    lines = [plain_array(axis, np.float64, "axes") for axis in axes]
    for p, line in enumerate(lines):
        if line.ndim != 1 or not line.size or not np.isfinite(line).all() or not (np.diff(line) > 0).all():
            msg = f"axes must be finite, increasing 1-D arrays with at least one value; axis {p} is not"
            raise ValueError(msg)
    if not lines:
        msg = "axes must name at least one parameter"
        raise ValueError(msg)
    return lines


def _check_least(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            msg = f"{name} must be 1 or more, got {value}"
            raise ValueError(msg)


def _run(
    score: ScoreFunction,
    lines: list[FloatArray],
    origin: ArrayLike | None,
    top: int,
    levels: int,
    chunk: int,
    refine: bool,
) -> GridResult:
    origins = starts_array(np.zeros(len(lines)) if origin is None else origin)
    if origins.shape[1] != len(lines):
        msg = f"origin must have {len(lines)} columns, one per axis, got {origins.shape[1]}"
        raise ValueError(msg)
    n_problems, n_parameters = origins.shape
    plan = _Plan(lines, top, levels, max(1, chunk // n_problems), refine)
    outcomes = [_Outcome() for _ in origins]
    searches = [_search(plan, *problem) for problem in zip(origins, outcomes, strict=True)]
    lower = origins + [line[0] for line in lines]
    upper = origins + [line[-1] for line in lines]
    result = drive(score, searches, n_parameters, lower, upper)
    candidates = np.full((n_problems, top, n_parameters), np.nan)
    scores = np.full((n_problems, top), np.nan)
    for b, outcome in enumerate(outcomes):
        candidates[b, : len(outcome.scores)] = outcome.points
        scores[b, : len(outcome.scores)] = outcome.scores
    return GridResult(
        **{field.name: getattr(result, field.name) for field in fields(result)},
        candidates=candidates,
        candidate_scores=scores,
        surface=np.stack([outcome.surface for outcome in outcomes]),
    )


# --- one problem -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    lines: list[FloatArray]
    top: int
    levels: int
    batch: int
    refine: bool


class _Outcome:
    """What a search leaves behind beside its history."""

    surface: FloatArray
    points: FloatArray
    scores: FloatArray


def _search(plan: _Plan, origin: FloatArray, outcome: _Outcome) -> Search:
    """The search for one problem; see `_lockstep`."""
    axes = [line + o for line, o in zip(plan.lines, origin, strict=True)]
    surface = yield from _score_product(axes, plan.batch, 0)
    indices = local_maxima(surface, plan.top)
    points = np.array([[axis[i] for axis, i in zip(axes, index, strict=True)] for index in indices])
    scores = surface[tuple(indices.T)]
    vertices: list[FloatArray | None] = [None] * len(points)
    if plan.levels == 1 and plan.refine:
        vertices = [vertex(surface, axes, index) for index in indices]
    steps = np.array([(line[-1] - line[0]) / max(len(line) - 1, 1) for line in plan.lines])
    for level in range(1, plan.levels):
        steps = steps / 2
        stencils = [_axes_around(point, steps, axes) for point in points]
        surfaces = yield from _score_stencils(stencils, plan.batch, level)
        for k, (around, values) in enumerate(zip(stencils, surfaces, strict=True)):
            best = np.unravel_index(int(values.argmax()), values.shape)
            if values[best] > scores[k]:
                points[k], scores[k] = [axis[i] for axis, i in zip(around, best, strict=True)], values[best]
    if plan.levels > 1 and plan.refine:
        stencils = [_axes_around(point, steps, axes) for point in points]
        surfaces = yield from _score_stencils(stencils, plan.batch, plan.levels)
        vertices = []
        for point, around, values in zip(points, stencils, surfaces, strict=True):
            middle = np.array([int(np.abs(axis - x).argmin()) for axis, x in zip(around, point, strict=True)])
            vertices.append(vertex(values, around, middle))
    tried = [k for k, top in enumerate(vertices) if top is not None]
    if tried:
        tops = np.array([vertices[k] for k in tried])
        values = yield Request(plan.levels, tops)
        for k, top, value in zip(tried, tops, values, strict=True):
            if value > scores[k]:
                points[k], scores[k] = top, value
    order = np.argsort(-scores, kind="stable")
    outcome.surface, outcome.points, outcome.scores = surface, points[order], scores[order]
    return Finish("exhausted", plan.levels)


def _score_product(axes: list[FloatArray], batch: int, iteration: int) -> Generator[Request, FloatArray, FloatArray]:
    """Have the product of axes scored, in batches that are never held all together."""
    shape = tuple(len(axis) for axis in axes)
    flat = np.empty(int(np.prod(shape)))
    for start in range(0, flat.size, batch):
        indices = np.unravel_index(np.arange(start, min(start + batch, flat.size)), shape)
        points = np.stack([axis[i] for axis, i in zip(axes, indices, strict=True)], axis=-1)
        flat[start : start + batch] = yield Request(iteration, points)
    return flat.reshape(shape)


def _score_stencils(
    stencils: list[list[FloatArray]], batch: int, iteration: int
) -> Generator[Request, FloatArray, list[FloatArray]]:
    """Have several small products of axes scored together; their middles, known already, are scored once more."""
    parts = [np.stack([x.ravel() for x in np.meshgrid(*axes, indexing="ij")], axis=-1) for axes in stencils]
    points = np.concatenate(parts)
    flat = np.empty(len(points))
    for start in range(0, len(points), batch):
        flat[start : start + batch] = yield Request(iteration, points[start : start + batch])
    ends = np.cumsum([len(part) for part in parts])[:-1]
    return [
        values.reshape([len(axis) for axis in axes])
        for values, axes in zip(np.split(flat, ends), stencils, strict=True)
    ]


def _axes_around(point: FloatArray, steps: FloatArray, axes: list[FloatArray]) -> list[FloatArray]:
    """A point and its neighbours one step away along each axis, as far as they are within the first grid."""
    around = []
    for x, step, axis in zip(point, steps, axes, strict=True):
        line = x + step * np.array([-1.0, 0.0, 1.0] if step > 0 else [0.0])
        slack = 1e-9 * step
        around.append(np.clip(line[(line >= axis[0] - slack) & (line <= axis[-1] + slack)], axis[0], axis[-1]))
    return around
