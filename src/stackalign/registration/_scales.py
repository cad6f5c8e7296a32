"""Whether fine and coarse structures agree about the shift.

A pattern that stands still, light of the instrument, a second layer: each has its own spectrum, so that another part of
the images moves in another way at another scale.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from array_api_compat import array_namespace

from stackalign import transforms
from stackalign._types import FloatArray
from stackalign.backends import Array
from stackalign.ops import bin_mean
from stackalign.ops.linearize import covariance_tile, linearize_shared, reference_slopes, shared_sums
from stackalign.ops.transfer import fetched

from ._finish import Refined, widened_by, wider_of
from ._sums import summed
from ._trust import significance

__all__ = ["Scales", "scales_of"]

COARSEST, SMALLEST_LEVEL = 8, 16
"""Largest binning, and the shortest side of an image that is binned by it."""

LEAST_SHIFT = 0.1
"""Pixels that a scale has to disagree by: less cannot be told from what interpolation does."""


@dataclass(frozen=True)
class Scales:
    """Evidence of B pairs.

    Parameters
    ----------
    significance : numpy.ndarray
        (B,) standard errors by which the scale that disagrees most would have the images moved on.
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
    """Let a second difference of the images at each binning say how the moving image would have to move on."""
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
    worst = errors.argmax(axis=0), np.arange(n_problems)
    some = errors[worst] > 0.0
    return Scales(
        errors[worst],
        np.where(some, shift[worst], 0.0),
        np.where(some, size[worst[0], 0], 0.0),
        np.maximum(chance.max(axis=0), 0.0),
    )


class _Level(NamedTuple):
    """Second differences of the reference at a binning, and on their device the sums that a step is made of."""

    factor: int
    reference: Array
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
        reference, resampled = (_detail(p) for p in planes)
        tile = covariance_tile(reference.shape[1:], max(fine.smooth) / factor)
        slopes = reference_slopes(reference), reference_slopes(resampled)
        sums = shared_sums(reference, resampled, slopes, tile, workers)
        yield _Level(factor, reference, sums, [*_products(reference), *_products(resampled)])
        factor *= 2


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
    wider = wider_of(linear.normal, shared)
    assert linear.covariance is not None
    covariance = widened_by(linear.covariance, wider)
    known = np.isfinite(covariance).all(axis=(1, 2)) & (linear.score > 0)
    covariance = np.where(known[:, None, None], covariance, np.eye(2))
    inverse = np.linalg.pinv(linear.normal, rcond=1e-6, hermitian=True)
    step = (wider @ inverse @ linear.gradient[..., None])[..., 0]
    squares = np.einsum("bi,bij,bj->b", step, np.linalg.pinv(covariance, hermitian=True), step)
    shift = np.sqrt((step**2).sum(axis=1))
    chance = significance(linear.score, sums[0][..., 0].sum(axis=1) / _alike(products))
    return np.where(known, shift, 0.0), np.where(known, np.sqrt(np.maximum(squares, 0.0)), 0.0), chance


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
