"""What the residual at the optimum says: whether it is noise, and where each region of the images would rather be."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from stackalign import transforms
from stackalign.ops import to_numpy

from ._finish import Refined
from ._noise import response_levels, second_difference_share

__all__ = ["Regions", "regions_of"]

FloatArray = NDArray[np.float64]

FLAT = 1e-4
"""Share of the strongest tile's slopes below which a tile says nothing."""

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
    shift : numpy.ndarray
        (B, T, 2) by how many pixels the reference's content would have to move in each tile, beyond the result.
    weight : numpy.ndarray
        (B, T, 2, 2) inverse covariance of these, from the residual in each tile; 0 where a tile says nothing.
    place : numpy.ndarray
        (T, 2) centres (y, x) of the tiles, from the middle of the reference.
    disagreement : numpy.ndarray
        Mean square of the tiles' shifts in units of their errors, 1 where only noise is seen; that beyond a common
        affine transform.
    scatter : numpy.ndarray
        Deviation in pixels of the tiles' shifts beyond their errors and beyond a common affine transform.
    neighbours : numpy.ndarray
        Correlation of the shifts of neighbouring tiles beyond the affine transform.
    affine : numpy.ndarray
        (B, 6) change of the numbers of the matrix, about the middle of the reference, that tiles want beyond the model.
    significance : numpy.ndarray
        In standard errors, scaled by what tiles scatter.
    corner : numpy.ndarray
        Pixels by which that change moves the farthest corner.
    """

    goodness: FloatArray
    motion: FloatArray
    shift: FloatArray
    weight: FloatArray
    place: FloatArray
    disagreement: FloatArray
    scatter: FloatArray
    neighbours: FloatArray
    affine: FloatArray
    significance: FloatArray
    corner: FloatArray


def regions_of(fine: Refined, model: str, center: FloatArray) -> Regions:
    """Judge the residual of pairs that were smoothed alike."""
    total = fine.sums[..., :6].sum(axis=1)
    n, r, v, _, vv, rv = np.moveaxis(total, -1, 0)
    count = np.maximum(n, 1.0)
    variance = vv - v * v / count
    gain = np.divide(rv - r * v / count, variance, out=np.zeros_like(variance), where=variance > 0)
    offset = (r - gain * v) / count
    residual = _residual(fine, gain, offset)
    power, along_y, along_x = _correlations(residual, fine.slopes)
    seen = (response_levels(residual) / second_difference_share(fine.smooth)) ** 2
    goodness = power / np.maximum(seen, np.finfo(np.float32).tiny)
    # Squares of the slopes that both images show, per pixel and axis.
    slopes = (fine.sums[..., [29, 41]].sum(axis=1) / fine.gain).mean(axis=1) / count
    motion = np.sqrt(np.maximum(power - seen, 0.0) / np.maximum(slopes, np.finfo(np.float32).tiny))
    pixels = np.pi / np.sqrt(np.log(along_y) * np.log(along_x))
    shape = (int(fine.reference.shape[1]), int(fine.reference.shape[2]))
    place = _places(shape, fine.tile)
    shift, weight = _tile_shifts(fine, np.maximum(pixels, 1.0))
    matrices = transforms.matrices_from_parameters(fine.parameters, model, center)
    chain = _fields(matrices, transforms.matrix_jacobian(fine.parameters, model, center), shape)
    rows = [_affine_of(*each, place, shape) for each in zip(shift, weight, chain, strict=True)]
    disagreement, scatter, neighbours, affine, significance, corner = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    return Regions(
        goodness, motion, shift, weight, place, disagreement, scatter, neighbours, affine, significance, corner
    )


def _residual(fine: Refined, gain: FloatArray, offset: FloatArray) -> Any:
    xp = array_namespace(fine.reference)
    g, o = (xp.asarray(a[:, None, None].astype(np.float32)) for a in (gain, offset))
    return fine.reference - g * fine.resampled - o


def _correlations(residual: Any, slopes: Any) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Variance (B,) of the residual, and the correlation of neighbours along y and x in its products with slopes."""
    xp = array_namespace(residual)
    valid = xp.isfinite(residual)
    zero = np.float32(0)
    e = xp.where(valid, residual, zero)
    s = xp.where(xp.isfinite(slopes), slopes, zero)
    counts = [valid, valid[:, 1:] & valid[:, :-1], valid[:, :, 1:] & valid[:, :, :-1]]
    numbers = xp.stack([c.sum(axis=(1, 2)) for c in counts]).astype(np.float64)
    products = [xp.einsum("byx,byx->b", a, b) for a, b in ((e, e), (e[:, 1:], e[:, :-1]), (e[:, :, 1:], e[:, :, :-1]))]
    pairs = ((s, s), (s[:, :, 1:], s[:, :, :-1]), (s[..., 1:], s[..., :-1]))
    products += [xp.einsum("bcyx,bcyx->b", a, b) for a, b in pairs]
    n, e2, s2 = np.split(to_numpy(xp.concatenate([numbers, xp.stack(products)])), 3)
    variance = e2 / np.maximum(n, 1.0)
    least = np.finfo(np.float32).tiny
    both = [variance[k] / np.maximum(variance[0], least) * s2[k] / np.maximum(s2[0], least) for k in (1, 2)]
    y, x = (np.clip(b, 1e-3, WIDEST) for b in both)
    return variance[0], y, x


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


def _fields(matrices: FloatArray, jacobian: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Displacements of the reference (B, P, 6) per parameter, as numbers of a matrix about its middle."""
    fields = np.linalg.inv(matrices[:, None, :, :2]) @ jacobian
    fields[..., 2] += fields[..., :2] @ transforms.image_center(shape)
    return np.asarray(fields.reshape(*fields.shape[:2], 6))


def _design(place: FloatArray) -> FloatArray:
    """(T, 2, 6): displacement of places by the numbers of a matrix."""
    rows = np.column_stack([place, np.ones(len(place))])
    design = np.zeros((len(place), 2, 6))
    design[:, 0, :3] = rows
    design[:, 1, 3:] = rows
    return design


def _solved(design: FloatArray, weight: FloatArray, shift: FloatArray) -> tuple[FloatArray, float]:
    """Weighted least squares of the tiles' shifts, and the sum of the squares that it explains."""
    weighted = np.einsum("tij,tjp->tip", weight, design)
    normal = np.einsum("tip,tiq->pq", design, weighted)
    right = np.einsum("tip,ti->p", weighted, shift)
    unit = np.sqrt(np.maximum(np.diagonal(normal), np.finfo(np.float64).tiny))
    inverse = np.linalg.pinv(normal / np.outer(unit, unit), rcond=1e-8, hermitian=True) / np.outer(unit, unit)
    values = inverse @ right
    return values, float(right @ values)


def _affine_of(
    shift: FloatArray, weight: FloatArray, fields: FloatArray, place: FloatArray, shape: tuple[int, int]
) -> tuple[float, float, float, FloatArray, float, float]:
    used = np.trace(weight, axis1=1, axis2=2) > 0
    n_used, n_parameters = int(used.sum()), len(fields)
    nothing = (1.0, 0.0, 0.0, np.zeros(6), 0.0, 0.0)
    if 2 * n_used < 12:
        return nothing
    shift, weight, design = shift[used], weight[used], _design(place[used])
    every = float(np.einsum("ti,tij,tj->", shift, weight, shift))
    of_model, by_model = _solved(design @ fields.T, weight, shift)
    of_affine, by_affine = _solved(design, weight, shift)
    disagreement = max(every - by_affine, 0.0) / (2 * n_used - 6)
    rest = shift - design @ of_affine
    trace = np.trace(weight, axis1=1, axis2=2)
    scatter = np.sqrt(max(every - by_affine - (2 * n_used - 6), 0.0) / trace.sum())
    change = of_affine - of_model @ fields
    free = 6 - n_parameters
    significance = np.sqrt(max(by_affine - by_model, 0.0) / max(free, 1) / max(disagreement, 1.0)) if free else 0.0
    half_y, half_x = (0.5 * (side - 1) for side in shape)
    corners = _design(np.array([[-half_y, -half_x], [-half_y, half_x], [half_y, -half_x], [half_y, half_x]]))
    corner = float(np.hypot(*(corners @ change).T).max())
    return disagreement, float(scatter), _neighbours(rest, trace, place[used]), change, float(significance), corner


def _neighbours(rest: FloatArray, trace: FloatArray, place: FloatArray) -> float:
    """Correlation of the shifts of neighbouring tiles, weighted by what they are worth."""
    weighted = rest * np.sqrt(trace)[:, None]
    near = np.abs(place[:, None] - place[None])
    step = np.min(near[near > 0], initial=np.inf)
    beside = (near.sum(axis=2) < 1.5 * step) & (near.sum(axis=2) > 0)
    own = float((weighted**2).sum() / len(rest))
    if own == 0.0 or not beside.any():
        return 0.0
    return float((weighted @ weighted.T)[beside].mean() / own)
