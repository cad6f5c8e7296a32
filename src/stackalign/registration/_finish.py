"""The last steps to the optimum, with a cubic spline in place of bilinear samples, and the covariance there."""

from dataclasses import dataclass, fields

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from stackalign import transforms
from stackalign.backends import Array
from stackalign.objectives import AffineNCC
from stackalign.ops import AffineLinearization, ImagePair, prepare_pair, resample_affine
from stackalign.ops.linearize import linearize_resampled, reference_slopes

from ._noise import slope_noise
from ._search import TOLERANCE, Climbed, Images, reach_of

__all__ = ["Refined", "finish"]

FloatArray = NDArray[np.float64]

POLISH_STEPS = 12

CUBIC_STEPS = 2
"""Bilinear samples leave an error of about 0.01 pixels, and each step takes off more than four fifths of what is left
of it."""

FARTHEST_POLISH = 1.0
"""Pixels from the optimum of the score beyond which the solution of the estimating equation is not believed."""

LEAST_SCORE = 0.05

MOST_NOISE = 0.8
"""Largest share of noise in the derivatives that is corrected for."""


@dataclass(frozen=True)
class Refined:
    """Results of pairs that were smoothed alike, (B, ...) each.

    `reference` and `resampled` are the planes that were compared, the moving one on the reference's pixels; `slopes`
    are the derivatives of the reference, and `sums` those of `stackalign.ops.linearize.linearize_resampled`.
    """

    parameters: FloatArray
    reason: tuple[str, ...]
    on_bound: NDArray[np.bool_]
    covariance: FloatArray
    score: FloatArray
    overlap: FloatArray
    history: list[list[FloatArray]]
    work: FloatArray
    smooth: tuple[float, float]
    reference: Array
    resampled: Array
    slopes: Array
    sums: FloatArray

    def of(self, pairs: NDArray[np.int64]) -> "Refined":
        """Those of some pairs."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        lists = {"reason": tuple(self.reason[b] for b in pairs), "history": [self.history[b] for b in pairs]}
        taken = {name: value[pairs] for name, value in values.items() if name not in (*lists, "smooth")}
        return Refined(smooth=self.smooth, **lists, **taken)


def finish(
    images: Images,
    model: str,
    center: FloatArray,
    climbed: Climbed,
    bounds: FloatArray,
    smooth: tuple[float, float],
    noise: FloatArray,
    workers: int | None,
) -> Refined:
    """Take the last steps and estimate the covariance.

    `noise` (B,) is the standard deviation of the noise in the reference planes before they are smoothed.
    """
    pair = prepare_pair(images.reference, images.moving, smooth=smooth, workers=workers)
    objective = AffineNCC(pair, model, center, workers)
    reach = reach_of(model, tuple(images.reference.shape[1:]))
    parameters, passes = _polished(objective, climbed.parameters, bounds, reach, climbed.history)
    slopes = reference_slopes(pair)
    for k in range(CUBIC_STEPS):
        matrices = transforms.matrices_from_parameters(parameters, model, center)
        resampled = cubic_samples(pair, matrices, workers)
        jacobian = transforms.matrix_jacobian(parameters, model, center)
        linear, sums = linearize_resampled(pair.reference, resampled, slopes, matrices, jacobian, workers)
        for b, history in enumerate(climbed.history):
            history.append(np.array([[1.0, -1.0 - POLISH_STEPS - k, *parameters[b], linear.score[b]]]))
        parameters = _stepped(linear, parameters, climbed.parameters, bounds, reach)
    assert linear.covariance is not None
    gain = _noise_gain(linear, slope_noise(noise, smooth[0]))
    covariance = linear.covariance * gain[:, :, None] * gain[:, None, :]
    held = (parameters <= bounds[..., 0]) | (parameters >= bounds[..., 1])
    on_bound: NDArray[np.bool_] = np.any(held & (bounds[..., 0] < bounds[..., 1]), axis=1)
    return Refined(
        parameters=parameters,
        reason=climbed.reason,
        on_bound=on_bound,
        covariance=covariance,
        score=linear.score,
        overlap=linear.overlap,
        history=climbed.history,
        work=climbed.work + passes + CUBIC_STEPS,
        smooth=smooth,
        reference=pair.reference,
        resampled=resampled,
        slopes=slopes,
        sums=sums,
    )


def cubic_samples(pair: ImagePair, matrices: FloatArray, workers: int | None) -> Array:
    """Moving planes on the reference's pixels by a cubic spline, and by bilinear interpolation beside holes."""
    shape = (int(pair.reference.shape[1]), int(pair.reference.shape[2]))
    cubic = resample_affine(pair.moving, matrices, output_shape=shape, order=3, workers=workers)
    xp = array_namespace(cubic)
    if not bool(xp.isnan(pair.moving).any()):
        return cubic
    linear = resample_affine(pair.moving, matrices, output_shape=shape, order=1, workers=workers)
    return xp.where(xp.isnan(cubic), linear, cubic)


def _stepped(
    linear: AffineLinearization, parameters: FloatArray, optimum: FloatArray, bounds: FloatArray, reach: FloatArray
) -> FloatArray:
    """Parameters (B, P) after a step, where it does not lead away from the optimum of the score."""
    trial = np.clip(parameters + _solved(linear.normal, linear.gradient), bounds[..., 0], bounds[..., 1])
    far = (np.abs(trial - optimum) * reach).max(axis=1, keepdims=True) > FARTHEST_POLISH
    return np.asarray(np.where(far, parameters, trial))


def _polished(
    objective: AffineNCC,
    parameters: FloatArray,
    bounds: FloatArray,
    reach: FloatArray,
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
        far = (np.abs(trial - parameters) * reach).max(axis=1) > FARTHEST_POLISH
        moving &= ~far
        best = np.where(moving[:, None], trial, best)
        moving &= (moved > TOLERANCE).any(axis=1)
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


def _noise_gain(linear: AffineLinearization, noise: FloatArray) -> FloatArray:
    """By how much the noise in the derivatives makes each parameter seem better determined than it is, (B, P).

    The normal matrix holds the squares of the derivatives, of which ``noise`` (B,) is not of the scene. It is compared
    with the entries of the two shifts, the first two parameters of every model.
    """
    per_pixel = np.diagonal(linear.normal, axis1=1, axis2=2)[:, :2] / np.maximum(linear.score, LEAST_SCORE)[:, None]
    share = np.clip(noise[:, None] / np.maximum(per_pixel, np.finfo(np.float64).tiny), 0.0, MOST_NOISE)
    gain = 1.0 / (1.0 - share)
    others = np.repeat(gain.mean(axis=1, keepdims=True), linear.normal.shape[1] - 2, axis=1)
    return np.concatenate([gain, others], axis=1)
