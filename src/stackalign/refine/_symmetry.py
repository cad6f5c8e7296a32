"""All atoms of a cell from those of the asymmetric unit; displacement tensors turn with them."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["COLUMNS", "ROWS", "Site", "fill_cell", "full_tensor", "operation_matrices"]

FloatArray = NDArray[np.float64]
SAME = 1e-3
"""Fractions of the cell within which two images are one atom: files write 0.3333."""
ROWS, COLUMNS = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)


class Site(NamedTuple):
    """One atom of the asymmetric unit; `u_aniso` as CIF files have it, zero for none."""

    species: str
    position: FloatArray
    b_iso: float
    u_aniso: FloatArray
    occupancy: float


def full_tensor(six: Sequence[float]) -> FloatArray:
    """(3, 3) from U11, U22, U33, U12, U13, U23."""
    u11, u22, u33, u12, u13, u23 = six
    return np.array([[u11, u12, u13], [u12, u22, u23], [u13, u23, u33]], dtype=np.float64)


def operation_matrices(operations: Iterable[Any]) -> list[tuple[FloatArray, FloatArray]]:
    """Rotations and translations of gemmi's operations."""
    return [(np.array(op.rot) / op.DEN, np.array(op.tran) / op.DEN) for op in operations]


def fill_cell(
    cell: Sequence[float],
    reciprocal_lengths: FloatArray,
    sites: Iterable[Site],
    operations: list[tuple[FloatArray, FloatArray]],
) -> dict[str, Any]:
    """Return the arguments of a `Crystal`."""
    # Displacements of files are along unit vectors of the reciprocal axes; this makes them fractions of the cell.
    scale = np.outer(reciprocal_lengths, reciprocal_lengths)
    atoms: list[tuple[str, FloatArray, float, FloatArray, float]] = []
    for site in sites:
        tensor = full_tensor(site.u_aniso.tolist()) * scale
        images: list[FloatArray] = []
        for rotation, translation in operations:
            position = (rotation @ site.position + translation) % 1.0
            if any((np.abs(position - other - np.round(position - other)) < SAME).all() for other in images):
                continue
            images.append(position)
            turned = rotation @ tensor @ rotation.T / scale
            atoms.append((site.species, position, site.b_iso, turned[ROWS, COLUMNS], site.occupancy))
    species, positions, b_isos, tensors, occupancies = zip(*atoms, strict=True)
    u_aniso = np.array(tensors)
    u_aniso[~u_aniso.any(1)] = np.nan
    return {
        "cell": tuple(cell),
        "species": species,
        "positions": np.array(positions),
        "b_iso": b_isos,
        "u_aniso": None if np.isnan(u_aniso).all() else u_aniso,
        "occupancy": occupancies,
    }
