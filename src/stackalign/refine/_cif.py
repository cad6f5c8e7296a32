"""Crystals from CIF files: gemmi reads the file, the symmetry is applied here, to displacement tensors too."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from stackalign.errors import DataError
from stackalign.io._gate import refuse_special

from ._symmetry import Site, fill_cell, operation_matrices

__all__ = ["read_cif"]


def read_cif(path: Path, gemmi: ModuleType) -> dict[str, Any]:
    """Return the arguments of a `Crystal`."""
    refuse_special(path)
    try:
        small = _read(path, gemmi)
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        msg = f"{path} cannot be read as a CIF file: {error}"
        raise DataError(msg) from error
    if not len(small.sites) or small.cell.volume <= 1:
        msg = f"{path} has no unit cell with atoms: _cell_length_a ... and _atom_site_fract_x ... are needed"
        raise DataError(msg)
    cell, sites = small.cell, []
    for site in small.sites:
        if site.element.atomic_number == 0:
            msg = f"{path}: the species {site.type_symbol!r} of the atom {site.label} is not an element"
            raise DataError(msg)
        b_iso = 8 * np.pi**2 * max(0.0, float(site.u_iso))
        position, tensor = np.array(site.fract.tolist()), np.array(site.aniso.elements_pdb())
        sites.append(Site(site.element.name, position, b_iso, tensor, float(site.occ)))
    lengths = np.array([cell.reciprocal().a, cell.reciprocal().b, cell.reciprocal().c])
    parameters = (cell.a, cell.b, cell.c, cell.alpha, cell.beta, cell.gamma)
    return fill_cell(parameters, lengths, sites, operation_matrices(_operations(path, small, gemmi)))


def _read(path: Path, gemmi: ModuleType) -> Any:
    """The first block with a cell; some programs write the cell as a table of one row."""
    blocks = list(gemmi.cif.read(str(path)))
    for block in blocks:
        if len(block.find_values("_cell_length_a")) == 1:
            for tag in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"):
                found = block.find_values(f"_cell_{tag}")
                if len(found) == 1:
                    value = found[0]
                    found.erase()
                    block.set_pair(f"_cell_{tag}", value)
            return gemmi.make_small_structure_from_block(block)
    return gemmi.make_small_structure_from_block(blocks[0])


def _operations(path: Path, small: Any, gemmi: ModuleType) -> list[Any]:
    """Symmetry from the list of the file or from its space group."""
    if len(small.symops):
        return [gemmi.Op(text) for text in small.symops]
    if small.spacegroup is not None:
        return list(small.spacegroup.operations())
    msg = f"{path} has no symmetry: _space_group_symop_operation_xyz or a space group is needed"
    raise DataError(msg)
