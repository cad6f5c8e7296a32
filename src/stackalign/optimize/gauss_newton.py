"""Gauss-Newton with Levenberg-Marquardt damping, B problems in lock-step."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign._types import FloatArray

from ._lockstep import bounds_array, per_parameter, starts_array
from .result import OptimizeResult

__all__ = ["GaussNewtonResult", "Linearize", "gauss_newton"]

Linearize = Callable[[FloatArray], tuple[FloatArray, FloatArray, FloatArray]]
"""``linearize(params (B, P)) -> (score (B,), gradient (B, P), normal (B, P, P))``."""

CovarianceHook = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
"""``covariance(parameters (B, P), score (B,), normal (B, P, P)) -> (B, P, P)``."""

LEAST_DAMPING, MOST_DAMPING = 1e-9, 1e12


@dataclass(frozen=True)
class GaussNewtonResult(OptimizeResult):
    """Outcome of `gauss_newton`: an `OptimizeResult` with the linearization at the optimum.

    Parameters
    ----------
    gradient : numpy.ndarray
        (B, P) of the score at `parameters`.
    normal : numpy.ndarray
        (B, P, P), minus the approximate Hessian of the score there.
    covariance : numpy.ndarray or None
        (B, P, P) from the hook, in the parameters' units; None without one.
    """

    gradient: FloatArray
    normal: FloatArray
    covariance: FloatArray | None


def gauss_newton(
    linearize: Linearize,
    start: ArrayLike,
    *,
    tolerance: ArrayLike,
    bounds: ArrayLike | None = None,
    max_iter: int = 50,
    max_step: ArrayLike | None = None,
    damping: float = 1e-3,
    covariance: CovarianceHook | None = None,
) -> GaussNewtonResult:
    """Climb to a maximum of a score whose gradient and approximate curvature are known.

    A step solves ``(N + damping * diag(N)) step = gradient``. It is accepted only if the score does not fall; the
    damping is lowered after a step that did what the linearization predicted, and raised after one that did not.
    Parameters on a bound that the gradient pushes outwards are left out of the step.

    Parameters
    ----------
    linearize : callable
        ``linearize(params (B, P)) -> (score (B,), gradient (B, P), normal (B, P, P))``, all finite. `normal` is
        positive semi-definite and approximates minus the Hessian of the score. One call per iteration holds all
        problems; those that have stopped are repeated where they ended, and neither looked at nor counted.
    start : array_like
        (P,) for one problem or (B, P); moved into the bounds.
    tolerance : array_like
        A problem has converged when the next step, without damping, is no longer than this in every parameter; one
        number or (P,), in the parameters' units.
    bounds : array_like, optional
        (P, 2) or (B, P, 2), lower and upper.
    max_iter : int
        Largest number of steps that are tried.
    max_step : array_like, optional
        Longest step of each parameter, one number or (P,): a longer step is shortened as a whole. It keeps the search
        where the linearization means something.
    damping : float
        At the start, relative to the diagonal of `normal`.
    covariance : callable, optional
        ``covariance(parameters, score, normal) -> (B, P, P)``, called once at the end.

    Returns
    -------
    GaussNewtonResult
        Reasons: "converged", "max_iter", "stalled" (steps had to become shorter than the tolerance to gain anything:
        the gradient does not fit the score, or the tolerance is below the score's rounding), "flat" (gradient and
        curvature are 0: no overlap, or an empty image).

    Raises
    ------
    ValueError
        A setting or a shape does not fit, or `linearize` returned something that is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign.optimize import gauss_newton
    >>> def linearize(params):  # minus half the square of the distance from (3, -1)
    ...     away = np.array([3.0, -1.0]) - params
    ...     return -0.5 * (away**2).sum(axis=1), away, np.tile(np.eye(2), (len(params), 1, 1))
    >>> found = gauss_newton(linearize, [(0.0, 0.0), (9.0, 9.0)], tolerance=1e-6)
    >>> found.parameters.round(4)
    array([[ 3., -1.],
           [ 3., -1.]])
    >>> found.reason
    ('converged', 'converged')
    """
    params = starts_array(start)
    n_problems, n_parameters = params.shape
    lower, upper = bounds_array(bounds, (n_problems, n_parameters))
    agree, longest = _step_limits(tolerance, max_step, n_parameters)
    if max_iter < 1 or not damping > 0:
        msg = f"max_iter must be 1 or more and damping positive, got {max_iter} and {damping}"
        raise ValueError(msg)

    ascent = _Ascent.begin(linearize, np.clip(params, lower, upper), damping)
    while ascent.running.any():
        damped, full = _steps(ascent, lower, upper)
        damped /= np.maximum((np.abs(damped) / longest).max(axis=1, keepdims=True), 1.0)
        step = np.clip(ascent.params + damped, lower, upper) - ascent.params
        # A step may also be short because the damping is high: then nothing was found uphill, which is another matter.
        arrived = np.all(np.abs(np.clip(ascent.params + full, lower, upper) - ascent.params) <= agree, axis=1)
        short = np.all(np.abs(step) <= agree, axis=1)
        ascent.end(arrived, short, max_iter)
        if ascent.running.any():
            ascent.advance(linearize, step)

    params, score, normal = ascent.params, ascent.score, ascent.normal
    return GaussNewtonResult(
        parameters=params,
        score=score,
        n_evaluations=np.array([len(row) for row in ascent.rows], np.int64),
        n_iterations=ascent.iterations,
        reason=tuple(ascent.reason),
        history=tuple(np.array(row) for row in ascent.rows),
        on_bound=np.any(((params <= lower) | (params >= upper)) & (lower < upper), axis=-1),
        gradient=ascent.gradient,
        normal=normal,
        covariance=None if covariance is None else np.asarray(covariance(params, score, normal), np.float64),
    )


@dataclass
class _Ascent:
    """Where B problems stand, what is known of the score there, and what ended those that have ended."""

    params: FloatArray
    score: FloatArray
    gradient: FloatArray
    normal: FloatArray
    damping: FloatArray
    iterations: NDArray[np.int64]
    reason: list[str]
    rows: list[list[FloatArray]]

    @classmethod
    def begin(cls, linearize: Linearize, params: FloatArray, damping: float) -> "_Ascent":
        n = len(params)
        linear = _linearized(linearize, params)
        rows = [[_row(0, params[b], linear[0][b])] for b in range(n)]
        return cls(params, *linear, np.full(n, float(damping)), np.zeros(n, np.int64), [""] * n, rows)

    @property
    def running(self) -> NDArray[np.bool_]:
        return np.array([not reason for reason in self.reason], np.bool_)

    def end(self, arrived: NDArray[np.bool_], short: NDArray[np.bool_], max_iter: int) -> None:
        """End the problems whose next step is within the tolerance, without damping or with it, or is one too many."""
        for b in np.flatnonzero(self.running & (arrived | short | (self.iterations >= max_iter))):
            flat = not self.gradient[b].any() and not self.normal[b].any()
            self.reason[b] = "flat" if flat else "converged" if arrived[b] else "stalled" if short[b] else "max_iter"

    def advance(self, linearize: Linearize, step: FloatArray) -> None:
        """Try a step (B, P) of the problems that go on; it is taken where the score does not fall."""
        running = self.running
        self.iterations += running
        trial = np.where(running[:, None], self.params + step, self.params)
        score, gradient, normal = _linearized(linearize, trial)
        for b in np.flatnonzero(running):
            self.rows[b].append(_row(self.iterations[b], trial[b], score[b]))
        curved = np.einsum("bp,bpq,bq->b", step, self.normal, step)
        predicted = np.einsum("bp,bp->b", self.gradient, step) - 0.5 * curved
        gain = score - self.score
        accepted = running & (gain >= 0)
        self.damping = _damped(self.damping, gain, predicted)
        self.params = np.where(accepted[:, None], trial, self.params)
        self.score = np.where(accepted, score, self.score)
        self.gradient = np.where(accepted[:, None], gradient, self.gradient)
        self.normal = np.where(accepted[:, None, None], normal, self.normal)


def _step_limits(tolerance: ArrayLike, max_step: ArrayLike | None, n_parameters: int) -> tuple[FloatArray, FloatArray]:
    """Steps (P,) below which a problem has converged, and the longest ones."""
    agree = per_parameter(tolerance, n_parameters, "tolerance")
    if not (agree > 0).all():
        msg = f"tolerance must be positive, got {tolerance!r}"
        raise ValueError(msg)
    longest = np.full(n_parameters, np.inf)
    if max_step is not None:
        longest = per_parameter(max_step, n_parameters, "max_step")
    if not (longest > 0).all():
        msg = f"max_step must be positive, got {max_step!r}; bounds hold a parameter"
        raise ValueError(msg)
    return agree, longest


def _damped(lam: FloatArray, gain: FloatArray, predicted: FloatArray) -> FloatArray:
    """Damping (B,) of the next step: lower where the gain was that predicted, higher where it was far from it."""
    # Where nothing is predicted nothing can be confirmed: such a step counts as a poor one.
    quality = np.divide(gain, predicted, out=np.zeros(len(lam)), where=predicted > 0)
    lam = np.where(quality > 0.75, lam / 10, np.where(quality < 0.25, lam * 10, lam))
    return np.clip(lam, LEAST_DAMPING, MOST_DAMPING)


def _row(iteration: int, params: FloatArray, score: float) -> FloatArray:
    return np.array([iteration, *params, score], np.float64)


def _linearized(linearize: Linearize, params: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Call and check."""
    n_problems, n_parameters = params.shape
    shapes = ((n_problems,), (n_problems, n_parameters), (n_problems, n_parameters, n_parameters))
    # A copy, so that a caller who keeps or changes what he was given does no harm.
    values = [np.asarray(value, np.float64) for value in linearize(params.copy())]
    got = tuple(value.shape for value in values)
    if got != shapes:
        msg = f"linearize must return score, gradient and normal of the shapes {shapes}, got {got}"
        raise ValueError(msg)
    for name, value in zip(("score", "gradient", "normal"), values, strict=True):
        bad = np.flatnonzero(~np.isfinite(value.reshape(n_problems, -1)).all(axis=1))
        if len(bad):
            msg = f"linearize returned a {name} that is not finite, for problem {bad[0]} at {params[bad[0]].tolist()}"
            raise ValueError(msg)
    return values[0], values[1], values[2]


def _steps(ascent: _Ascent, lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Damped and undamped steps, both (B, P), over the parameters that are free to move."""
    params, gradient, normal = ascent.params, ascent.gradient, ascent.normal
    held = ((params <= lower) & (gradient <= 0)) | ((params >= upper) & (gradient >= 0))
    # In units of their own curvature, parameters of any scale are alike, and the damping is a number.
    curvature = np.sqrt(np.clip(np.diagonal(normal, axis1=1, axis2=2), 0, None))
    unit = np.divide(1.0, curvature, out=np.zeros_like(curvature), where=(curvature > 0) & ~held)
    values, vectors = np.linalg.eigh(normal * unit[:, :, None] * unit[:, None, :])
    values = np.clip(values, 0, None)
    along = np.einsum("bpk,bp->bk", vectors, gradient * unit)

    def step(damping: FloatArray | float) -> FloatArray:
        steps: FloatArray = np.einsum("bpk,bk->bp", vectors, along / (values + damping)) * unit
        return steps

    return step(ascent.damping[:, None]), step(LEAST_DAMPING)
