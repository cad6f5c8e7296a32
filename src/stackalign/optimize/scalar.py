"""Brent's method for one parameter and the simplex method of Nelder and Mead, for B problems in lock-step.

SciPy has both, one problem and one evaluation at a time; here all problems take a step per call. The steps of one
problem are those of `scipy.optimize.minimize_scalar(method="bounded")` and `scipy.optimize.minimize(method=
"Nelder-Mead")` on minus the score, and the tests hold them together.
"""

import numpy as np
from numpy.typing import ArrayLike

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
    side_by_side,
    starts_array,
)
from .result import OptimizeResult

__all__ = ["maximize_scalar", "nelder_mead"]

ROOT_EPSILON = float(np.sqrt(np.finfo(np.float64).eps))
"""A maximum cannot be told from points nearer than this share of it, because the score is flat there."""

GOLDEN = (3 - np.sqrt(5)) / 2


def maximize_scalar(
    score: ScoreFunction, bounds: ArrayLike, *, tolerance: float = 1e-5, max_iter: int = 500
) -> OptimizeResult:
    """Find a maximum over one parameter by Brent's method: parabolas, and golden sections where they fail.

    Parameters
    ----------
    score : callable
        ``score(params (B, K, 1)) -> (B, K)``, finite, higher is better. Called with K = 1.
    bounds : array_like
        (2,) for one problem or (B, 2): the interval, finite. Its ends themselves are never scored.
    tolerance : float
        Absolute, in the unit of the parameter.
    max_iter : int
        Largest number of evaluations per problem.

    Returns
    -------
    OptimizeResult
        Reasons: "converged", "max_iter". On the bound: the maximum is an end of the interval, to the tolerance.

    Raises
    ------
    ValueError
        A setting or a shape does not fit, or a score is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign.optimize import maximize_scalar
    >>> found = maximize_scalar(lambda params: np.sin(params[..., 0]), [(0.0, 3.0), (6.0, 9.0)])
    >>> found.parameters.round(3)
    array([[1.571],
           [7.854]])
    """
    limits = plain_array(bounds, np.float64, "bounds")
    limits = limits[None] if limits.ndim == 1 else limits
    if limits.ndim != 2 or limits.shape[1] != 2 or not len(limits) or not np.isfinite(limits).all():
        msg = f"bounds must be finite and have the shape (2,) or (B, 2), got {np.shape(bounds)}"
        raise ValueError(msg)
    if not (limits[:, 0] < limits[:, 1]).all():
        msg = "bounds must be (lower, upper) with lower below upper"
        raise ValueError(msg)
    _check_limits(tolerance, max_iter)
    searches = [_brent(low, high, tolerance, max_iter) for low, high in limits.tolist()]
    # The last step before an end is about the tolerance away from it.
    margin = 2 * (tolerance + 2 * ROOT_EPSILON * np.abs(limits).max(axis=1, keepdims=True))
    return drive(score, searches, 1, limits[:, :1] + margin, limits[:, 1:] - margin)


def _check_limits(tolerance: ArrayLike, max_iter: int) -> None:
    if not np.all(np.asarray(tolerance, np.float64) > 0):
        msg = f"tolerance must be positive, got {tolerance!r}"
        raise ValueError(msg)
    if max_iter < 1:
        msg = f"max_iter must be 1 or more, got {max_iter}"
        raise ValueError(msg)


def _brent(low: float, high: float, tolerance: float, max_iter: int) -> Search:
    """Brent (1973), chapter 5, on one interval."""

    def ask(iteration: int, x: float) -> Request:
        return Request(iteration, np.array([[x]]))

    # The three best points, best first, and the last two steps.
    best = second = third = low + GOLDEN * (high - low)
    step = step_before = 0.0
    f_best = f_second = f_third = float((yield ask(0, best))[0])
    for iteration in range(1, max_iter):
        middle = (low + high) / 2
        least = ROOT_EPSILON * abs(best) + tolerance / 3
        if abs(best - middle) <= 2 * least - (high - low) / 2:
            return Finish("converged", iteration)
        parabolic = False
        if abs(step_before) > least:
            r = (best - second) * (f_best - f_third)
            q = (best - third) * (f_best - f_second)
            p = (best - third) * q - (best - second) * r
            q = 2 * (q - r)
            p, q = (-p, q) if q > 0 else (p, -q)
            # A parabola is trusted if it stays inside and steps less than half of the step before the last.
            parabolic = abs(p) < abs(q * step_before / 2) and q * (low - best) < p < q * (high - best)
            step_before = step
            if parabolic:
                step = p / q
                if best + step - low < 2 * least or high - best - step < 2 * least:
                    step = least if middle >= best else -least
        if not parabolic:
            step_before = low - best if best >= middle else high - best
            step = GOLDEN * step_before
        x = best + (max(step, least) if step >= 0 else min(step, -least))
        f = float((yield ask(iteration, x))[0])
        if f >= f_best:
            low, high = (best, high) if x >= best else (low, best)
            third, second, best = second, best, x
            f_third, f_second, f_best = f_second, f_best, f
            continue
        low, high = (x, high) if x < best else (low, x)
        if f >= f_second or second == best:
            third, f_third, second, f_second = second, f_second, x, f
        elif f >= f_third or third in (best, second):
            third, f_third = x, f
    return Finish("max_iter", max_iter)


def nelder_mead(
    score: ScoreFunction,
    start: ArrayLike,
    *,
    steps: ArrayLike,
    tolerance: ArrayLike,
    score_tolerance: float = 1e-9,
    bounds: ArrayLike | None = None,
    max_iter: int = 1000,
) -> OptimizeResult:
    """Climb with a simplex that reflects, expands, contracts and shrinks (Nelder and Mead).

    Parameters
    ----------
    score : callable
        ``score(params (B, K, P)) -> (B, K)``, finite, higher is better.
    start : array_like
        (P,) for one problem, (B, P), or (B, S, P) with S starts per problem that run side by side; the best is
        returned. Moved into the bounds.
    steps : array_like
        Edges of the first simplex, ``start + steps[k]`` along each parameter; one number or (P,). 0 freezes one.
    tolerance : array_like
        The simplex is small enough when its corners agree to this, per parameter; one number or (P,).
    score_tolerance : float
        And when their scores agree to this.
    bounds : array_like, optional
        (P, 2) or (B, P, 2). Points beyond are moved onto them.
    max_iter : int
        Largest number of iterations; an iteration scores one or two points, or P more if the simplex shrinks.

    Returns
    -------
    OptimizeResult
        Reasons: "converged", "max_iter".

    Raises
    ------
    ValueError
        A setting or a shape does not fit, or a score is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> def score(params):  # a hill with its top at (3, -1), for any number of candidates
    ...     return 1 - 0.01 * ((params - (3.0, -1.0)) ** 2).sum(axis=-1)
    >>> from stackalign.optimize import nelder_mead
    >>> found = nelder_mead(score, (0.0, 0.0), steps=1.0, tolerance=1e-5)
    >>> found.parameters.round(3)
    array([[ 3., -1.]])
    """
    values = plain_array(start, np.float64, "start")
    several = values.ndim == 3 and values.size > 0
    starts = starts_array(values.reshape(-1, values.shape[-1]) if several else values)
    starts = starts.reshape(values.shape) if several else starts[:, None]
    n_problems, _, n_parameters = starts.shape
    edges = per_parameter(steps, n_parameters, "steps")
    agree = per_parameter(tolerance, n_parameters, "tolerance")
    _check_limits(agree, max_iter)
    if not score_tolerance >= 0:
        msg = f"score_tolerance must be 0 or more, got {score_tolerance}"
        raise ValueError(msg)
    lower, upper = bounds_array(bounds, (n_problems, n_parameters))
    searches = [
        side_by_side([_simplex(one, edges, agree, score_tolerance, lower[b], upper[b], max_iter) for one in starts[b]])
        for b in range(n_problems)
    ]
    return drive(score, searches, n_parameters, lower, upper)


def _simplex(
    start: FloatArray,
    edges: FloatArray,
    tolerance: FloatArray,
    score_tolerance: float,
    lower: FloatArray,
    upper: FloatArray,
    max_iter: int,
) -> Search:
    origin = np.clip(start, lower, upper)
    corners = np.concatenate([origin[None], origin + np.diag(edges)[edges > 0]])
    # An edge that leaves the bounds is turned inwards, or the simplex would be flat.
    corners = np.clip(np.where(corners > upper, 2 * upper - corners, corners), lower, upper)
    scores = yield Request(0, corners)
    if len(corners) == 1:
        return Finish("converged", 1)
    for iteration in range(1, max_iter + 1):
        order = np.argsort(-scores, kind="stable")
        corners, scores = corners[order], scores[order]
        near = (np.abs(corners[1:] - corners[0]) <= tolerance).all()
        if near and scores[0] - scores[-1] <= score_tolerance:
            return Finish("converged", iteration)
        middle = corners[:-1].mean(axis=0)
        outwards = middle - corners[-1]

        def at(factor: float, middle: FloatArray = middle, outwards: FloatArray = outwards) -> FloatArray:
            moved: FloatArray = np.clip(middle + factor * outwards, lower, upper)
            return moved[None]

        point = at(1.0)
        value = (yield Request(iteration, point))[0]
        if value > scores[0]:
            further = at(2.0)
            far_value = (yield Request(iteration, further))[0]
            if far_value > value:
                point, value = further, far_value
        elif value <= scores[-2]:
            outside = value > scores[-1]
            contracted = at(0.5 if outside else -0.5)
            new_value = (yield Request(iteration, contracted))[0]
            if new_value >= value if outside else new_value > scores[-1]:
                point, value = contracted, new_value
            else:
                corners[1:] = np.clip(corners[0] + (corners[1:] - corners[0]) / 2, lower, upper)
                scores[1:] = yield Request(iteration, corners[1:].copy())
                continue
        corners[-1], scores[-1] = point[0], value
    return Finish("max_iter", max_iter)
