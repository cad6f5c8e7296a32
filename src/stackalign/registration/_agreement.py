"""Whether the tiles of a pair agree: about a shift, an affine transform or a bend, and without any one region."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stackalign import transforms
from stackalign._types import FloatArray

__all__ = [
    "Agreement",
    "agreement_of",
    "corners_of",
    "displacement_fields",
    "displacements_at",
    "surface",
    "wanted_text",
]

AFFINE = transforms.MODELS["affine"]

MOST_ALIKE, FEWEST_REGIONS = 0.95, 4
"""Largest correlation of neighbouring tiles that is taken, and the fewest regions that tiles are taken to make up."""

LEAST_AREA = 0.25
"""Change of area beyond which a linear step says that there is a change, and not how large it is."""

REGIONS, FEWEST_LEFT, LEAST_MOVED = 3, 8, 0.1
"""Regions along each axis of which one is left out, the fewest tiles that must be left, and the pixels from which on
it matters."""

FEWEST_BENT = 16
"""Tiles from which on a displacement that is quadratic in the place is looked for."""


@dataclass(frozen=True)
class Agreement:
    """What the shifts of T tiles of B pairs say, (B, ...) each.

    Parameters
    ----------
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
    bent, bent_shift : numpy.ndarray
        Standard errors (rms over its six numbers), scaled by what tiles scatter, of a displacement quadratic in the
        place, beyond an affine one; and the pixels by which it changes the farthest of corners, edges and middle.
    alone, together : numpy.ndarray
        (B, P, P) what the scatter does to the parameters if each tile scatters by itself, and with what neighbours have
        in common.
    """

    disagreement: FloatArray
    scatter: FloatArray
    affine: FloatArray
    significance: FloatArray
    corner: FloatArray
    without: FloatArray
    bent: FloatArray
    bent_shift: FloatArray
    alone: FloatArray
    together: FloatArray


@dataclass(frozen=True)
class _Tiles:
    """Shifts (B, T, 2) of tiles, and their inverse covariances (B, T, 2, 2), 0 where a tile says nothing.

    (B, T) tells where it does. The places (T, 2), from the middle of the frame of a shape, are a grid, row by row.
    """

    shift: FloatArray
    weight: FloatArray
    used: NDArray[np.bool_]
    place: FloatArray
    shape: tuple[int, int]

    @property
    def trace(self) -> FloatArray:
        return np.asarray(np.trace(self.weight, axis1=2, axis2=3))

    @property
    def count(self) -> NDArray[np.int64]:
        return np.asarray(self.used.sum(axis=1))


@dataclass(frozen=True)
class _Fit:
    """Weighted least squares of tiles' shifts: values (B, N), squares that they explain (B,), covariance (B, N, N)."""

    values: FloatArray
    explained: FloatArray
    covariance: FloatArray


def agreement_of(
    shift: FloatArray, weight: FloatArray, fields: FloatArray, place: FloatArray, shape: tuple[int, int]
) -> Agreement:
    """Judge the shifts (B, T, 2) of tiles, whose inverse covariances `weight` (B, T, 2, 2) are.

    The places (T, 2) are a grid, row by row; `fields` (B, P, 6) are `displacement_fields` of the model.
    """
    tiles = _Tiles(shift, weight, np.trace(weight, axis1=2, axis2=3) > 0, place, shape)
    count, trace, design = tiles.count, tiles.trace, _design(place)
    of_model = displacements_at(place, fields)
    model, affine = _fitted(of_model, tiles), _fitted(design[None], tiles)
    every = np.einsum("bti,btij,btj->b", shift, weight, shift)
    free = np.maximum(2 * count - 6, 1)
    known = count >= len(AFFINE)
    disagreement = np.where(known, np.maximum(every - affine.explained, 0.0) / free, 1.0)
    scatter = np.sqrt(np.maximum(every - affine.explained - free, 0.0) / np.maximum(trace.sum(axis=1), 1e-300)) * known
    change = (affine.values - (model.values[:, None] @ fields)[:, 0]) * known[:, None]
    more = 6 - fields.shape[1]
    gained = np.maximum(affine.explained - model.explained, 0.0) / max(more, 1) / np.maximum(disagreement, 1.0)
    alike = _neighbours(tiles, shift - (design[None] @ affine.values[:, None, :, None])[..., 0])
    alone, together = _spread(of_model, tiles, model.covariance, scatter, alike)
    bent, bent_shift = _bent(tiles, affine, every)
    return Agreement(
        disagreement=disagreement,
        scatter=scatter,
        affine=change,
        significance=np.sqrt(gained) * (known & (more > 0)),
        corner=np.linalg.norm(_design(corners_of(shape)) @ change[:, None, :, None], axis=2).max(axis=(1, 2)),
        without=_left_out(of_model, fields, tiles, np.maximum(disagreement, 1.0)) * known[:, None],
        bent=bent,
        bent_shift=bent_shift,
        alone=alone,
        together=together,
    )


def displacement_fields(matrices: FloatArray, jacobian: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Displacements of the reference (B, P, 6) per parameter, as numbers of a matrix about its middle."""
    fields = np.linalg.inv(matrices[:, None, :, :2]) @ jacobian
    fields[..., 2] += fields[..., :2] @ transforms.image_center(shape)
    return np.asarray(fields.reshape(*fields.shape[:2], 6))


def corners_of(shape: tuple[int, int]) -> FloatArray:
    """(4, 2) from the middle of the frame."""
    return np.asarray(0.5 * (np.array(shape) - 1) * np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)]))


def displacements_at(points: FloatArray, fields: FloatArray) -> FloatArray:
    """(B, N, 2, P) pixels by which `displacement_fields` (B, P, 6) move points (N, 2) from the middle of the frame."""
    return np.asarray(_design(points)[None] @ np.swapaxes(fields, 1, 2)[:, None])


def surface(y: FloatArray, x: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """(6, ...) terms of a quadratic in places from the middle of the image, from -1 to 1."""
    y, x = y / (0.5 * shape[0]), x / (0.5 * shape[1])
    return np.stack([np.ones_like(y + x), y + 0 * x, x + 0 * y, y * y + 0 * x, y * x, x * x + 0 * y])


def _design(place: FloatArray) -> FloatArray:
    """(T, 2, 6): displacement of places by the numbers of a matrix."""
    rows = np.column_stack([place, np.ones(len(place))])
    design = np.zeros((len(place), 2, 6))
    design[:, 0, :3] = rows
    design[:, 1, 3:] = rows
    return design


def _curved(place: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """(T, 2, 12): displacement of places by a quadratic in them, for each axis."""
    terms = surface(place[:, 0], place[:, 1], shape).T
    design = np.zeros((len(place), 2, 12))
    design[:, 0, :6] = terms
    design[:, 1, 6:] = terms
    return design


def _fitted(design: FloatArray, tiles: _Tiles) -> _Fit:
    """Weighted least squares of tiles' shifts by a design (B or 1, T, 2, N)."""
    n_problems, n_tiles = tiles.shift.shape[:2]
    n = design.shape[-1]
    weighted = (tiles.weight @ design).reshape(n_problems, 2 * n_tiles, n)
    normal = np.swapaxes(design.reshape(len(design), 2 * n_tiles, n), 1, 2) @ weighted
    right = (np.swapaxes(weighted, 1, 2) @ tiles.shift.reshape(n_problems, 2 * n_tiles, 1))[..., 0]
    covariance = _inverse(normal)
    values = (covariance @ right[..., None])[..., 0]
    return _Fit(values, np.asarray((right * values).sum(axis=1)), covariance)


def _inverse(normal: FloatArray, unit: FloatArray | None = None) -> FloatArray:
    """Inverse of normal matrices (..., N, N), 0 along directions that are left open; scaled by `unit` (..., N)."""
    if unit is None:
        unit = np.sqrt(np.maximum(np.diagonal(normal, axis1=-2, axis2=-1), np.finfo(np.float64).tiny))
    scale = unit[..., :, None] * unit[..., None, :]
    return np.asarray(np.linalg.pinv(normal / scale, rcond=1e-8, hermitian=True) / scale)


def _bent(tiles: _Tiles, affine: _Fit, every: FloatArray) -> tuple[FloatArray, FloatArray]:
    """`Agreement.bent` and `Agreement.bent_shift`: what lenses, scans and warped samples do, smoothly over a frame."""
    design = _curved(tiles.place, tiles.shape)
    known = tiles.count >= FEWEST_BENT
    if not known.any():
        return np.zeros(len(known)), np.zeros(len(known))
    curve = _fitted(design[None], tiles)
    n = design.shape[2]
    left = np.maximum(every - curve.explained, 0.0) / np.maximum(2 * tiles.count - n, 1)
    gained = np.maximum(curve.explained - affine.explained, 0.0) / (n - 6) / np.maximum(left, 1.0)
    half = 0.5 * (np.array(tiles.shape) - 1)
    points = half * np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    beyond = _curved(points, tiles.shape) @ curve.values[:, None, :, None]
    beyond = beyond - _design(points) @ affine.values[:, None, :, None]
    return np.sqrt(gained) * known, np.linalg.norm(beyond, axis=2).max(axis=(1, 2)) * known


def _left_out(of_model: FloatArray, fields: FloatArray, tiles: _Tiles, disagreement: FloatArray) -> FloatArray:
    """`Agreement.without`: each of 3 x 3 regions is left out in turn, and the others say how far off the result is.

    Not how far the answer of all tiles is, in which those that fit badly count less than they did in the result.
    """
    place, shape = tiles.place, tiles.shape
    region = np.clip(((place / shape + 0.5) * REGIONS).astype(np.int64), 0, REGIONS - 1) @ (REGIONS, 1)
    points = _design(np.concatenate([np.zeros((1, 2)), corners_of(shape)]))
    reaching = points.reshape(-1, 6) @ np.swapaxes(fields, 1, 2)
    weighted = tiles.weight @ of_model
    normals = np.swapaxes(of_model, 2, 3) @ weighted
    rights = (np.swapaxes(weighted, 2, 3) @ tiles.shift[..., None])[..., 0]
    inside = region == np.arange(REGIONS**2)[:, None]
    left = (~inside).astype(np.float64)
    normal, right = np.einsum("kt,btpq->bkpq", left, normals), np.einsum("kt,btp->bkp", left, rights)
    unit = np.sqrt(np.maximum(np.diagonal(normals.sum(axis=1), axis1=1, axis2=2), np.finfo(np.float64).tiny))
    inverse = _inverse(normal, unit[:, None])
    moved = np.abs((reaching[:, None] @ (inverse @ right[..., None]))[..., 0])
    spread = np.einsum("bnp,bkpq,bnq->bkn", reaching, inverse, reaching) * disagreement[:, None, None]
    errors = moved / np.sqrt(np.maximum(spread, np.finfo(np.float64).tiny))
    of_region = tiles.used[:, None] & inside
    known = of_region.any(axis=2) & ((tiles.used[:, None] & ~inside).sum(axis=2) >= FEWEST_LEFT)
    errors = np.where(known[..., None] & (moved > LEAST_MOVED), errors, 0.0).reshape(len(errors), -1)
    at = errors.argmax(axis=1)
    pairs, k = np.arange(len(at)), at // moved.shape[2]
    share = of_region[pairs, k] / np.maximum(of_region[pairs, k].sum(axis=1, keepdims=True), 1)
    worst = errors[pairs, at]
    middle = (share[..., None] * place).sum(axis=1)
    rows = np.column_stack([moved.reshape(len(moved), -1)[pairs, at], worst, middle])
    return np.where(worst[:, None] > 0.0, rows, 0.0)


def _spread(
    of_model: FloatArray, tiles: _Tiles, inverse: FloatArray, scatter: FloatArray, alike: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Covariances of the parameters when tiles scatter each by itself, and as neighbours were seen to do together."""
    weighted = (tiles.weight @ of_model).reshape(len(scatter), -1, of_model.shape[-1])
    meat = np.swapaxes(weighted, 1, 2) @ weighted
    alone = scatter[:, None, None] ** 2 * (inverse @ meat @ inverse)
    rho = np.clip(alike, 0.0, MOST_ALIKE)
    area = np.maximum(np.minimum(((1.0 + rho) / (1.0 - rho)) ** 2, tiles.count / FEWEST_REGIONS), 1.0)
    return alone, alone * area[:, None, None]


def _neighbours(tiles: _Tiles, rest: FloatArray) -> FloatArray:
    """Correlation (B,) of shifts (B, T, 2) of neighbouring tiles, weighted by what they are worth."""
    columns = int((tiles.place[:, 0] == tiles.place[0, 0]).sum())
    weighted = (rest * np.sqrt(tiles.trace)[..., None]).reshape(len(rest), -1, columns, 2)
    used = tiles.used.reshape(len(rest), -1, columns)
    pairs = (used[:, 1:] & used[:, :-1]).sum(axis=(1, 2)) + (used[:, :, 1:] & used[:, :, :-1]).sum(axis=(1, 2))
    products = (weighted[:, 1:] * weighted[:, :-1]).sum(axis=(1, 2, 3))
    products = products + (weighted[:, :, 1:] * weighted[:, :, :-1]).sum(axis=(1, 2, 3))
    own = (weighted**2).sum(axis=(1, 2, 3)) / np.maximum(tiles.count, 1)
    known = (own > 0) & (pairs > 0)
    return np.where(known, products / np.maximum(pairs, 1) / np.where(known, own, 1.0), 0.0)


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
