"""Sums of a linearization, as the protocol specifies them: NumPy, slow and readable."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._grid import on_grid
from stackalign.backends._protocol import LINEAR_SUMS, Array
from stackalign.backends._tiles import Tiling, tiling

from .affine_resample import positions, sample_affine, taps

__all__ = ["linearize_affine"]


def _edge(previous: NDArray[Any], here: NDArray[Any], following: NDArray[Any]) -> NDArray[Any]:
    """Slope where the surface has an edge: the mean of those differences that are not NaN, 0 without any."""
    differences = np.stack([here - previous, following - here])
    known = np.isfinite(differences)
    total = np.where(known, differences, 0).sum(axis=0)
    mean: NDArray[Any] = np.where(known.all(axis=0), total / 2, total)
    return mean.astype(here.dtype)


def _slopes(
    moving: NDArray[Any], matrix: NDArray[np.float64], shape: tuple[int, int]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Derivatives of the sampled image along the axes of the moving one."""
    qy, qx = positions(matrix, shape)
    y0, y1, wy = taps(qy, moving.shape[0], moving.dtype)
    x0, x1, wx = taps(qx, moving.shape[1], moving.dtype)
    # A border of NaN stands for what is not inside.
    image = np.pad(moving, 1, constant_values=np.nan)

    def value(y: NDArray[np.int64]) -> NDArray[Any]:
        a, b = image[y + 1, x0 + 1], image[y + 1, x1 + 1]
        interpolated: NDArray[Any] = a + wx * (b - a)
        return interpolated

    def along(y: NDArray[np.int64]) -> NDArray[Any]:
        previous, here, following = (image[y + 1, x0 + step] for step in (0, 1, 2))
        return np.where(wx == 0, _edge(previous, here, following), following - here)

    gx = np.where(wy == 0, along(y0), along(y0) + wy * (along(y1) - along(y0)))
    edge = _edge(value(y0 - 1), value(y0), value(y0 + 1))
    return np.where(wy == 0, edge, value(y1) - value(y0)), gx


def _by_tile(values: NDArray[np.float64], tiles: Tiling) -> NDArray[np.float64]:
    """Sums (T, S) over the tiles of values (S, H, W)."""
    n, height, width = values.shape
    padded = np.zeros((n, tiles.down * tiles.height, tiles.across * tiles.width))
    padded[:, :height, :width] = values
    cut = padded.reshape(n, tiles.down, tiles.height, tiles.across, tiles.width)
    sums: NDArray[np.float64] = cut.sum(axis=(2, 4)).reshape(n, tiles.down * tiles.across).T
    return sums


def linearize_affine(
    reference: Array,
    moving: Array,
    slopes: Array | None,
    matrices: NDArray[np.float64],
    tile: int,
    diagonal: bool,
    workers: int,
    /,
) -> Array:
    """See `Backend.linearize_affine`."""
    height, width = reference.shape[1:]
    tiles = tiling((height, width), tile)
    y, x = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
    out = np.empty((len(matrices), tiles.down * tiles.across, LINEAR_SUMS))
    for b, matrix in enumerate(on_grid(matrices, reference.shape, moving.shape)):
        sampled = sample_affine(moving[b], matrix, (height, width))
        gy, gx = _slopes(moving[b], matrix, (height, width)) if slopes is None else slopes[b]
        both = np.isfinite(sampled) & np.isfinite(reference[b]) & np.isfinite(gy) & np.isfinite(gx)
        r, v, gy, gx = (np.where(both, plane, 0).astype(np.float64) for plane in (reference[b], sampled, gy, gx))
        jacobian = [gy * y, gy * x, gy, gx * y, gx * x, gx]
        if diagonal:
            jacobian[1] = jacobian[3] = np.zeros_like(gy)
        squares = [
            gg * power * (not diagonal or k in kept)
            for gg, kept in ((gy * gy, (0, 2, 5)), (gy * gx, (1, 2, 4, 5)), (gx * gx, (3, 4, 5)))
            for k, power in enumerate((y * y, y * x, y, x * x, x, np.ones_like(y)))
        ]
        sums = [both, r, v, r * r, v * v, r * v]
        sums += [weight * j for weight in (1.0, r, v) for j in jacobian]
        out[b] = _by_tile(np.stack([*sums, *squares]).astype(np.float64), tiles)
    return out
