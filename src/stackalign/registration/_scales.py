"""Whether fine and coarse structures agree about the shift.

A pattern that stands still, light of the instrument, a second layer: each has its own spectrum, so that another part of
the images moves in another way at another scale.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray
from scipy.special import ndtri_exp

from stackalign import transforms
from stackalign._types import FloatArray
from stackalign.backends import Array
from stackalign.ops import bin_mean
from stackalign.ops.linearize import covariance_tile, linearize_shared, reference_slopes, shared_sums
from stackalign.ops.transfer import fetched

from ._agreement import surface
from ._finish import Refined, wider_of
from ._sums import summed
from ._trust import significance

__all__ = ["Scales", "scales_of"]

COARSEST, SMALLEST_LEVEL = 8, 16
"""Largest binning, and the shortest side of an image that is binned by it."""

SMOOTH_FROM, WHOLE_TILE = 4, 4
"""Binning from which on images are also compared with their smooth parts, since little is left of single pixels; and
the side in bins of the tiles then."""

LEAST_SHIFT = 0.1
"""Pixels that a scale has to disagree by: less cannot be told from what interpolation does."""

LOOKED_AT = 3.0
"""Standard errors of a smooth residual's shift from which on light is asked for."""

NOT_LIGHT = 0.12
"""Share of what uneven light could explain of a smooth residual that a shift has to explain to be one."""


@dataclass(frozen=True)
class Scales:
    """Evidence of B pairs.

    Parameters
    ----------
    significance : numpy.ndarray
        (B,) deviations of chance by which the scale that disagrees most would have the images moved on.
    shift : numpy.ndarray
        (B,) pixels of that.
    size : numpy.ndarray
        (B,) binning at that scale.
    chance : numpy.ndarray
        (B,) how far the correlation at the scale where it is the clearest lies above chance, in deviations.
    """

    significance: FloatArray
    shift: FloatArray
    size: FloatArray
    chance: FloatArray


def scales_of(fine: Refined, workers: int | None) -> Scales:
    """Let the images at each binning say how the moving image would have to move on.

    First their second differences, which know nothing of uneven light, and then, where single pixels have lost their
    weight, the images as they are: what a scene shows on the whole is gone from its second differences.
    """
    levels = list(_levels(fine, workers))
    n_problems, n_levels = len(fine.score), len(levels)
    if not levels:
        return Scales(*(np.zeros(n_problems) for _ in range(4)))
    # The levels know nothing of each other: one copy to the host for all of them, and one batch of small matrices.
    numbers = fetched([a for level in levels for a in (*level.sums, *level.alike)])
    each = [numbers[k :: len(numbers) // n_levels] for k in range(len(numbers) // n_levels)]
    tiles = np.zeros((n_levels, n_problems, max(t.shape[1] for t in each[0]), each[0][0].shape[2]))
    for padded, of_level in zip(tiles, each[0], strict=True):
        padded[:, : of_level.shape[1]] = of_level
    sums = [tiles.reshape(-1, *tiles.shape[2:]), *(np.concatenate(s) for s in each[1:3])]
    step = _step(levels[0].reference, sums, [np.concatenate(s) for s in each[3:]])
    shift, errors, chance = (a.reshape(n_levels, n_problems) for a in step)
    size = np.array([[float(level.factor)] for level in levels])
    shift = shift * size
    errors = np.where(shift > LEAST_SHIFT, errors, 0.0)
    for level, of_level in zip(levels, errors, strict=True):
        for b in np.flatnonzero(of_level > LOOKED_AT) if level.whole else ():
            of_level[b] *= _is_a_shift(
                *(p.astype(np.float64) for p in fetched([level.reference[b], level.resampled[b]]))
            )
    worst = errors.argmax(axis=0), np.arange(n_problems)
    some = errors[worst] > 0.0
    return Scales(
        errors[worst],
        np.where(some, shift[worst], 0.0),
        np.where(some, size[worst[0], 0], 0.0),
        np.maximum(chance[[not level.whole for level in levels]].max(axis=0), 0.0),
    )


class _Level(NamedTuple):
    """Images at a binning, `whole` or their second differences, and on their device the sums that a step is made of."""

    factor: int
    whole: bool
    reference: Array
    resampled: Array
    sums: list[Array]
    alike: list[Array]


def _levels(fine: Refined, workers: int | None) -> Iterator[_Level]:
    # Single pixels of images without noise show nothing but what interpolation does.
    factor = 1 if max(fine.smooth) > 0 else 2
    while factor <= COARSEST:
        planes = [fine.reference, fine.resampled]
        if factor > 1:
            planes = [bin_mean(p, factor, workers=workers) for p in planes]
        if min(planes[0].shape[1:]) < SMALLEST_LEVEL:
            return
        smooth = max(fine.smooth) / factor
        for whole in (False, True) if factor >= SMOOTH_FROM else (False,):
            # Noise of smooth images is of single bins: the more tiles, the better their scatter is known.
            tile = max(WHOLE_TILE, round(3.5 * smooth)) if whole else covariance_tile(planes[0].shape[1:], smooth)
            reference, resampled = planes if whole else [_detail(p) for p in planes]
            slopes = reference_slopes(reference), reference_slopes(resampled)
            sums = shared_sums(reference, resampled, slopes, tile, workers)
            yield _Level(factor, whole, reference, resampled, sums, [*_products(reference), *_products(resampled)])
        factor *= 2


def _is_a_shift(reference: FloatArray, resampled: FloatArray) -> bool:
    """Whether a shift explains so much of what is left between two images that it is not uneven light."""
    slopes = np.full((2, *reference.shape), np.nan)
    slopes[0, 1:-1] = reference[2:] - reference[:-2]
    slopes[1, :, 1:-1] = reference[:, 2:] - reference[:, :-2]
    valid = np.isfinite(reference) & np.isfinite(resampled) & np.isfinite(slopes).all(axis=0)
    y, x = (
        places - 0.5 * (side - 1) for places, side in zip(np.indices(reference.shape), reference.shape, strict=True)
    )
    light = surface(y, x, reference.shape)
    left = [
        _squares_left(reference, np.concatenate([terms, terms * resampled, more]), valid)
        for terms, more in ((light[:1], light[:0]), (light[:1], slopes), (light, light[:0]))
    ]
    return bool(left[0] - left[1] > NOT_LIGHT * (left[0] - left[2]))


def _squares_left(values: FloatArray, terms: FloatArray, valid: NDArray[np.bool_]) -> float:
    """Sum of squares that planes of terms (N, H, W) leave of the valid pixels of a plane."""
    design = terms[:, valid]
    design = design / np.maximum(np.linalg.norm(design, axis=1), np.finfo(np.float64).tiny)[:, None]
    solved = np.linalg.lstsq(design.T, values[valid], rcond=1e-10)[0]
    return float(((values[valid] - solved @ design) ** 2).sum())


def _detail(planes: Array) -> Array:
    """Pixels minus the mean of their four neighbours, NaN where one of these is not valid."""
    xp = array_namespace(planes)
    out = xp.full_like(planes, xp.nan)
    beside = planes[:, :-2, 1:-1] + planes[:, 2:, 1:-1] + planes[:, 1:-1, :-2] + planes[:, 1:-1, 2:]
    out[:, 1:-1, 1:-1] = planes[:, 1:-1, 1:-1] - np.float32(0.25) * beside
    return out


def _step(
    reference: Array, sums: list[FloatArray], products: list[FloatArray]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Length (B,) in pixels of a Newton step of the shift, and in standard errors, and the score's above chance.

    Of the shape of `reference` shifts know nothing.
    """
    n_problems = len(sums[0])
    matrices = np.tile(np.eye(2, 3), (n_problems, 1, 1))
    jacobian = transforms.matrix_jacobian(np.zeros((n_problems, 2)), "shift", np.zeros(2))
    linear, shared = linearize_shared(sums, reference, matrices, jacobian)
    assert linear.covariance is not None
    known = np.isfinite(linear.covariance).all(axis=(1, 2)) & (linear.score > 0)
    inverse = np.linalg.pinv(linear.normal, rcond=1e-6, hermitian=True)
    step = (wider_of(linear.normal, shared) @ inverse @ linear.gradient[..., None])[..., 0]
    shift = np.sqrt((step**2).sum(axis=1))
    chance = significance(linear.score, sums[0][..., 0].sum(axis=1) / _alike(products))
    return np.where(known, shift, 0.0), np.where(known, _errors(sums[0]), 0.0), chance


def _errors(tiles: FloatArray) -> FloatArray:
    """Deviations of chance (B,) of the step of the shift, from the sums over tiles.

    Its covariance is that of what each tile adds after the step: before, a step that all tiles want would be as large
    as their scatter. Of few tiles it is not known well, and a step of so many errors is less rare than by a Gaussian.
    """
    n, _, v, _, vv, _ = np.moveaxis(tiles[..., :6], -1, 0)
    # By the two slopes, brightness and contrast.
    normal = np.zeros((*n.shape, 4, 4))
    normal[..., :2, :2] = tiles[..., [29, 35, 35, 41]].reshape(*n.shape, 2, 2)
    normal[..., :2, 2] = normal[..., 2, :2] = tiles[..., [20, 23]]
    normal[..., :2, 3] = normal[..., 3, :2] = tiles[..., [8, 11]]
    normal[..., 2, 2], normal[..., 2, 3], normal[..., 3, 2], normal[..., 3, 3] = vv, v, v, n
    right = tiles[..., [14, 17, 5, 1]]
    total = normal.sum(axis=1)
    unit = np.sqrt(np.maximum(np.diagonal(total, axis1=1, axis2=2), np.finfo(np.float64).tiny))
    scale = unit[:, :, None] * unit[:, None, :]
    inverse = np.linalg.pinv(total / scale, rcond=1e-8, hermitian=True) / scale
    fit = inverse @ right.sum(axis=1)[..., None]
    left = right - (normal @ fit[:, None])[..., 0]
    free = np.maximum((n > 0).sum(axis=1) - 4.0, 1.0)
    covariance = (inverse @ (np.swapaxes(left, 1, 2) @ left) @ inverse)[:, :2, :2] * ((free + 4.0) / free)[
        :, None, None
    ]
    step = fit[:, :2, 0]
    squares = np.einsum("bi,bij,bj->b", step, np.linalg.pinv(covariance, hermitian=True), step)
    # The chance of Fisher's F with two degrees of freedom above, as deviations of a Gaussian.
    return np.asarray(np.maximum(-ndtri_exp(-0.5 * free * np.log1p(np.maximum(squares, 0.0) / free)), 0.0))


def _products(planes: Array) -> list[Array]:
    """Sums (B,) of the squares of pixels, and of their products with the next ones along y and along x."""
    xp = array_namespace(planes)
    e = xp.where(xp.isfinite(planes), planes, np.float32(0))
    return [summed(e * e), summed(e[:, 1:] * e[:, :-1]), summed(e[:, :, 1:] * e[:, :, :-1])]


def _alike(products: list[FloatArray]) -> FloatArray:
    """Pixels (B,) that count as one when two planes are compared, from the `_products` of both."""
    least = np.finfo(np.float32).tiny
    own, other = (np.stack([y, x]) / np.maximum(square, least) for square, y, x in (products[:3], products[3:]))
    both = np.clip(own * other, 1e-3, 0.98)
    return np.asarray(np.maximum(np.pi / np.sqrt(np.log(both[0]) * np.log(both[1])), 1.0))
