"""What the sums of a linearization say: score, gradient, normal matrix and covariance, on the host."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stackalign._types import FloatArray
from stackalign.backends._protocol import FLAT

__all__ = ["AffineLinearization", "contrast_of", "linearization"]

LEAST_SCORE = 0.05
"""Where images agree less than this, the curvature is taken as if they agreed so much: a step then still has a size."""

LEAST_KEPT = 0.3
"""Score below which no more is taken to be noise."""


@dataclass(frozen=True)
class AffineLinearization:
    """Score of a transform and its derivatives with respect to a model's parameters; NumPy arrays on the host.

    Parameters
    ----------
    score : numpy.ndarray
        (B,) float64, as `score_affine` gives it.
    overlap : numpy.ndarray
        (B,) share of the reference's pixels that the score is made of.
    gradient : numpy.ndarray
        (B, P) of the score.
    normal : numpy.ndarray
        (B, P, P) positive semi-definite, the Gauss-Newton approximation of minus the Hessian of the score.
    covariance : numpy.ndarray or None
        (B, P, P) of the parameters at the optimum, if asked for; infinite where the images leave a parameter open.

    Notes
    -----
    A pair without the axis B gives arrays without it. Where nothing overlaps or nothing varies, score, gradient and
    normal are 0.
    """

    score: FloatArray
    overlap: FloatArray
    gradient: FloatArray
    normal: FloatArray
    covariance: FloatArray | None


def contrast_of(sums: FloatArray) -> FloatArray:
    """Gain (B,) by which the samples of the moving image become the reference, from the sums over tiles."""
    n, r, v, _, vv, rv = np.moveaxis(sums[..., :6].sum(axis=1), -1, 0)
    variance = vv - v * v / np.maximum(n, 1.0)
    none = np.zeros_like(variance)
    return np.asarray(np.divide(rv - r * v / np.maximum(n, 1.0), variance, out=none, where=variance > 0))


def _places() -> NDArray[np.int64]:
    """(6, 6) where the sum of J_i J_j stands among the 42: products of y, x and 1 repeat among those of gy and gx."""
    products = [[0, 1, 2], [1, 3, 4], [2, 4, 5]]
    return np.array([[24 + 6 * (i // 3 + j // 3) + products[i % 3][j % 3] for j in range(6)] for i in range(6)])


_PLACES = _places()


def linearization(
    tiles: FloatArray,
    chain: FloatArray,
    n_pixels: int,
    with_covariance: bool,
    measured: FloatArray | None,
    of_reference: bool,
    noise_share: FloatArray | None = None,
) -> AffineLinearization:
    """From sums (B, T, 42) and dM/dparameters (B, P, 6); with a `measured` curvature, that is the covariance's."""
    total = tiles.sum(axis=1)
    n, r, v, rr, vv, rv = np.moveaxis(total[:, :6], -1, 0)
    count = np.maximum(n, 1.0)
    var_r, var_v, cov = rr - r * r / count, vv - v * v / count, rv - r * v / count
    some = (n > 0) & (var_r > FLAT * rr) & (var_v > FLAT * vv)
    var_r, var_v, cov = np.where(some, var_r, 1.0), np.where(some, var_v, 1.0), np.where(some, cov, 0.0)
    score = np.clip(cov / np.sqrt(var_r * var_v), -1.0, 1.0)
    if of_reference:
        # The reference is gain * samples + offset, and its derivatives are gain times theirs.
        gain = np.where(np.abs(cov) > 0, cov / var_v, 1.0)
        chain = chain / gain[:, None, None]
    # Derivatives of the samples: their sums, and their products with r and v without the means; (B, P) each.
    linear, with_r, with_v = ((chain @ total[:, k : k + 6, None])[..., 0] for k in (6, 12, 18))
    a = with_r - (r / count)[:, None] * linear
    b = with_v - (v / count)[:, None] * linear
    # What both images show is the square of the score, were there nothing but noise beside it.
    kept = 1.0 if noise_share is None else np.maximum(score, LEAST_KEPT) ** (2.0 * noise_share)
    gradient = (a / np.sqrt(var_r)[:, None] - (score / np.sqrt(var_v) / kept)[:, None] * b) / np.sqrt(var_v)[:, None]
    # `take` leaves every problem's matrix contiguous. An index in brackets makes the problems the fastest axis, and
    # matmul of NumPy before 2.3 then adds in another order where there are several of them than where there is one.
    curvature = chain @ np.take(total, _PLACES, axis=1) @ np.swapaxes(chain, 1, 2)
    curvature -= linear[:, :, None] * (linear / count[:, None])[:, None, :]
    curvature -= b[:, :, None] * (b / var_v[:, None])[:, None, :]
    weight = (np.maximum(score, LEAST_SCORE) / var_v)[:, None, None]
    normal = curvature * weight
    if measured is not None:
        curvature = measured / weight
    spread = None
    if with_covariance:
        gain = cov / var_v
        parts = _contributions(tiles, chain, total, gain, linear, b / var_v[:, None])
        spread = _sandwich(parts, (tiles[..., 0] > 0).sum(axis=1), curvature, np.where(some, gain, 0.0))
    return AffineLinearization(
        score=score,
        overlap=n / n_pixels,
        gradient=np.where(some[:, None], gradient, 0.0),
        normal=np.where(some[:, None, None], normal, 0.0),
        covariance=spread,
    )


def _contributions(
    tiles: FloatArray, chain: FloatArray, total: FloatArray, gain: FloatArray, linear: FloatArray, along: FloatArray
) -> FloatArray:
    """Sums (B, T, P) of the residual times the derivatives, both without offset and gain."""
    count = np.maximum(total[:, :1], 1.0)
    mean_r, mean_v, gain = total[:, 1:2] / count, total[:, 2:3] / count, gain[:, None]
    tn, tr, tv, _, tvv, trv = np.moveaxis(tiles[..., :6], -1, 0)  # (B, T)
    offset = mean_r - gain * mean_v
    residual = tr - gain * tv - offset * tn
    residual_v = trv - gain * tvv - offset * tv - mean_v * residual
    j, rj, vj = (tiles[..., k : k + 6] @ np.swapaxes(chain, 1, 2) for k in (6, 12, 18))  # (B, T, P)
    contributions: FloatArray = (
        rj
        - gain[..., None] * vj
        - offset[..., None] * j
        - residual[..., None] * (linear / count)[:, None, :]
        - residual_v[..., None] * along[:, None, :]
    )
    return contributions


def _sandwich(
    contributions: FloatArray, n_tiles: NDArray[np.int64], curvature: FloatArray, gain: FloatArray
) -> FloatArray:
    """Covariances (B, P, P) from independent contributions (B, T, P) of which `n_tiles` (B,) are not empty.

    Infinite where the curvature leaves a direction open.
    """
    n_parameters = contributions.shape[2]
    unit = np.sqrt(np.clip(np.diagonal(curvature, axis1=1, axis2=2), 0.0, None))
    known = (n_tiles > n_parameters + 2) & (gain != 0.0) & (unit > 0).all(axis=1)
    unit = np.where(known[:, None], unit, 1.0)
    scale = unit[:, :, None] * unit[:, None, :]
    scaled = np.where(known[:, None, None], curvature / scale, np.eye(n_parameters))
    known &= np.linalg.eigvalsh(scaled)[:, 0] >= 1e-9
    scaled = np.where(known[:, None, None], scaled, np.eye(n_parameters))
    inverse = np.linalg.inv(scaled) / scale
    freedom = n_tiles / np.where(known, n_tiles - n_parameters, 1) / np.where(known, gain, 1.0) ** 2
    meat = np.swapaxes(contributions, 1, 2) @ contributions
    covariance = inverse @ meat @ inverse * freedom[:, None, None]
    return np.where(known[:, None, None], covariance, np.inf)
