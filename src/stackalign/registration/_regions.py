"""What the residual at the optimum says: whether it is noise, and where each region of the images would rather be."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from stackalign import transforms
from stackalign._types import FloatArray
from stackalign.backends import Array
from stackalign.ops import bin_mean
from stackalign.ops._linear_sums import contrast_of
from stackalign.ops.transfer import fetched

from ._agreement import Agreement, agreement_of, displacement_fields, surface
from ._finish import Refined
from ._noise import block_share, moving_share, response_levels, sampled_noise, second_difference_share
from ._sums import summed

__all__ = ["Regions", "regions_of", "white_residual"]


FLAT = 1e-4
"""Share of the strongest tile's slopes below which a tile says nothing."""

BLOCKS, FEWEST_BLOCKS = (4, 8), 5
"""Sides in pixels of the blocks whose means tell structure from noise, and how many there must be along each axis."""

MOSTLY = 0.75
"""Share of the pixels of a block that must be valid: the mean of few is mostly noise."""

FEWEST_FOR_SURFACE = 40
"""Tiles from which on gain and offset may vary over the image."""

FEW_ALONE = 10.0
"""Independent pixels with the slopes of a tile below which its shift is doubted, if others in it have none. The shifts
of tiles with 2 to 4 such pixels had 14 to 120 times the variance that their residuals said, with 6 to 9 four times."""

DILUTED, MOST_DILUTED = 0.01, 0.7
"""Variance of the noise of samples, of which 1 is all, from which on the gain is corrected for it, and beyond which
nothing is left to correct."""

WIDEST = 0.98
"""Largest correlation of neighbours that is believed: beyond it nothing would be left of the pixels."""


@dataclass(frozen=True)
class Regions:
    """Evidence of B pairs, (B, ...) each.

    Parameters
    ----------
    goodness : numpy.ndarray
        Variance of the residual over that of its noise.
    motion : numpy.ndarray
        Pixels by which all structures would have to move to leave as much beyond the noise.
    structure, clearly : numpy.ndarray
        Variance of the means of small blocks of the residual over that of its noise, at the block size where it is the
        clearest: 1 where the residual is noise, whatever its size. And by how many deviations it is more.
    shift : numpy.ndarray
        (B, T, 2) by how many pixels the reference's content would have to move in each tile, beyond the result.
    weight : numpy.ndarray
        (B, T, 2, 2) inverse covariance of these, from the residual in each tile; 0 where a tile says nothing.
    place : numpy.ndarray
        (T, 2) centres (y, x) of the tiles, from the middle of the reference.
    agreement : Agreement
        What these shifts say together.
    """

    goodness: FloatArray
    motion: FloatArray
    structure: FloatArray
    clearly: FloatArray
    shift: FloatArray
    weight: FloatArray
    place: FloatArray
    agreement: Agreement

    def displacements(self, b: int, shape: tuple[int, int]) -> FloatArray:
        """(T, 6) rows of `RegistrationResult.displacements` of one pair."""
        trace = np.trace(self.weight[b], axis1=1, axis2=2)
        used = trace > 0
        square = np.where(used[:, None, None], self.weight[b], np.eye(2))
        # A tile of lines says next to nothing along them.
        ridge = 1e-6 * np.where(used, trace, 0.0)[:, None, None] * np.eye(2)
        sigma = np.sqrt(np.diagonal(np.linalg.inv(square + ridge), axis1=1, axis2=2))
        # The content of the moving image goes where that of the reference comes from.
        rows = np.column_stack([self.place + transforms.image_center(shape), -self.shift[b], sigma])
        return np.asarray(rows[used])


def regions_of(
    fine: Refined, rough: FloatArray, model: str, center: FloatArray, counts: list[Array]
) -> tuple[Regions, list[NDArray[Any]]]:
    """Judge the residual, and bring `counts` (B,) each to the host with the rest.

    `rough` (B, 2) are the `response_levels` of the images before they were smoothed.
    """
    count = np.maximum(fine.sums[..., 0].sum(axis=1), 1.0)
    shape = (int(fine.reference.shape[1]), int(fine.reference.shape[2]))
    place = _places(shape, fine.tile)
    residual, unsampled, seen = _undiluted(fine, rough, place, shape)
    power, along_y, along_x, (fourth, *numbers) = _correlations(
        residual, fine.slopes, [_fourth_powers(fine.slopes, fine.tile), *counts]
    )
    goodness = power / np.maximum(seen, np.finfo(np.float32).tiny)
    structure, clearly = _structure(residual, unsampled, rough, fine.smooth)
    # Squares of the slopes that both images show, per pixel and axis.
    slopes = (fine.sums[..., [29, 41]].sum(axis=1) / fine.gain).mean(axis=1) / count
    motion = np.sqrt(np.maximum(power - seen, 0.0) / np.maximum(slopes, np.finfo(np.float32).tiny))
    pixels = np.pi / np.sqrt(np.log(along_y) * np.log(along_x))
    shift, weight = _tile_shifts(fine, np.maximum(pixels, 1.0))
    weight = weight / _doubt(fine.sums, fourth, np.maximum(pixels, 1.0))[..., None, None]
    matrices = transforms.matrices_from_parameters(fine.parameters, model, center)
    jacobian = transforms.matrix_jacobian(fine.parameters, model, center)
    agreement = agreement_of(shift, weight, displacement_fields(matrices, jacobian, shape), place, shape)
    return Regions(goodness, motion, structure, clearly, shift, weight, place, agreement), numbers


def white_residual(fine: Refined, rough: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Variance (B,) of the residual after one gain and one offset, and that of the white noise in it.

    `rough` (B, 2) are the `response_levels` of the images before they were smoothed.
    """
    total = fine.sums[..., :6].sum(axis=1)
    count = np.maximum(total[:, 0], 1.0)
    gain = contrast_of(fine.sums)
    mean_r, mean_v = total[:, 1] / count, total[:, 2] / count
    power = total[:, 3] / count - mean_r**2 - gain**2 * (total[:, 4] / count - mean_v**2)
    xp = array_namespace(fine.reference)
    residual = fine.reference - xp.asarray(gain.astype(np.float32))[:, None, None] * fine.resampled
    return np.maximum(power, 0.0), _noise_in(residual, fine, rough)[1]


def _noise_in(residual: Array, fine: Refined, rough: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Variance (B,) of the white noise in the difference of smoothed images, and of what sampling leaves of it.

    The means of blocks know nothing of what sampling takes, which is what changes from one pixel to the next.
    """
    sampled = sampled_noise(fine.smooth[1], fine.between)
    whole = (response_levels(residual) / second_difference_share(rough, fine.smooth, sampled)) ** 2
    return whole, whole * sampled.of_difference(rough, fine.smooth)


def _undiluted(
    fine: Refined, rough: FloatArray, place: FloatArray, shape: tuple[int, int]
) -> tuple[Array, FloatArray, FloatArray]:
    """The residual with a gain that the noise of the samples does not make smaller, and its noise, as `_noise_in`.

    A smaller gain would leave a share of the scene in the residual.
    """
    residual = _residual(fine, _brightness(fine.sums, np.zeros(len(rough)), place, shape))
    whole, seen = _noise_in(residual, fine, rough)
    # The noise of samples is that of the residual, as far as it is the moving image's.
    noise = seen * moving_share(rough, fine.smooth)
    noise = np.where((noise > DILUTED) & (noise < MOST_DILUTED), noise, 0.0)
    if not noise.any():
        return residual, whole, seen
    residual = _residual(fine, _brightness(fine.sums, noise, place, shape))
    return residual, *_noise_in(residual, fine, rough)


def _brightness(sums: FloatArray, noise: FloatArray, place: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Coefficients (B, 2, 6) of the gain and the offset that bring the samples to the reference, of `_surface`.

    Uneven light and vignetting are no misfit: gain and offset vary smoothly, as far as there are enough tiles. `noise`
    (B,) is the variance of that of the samples, which is no contrast.
    """
    terms = surface(place[:, 0], place[:, 1], shape).T
    if len(place) < FEWEST_FOR_SURFACE:
        terms[:, 1:] = 0.0
    n, r, v, _, vv, rv = np.moveaxis(sums[..., :6], -1, 0)
    vv = vv - n * noise[:, None]
    square = np.stack([np.stack([vv, v], -1), np.stack([v, n], -1)], -1)
    normal = np.einsum("btij,tk,tl->bikjl", square, terms, terms).reshape(len(n), 12, 12)
    right = np.einsum("bti,tk->bik", np.stack([rv, r], -1), terms).reshape(len(n), 12)
    diagonal = np.diagonal(normal, axis1=1, axis2=2)
    # A plane without variance is 0.
    unit = np.sqrt(np.where(diagonal > FLAT * diagonal.max(axis=1, keepdims=True), diagonal, np.inf))
    scaled = normal / (unit[:, :, None] * unit[:, None, :])
    solved = np.linalg.pinv(scaled, rcond=1e-6, hermitian=True) @ (right / unit)[..., None]
    return np.asarray((solved[..., 0] / unit).reshape(-1, 2, 6))


def _residual(fine: Refined, brightness: FloatArray) -> Array:
    """Reference minus the samples with a gain and an offset of `_brightness`."""
    xp = array_namespace(fine.reference)
    height, width = (int(side) for side in fine.reference.shape[1:])
    y, x = (np.arange(side, dtype=np.float64) - 0.5 * (side - 1) for side in (height, width))
    residual = fine.reference.copy()
    for planes, field in ((fine.resampled, brightness[:, 0]), (None, brightness[:, 1])):
        # A quadratic is a few outer products.
        rows, columns = surface(y, 0 * y, (height, width)), surface(0 * x, x, (height, width))
        along_y = np.stack([rows[0], rows[1], rows[3]]).astype(np.float32)
        along_x = np.stack([columns[0], columns[2], columns[5]]).astype(np.float32)
        table = np.zeros((len(field), 3, 3))
        for k, (i, j) in enumerate(((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))):
            table[:, i, j] = field[:, k]
        light = xp.asarray(np.einsum("iy,bij,jx->byx", along_y, table, along_x, optimize=True).astype(np.float32))
        residual = residual - (light if planes is None else light * planes)
    return residual


def _structure(
    residual: Array, whole: FloatArray, rough: FloatArray, smooth: tuple[float, float]
) -> tuple[FloatArray, FloatArray]:
    """`Regions.structure` and `Regions.clearly` of residuals, of which `whole` (B,) is the variance of the noise."""
    best = np.ones(len(whole)), np.zeros(len(whole))
    sides = [side for side in BLOCKS if min(residual.shape[1:]) >= FEWEST_BLOCKS * side]
    blocks = [bin_mean(residual, side, return_count=True) for side in sides]
    planes = fetched([plane for block in blocks for plane in block]) if sides else []
    for side, means, counts in zip(sides, planes[::2], planes[1::2], strict=True):
        share = counts / side**2
        valid = share >= MOSTLY
        n = np.maximum(valid.sum(axis=(1, 2)), 1)
        # The fewer pixels, the more of the noise is left in their mean.
        variance = share * np.where(valid, means.astype(np.float64), 0.0) ** 2
        of_noise = np.maximum(whole * block_share(rough, smooth, side), np.finfo(np.float32).tiny)
        ratio = variance.sum(axis=(1, 2)) / n / of_noise
        clearly = (ratio - 1.0) * np.sqrt(0.5 * n)
        more = clearly > best[1]
        best = np.where(more, ratio, best[0]), np.where(more, clearly, best[1])
    return best


def _correlations(
    residual: Array, slopes: Array, others: list[Array]
) -> tuple[FloatArray, FloatArray, FloatArray, list[NDArray[Any]]]:
    """Variance (B,) of the residual, and the correlation of neighbours along y and x in its products with slopes.

    And `others` on the host.
    """
    xp = array_namespace(residual)
    valid = xp.isfinite(residual)
    zero = np.float32(0)
    e = xp.where(valid, residual, zero)
    s = xp.where(xp.isfinite(slopes), slopes, zero)
    counts = [valid, valid[:, 1:] & valid[:, :-1], valid[:, :, 1:] & valid[:, :, :-1]]
    numbers = [c.sum(axis=(1, 2)).astype(np.float64) for c in counts]
    products = [summed(e * e), summed(e[:, 1:] * e[:, :-1]), summed(e[:, :, 1:] * e[:, :, :-1])]
    pairs = ((s, s), (s[:, :, 1:], s[:, :, :-1]), (s[..., 1:], s[..., :-1]))
    products += [summed(a * b).sum(axis=1) for a, b in pairs]
    said = fetched([*numbers, *products, *others])
    n, e2, s2 = np.split(np.stack(said[:9]), 3)
    variance = e2 / np.maximum(n, 1.0)
    least = np.finfo(np.float32).tiny
    both = [variance[k] / np.maximum(variance[0], least) * s2[k] / np.maximum(s2[0], least) for k in (1, 2)]
    y, x = (np.clip(b, 1e-3, WIDEST) for b in both)
    return variance[0], y, x, said[9:]


def _places(shape: tuple[int, int], tile: int) -> FloatArray:
    """Centres (T, 2) of the tiles, from the middle of the image."""
    along = [np.arange(0, side, tile) for side in shape]
    middles = [0.5 * (a + np.minimum(a + tile, side) - side) for a, side in zip(along, shape, strict=True)]
    return np.stack(np.meshgrid(*middles, indexing="ij"), axis=-1).reshape(-1, 2)


def _tile_shifts(fine: Refined, pixels: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Least squares of each tile's reference by offset, gain and the slopes; `pixels` (B,) count as one."""
    sums = fine.sums
    n, r, v, rr, vv, rv = np.moveaxis(sums[..., :6], -1, 0)
    linear, with_r, with_v = sums[..., [8, 11]], sums[..., [14, 17]], sums[..., [20, 23]]
    square = sums[..., [29, 35, 35, 41]].reshape(*n.shape, 2, 2)
    count = np.maximum(n, 1.0)
    vv, rv, rr = vv - v * v / count, rv - r * v / count, rr - r * r / count
    with_r = with_r - (r / count)[..., None] * linear
    with_v = with_v - (v / count)[..., None] * linear
    square = square - linear[..., :, None] * (linear / count[..., None])[..., None, :]
    inverse = np.divide(1.0, vv, out=np.zeros_like(vv), where=vv > 0)
    right = with_r - (rv * inverse)[..., None] * with_v
    normal = square - with_v[..., :, None] * (with_v * inverse[..., None])[..., None, :]
    trace = np.trace(normal, axis1=-2, axis2=-1)
    some = (n >= 16) & (trace > FLAT * trace.max(axis=1, keepdims=True)) & (trace > 0)
    # A tile of lines says nothing along them: so much is added that it says so.
    ridge = 1e-3 * np.where(some, trace, 1.0)[..., None, None] * np.eye(2)
    shift = np.linalg.solve(np.where(some[..., None, None], normal, 0.0) + ridge, right[..., None])[..., 0]
    left = np.maximum(rr - rv * rv * inverse - (shift * right).sum(axis=-1), 1e-9 * rr) / np.maximum(n - 4.0, 1.0)
    left = np.where(some & (left > 0), left, np.inf)
    weight = (
        normal / (left * pixels[:, None])[..., None, None] / (fine.gain[:, None, :, None] * fine.gain[:, None, None, :])
    )
    shift = np.where(some[..., None], shift * fine.gain[:, None], 0.0)
    return shift, np.where(some[..., None, None], weight, 0.0)


def _fourth_powers(slopes: Array, tile: int) -> Array:
    """Sums (B, T) over tiles of the fourth power of the slopes (B, 2, H, W)."""
    xp = array_namespace(slopes)
    valid = xp.isfinite(slopes[:, 0]) & xp.isfinite(slopes[:, 1])
    power = xp.where(valid, slopes[:, 0] ** 2 + slopes[:, 1] ** 2, np.float32(0)) ** 2
    n, height, width = power.shape
    rows, columns = -(-height // tile), -(-width // tile)
    whole = xp.zeros((n, rows * tile, columns * tile), dtype=power.dtype)
    whole[:, :height, :width] = power
    sums = whole.reshape(n, rows, tile, columns, tile).sum(axis=4, dtype=np.float64).sum(axis=2)
    return sums.reshape(n, rows * columns)


def _doubt(sums: FloatArray, fourth: FloatArray, pixels: FloatArray) -> FloatArray:
    """Factors (B, T) on the variances of tiles' shifts where few pixels of a tile have all the slopes.

    Where a tile has but the edge of a particle, the noise of all its pixels says little about that of these few, and
    what is left after gain, offset and shift were fitted to them even less. `pixels` (B,) count as one.
    """
    square = sums[..., 29] + sums[..., 41]
    count = np.maximum(sums[..., 0], 1.0)
    # Slopes of a normal distribution have twice the fourth power of their mean square.
    share = np.clip(2.0 * square**2 / np.maximum(fourth * count, np.finfo(np.float64).tiny), 1e-6, 1.0)
    alone = np.maximum(share * count / pixels[:, None], 0.1)
    return np.asarray(1.0 + ((1.0 - share) * FEW_ALONE / alone) ** 2)
