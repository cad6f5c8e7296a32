"""The last stage: all wanted parameters together, from the derivatives of the simulated values at the pixels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stackalign._types import FloatArray

from .measured import Pixels
from .model import FREE, Correlation, Model, Point, correlate

__all__ = ["End", "FineResult", "climb", "matters", "scattered_shift", "squares"]

MATTERS = {"tilt_x": 0.1, "tilt_y": 0.1, "thickness": 2e-3, "gl": 1e-3, "rotation": 0.05, "kv": 2e-4}
"""What is worth to be said of a parameter: pixels of tilt, shares of a length, degrees."""
BLOCK_PX = 8
"""Side of the squares within which residuals may be correlated, in pixels of the experiment."""


@dataclass(frozen=True, eq=False)
class End:
    """Where a climb ended, for what is asked of its residual.

    Parameters
    ----------
    model : Model
        The simulation and the pixels that it was compared with.
    values : numpy.ndarray
        (n,) simulated values at the pixels.
    rows : numpy.ndarray
        (P, n) their derivatives with respect to the fitted parameters.
    correlation : Correlation
        Of `values` with the measured ones.
    weights : numpy.ndarray
        (G,) weights of the groups of pixels that are correlated each by itself.
    joint : bool
        Whether all disks are one group.
    """

    model: Model
    values: FloatArray
    rows: FloatArray
    correlation: Correlation
    weights: FloatArray
    joint: bool

    def profiled(self, rows: FloatArray) -> FloatArray:
        """Return (Q, n) changes of the scaled simulation, as the least squares of the climb sees them."""
        share = np.sqrt(self.weights)[self.correlation.groups]
        scale = self.correlation.scores[self.correlation.groups] * share
        return np.stack([self.correlation.project(row) for row in rows]) * scale

    @property
    def residual(self) -> FloatArray:
        """(n,) measured less scaled simulated values, in the same units."""
        correlation = self.correlation
        share = np.sqrt(self.weights)[correlation.groups]
        return np.asarray(
            share * (correlation.measured - correlation.scores[correlation.groups] * correlation.simulated)
        )


@dataclass(frozen=True, eq=False)
class FineResult:
    """A maximum of the correlation.

    Parameters
    ----------
    point : Point
        Values.
    score : float
        Weighted over the disks.
    disk_scores : numpy.ndarray
        (D,) coefficients per disk.
    names : tuple of str
        Fitted parameters, of the covariance's rows.
    covariance : numpy.ndarray
        (P, P) from the residual, as if it were independent between squares of pixels.
    correlation : numpy.ndarray
        (P, P) of the curvature.
    converged : bool
        Whether the steps became small.
    left : bool
        Whether the tilt reached the end of the grid.
    history : tuple
        (score, values) of all that were scored.
    end : End
        Simulation and derivatives at the maximum.
    """

    point: Point
    score: float
    disk_scores: FloatArray
    names: tuple[str, ...]
    covariance: FloatArray
    correlation: FloatArray
    converged: bool
    left: bool
    history: tuple[tuple[float, dict[str, float]], ...]
    end: End


@dataclass(eq=False)
class _State:
    point: Point
    values: FloatArray
    correlation: Correlation
    score: float


class _Climb:
    def __init__(
        self,
        model: Model,
        names: Sequence[str],
        joint: bool,
        weights: FloatArray,
        steps: Mapping[str, float],
        bounds: Mapping[str, tuple[float, float]],
    ) -> None:
        self.model, self.names, self.joint, self.bounds = model, tuple(names), joint, bounds
        self.weights = np.ones(1) if joint else weights / weights.sum()
        self.steps = steps
        self.left = False
        self.history: list[tuple[float, dict[str, float]]] = []

    def evaluate(self, point: Point, splines: Sequence[FloatArray] | None = None) -> _State | None:
        splines = self.model.filtered(point) if splines is None else splines
        values = self.model.at(splines, point.frame)
        if values is None:
            self.left = True
            return None
        correlation = correlate(self.model.pixels, values, self.joint)
        score = float((correlation.scores * self.weights).sum())
        self.history.append((score, {name: point.get(name) for name in self.names}))
        return _State(point, values, correlation, score)

    def derivatives(self, state: _State, frozen: dict[str, FloatArray]) -> FloatArray:
        """(P, n) derivatives of the simulated values; those with decompositions are taken from `frozen` if there."""
        splines = self.model.filtered(state.point)
        rows = []
        for name in self.names:
            if name in frozen:
                rows.append(frozen[name])
                continue
            step, base = self.steps[name], state.point.get(name)
            both = []
            # Decompositions are costly: one side; and a blur has no negative side.
            one_sided = name not in FREE or (name == "blur" and base < step)
            sides = (step, 0.0) if one_sided else (step, -step)
            if name not in FREE and base + step > self.bounds.get(name, (-np.inf, np.inf))[1]:
                sides = (-step, 0.0)
            for side in sides:
                point = state.point.moved({name: base + side})
                keep = splines if name in ("tilt_x", "tilt_y", "gl", "rotation") or side == 0 else None
                values = self.model.at(self.model.filtered(point) if keep is None else keep, point.frame)
                both.append(state.values if values is None else values)
            rows.append((both[0] - both[1]) / (sides[0] - sides[1]))
            if name not in FREE:
                frozen[name] = rows[-1]
        return np.stack(rows)

    def normal(self, state: _State, rows: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Jacobian, residual, normal matrix and gradient of the profiled least squares."""
        end = self.end(state, rows)
        jacobian, residual = end.profiled(rows), end.residual
        return jacobian, residual, jacobian @ jacobian.T, jacobian @ residual

    def end(self, state: _State, rows: FloatArray) -> End:
        return End(self.model, state.values, rows, state.correlation, self.weights, self.joint)

    def clip(self, changes: dict[str, float]) -> dict[str, float]:
        for name, value in changes.items():
            low, high = self.bounds.get(name, (-np.inf, np.inf))
            changes[name] = min(max(value, low), high)
        return changes


def climb(
    model: Model,
    start: Point,
    names: Sequence[str],
    *,
    joint: bool,
    weights: FloatArray,
    steps: Mapping[str, float],
    bounds: Mapping[str, tuple[float, float]],
    max_iter: int = 25,
    on_step: Callable[[int], None] | None = None,
) -> FineResult | None:
    """Climb with damped Gauss-Newton steps; None if the start leaves the grid."""
    job = _Climb(model, names, joint, weights, steps, bounds)
    state = job.evaluate(start)
    if state is None:
        return None
    unit = np.array([steps[name] for name in job.names])
    damping, converged, frozen = 1e-3, False, dict[str, FloatArray]()
    reach = np.array([_REACH_BLUR if name == "blur" else _REACH for name in job.names])
    for iteration in range(max_iter):
        if on_step is not None:
            on_step(iteration)
        # Derivatives that take decompositions are made at the start and once more on the way.
        if iteration == 2:
            frozen = {}
        rows = job.derivatives(state, frozen)
        _, residual, normal, gradient = job.normal(state, rows)
        inverse = _truncated(normal * np.outer(unit, unit))
        step = inverse(gradient * unit, damping) * unit
        last = bool(gradient @ step < SMALL * (residual @ residual) / len(residual))
        trial = None
        for _ in range(1 if last else 8):
            trial = _tried(job, state, step, reach * unit)
            if trial is not None:
                break
            damping *= 6
            step = inverse(gradient * unit, damping) * unit
        if trial is None:
            converged = True  # nothing near is better
            break
        damping = max(damping / 8, 1e-7)
        moved_by = np.array([trial.point.get(n) - state.point.get(n) for n in job.names]) / unit
        gain, state = trial.score - state.score, trial
        if np.abs(moved_by).max() < 0.02 or gain < 1e-12 or last:
            converged = True
            break
    return _result(job, state, frozen, converged)


def _result(job: _Climb, state: _State, frozen: dict[str, FloatArray], converged: bool) -> FineResult:
    rows = job.derivatives(state, frozen)
    covariance, correlation = _covariance(job, state, rows)
    disks = correlate(job.model.pixels, state.values, joint=False).scores
    return FineResult(
        state.point,
        state.score,
        disks,
        job.names,
        covariance,
        correlation,
        converged,
        job.left,
        tuple(job.history),
        job.end(state, rows),
    )


def _tried(job: _Climb, state: _State, step: FloatArray, reach: FloatArray) -> _State | None:
    """Where a step leads, if the score does not fall."""
    # No more than this at once: derivatives hold nearby.
    step = step * min(1.0, float((reach / np.maximum(np.abs(step), 1e-300)).min()))
    values = {name: state.point.get(name) + float(s) for name, s in zip(job.names, step, strict=True)}
    trial = job.evaluate(state.point.moved(job.clip(values)))
    return trial if trial is not None and trial.score >= state.score - 1e-13 else None


OPEN = 1e-7
"""Share of the largest curvature below which a direction is not moved along."""
_REACH, _REACH_BLUR = 20.0, 5.0
"""Largest step, in units of those of the derivatives; what a blur does grows with its square."""
SMALL = 1e-2
"""The climb ends with a step that gains less than this share of what one error bar would lose."""


def _truncated(normal: FloatArray) -> Callable[[FloatArray, float], FloatArray]:
    """Damped inverse of a normal matrix, in which directions that change nothing, such as free tilts, stay at rest."""
    scale = np.sqrt(np.maximum(np.diag(normal), 1e-300))
    seen = np.diag(normal) > OPEN * np.diag(normal).max()
    values, vectors = np.linalg.eigh(
        np.where(np.outer(seen, seen), normal / np.outer(scale, scale), np.eye(len(scale)))
    )
    kept = values > OPEN * values[-1]

    def apply(gradient: FloatArray, damping: float) -> FloatArray:
        along = vectors.T @ (np.where(seen, gradient, 0.0) / scale)
        return np.asarray(vectors @ np.where(kept, along / (np.maximum(values, 1e-300) + damping), 0.0) / scale)

    return apply


def _covariance(job: _Climb, state: _State, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Covariance from the residual, summed over squares of pixels within which it may be correlated."""
    jacobian, residual, normal, _ = job.normal(state, rows)
    scale = np.sqrt(np.maximum(np.diag(normal), 1e-300))
    scaled = normal / np.outer(scale, scale)
    inverse = np.linalg.pinv(scaled, rcond=1e-12, hermitian=True)
    plain = float(residual @ residual) / max(1, len(residual) - len(scale)) * inverse
    index = squares(job.model.pixels)
    sums = np.stack([np.bincount(index, row * residual) for row in jacobian]) / scale[:, None]
    clustered = inverse @ (sums @ sums.T) @ inverse
    wider = np.sqrt(np.maximum(1.0, np.diag(clustered) / np.maximum(np.diag(plain), 1e-300)))
    covariance = plain * np.outer(wider, wider) / np.outer(scale, scale)
    deviation = np.sqrt(np.maximum(np.diag(inverse), 1e-300))
    return covariance, inverse / np.outer(deviation, deviation)


def scattered_shift(end: End, change: FloatArray) -> FloatArray:
    """(P,) what a change (n,) of the simulated values shifts, were its sign by chance in each square of pixels."""
    jacobian = end.profiled(end.rows)
    scale = np.sqrt(np.maximum(np.square(jacobian).sum(1), 1e-300))
    jacobian = jacobian / scale[:, None]
    inverse = np.linalg.pinv(jacobian @ jacobian.T, rcond=1e-12, hermitian=True)
    index = squares(end.model.pixels)
    pulls = jacobian * end.profiled(change[None])[0]
    each = inverse @ np.stack([np.bincount(index, pull) for pull in pulls])
    return np.asarray(np.sqrt(np.square(each).sum(1)) / scale)


def matters(fine: FineResult, name: str) -> float:
    """Return the change of a parameter that is worth to be said; 0 for those of the structure that have none."""
    unit = 1.0 if name == "rotation" else fine.end.model.step if name.startswith("tilt") else abs(fine.point.get(name))
    return MATTERS.get(name, 0.0) * unit


def squares(pixels: Pixels) -> NDArray[np.int64]:
    """(n,) number of the square of each pixel, within which residuals may be correlated."""
    square = np.floor(pixels.points / BLOCK_PX).astype(np.int64)
    square -= square.min(0)
    key = (pixels.disk * (square[:, 0].max() + 1) + square[:, 0]) * (square[:, 1].max() + 1) + square[:, 1]
    return np.asarray(np.unique(key, return_inverse=True)[1])
