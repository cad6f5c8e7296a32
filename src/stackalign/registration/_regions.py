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
from stackalign.ops.transfer import fetched

from ._finish import Refined, summed
from ._noise import block_share, response_levels, second_difference_share

__all__ = ["Regions", "regions_of", "wanted_text"]


FLAT = 1e-4
"""Share of the strongest tile's slopes below which a tile says nothing."""

AFFINE = transforms.MODELS["affine"]

MOST_ALIKE, FEWEST_REGIONS = 0.95, 4
"""Largest correlation of neighbouring tiles that is taken, and the fewest regions that tiles are taken to make up."""

LEAST_AREA = 0.25
"""Change of area beyond which a linear step says that there is a change, and not how large it is."""

REGIONS, FEWEST_LEFT, LEAST_MOVED = 3, 8, 0.1
"""Regions along each axis of which one is left out, the fewest tiles that must be left, and the pixels from which on
it matters."""

BLOCKS, FEWEST_BLOCKS = (4, 8), 5
"""Sides in pixels of the blocks whose means tell structure from noise, and how many there must be along each axis."""

FEWEST_FOR_SURFACE = 40
"""Tiles from which on gain and offset may vary over the image."""

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
    disagreement : numpy.ndarray
        Mean square of the tiles' shifts in units of their errors, 1 where only noise is seen; that beyond a common
        affine transform.
    scatter : numpy.ndarray
        Deviation in pixels of the tiles' shifts beyond their errors and beyond a common affine transform.
    affine : numpy.ndarray
        (B, 6) change of the numbers of the matrix, about the middle of the reference, that tiles want beyond the model.
    significance : numpy.ndarray
        In standard errors, scaled by what tiles scatter.
    corner : numpy.ndarray
        Pixels by which that change moves the farthest corner.
    without : numpy.ndarray
        (B, 4) the region without which all others disagree the most with the result: by how many pixels they do, in
        standard errors, and the middle (y, x) of that region from the middle of the reference.
    alone, together : numpy.ndarray
        (B, P, P) what the scatter does to the parameters if each tile scatters by itself, and with what neighbours have
        in common.
    """

    goodness: FloatArray
    motion: FloatArray
    structure: FloatArray
    clearly: FloatArray
    shift: FloatArray
    weight: FloatArray
    place: FloatArray
    disagreement: FloatArray
    scatter: FloatArray
    affine: FloatArray
    significance: FloatArray
    corner: FloatArray
    alone: FloatArray
    together: FloatArray
    without: FloatArray

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
    residual = _residual(fine, _brightness(fine.sums, place, shape))
    power, along_y, along_x, numbers = _correlations(residual, fine.slopes, counts)
    seen = (response_levels(residual) / second_difference_share(rough, fine.smooth)) ** 2
    goodness = power / np.maximum(seen, np.finfo(np.float32).tiny)
    structure, clearly = _structure(residual, seen, rough, fine.smooth)
    # Squares of the slopes that both images show, per pixel and axis.
    slopes = (fine.sums[..., [29, 41]].sum(axis=1) / fine.gain).mean(axis=1) / count
    motion = np.sqrt(np.maximum(power - seen, 0.0) / np.maximum(slopes, np.finfo(np.float32).tiny))
    pixels = np.pi / np.sqrt(np.log(along_y) * np.log(along_x))
    shift, weight = _tile_shifts(fine, np.maximum(pixels, 1.0))
    matrices = transforms.matrices_from_parameters(fine.parameters, model, center)
    chain = _fields(matrices, transforms.matrix_jacobian(fine.parameters, model, center), shape)
    rows = [_judged(*each, place, shape) for each in zip(shift, weight, chain, strict=True)]
    said = [np.array(column) for column in zip(*rows, strict=True)]
    return Regions(goodness, motion, structure, clearly, shift, weight, place, *said), numbers


def _surface(y: NDArray[Any], x: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """(6, ...) terms of a quadratic in places from the middle of the image, from -1 to 1."""
    y, x = y / (0.5 * shape[0]), x / (0.5 * shape[1])
    return np.stack([np.ones_like(y + x), y + 0 * x, x + 0 * y, y * y + 0 * x, y * x, x * x + 0 * y])


def _brightness(sums: FloatArray, place: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Coefficients (B, 2, 6) of the gain and the offset that bring the samples to the reference, of `_surface`.

    Uneven light and vignetting are no misfit: gain and offset vary smoothly, as far as there are enough tiles.
    """
    terms = _surface(place[:, 0], place[:, 1], shape).T
    if len(place) < FEWEST_FOR_SURFACE:
        terms[:, 1:] = 0.0
    n, r, v, _, vv, rv = np.moveaxis(sums[..., :6], -1, 0)
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
    y, x = (np.arange(side, dtype=np.float32) - np.float32(0.5 * (side - 1)) for side in (height, width))
    residual = fine.reference.copy()
    for planes, field in ((fine.resampled, brightness[:, 0]), (None, brightness[:, 1])):
        # A quadratic is a few outer products.
        rows, columns = _surface(y, np.float32(0) * y, (height, width)), _surface(np.float32(0) * x, x, (height, width))
        along_y = np.stack([rows[0], rows[1], rows[3]]).astype(np.float32)
        along_x = np.stack([columns[0], columns[2], columns[5]]).astype(np.float32)
        table = np.zeros((len(field), 3, 3))
        for k, (i, j) in enumerate(((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))):
            table[:, i, j] = field[:, k]
        surface = xp.asarray(np.einsum("iy,bij,jx->byx", along_y, table, along_x, optimize=True).astype(np.float32))
        residual = residual - (surface if planes is None else surface * planes)
    return residual


def _structure(
    residual: Array, seen: FloatArray, rough: FloatArray, smooth: tuple[float, float]
) -> tuple[FloatArray, FloatArray]:
    """`Regions.structure` and `Regions.clearly` of residuals, of which `seen` (B,) is the variance of the noise."""
    best = np.ones(len(seen)), np.zeros(len(seen))
    sides = [side for side in BLOCKS if min(residual.shape[1:]) >= FEWEST_BLOCKS * side]
    blocks = fetched([bin_mean(residual, side) for side in sides]) if sides else []
    for side, plane in zip(sides, blocks, strict=True):
        means = plane.astype(np.float64)
        valid = np.isfinite(means)
        n = np.maximum(valid.sum(axis=(1, 2)), 1)
        variance = np.where(valid, means, 0.0) ** 2
        of_noise = np.maximum(seen * block_share(rough, smooth, side), np.finfo(np.float32).tiny)
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


def _solved(design: FloatArray, weight: FloatArray, shift: FloatArray) -> tuple[FloatArray, float, FloatArray]:
    """Weighted least squares of the tiles' shifts, the sum of the squares that it explains, and the covariance."""
    weighted = np.einsum("tij,tjp->tip", weight, design)
    normal = np.einsum("tip,tiq->pq", design, weighted)
    right = np.einsum("tip,ti->p", weighted, shift)
    unit = np.sqrt(np.maximum(np.diagonal(normal), np.finfo(np.float64).tiny))
    inverse = np.linalg.pinv(normal / np.outer(unit, unit), rcond=1e-8, hermitian=True) / np.outer(unit, unit)
    values = inverse @ right
    return values, float(right @ values), inverse


def _judged(
    shift: FloatArray, weight: FloatArray, fields: FloatArray, place: FloatArray, shape: tuple[int, int]
) -> tuple[Any, ...]:
    """What the shifts of the tiles of a pair say, in the order of the last fields of `Regions`."""
    used = np.trace(weight, axis1=1, axis2=2) > 0
    n_used, n_parameters = int(used.sum()), len(fields)
    none = np.zeros((n_parameters, n_parameters))
    if 2 * n_used < 2 * len(AFFINE):
        return 1.0, 0.0, np.zeros(6), 0.0, 0.0, none, none, np.zeros(4)
    shift, weight, design = shift[used], weight[used], _design(place[used])
    every = float(np.einsum("ti,tij,tj->", shift, weight, shift))
    of_model, by_model, _ = _solved(design @ fields.T, weight, shift)
    of_affine, by_affine, _ = _solved(design, weight, shift)
    free = 2 * n_used - 6
    disagreement = max(every - by_affine, 0.0) / free
    trace = np.trace(weight, axis1=1, axis2=2)
    scatter = np.sqrt(max(every - by_affine - free, 0.0) / trace.sum())
    alike = _neighbours(shift - design @ of_affine, trace, place[used])
    alone, together = _spread(design @ fields.T, weight, shift, scatter, alike)
    change = of_affine - of_model @ fields
    more = 6 - n_parameters
    significance = np.sqrt(max(by_affine - by_model, 0.0) / more / max(disagreement, 1.0)) if more else 0.0
    half_y, half_x = (0.5 * (side - 1) for side in shape)
    corners = _design(np.array([[-half_y, -half_x], [-half_y, half_x], [half_y, -half_x], [half_y, half_x]]))
    corner = float(np.hypot(*(corners @ change).T).max())
    without = _left_out(shift, weight, design @ fields.T, place[used], shape, max(disagreement, 1.0))
    return disagreement, float(scatter), change, float(significance), corner, alone, together, without


def _left_out(
    shift: FloatArray,
    weight: FloatArray,
    design: FloatArray,
    place: FloatArray,
    shape: tuple[int, int],
    disagreement: float,
) -> FloatArray:
    """`Regions.without`: each of 3 x 3 regions is left out in turn, and the others say how far off the result is.

    Not how far the answer of all tiles is, in which those that fit badly count less than they did in the result.
    """
    region = np.clip(((place / shape + 0.5) * REGIONS).astype(np.int64), 0, REGIONS - 1) @ (REGIONS, 1)
    half = 0.5 * (np.array(shape) - 1)
    points = _design(np.array([[0.0, 0.0], *(half * s for s in ((-1, -1), (-1, 1), (1, -1), (1, 1)))]))
    # Of parameters to pixels at these places: least squares of `design`, which is `_design` times the fields.
    to_fields = np.linalg.lstsq(_design(place).reshape(-1, 6), design.reshape(-1, design.shape[2]), rcond=None)[0]
    reaching = points.reshape(-1, 6) @ to_fields
    weighted = weight @ design
    inside = region == np.arange(REGIONS**2)[:, None]
    of_tile = np.swapaxes(design, 1, 2) @ weighted, (np.swapaxes(weighted, 1, 2) @ shift[..., None])[..., 0]
    normal, right = (a.sum(axis=0) - np.tensordot(inside.astype(np.float64), a, 1) for a in of_tile)
    unit = np.sqrt(np.maximum(np.diagonal(of_tile[0].sum(axis=0)), np.finfo(np.float64).tiny))
    inverse = np.linalg.pinv(normal / np.outer(unit, unit), rcond=1e-8, hermitian=True) / np.outer(unit, unit)
    moved = (reaching @ (inverse @ right[..., None]))[..., 0]
    spread = np.einsum("np,kpq,nq->kn", reaching, inverse * disagreement, reaching)
    errors = np.abs(moved) / np.sqrt(np.maximum(spread, np.finfo(np.float64).tiny))
    known = inside.any(axis=1) & ((~inside).sum(axis=1) >= FEWEST_LEFT)
    errors = np.where(known[:, None] & (np.abs(moved) > LEAST_MOVED), errors, 0.0)
    k, at = np.unravel_index(int(np.argmax(errors)), errors.shape)
    if errors[k, at] == 0.0:
        return np.zeros(4)
    return np.array([abs(moved[k, at]), errors[k, at], *place[inside[k]].mean(axis=0)])


def _spread(
    fields: FloatArray, weight: FloatArray, shift: FloatArray, scatter: float, alike: float
) -> tuple[FloatArray, FloatArray]:
    """Covariances of the parameters when tiles scatter each by itself, and as neighbours were seen to do together."""
    weighted = np.einsum("tij,tjp->tip", weight, fields)
    _, _, inverse = _solved(fields, weight, shift)
    alone = scatter**2 * inverse @ np.einsum("tip,tiq->pq", weighted, weighted) @ inverse
    rho = min(max(alike, 0.0), MOST_ALIKE)
    area = min(((1.0 + rho) / (1.0 - rho)) ** 2, len(shift) / FEWEST_REGIONS)
    return alone, alone * max(area, 1.0)


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


def wanted_text(matrix: FloatArray, change: FloatArray, center: FloatArray, shape: tuple[int, int]) -> str:
    """Say which parameters of the affine model the images want that a model does not have, as "angle = 1.2 degrees"."""
    middle = transforms.image_center(shape)
    c = change.reshape(2, 3)
    if not LEAST_AREA < np.linalg.det(np.eye(2) + c[:, :2]) < 1.0 / LEAST_AREA:
        return "another scale, angle or shear"
    moved = np.column_stack([np.eye(2) + c[:, :2], c[:, 2] - c[:, :2] @ middle])
    there = np.column_stack([matrix[:, :2] @ moved[:, :2], matrix[:, :2] @ moved[:, 2] + matrix[:, 2]])
    wants = dict(zip(AFFINE, transforms.parameters_from_matrices(there[None], center, "affine")[0], strict=True))
    has = dict(zip(AFFINE, transforms.parameters_from_matrices(matrix[None], center, "affine")[0], strict=True))
    reach = 0.5 * float(max(shape))
    weight = {"sy": reach, "sx": reach, "angle": np.deg2rad(reach), "shear": reach}
    moves = {name: abs(wants[name] - has[name]) * w for name, w in weight.items()}
    large = [name for name, move in moves.items() if move > 0.3 * max(moves.values())]
    units = {"angle": " degrees"}
    return ", ".join(f"{name} = {wants[name]:.4g}{units.get(name, '')}" for name in large)
