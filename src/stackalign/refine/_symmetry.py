"""All atoms of a cell from those of the asymmetric unit; displacement tensors turn with them."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from stackalign._types import FloatArray

__all__ = [
    "COLUMNS",
    "ROWS",
    "Site",
    "fill_cell",
    "full_tensor",
    "metric_tensor",
    "operation_matrices",
    "orbit",
    "require_apart",
    "require_cell",
    "rounding_of",
]

Operations = list[tuple[FloatArray, FloatArray]]
FINE, COARSE = 3.4e-4, 5e-3
"""Limits of what one coordinate is believed to be rounded by, in fractions of the cell."""
APART = 0.5
"""Distance in angstrom below which two atoms can only be alternatives: their occupancies may not exceed 1 together."""
FULL = 1.05
"""Sum of such occupancies that rounding explains."""
CELL_RATIO, CELL_DEGREES = 5e-3, 0.5
"""How far a cell may be from the shape that its space group asks for: strained cells are near it."""
ROWS, COLUMNS = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)


class Site(NamedTuple):
    """One atom of the asymmetric unit.

    `u_aniso` as CIF files have it, zero for none; `rounding` is half a unit of the last digit of each coordinate.
    """

    species: str
    position: FloatArray
    b_iso: float
    u_aniso: FloatArray
    occupancy: float
    rounding: FloatArray = np.full(3, 1e-4)
    label: str = ""


def rounding_of(text: str) -> float:
    """Half a unit of the last digit of a number as it is written; 0 for fractions such as 1/3."""
    digits = text.partition("(")[0].lower()
    mantissa, _, exponent = digits.partition("e")
    if "/" in digits:
        return 0.0
    return float(0.5 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2])))


def full_tensor(six: Sequence[float]) -> FloatArray:
    """(3, 3) from U11, U22, U33, U12, U13, U23."""
    u11, u22, u33, u12, u13, u23 = six
    return np.array([[u11, u12, u13], [u12, u22, u23], [u13, u23, u33]], dtype=np.float64)


def metric_tensor(cell: Sequence[float]) -> FloatArray:
    """(3, 3) products of the cell's edges, in square angstrom."""
    lengths = np.asarray(cell[:3], dtype=np.float64)
    alpha, beta, gamma = np.where(np.asarray(cell[3:]) == 90, 0.0, np.cos(np.deg2rad(cell[3:])))
    cosines = np.array([[1, gamma, beta], [gamma, 1, alpha], [beta, alpha, 1]])
    return np.asarray(np.outer(lengths, lengths) * cosines)


def operation_matrices(operations: Iterable[Any]) -> Operations:
    """Rotations and translations of gemmi's operations."""
    return [(np.array(op.rot) / op.DEN, np.array(op.tran) / op.DEN) for op in operations]


def require_cell(cell: Sequence[float], operations: Operations) -> None:
    """Refuse a cell whose shape an operation of its space group would change."""
    metric = metric_tensor(cell)
    lengths = np.sqrt(np.diag(metric))
    angles = np.rad2deg(np.arccos(metric / np.outer(lengths, lengths)))
    for rotation, _ in operations:
        turned = rotation.T @ metric @ rotation
        other = np.sqrt(np.diag(turned))
        with np.errstate(invalid="ignore"):
            bent = np.rad2deg(np.arccos(np.clip(turned / np.outer(other, other), -1, 1)))
        if np.abs(other / lengths - 1).max() > CELL_RATIO or np.abs(bent - angles).max() > CELL_DEGREES:
            shape = ", ".join(f"{value:g}" for value in cell)
            msg = (
                f"the cell ({shape}) does not have the symmetry of its space group, which would map it onto edges of "
                f"{other[0]:.4g}, {other[1]:.4g}, {other[2]:.4g} angstrom: correct the cell, or the space group and "
                "its setting"
            )
            raise ValueError(msg)


def require_apart(cell: Sequence[float], labels: Sequence[str], positions: ArrayLike, occupancy: ArrayLike) -> None:
    """Refuse atoms that are closer than any two atoms are, unless only one of them is there at a time."""
    points, shares = np.asarray(positions, dtype=np.float64), np.asarray(occupancy, dtype=np.float64)
    metric = metric_tensor(cell)
    for i, point in enumerate(points):
        away = points - point
        away -= np.round(away)
        distance2 = np.einsum("ij,jk,ik->i", away, metric, away)
        near = distance2 < APART**2
        if near.sum() > 1 and shares[near].sum() > FULL:
            j = next(int(k) for k in np.flatnonzero(near) if k != i)
            same = labels[i] == labels[j]
            msg = (
                f"{labels[i]} and {'its image by symmetry' if same else labels[j]} are "
                f"{np.sqrt(max(distance2[j], 0.0)):.2g} angstrom apart and their occupancies add up to "
                f"{shares[near].sum():.3g}: give the coordinates of a special position with more digits, list each "
                "atom once, correct the symmetry or its origin, or lower the occupancies"
            )
            raise ValueError(msg)


def orbit(site: Site, operations: Operations) -> tuple[list[FloatArray], list[FloatArray]]:
    """Return the images (3,) of an atom and the rotations that made them.

    An atom whose images coincide but for the rounding of its coordinates lies on a special position: it is put there.
    """
    rounding = np.clip(site.rounding, FINE, COARSE)
    point = np.asarray(site.position, dtype=np.float64)
    reaches = [(np.abs(rotation) + np.eye(3)) @ rounding + 1e-9 for rotation, _ in operations]
    for _ in range(2):
        same = []
        for (rotation, translation), reach in zip(operations, reaches, strict=True):
            away = rotation @ point + translation - point
            away -= np.round(away)
            if (np.abs(away) <= reach).all():
                same.append(away)
        point = point + np.mean(same, axis=0) if same else point
    images: list[FloatArray] = []
    rotations: list[FloatArray] = []
    for (rotation, translation), reach in zip(operations, reaches, strict=True):
        image = (rotation @ point + translation) % 1.0
        away = np.array(images).reshape(-1, 3) - image
        if not (np.abs(away - np.round(away)) <= reach).all(1).any():
            images.append(image)
            rotations.append(rotation)
    return images, rotations


def fill_cell(
    cell: Sequence[float], reciprocal_lengths: FloatArray, sites: Iterable[Site], operations: Operations
) -> dict[str, Any]:
    """Return the arguments of a `Crystal`.

    Raises
    ------
    ValueError
        The cell has not the symmetry of the operations, or atoms are too close.
    """
    require_cell(cell, operations)
    # Displacements of files are along unit vectors of the reciprocal axes; this makes them fractions of the cell.
    scale = np.outer(reciprocal_lengths, reciprocal_lengths)
    atoms: list[tuple[str, FloatArray, float, FloatArray, float]] = []
    labels: list[str] = []
    for k, site in enumerate(sites):
        tensor = full_tensor(site.u_aniso.tolist()) * scale
        for position, rotation in zip(*orbit(site, operations), strict=True):
            turned = rotation @ tensor @ rotation.T / scale
            atoms.append((site.species, position, site.b_iso, turned[ROWS, COLUMNS], site.occupancy))
            labels.append(site.label or f"atom {k + 1} ({site.species})")
    species, positions, b_isos, tensors, occupancies = zip(*atoms, strict=True)
    require_apart(cell, labels, np.array(positions), occupancies)
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
