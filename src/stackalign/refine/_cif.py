"""Crystals from CIF files: gemmi reads the file, the symmetry is applied here, to displacement tensors too."""

import re
import warnings
from collections import Counter
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from stackalign._types import FloatArray
from stackalign.errors import DataError, StackalignWarning
from stackalign.io._gate import refuse_special

from ._space_groups import settings_by_name, settings_by_number, single_setting
from ._symmetry import COLUMNS, ROWS, Operations, Site, fill_cell, operation_matrices, orbit, rounding_of
from .scattering import kirkland

__all__ = ["read_cif"]

FULL = 1.02
"""Largest occupancy that is taken for 1: refined ones exceed it by their error."""
UNPLACED = "have no coordinates and are left out"
EMPTY = "are vacancies and are left out"
STILL = "have no displacement parameter: B = 0 is taken, which makes reflections far out too strong"
CHARGED = "are ions and scatter as neutral atoms: the innermost reflections are a little off"
REMARKS = (UNPLACED, EMPTY, STILL, CHARGED)
"""What is said of atoms, in this order."""
VACANT = ("va", "vac", "vacancy", "x", "null")
"""Type symbols of sites that nothing occupies; V is vanadium."""

CELL = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
SIX = ("11", "22", "33", "12", "13", "23")
OPERATIONS = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz")
HALL = ("_symmetry_space_group_name_Hall", "_space_group_name_Hall")
NAME = ("_symmetry_space_group_name_H-M", "_space_group_name_H-M_alt", "_space_group_name_H-M_full")
NUMBER = ("_symmetry_Int_Tables_number", "_space_group_IT_number")
FAMILIES = ("_atom_site_aniso", "_atom_site", "_space_group_symop", "_space_group", "_symmetry_equiv", "_cell")


def read_cif(path: Path, gemmi: ModuleType, block: str | None = None) -> dict[str, Any]:
    """Return the arguments of a `Crystal`."""
    refuse_special(path)
    try:
        blocks = list(gemmi.cif.read(str(path)))
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        msg = f"{path} cannot be read as a CIF file: {error}"
        raise DataError(msg) from error
    reader = _Reader(path, gemmi, blocks, block)
    try:
        arguments = reader.crystal()
    except DataError:
        raise
    except (ValueError, RuntimeError) as error:
        msg = f"{path}: {error}"
        raise DataError(msg) from error
    for text in dict.fromkeys(reader.remarks):
        warnings.warn(f"{path}: {text}", StackalignWarning, stacklevel=3)
    return arguments


class _Reader:
    """One block of one file; `remarks` are what its user should know."""

    def __init__(self, path: Path, gemmi: ModuleType, blocks: list[Any], name: str | None) -> None:
        self.path, self.gemmi, self.remarks = path, gemmi, list[str]()
        named = [b for b in blocks if name is None or b.name == name]
        if not named:
            self.stop(f"has no block {name!r}: it has {', '.join(b.name for b in blocks) or 'none'}")
        self.block = named[0]
        full = [b for b in named if self._has_atoms(b)]
        if full:
            self.block = full[0]
        if len(full) > 1:
            others = ", ".join(b.name for b in full[1:])
            self.remarks.append(f"the crystal of the block {self.block.name!r} is read; there are also {others}")

    def stop(self, text: str) -> None:
        msg = f"{self.path} {text}"
        raise DataError(msg)

    def _has_atoms(self, block: Any) -> bool:
        self.block = block
        return bool(self.column("_cell_length_a") and self.column("_atom_site_fract_x"))

    def column(self, *tags: str) -> list[str]:
        """Values of the first tag that is there, of a table or alone; the newer spelling has a point in it."""
        for tag in tags:
            family = next((f for f in FAMILIES if tag.startswith(f + "_")), "")
            dotted = [f"{family}.{tag[len(family) + 1 :]}"] if family else []
            for name in (tag, *dotted):
                texts = [self.gemmi.cif.as_string(value) for value in self.block.find_values(name)]
                if any(text not in ("", "?", ".") for text in texts):
                    return texts
        return []

    def crystal(self) -> dict[str, Any]:
        lengths = [self.column(f"_cell_{tag}") for tag in CELL]
        if not all(lengths) or not self.column("_atom_site_fract_x"):
            self.stop("has no unit cell with atoms: _cell_length_a ... and _atom_site_fract_x ... are needed")
        cell = tuple(_number(column[0]) for column in lengths)
        if not np.isfinite(cell).all() or min(cell) <= 0:
            self.stop(f"has no unit cell: {[column[0] for column in lengths]} are not edges and angles")
        reciprocal = self.gemmi.UnitCell(*cell).reciprocal()
        stars = np.array([reciprocal.a, reciprocal.b, reciprocal.c])
        sites = self.sites(stars)
        return fill_cell(cell, stars, sites, self.operations(cell, sites))

    # --- atoms --------------------------------------------------------------------------------------------------------

    def sites(self, stars: FloatArray) -> list[Site]:
        columns = [self.column(f"_atom_site_fract_{axis}") for axis in "xyz"]
        n = len(columns[0])
        if any(len(column) != n for column in columns):
            self.stop("has atoms without three coordinates: _atom_site_fract_x, _y and _z are needed")
        symbols, labels = self.column("_atom_site_type_symbol"), self.column("_atom_site_label")
        labels, symbols = labels or symbols or ["?"] * n, symbols or labels or ["?"] * n
        shares = self.column("_atom_site_occupancy") or ["1"] * n
        flags = self.column("_atom_site_calc_flag") or ["."] * n
        displacements, tensors = self.isotropic(n), self.anisotropic(labels, stars)
        sites: list[Site] = []
        said: dict[str, list[str]] = {words: [] for words in REMARKS}
        for i in range(n):
            texts = [column[i] for column in columns]
            values = np.array([_number(text) for text in texts])
            if flags[i].lower() == "dum" or not np.isfinite(values).all():
                said[UNPLACED].append(labels[i])
                continue
            if symbols[i].lower() in VACANT:
                said[EMPTY].append(labels[i])
                continue
            species = self.species(symbols[i], labels[i])
            if re.search(r"\d[+-]|[+-]\d|[A-Za-z][+-]$", symbols[i]):
                said[CHARGED].append(symbols[i])
            tensor, b_iso = tensors.get(labels[i]), displacements[i]
            if tensor is None and not np.isfinite(b_iso):
                said[STILL].append(labels[i])
            share, b_iso = self.share(shares[i], labels[i]), self.displacement(b_iso, labels[i])
            tensor, exact = np.zeros(6) if tensor is None else tensor, np.array([rounding_of(text) for text in texts])
            sites.append(Site(species, values, b_iso, tensor, share, exact, f"the atom {labels[i]}"))
        if not sites:
            self.stop("has no unit cell with atoms: none of them has coordinates")
        for words, names in said.items():
            if names:
                self.remarks.append(f"{', '.join(dict.fromkeys(names))} {words}")
        return sites

    def displacement(self, b_iso: float, label: str) -> float:
        """B of an atom; 0 where there is none, or a negative one."""
        if b_iso < 0:
            self.remarks.append(f"the negative displacement of {label} is taken as 0")
        return max(0.0, b_iso) if np.isfinite(b_iso) else 0.0

    def share(self, text: str, label: str) -> float:
        """Occupancy of an atom, by default 1."""
        share = _number(text)
        if np.isfinite(share) and not 0 <= share <= FULL:
            self.stop(f"has an occupancy of {share:g} for {label}: it is the share of the site, from 0 to 1")
        return share if np.isfinite(share) else 1.0

    def species(self, symbol: str, label: str) -> str:
        """Symbol of the element at the beginning of a type symbol or label."""
        letters = re.match(r"[A-Za-z]*", symbol)
        word = letters[0] if letters else ""
        for name in (word[:2].capitalize(), word[:1].upper()):
            if len(word) > 2 and len(name) < 2:
                break
            try:
                kirkland(name, np.zeros(1))
            except ValueError:
                continue
            return name
        self.stop(f"has an atom of no element: the species {symbol!r} of the atom {label} is not an element")
        return ""

    def isotropic(self, n: int) -> FloatArray:
        """B of each atom in square angstrom, NaN where there is none."""
        result = np.full(n, np.nan)
        for tag, factor in (("U", 8 * np.pi**2), ("B", 1.0)):
            texts = self.column(f"_atom_site_{tag}_iso_or_equiv")
            values = np.array([_number(text) for text in texts]) * factor
            if len(values) == n:
                result = np.where(np.isfinite(result), result, values)
        return result

    def anisotropic(self, labels: list[str], stars: FloatArray) -> dict[str, FloatArray]:
        """U_ij by label, from U_ij, B_ij = 8 pi^2 U_ij, or beta_ij = 2 pi^2 a*_i a*_j U_ij."""
        rows, tensors = self.column("_atom_site_aniso_label") or labels, dict[str, FloatArray]()
        scales = {"U": np.ones(6), "B": np.full(6, 8 * np.pi**2)}
        scales["beta"] = 2 * np.pi**2 * np.outer(stars, stars)[ROWS, COLUMNS]
        for kind, scale in scales.items():
            columns = [self.column(f"_atom_site_aniso_{kind}_{ij}") for ij in SIX]
            if any(len(column) != len(rows) for column in columns[:3]):
                continue
            values = np.array([[_number(t) for t in column] or [0.0] * len(rows) for column in columns]).T / scale
            values[:, 3:] = np.nan_to_num(values[:, 3:])
            tensors |= {
                label: six
                for label, six in zip(rows, values, strict=True)
                if np.isfinite(six).all() and label not in tensors
            }
        strangers = [label for label in tensors if label not in labels]
        if strangers:
            self.remarks.append(f"the displacements of {', '.join(strangers)} belong to no atom of the file")
        return tensors

    # --- symmetry -----------------------------------------------------------------------------------------------------

    def operations(self, cell: tuple[float, ...], sites: list[Site]) -> Operations:
        """Symmetry from the list of the file or from its space group."""
        listed, hall = self.column(*OPERATIONS), self.column(*HALL)
        if listed:
            return operation_matrices([self.gemmi.Op(text) for text in listed])
        if hall:
            return operation_matrices(self.gemmi.symops_from_hall(hall[0]))
        name, number = self.column(*NAME), self.column(*NUMBER)
        settings = settings_by_name(self.gemmi, name[0]) if name else []
        if not settings and number:
            settings = settings_by_number(self.gemmi, int(_number(number[0])))
        if not settings:
            self.stop("has no symmetry: _space_group_symop_operation_xyz or a known space group is needed")
        group, remark = single_setting(settings, cell, lambda operations: self.fits(sites, operations))
        if remark:
            self.remarks.append(remark)
        return operation_matrices(group.operations())

    def fits(self, sites: list[Site], operations: Operations) -> bool | None:
        """Whether the file counts as many atoms as the operations make: by site, or by formula and Z."""
        counts = [len(orbit(site, operations)[0]) for site in sites]
        told = self.column("_atom_site_symmetry_multiplicity", "_atom_site_site_symmetry_multiplicity")
        if len(told) == len(counts):
            return all(_number(text) == count for text, count in zip(told, counts, strict=True))
        formula, units = self.column("_chemical_formula_sum"), self.column("_cell_formula_units_Z")
        if not formula or not units:
            return None
        expected, made = Counter[str](), Counter[str]()
        for element, amount in re.findall(r"([A-Z][a-z]?)([\d.]*)", formula[0]):
            expected[element] += float(amount or 1) * _number(units[0])  # type: ignore[assignment]
        for site, count in zip(sites, counts, strict=True):
            made[site.species] += count * site.occupancy  # type: ignore[assignment]
        return all(abs(made[name] - expected[name]) < 0.02 * max(1.0, expected[name]) for name in made)


def _number(text: str) -> float:
    """A number with or without its standard uncertainty, or a fraction; NaN for what is not given."""
    bare = text.partition("(")[0].strip()
    try:
        return float(Fraction(bare)) if "/" in bare else float(bare)
    except (ValueError, ZeroDivisionError):
        return float("nan")
