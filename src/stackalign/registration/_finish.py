"""The last steps to the optimum, with a cubic spline in place of bilinear samples, and the covariance there."""

from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stackalign import transforms
from stackalign._types import FloatArray
from stackalign.backends import Array
from stackalign.objectives import AffineNCC
from stackalign.ops import AffineLinearization, prepare_pair
from stackalign.ops.linearize import (
    covariance_tile,
    linearize_resampled,
    linearize_shared,
    reference_slopes,
    shared_sums,
)
from stackalign.ops.transfer import fetched

from ._cubic_samples import CubicSamples
from ._interpolation import interpolation_covariance, interpolation_errors, places_between, roughness
from ._noise import smoothed_noise
from ._search import Climbed, Images, reach_of

__all__ = ["Refined", "finish", "widened_by", "wider_of"]


POLISH_STEPS, POLISHED = 12, 1e-2
"""Most steps with bilinear samples, and the pixels below which those with cubic samples follow."""

CUBIC_STEPS = 6
"""Most steps with cubic samples. Bilinear samples leave an error of about 0.01 pixels, and each step takes off more
than four fifths of it: two are enough but where images are mostly noise."""


LEAST_STEP, ENOUGH = 2e-4, 2e-3
"""Pixels that the last cubic step may move the farthest pixel by, and at most one standard error within these limits:
the next would move it a fifth of that."""


FARTHEST_POLISH = 1.0
"""Pixels from the optimum of the score beyond which the solution of the estimating equation is not believed."""

LEAST_SHARED, MOST_SHARED = 0.02, 1.5
"""Limits of the share of the reference's slopes that the moving image has as well."""


@dataclass(frozen=True)
class Refined:
    """Results of pairs that were smoothed alike, (B, ...) each.

    `reference` and `resampled` are the planes that were compared, the moving one on the reference's pixels; `slopes`
    are the derivatives of the reference, and `sums` those of `stackalign.ops.linearize.linearize_resampled` over tiles
    of a side of `tile` pixels; `gain` (B, 2) is by how much noise in the slopes makes shifts seem smaller than they
    are; `normal` (B, P, P) is the curvature of the score without that noise; `between` (B, 2) is the mean of the cosine
    of 2 pi x over the places x between pixels at which the moving image is sampled.
    """

    parameters: FloatArray
    reason: tuple[str, ...]
    on_bound: NDArray[np.bool_]
    covariance: FloatArray
    systematic: FloatArray
    score: FloatArray
    overlap: FloatArray
    history: list[list[FloatArray]]
    work: FloatArray
    smooth: tuple[float, float]
    reference: Array
    resampled: Array
    slopes: Array
    sums: FloatArray
    tile: int
    gain: FloatArray
    normal: FloatArray
    between: FloatArray

    def of(self, pairs: NDArray[np.int64]) -> "Refined":
        """Those of some pairs."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        lists: dict[str, Any] = {
            "reason": tuple(self.reason[b] for b in pairs),
            "history": [self.history[b] for b in pairs],
        }
        taken: dict[str, Any] = {
            name: value[pairs] for name, value in values.items() if name not in (*lists, "smooth", "tile")
        }
        return Refined(smooth=self.smooth, tile=self.tile, **lists, **taken)


def finish(
    images: Images | None,
    model: str,
    center: FloatArray,
    climbed: Climbed,
    bounds: FloatArray,
    smooth: tuple[float, float],
    noise: FloatArray,
    workers: int | None,
) -> Refined:
    """Take the last steps and estimate the covariance.

    `images` are smoothed by `smooth`; None stands for those of the climb, which were. `noise` (B, 2) is that of the
    images before.
    """
    whole = climbed.pair
    if images is not None:
        whole = prepare_pair(images.reference, images.moving, smooth=smooth, workers=workers)
    samples = CubicSamples(whole, smooth, workers)
    objective = AffineNCC(samples.pair, model, center, workers)
    shape = (int(whole.reference.shape[1]), int(whole.reference.shape[2]))
    reach = reach_of(model, shape)
    farthest = FARTHEST_POLISH * max(1.0, *smooth)
    parameters, passes = _polished(objective, climbed.parameters, bounds, reach, farthest, climbed.history)
    cubic = _Cubic.of(samples, objective, max(smooth), _noise_share(noise, smooth))
    parameters, last, more = _stepped(cubic, parameters, climbed, bounds, reach, farthest)
    assert last.linear.covariance is not None
    covariance = widened_by(last.linear.covariance, cubic.wider) / _kept_apart(smooth, cubic.tile)
    systematic = interpolation_covariance(interpolation_errors(cubic.rough), model, reach, last.matrices, shape)
    covariance = covariance + systematic
    held = (parameters <= bounds[..., 0]) | (parameters >= bounds[..., 1])
    on_bound: NDArray[np.bool_] = held & (bounds[..., 0] < bounds[..., 1])
    return Refined(
        parameters=parameters,
        reason=climbed.reason,
        on_bound=on_bound,
        covariance=covariance,
        systematic=systematic,
        score=last.linear.score,
        overlap=last.linear.overlap,
        history=climbed.history,
        work=climbed.work + passes + more,
        smooth=smooth,
        reference=samples.pair.reference,
        resampled=last.resampled,
        slopes=cubic.slopes,
        sums=last.sums,
        tile=cubic.tile,
        gain=cubic.gain,
        normal=cubic.shared,
        between=places_between(last.matrices, shape).real,
    )


class _Linear(NamedTuple):
    """A linearization on cubic samples, with the transforms (B, 2, 3), the samples and the sums that it is made of."""

    linear: AffineLinearization
    matrices: FloatArray
    resampled: Array
    sums: FloatArray


@dataclass
class _Cubic:
    """Linearizations on cubic samples; the first says of all what both images have in common.

    `rough` is what interpolation may do to the samples, `shared` (B, P, P) the curvature without noise of the slopes,
    `wider` by how much steps grow without it, and `gain` the same of shifts; see `Refined`.
    """

    samples: CubicSamples
    objective: AffineNCC
    slopes: Array
    tile: int
    noise_share: FloatArray
    rough: list[FloatArray] = field(init=False)
    gain: FloatArray = field(init=False)
    wider: FloatArray = field(init=False)
    shared: FloatArray = field(init=False)

    @classmethod
    def of(cls, samples: CubicSamples, objective: AffineNCC, smooth: float, noise_share: FloatArray) -> "_Cubic":
        reference = samples.pair.reference
        tile = covariance_tile(reference.shape[1:], smooth)
        return cls(samples, objective, reference_slopes(reference), tile, noise_share)

    def at(self, parameters: FloatArray, *, first: bool) -> _Linear:
        """Linearize about parameters (B, P)."""
        model, center, workers = self.objective.model, self.objective.center, self.objective.workers
        reference = self.samples.pair.reference
        matrices = transforms.matrices_from_parameters(parameters, model, center)
        # The first step goes by far more than what a spline does to phases.
        resampled = self.samples.at(matrices, in_phase=not first)
        jacobian = transforms.matrix_jacobian(parameters, model, center)
        if not first:
            linear, sums = linearize_resampled(
                reference, resampled, self.slopes, matrices, jacobian, self.tile, workers, self.noise_share
            )
            return _Linear(linear, matrices, resampled, sums)
        both = (self.slopes, reference_slopes(resampled))
        rough = roughness(reference, resampled)
        *self.rough, tiles, plus, minus = fetched(
            [*rough, *shared_sums(reference, resampled, both, self.tile, workers)]
        )
        linear, self.shared = linearize_shared([tiles, plus, minus], reference, matrices, jacobian, self.noise_share)
        self.gain = _shift_gain(linear.normal, self.shared)
        self.wider = wider_of(linear.normal, self.shared)
        return _Linear(linear, matrices, resampled, tiles)


def _stepped(
    cubic: _Cubic, start: FloatArray, climbed: Climbed, bounds: FloatArray, reach: FloatArray, farthest: float
) -> tuple[FloatArray, _Linear, NDArray[np.int64]]:
    """Take Newton steps on cubic samples: parameters, the last linearization, and the number of passes (B,)."""
    at, step = start, np.zeros_like(start)
    active = np.ones(len(at), np.bool_)
    passes = np.zeros(len(at), np.int64)
    for k in range(CUBIC_STEPS):
        # Pairs that have arrived stay: what they get does not depend on the others of the batch.
        at = np.where(active[:, None], at + step, at)
        last = cubic.at(at, first=k == 0)
        linear = last.linear
        _noted(climbed.history, active, at, linear.score, k)
        newton = (cubic.wider @ _solved(linear.normal, linear.gradient)[..., None])[..., 0]
        trial = np.clip(at + newton, bounds[..., 0], bounds[..., 1])
        far = (np.abs(trial - climbed.parameters) * reach).max(axis=1) > farthest
        step = np.where(far[:, None], 0.0, trial - at)
        assert linear.covariance is not None
        passes += active
        active &= (np.abs(step) * reach > _small_step(linear.covariance, reach)).any(axis=1) | (k == 0)
        if not active.any():
            break
    return np.clip(at + step, bounds[..., 0], bounds[..., 1]), last, passes


def _noise_share(noise: FloatArray, smooth: tuple[float, float]) -> FloatArray:
    """Share (B,) of the moving image in the noise of both, after they were smoothed; a half where there is none."""
    of_both = np.stack([smoothed_noise(noise[:, k], smooth[k]) for k in (0, 1)]) + np.finfo(np.float32).tiny
    return np.asarray(of_both[1] / of_both.sum(axis=0))


def _small_step(covariance: FloatArray, reach: FloatArray) -> FloatArray:
    """Pixels (B, P) by which a step is small: a standard error, within limits."""
    sigma = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)) * reach
    return np.asarray(np.clip(sigma, LEAST_STEP, ENOUGH))


def _noted(
    history: list[list[FloatArray]], active: NDArray[np.bool_], at: FloatArray, score: FloatArray, k: int
) -> None:
    """Add a cubic step to the history of the pairs that take it."""
    for b in np.flatnonzero(active):
        history[b].append(np.array([[1.0, -1.0 - POLISH_STEPS - k, *at[b], score[b]]]))


def _shift_gain(normal: FloatArray, shared: FloatArray) -> FloatArray:
    """Factors (B, 2) by which shifts along both axes are larger than noise in the slopes makes them seem."""
    own, common = (np.diagonal(m[:, :2, :2], axis1=1, axis2=2) for m in (normal, shared))
    share = np.divide(common, own, out=np.ones_like(own), where=own > 0)
    return np.asarray(1.0 / np.clip(share, LEAST_SHARED, MOST_SHARED))


def wider_of(normal: FloatArray, shared: FloatArray) -> FloatArray:
    """Matrices (B, P, P) by which solutions of `normal` become those of `shared`, within limits."""
    unit = np.sqrt(np.clip(np.diagonal(normal, axis1=1, axis2=2), 0.0, None))
    known = np.asarray((unit > 0).all(axis=1))
    unit = np.where(known[:, None], unit, 1.0)
    scale = unit[:, :, None] * unit[:, None, :]
    values, vectors = np.linalg.eigh(np.where(known[:, None, None], normal / scale, np.eye(unit.shape[1])))
    root = np.sqrt(np.maximum(values, 1e-9))[:, None, :]
    # Multiplied by `whiten`, parameters have the normal matrix 1.
    whiten, back = vectors / root, vectors * root
    share, axes = np.linalg.eigh(np.swapaxes(whiten, 1, 2) @ (shared / scale) @ whiten)
    inverse = (axes / np.clip(share, LEAST_SHARED, MOST_SHARED)[:, None, :]) @ np.swapaxes(axes, 1, 2)
    matrices = (whiten @ inverse @ np.swapaxes(back, 1, 2)) / unit[:, :, None] * unit[:, None, :]
    return np.where(known[:, None, None], matrices, np.eye(unit.shape[1]))


def widened_by(covariance: FloatArray, wider: FloatArray) -> FloatArray:
    """Covariance (B, P, P) of parameters that are multiplied by a matrix; one that is infinite stays so."""
    known = np.isfinite(covariance).all(axis=(1, 2), keepdims=True)
    wide: FloatArray = wider @ np.where(known, covariance, 0.0) @ np.swapaxes(wider, 1, 2)
    kept: FloatArray = np.where(known, wide, covariance)
    return kept


def _kept_apart(smooth: tuple[float, float], tile: int) -> float:
    """Share of the variance that sums over tiles know: smoothed noise hangs together across their borders.

    A Gaussian of sigma s gives noise the autocorrelation exp(-(lag / 2s)^2), whose mean distance is 2s / sqrt(pi) along
    an axis; so much of a tile's side is lost.
    """
    s = min(smooth)
    return float((1.0 - min(2.0 * s / np.sqrt(np.pi) / tile, 0.5)) ** 2)


def _polished(
    objective: AffineNCC,
    parameters: FloatArray,
    bounds: FloatArray,
    reach: FloatArray,
    farthest: float,
    history: list[list[FloatArray]],
) -> tuple[FloatArray, FloatArray]:
    """Solve for the place where the residual has nothing in common with the derivatives of the reference.

    The score of noisy images has its optimum beside that place: interpolation takes noise off the moving image,
    half-way between pixels the most, and every pixel that steps over a whole number puts a kink into the score, on
    which the climb ends. The estimating equation knows neither: the derivatives in it do not change with the step.
    """
    n_problems = len(parameters)
    best, passes = parameters.copy(), np.zeros(n_problems)
    moving = np.ones(n_problems, np.bool_)
    for iteration in range(POLISH_STEPS):
        linear = objective.linearization(best, derivatives="reference")
        passes += moving
        for b in np.flatnonzero(moving):
            history[b].append(np.array([[1.0, -1.0 - iteration, *best[b], linear.score[b]]]))
        step = _solved(linear.normal, linear.gradient)
        trial = np.clip(best + step, bounds[..., 0], bounds[..., 1])
        moved = np.abs(trial - best) * reach
        # Where it leads away from the optimum of the score, the derivatives of the reference say little.
        far = (np.abs(trial - parameters) * reach).max(axis=1) > farthest
        moving &= ~far
        best = np.where(moving[:, None], trial, best)
        moving &= (moved > POLISHED).any(axis=1)
        if not moving.any():
            break
    return best, passes


def _solved(normal: FloatArray, gradient: FloatArray) -> FloatArray:
    """Newton steps (B, P), 0 along directions that the images leave open."""
    unit = np.sqrt(np.clip(np.diagonal(normal, axis1=1, axis2=2), 0.0, None))
    scale = np.divide(1.0, unit, out=np.zeros_like(unit), where=unit > 0)
    inverse = np.linalg.pinv(normal * scale[:, :, None] * scale[:, None, :], rcond=1e-9, hermitian=True)
    steps: FloatArray = np.einsum("bpq,bq->bp", inverse, gradient * scale) * scale
    return steps
