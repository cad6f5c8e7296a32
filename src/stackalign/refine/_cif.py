"""Crystals from CIF files: gemmi reads the file, the symmetry is applied here, to displacement tensors too."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError

__all__ = ["read_cif"]

FloatArray = NDArray[np.float64]
SAME = 1e-3
"""Fractions of the cell within which two images are one atom: files write 0.3333."""


def read_cif(path: Path, gemmi: ModuleType) -> dict[str, Any]:
    """Return the arguments of a `Crystal`."""
    try:
        small = gemmi.read_small_structure(str(path))
    except (OSError, RuntimeError, ValueError) as error:
        msg = f"{path} cannot be read as a CIF file: {error}"
        raise DataError(msg) from error
    if not len(small.sites) or small.cell.volume <= 1:
        msg = f"{path} has no unit cell with atoms: _cell_length_a ... and _atom_site_fract_x ... are needed"
        raise DataError(msg)
    operations = _operations(path, small, gemmi)
    cell = small.cell
    # Displacements of CIF files are along unit vectors of the reciprocal axes; this makes them fractions of the cell.
    scale = np.array([cell.reciprocal().a, cell.reciprocal().b, cell.reciprocal().c])
    atoms: list[tuple[str, FloatArray, float, FloatArray, float]] = []
    for site in small.sites:
        if site.element.atomic_number == 0:
            msg = f"{path}: the species {site.type_symbol!r} of the atom {site.label} is not an element"
            raise DataError(msg)
        u11, u22, u33, u12, u13, u23 = site.aniso.elements_pdb()
        tensor = np.array([[u11, u12, u13], [u12, u22, u23], [u13, u23, u33]]) * np.outer(scale, scale)
        images: list[FloatArray] = []
        for rotation, translation in operations:
            position = (rotation @ np.array(site.fract.tolist()) + translation) % 1.0
            if any((np.abs(position - other - np.round(position - other)) < SAME).all() for other in images):
                continue
            images.append(position)
            turned = rotation @ tensor @ rotation.T / np.outer(scale, scale)
            b_iso = 8 * np.pi**2 * max(0.0, float(site.u_iso))
            atoms.append((site.element.name, position, b_iso, turned[_ROWS, _COLUMNS], float(site.occ)))
    species, positions, b_isos, tensors, occupancies = zip(*atoms, strict=True)
    u_aniso = np.array(tensors)
    u_aniso[~u_aniso.any(1)] = np.nan
    return {
        "cell": (cell.a, cell.b, cell.c, cell.alpha, cell.beta, cell.gamma),
        "species": species,
        "positions": np.array(positions),
        "b_iso": b_isos,
        "u_aniso": None if np.isnan(u_aniso).all() else u_aniso,
        "occupancy": occupancies,
    }


_ROWS, _COLUMNS = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)


def _operations(path: Path, small: Any, gemmi: ModuleType) -> list[tuple[FloatArray, FloatArray]]:
    """Rotations and translations, from the list of the file or from its space group."""
    if len(small.symops):
        found = [gemmi.Op(text) for text in small.symops]
    elif small.spacegroup is not None:
        found = list(small.spacegroup.operations())
    else:
        msg = f"{path} has no symmetry: _space_group_symop_operation_xyz or a space group is needed"
        raise DataError(msg)
    return [(np.array(op.rot) / op.DEN, np.array(op.tran) / op.DEN) for op in found]
