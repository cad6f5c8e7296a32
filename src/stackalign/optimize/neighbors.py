"""Neighbour search: climb on an integer lattice whose steps shrink."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import isqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign._carriers import plain_array
from stackalign._types import FloatArray

from ._lockstep import (
    Finish,
    Request,
    ScoreFunction,
    Search,
    bounds_array,
    drive,
    per_parameter,
    starts_array,
)
from .result import OptimizeResult

__all__ = ["lattice", "neighbor_search"]

Lattice = NDArray[np.int64]

RESOLUTION = 1e-3
"""Candidates closer than this share of the minimum step, in every parameter, are one candidate to the cache."""


def neighbor_search(
    score: ScoreFunction,
    start: ArrayLike,
    *,
    steps: ArrayLike,
    min_steps: ArrayLike,
    bounds: ArrayLike | None = None,
    n_neighbors: int = 40,
    neighbor_extent: int = 11,
    pairs: Sequence[Sequence[int]] | None = None,
    max_iter: int = 100,
    corr_atol: float = 1e-6,
    corr_rtol: float = 1e-5,
    plateau_iters: int = 3,
    shrink_factor: float | Sequence[float | None] | None = 2.0,
) -> OptimizeResult:
    """Climb to the highest score over neighbours on a lattice around the best point, with steps that shrink.

    An iteration proposes lattice points times the current steps around the centre, and one move of the population: from
    the centre along the change of the neighbours' mean, weighted by their scores. All that was not scored before goes
    out in one call for all problems. The population move is taken if it is no worse than the best neighbour, else the
    centre moves to the best neighbour, or stays. Deterministic; a tie goes to the candidate proposed first.

    Parameters
    ----------
    score : callable
        ``score(params (B, K, P)) -> (B, K)``, finite, higher is better.
    start : array_like
        (P,) for one problem or (B, P); moved into the bounds.
    steps : array_like
        First step of each parameter, in its unit; one number for all or (P,). 0 freezes a parameter.
    min_steps : array_like
        Smallest step, likewise; positive and not above `steps` where a parameter is not frozen.
    bounds : array_like, optional
        (P, 2) or (B, P, 2), lower and upper. Candidates beyond are moved onto them. A range of shifts, as the first
        implementation's `shift_range`, is the bounds of those parameters.
    n_neighbors : int
        Neighbours per iteration, nearest first; opposite neighbours stay together where the number cuts a shell. At
        least two per free parameter.
    neighbor_extent : int
        Neighbours are at most this many steps away.
    pairs : sequence of sequences of int, optional
        Groups of parameters, such as ``((0, 2), (1, 3))``: the neighbourhood becomes the product of one lattice per
        group, together at most `n_neighbors`, so that a kernel can share its work between candidates that agree in a
        group. Parameters that are not named are groups of their own.
    max_iter : int
        Largest number of iterations.
    corr_atol, corr_rtol : float
        The last `plateau_iters` best scores are a plateau if they spread by no more than
        ``corr_atol + corr_rtol * |mean|``.
    plateau_iters : int
        Length of that window, 2 or more, and number of plateaus in a row before the search may stop.
    shrink_factor : float or None, or a sequence of them
        On a plateau steps are divided by it (> 1), down to the minimum step; None goes there at once. One for all
        parameters or one each.

    Returns
    -------
    OptimizeResult
        Reasons: "converged" (a plateau at the minimum steps), "max_iter", "frozen" (all steps are 0). The history holds
        every candidate that was scored, once.

    Raises
    ------
    ValueError
        A setting or a shape does not fit, or a score is not finite.

    Notes
    -----
    The move is measured in steps, not in units: its length is ``f * sqrt(number of free parameters)`` steps with f = 2
    for scores below 0.6, 1 below 0.85, and 0.5 above, so it suits scores that are correlations; others only lose
    some speed. The move of one iteration is scored with the neighbours of the next one, for the sake of the one call.
    Iterations of which everything is known already take no call, and no problem waits in them for another.

    Examples
    --------
    >>> import numpy as np
    >>> def score(params):  # a hill with its top at (3, -1), for any number of candidates
    ...     return 1 - 0.01 * ((params - (3.0, -1.0)) ** 2).sum(axis=-1)
    >>> from stackalign.optimize import neighbor_search
    >>> found = neighbor_search(score, (0.0, 0.0), steps=1.0, min_steps=0.05, corr_atol=1e-9, corr_rtol=1e-9)
    >>> found.parameters.round(2)
    array([[ 3., -1.]])
    >>> found.reason
    ('converged',)
    """
    starts = starts_array(start)
    n_parameters = starts.shape[1]
    lower, upper = bounds_array(bounds, (len(starts), n_parameters))
    settings = _Settings(
        steps=per_parameter(steps, n_parameters, "steps"),
        min_steps=per_parameter(min_steps, n_parameters, "min_steps"),
        factors=_factors(shrink_factor, n_parameters),
        offsets=np.zeros((0, n_parameters), np.int64),
        max_iter=max_iter,
        atol=corr_atol,
        rtol=corr_rtol,
        plateau_iters=plateau_iters,
    )
    _check(settings, n_neighbors, neighbor_extent)
    offsets = lattice(settings.steps > 0, n_neighbors, extent=neighbor_extent, pairs=pairs)
    settings = replace(settings, offsets=offsets)
    searches = [_search(settings, *problem) for problem in zip(starts, lower, upper, strict=True)]
    return drive(score, searches, n_parameters, lower, upper)


@dataclass(frozen=True)
class _Settings:
    steps: FloatArray
    min_steps: FloatArray
    factors: FloatArray
    offsets: Lattice
    max_iter: int
    atol: float
    rtol: float
    plateau_iters: int


def _factors(value: float | Sequence[float | None] | None, n_parameters: int) -> FloatArray:
    """Shrink factors as (P,); None, the jump to the minimum step, is a division by infinity."""
    values = [value] * n_parameters if value is None or np.isscalar(value) else list(value)  # type: ignore[arg-type]
    factors = np.array([np.inf if factor is None else factor for factor in values], np.float64)
    if factors.shape != (n_parameters,) or not (factors > 1).all():
        msg = f"shrink_factor must be above 1 or None, one for all or {n_parameters}, got {value!r}"
        raise ValueError(msg)
    return factors


def _check(settings: _Settings, n_neighbors: int, neighbor_extent: int) -> None:
    free = settings.steps > 0
    if not ((settings.min_steps > 0) & (settings.min_steps <= settings.steps))[free].all():
        msg = (
            "min_steps must be positive and not above steps where a parameter is not frozen, got "
            f"min_steps {settings.min_steps.tolist()} for steps {settings.steps.tolist()}"
        )
        raise ValueError(msg)
    for name, value, least in (
        ("n_neighbors", n_neighbors, max(1, 2 * int(free.sum()))),
        ("neighbor_extent", neighbor_extent, 1),
        ("max_iter", settings.max_iter, 1),
        ("plateau_iters", settings.plateau_iters, 2),
        ("corr_atol", settings.atol, 0),
        ("corr_rtol", settings.rtol, 0),
    ):
        if not value >= least:
            msg = f"{name} must be {least} or more, got {value}"
            raise ValueError(msg)


# --- the lattice -----------------------------------------------------------------------------------------------------


def _shell(n: int, squared: int) -> Iterator[tuple[int, ...]]:
    """Integer points of n dimensions with that squared length, in lexicographic order."""
    if n == 1:
        root = isqrt(squared)
        if root * root == squared:
            yield from ((-root,), (root,)) if root else ((0,),)
        return
    reach = isqrt(squared)
    for first in range(-reach, reach + 1):
        for rest in _shell(n - 1, squared - first * first):
            yield (first, *rest)


def _ball(n: int, count: int, extent: int) -> list[tuple[int, ...]]:
    """The first `count` points around 0, 0 first, nearest first, opposite points next to each other."""
    points: list[tuple[int, ...]] = []
    for squared in range(extent * extent + 1):
        for point in _shell(n, squared):
            opposite = tuple(-k for k in point)
            # Of two opposite points the larger stands for both; a cut then takes no side.
            if point >= opposite:
                points.extend([point] if point == opposite else [point, opposite])
        if len(points) >= count:
            break
    return points[:count]


def lattice(
    free: ArrayLike, n_neighbors: int, *, extent: int = 11, pairs: Sequence[Sequence[int]] | None = None
) -> Lattice:
    """Neighbours of the origin on the integer lattice, nearest first.

    Parameters
    ----------
    free : array_like
        (P,) bool; columns of parameters that are not free stay 0.
    n_neighbors : int
        How many at most.
    extent : int
        Longest distance.
    pairs : sequence of sequences of int, optional
        Groups of parameters; the result is then a product of one lattice per group. See `neighbor_search`.

    Returns
    -------
    numpy.ndarray
        (N, P) int64 with N <= `n_neighbors`, without the origin.

    Raises
    ------
    ValueError
        A parameter is in two groups, or does not exist.

    Examples
    --------
    >>> from stackalign.optimize import lattice
    >>> lattice((True, False, True), 4)
    array([[ 0,  0,  1],
           [ 0,  0, -1],
           [ 1,  0,  0],
           [-1,  0,  0]])
    """
    is_free = plain_array(free, bool, "free")
    n_parameters = len(is_free)
    active = [i for i in range(n_parameters) if is_free[i]]
    if not active:
        return np.zeros((0, n_parameters), np.int64)
    if pairs is None:
        groups = [active]
    else:
        named = [i for group in pairs for i in group]
        if len(set(named)) != len(named) or not set(named) <= set(range(n_parameters)):
            msg = f"pairs must name each of the {n_parameters} parameters at most once, got {pairs!r}"
            raise ValueError(msg)
        groups = [[i for i in group if is_free[i]] for group in pairs] + [[i] for i in active if i not in named]
        groups = [group for group in groups if group]
    # The origin counts as a point of each group's lattice, and is taken out of the product.
    share = int((n_neighbors + 1) ** (1 / len(groups)) + 1e-9) if len(groups) > 1 else n_neighbors + 1
    # An odd number keeps opposite points together. With less than the first shell a parameter of the group would never
    # move; what is too much is cut off below.
    share -= len(groups) > 1 and share % 2 == 0
    balls = [_ball(len(group), max(share, 2 * len(group) + 1), extent) for group in groups]
    points = np.zeros((int(np.prod([len(ball) for ball in balls])), n_parameters), np.int64)
    for row, combination in zip(points, product(*balls), strict=True):
        for group, part in zip(groups, combination, strict=True):
            row[group] = part
    order = np.argsort((points**2).sum(axis=1), kind="stable")
    return points[order][1 : n_neighbors + 1]


# --- one problem -----------------------------------------------------------------------------------------------------


def _search(settings: _Settings, start: FloatArray, lower: FloatArray, upper: FloatArray) -> Search:
    """The search for one problem; see `_lockstep`."""
    free = settings.steps > 0
    resolution = np.where(free, RESOLUTION * settings.min_steps, 1.0)
    cache: dict[bytes, float] = {}
    origin = np.clip(start, lower, upper)
    steps, centre = settings.steps.copy(), origin
    previous_mean, move = centre, np.zeros((0, len(start)))
    recent: list[float] = []
    plateaus = 0
    for iteration in range(settings.max_iter):
        points = np.clip(np.concatenate([centre[None], centre + settings.offsets * steps, move]), lower, upper)
        kept, keys = _distinct((points - origin) / resolution)
        last_kept, points = kept[-1] == len(points) - 1, points[kept]
        new = [i for i, key in enumerate(keys) if key not in cache]
        if new:
            answer = yield Request(iteration, points[new])
            cache.update(zip([keys[i] for i in new], answer.tolist(), strict=True))
        if not free.any():
            return Finish("frozen", 1)
        scores = np.array([cache[key] for key in keys])
        best = int(np.argmax(scores))
        # The move comes last and is taken if it is no worse, but not where nothing at all was gained.
        if len(move) and last_kept and scores[-1] == scores[best] > scores[0]:
            best = len(scores) - 1
        centre = points[best]
        recent.append(float(scores[best]))
        window = recent[-settings.plateau_iters :]
        allowed = settings.atol + settings.rtol * abs(float(np.mean(window)))
        if len(window) == settings.plateau_iters and max(window) - min(window) <= allowed:
            plateaus += 1
            # Only steps that have been tried count as the smallest ones.
            if plateaus >= settings.plateau_iters and (steps <= settings.min_steps)[free].all():
                return Finish("converged", iteration + 1)
            steps = np.maximum(steps / settings.factors, settings.min_steps) * free
        else:
            plateaus = 0
        weights = scores - scores.min() + 1e-6
        mean = weights @ points / weights.sum()
        move = _population_move(centre, mean - previous_mean, steps, float(scores[best]))
        previous_mean = mean
    return Finish("max_iter", settings.max_iter)


def _distinct(lattice_points: FloatArray) -> tuple[list[int], list[bytes]]:
    """Which points (K, P) do not come to lie on an earlier one, in units of the cache's resolution; and their keys."""
    first: dict[bytes, int] = {}
    # + 0.0 turns -0.0 into 0.0, which are one number and two keys.
    for i, row in enumerate(np.rint(lattice_points) + 0.0):
        first.setdefault(row.tobytes(), i)
    return list(first.values()), list(first)


def _population_move(centre: FloatArray, drift: FloatArray, steps: FloatArray, score: float) -> FloatArray:
    """The point (1, P) that the population drifts to, or none (0, P) where it rests."""
    free = steps > 0
    direction = np.divide(drift, steps, out=np.zeros_like(drift), where=free)
    length = float(np.linalg.norm(direction))
    if length < RESOLUTION:
        return np.zeros((0, len(centre)))
    factor = 2.0 if score < 0.6 else 1.0 if score < 0.85 else 0.5
    moved: FloatArray = centre + factor * np.sqrt(free.sum()) * steps * direction / length
    return moved[None]
