"""The last steps to the optimum, with a cubic spline in place of bilinear samples, and the covariance there."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from stackalign import transforms
from stackalign._types import FloatArray
from stackalign.backends import Array
from stackalign.objectives import AffineNCC
from stackalign.ops import ImagePair, prepare_pair, resample_affine
from stackalign.ops.linearize import (
    covariance_tile,
    linearize_resampled,
    linearize_shared,
    reference_slopes,
    shared_sums,
)
from stackalign.ops.transfer import fetched

from ._interpolation import interpolation_covariance, interpolation_errors, places_between, roughness
from ._noise import smoothed_noise
from ._phases import put_in_phase
from ._search import Climbed, Images, reach_of
from .background import smooth_background

__all__ = ["CubicSamples", "Refined", "filled", "finish", "widened_by", "wider_of"]


POLISH_STEPS, POLISHED = 12, 1e-2
"""Most steps with bilinear samples, and the pixels below which those with cubic samples follow."""

CUBIC_STEPS = 6
"""Most steps with cubic samples. Bilinear samples leave an error of about 0.01 pixels, and each step takes off more
than four fifths of it: two are enough but where images are mostly noise."""

BORDER_IN_SIGMAS, LEAST_BORDER, NARROW = 2.0, 2, 32
"""Width of the border of smoothed images that is left out, the same in pixels at least, and the share of the shortest
side, one in so many, that it is at most."""

SPLINE_BORDER = 3
"""Pixels from the border of clean images that a spline, which takes them for mirrored there, gets wrong: what is wrong
fades to a quarter with each."""

FILL = 1.5
"""Sigma in pixels of the Gaussian whose mean stands in holes for the spline."""

LEAST_STEP, ENOUGH = 2e-4, 2e-3
"""Pixels that the last cubic step may move the farthest pixel by, and at most one standard error within these limits:
the next would move it a fifth of that."""

COARSE = 1.5
"""Sigma in pixels of the smoothing from which on a spline leaves the phases of all waves that are left as they are."""

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
    pair = samples.pair
    objective = AffineNCC(pair, model, center, workers)
    shape = (int(whole.reference.shape[1]), int(whole.reference.shape[2]))
    reach = reach_of(model, shape)
    farthest = FARTHEST_POLISH * max(1.0, *smooth)
    parameters, passes = _polished(objective, climbed.parameters, bounds, reach, farthest, climbed.history)
    slopes = reference_slopes(pair.reference)
    tile = covariance_tile(pair.reference.shape[1:], max(smooth))
    noise_share = _noise_share(noise, smooth)
    at, step = parameters, np.zeros_like(parameters)
    active = np.ones(len(at), np.bool_)
    for k in range(CUBIC_STEPS):
        # Pairs that have arrived stay: what they get does not depend on the others of the batch.
        at = np.where(active[:, None], at + step, at)
        matrices = transforms.matrices_from_parameters(at, model, center)
        # The first step goes by far more than what a spline does to phases.
        resampled = samples.at(matrices, in_phase=k > 0)
        jacobian = transforms.matrix_jacobian(at, model, center)
        if k == 0:
            both = (slopes, reference_slopes(resampled))
            rough = roughness(pair.reference, resampled)
            *rough, tiles, plus, minus = fetched([*rough, *shared_sums(pair.reference, resampled, both, tile, workers)])
            linear, shared = linearize_shared([tiles, plus, minus], pair.reference, matrices, jacobian, noise_share)
            sums, gain, wider = tiles, _shift_gain(linear.normal, shared), wider_of(linear.normal, shared)
        else:
            linear, sums = linearize_resampled(
                pair.reference, resampled, slopes, matrices, jacobian, tile, workers, noise_share
            )
        _noted(climbed.history, active, at, linear.score, k)
        newton = (wider @ _solved(linear.normal, linear.gradient)[..., None])[..., 0]
        trial = np.clip(at + newton, bounds[..., 0], bounds[..., 1])
        far = (np.abs(trial - climbed.parameters) * reach).max(axis=1) > farthest
        step = np.where(far[:, None], 0.0, trial - at)
        assert linear.covariance is not None
        passes += active
        active &= (np.abs(step) * reach > _small_step(linear.covariance, reach)).any(axis=1) | (k == 0)
        if not active.any():
            break
    parameters = np.clip(at + step, bounds[..., 0], bounds[..., 1])
    assert linear.covariance is not None
    covariance = widened_by(linear.covariance, wider) / _kept_apart(smooth, tile)
    systematic = interpolation_covariance(interpolation_errors(rough), model, reach, matrices, shape)
    covariance = covariance + systematic
    held = (parameters <= bounds[..., 0]) | (parameters >= bounds[..., 1])
    on_bound: NDArray[np.bool_] = held & (bounds[..., 0] < bounds[..., 1])
    return Refined(
        parameters=parameters,
        reason=climbed.reason,
        on_bound=on_bound,
        covariance=covariance,
        systematic=systematic,
        score=linear.score,
        overlap=linear.overlap,
        history=climbed.history,
        work=climbed.work + passes,
        smooth=smooth,
        reference=pair.reference,
        resampled=resampled,
        slopes=slopes,
        sums=sums,
        tile=tile,
        gain=gain,
        normal=shared,
        between=places_between(matrices, shape).real,
    )


def _noise_share(noise: FloatArray, smooth: tuple[float, float]) -> FloatArray:
    """Share (B,) of the moving image in the noise of both, after they were smoothed; a half where there is none."""
    of_both = np.stack([smoothed_noise(noise[:, k], smooth[k]) for k in (0, 1)]) + np.finfo(np.float32).tiny
    return np.asarray(of_both[1] / of_both.sum(axis=0))


def _smoothed_border(planes: Array, sigma: float) -> int:
    """Width of the border of planes at which a plane was fitted in place of a Gaussian mean; 0 where it is kept.

    What is at the border of one image is inside the other, and smoothed in another way.
    """
    width = max(LEAST_BORDER, round(BORDER_IN_SIGMAS * sigma)) if sigma > 0 else 0
    return min(width, int(min(planes.shape[1:])) // NARROW)


def _inner(planes: Array, width: int) -> Array:
    """Planes without a border of a width."""
    if width == 0:
        return planes
    xp = array_namespace(planes)
    inner = xp.full_like(planes, xp.nan)
    inner[:, width:-width, width:-width] = planes[:, width:-width, width:-width]
    return inner


class CubicSamples:
    """Smoothed pairs without their borders, whose moving planes are sampled by a cubic spline.

    Parameters
    ----------
    pair : ImagePair
        As `stackalign.ops.prepare_pair` made it.
    smooth : (float, float)
        The Gaussians that it went through.
    workers : int, optional
    """

    def __init__(self, pair: ImagePair, smooth: tuple[float, float], workers: int | None) -> None:
        borders = [_smoothed_border(p, s) for p, s in zip((pair.reference, pair.moving), smooth, strict=True)]
        if not any(smooth):
            borders[1] = min(SPLINE_BORDER, min(pair.moving.shape[1:]) // NARROW)
        self.pair = ImagePair(_inner(pair.reference, borders[0]), _inner(pair.moving, borders[1]), single=False)
        self._whole = filled(pair.moving)
        self._holes = bool(array_namespace(pair.moving).isnan(self.pair.moving).any())
        self._fine = max(smooth) < COARSE
        self._workers = workers

    def at(self, matrices: FloatArray, *, in_phase: bool = True) -> Array:
        """Moving planes on the reference's pixels, valid where bilinear samples are."""
        shape = (int(self.pair.reference.shape[1]), int(self.pair.reference.shape[2]))
        cubic = resample_affine(self._whole, matrices, output_shape=shape, order=3, workers=self._workers)
        if self._holes:
            linear = resample_affine(self.pair.moving, matrices, output_shape=shape, order=1, workers=self._workers)
            xp = array_namespace(cubic)
            cubic = xp.where(xp.isnan(linear), linear, cubic)
        return put_in_phase(cubic, matrices) if in_phase and self._fine else cubic


def filled(planes: Array) -> Array:
    """Planes with a mean of what is near in their holes, which splines need; 0 far from anything."""
    xp = array_namespace(planes)
    holes = xp.isnan(planes)
    if not bool(holes.any()):
        return planes
    near = smooth_background(planes, None, FILL)
    return xp.where(holes, xp.nan_to_num(near).astype(planes.dtype), planes)


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
