"""What scatters: a unit cell and its atoms, their structure factors, and the origin that makes these real."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign._carriers import plain_array
from stackalign._types import FloatArray
from stackalign.errors import MissingDependencyError

from ._symmetry import require_apart
from .scattering import ScatteringFactors, kirkland

__all__ = ["Crystal"]

CELL = ("a", "b", "c", "alpha", "beta", "gamma")
TOLERANCE = 1e-4
"""Fractions of the cell within which two atoms are the same."""


@dataclass(frozen=True, eq=False)
class Crystal:
    """A crystal: all atoms of the unit cell.

    Parameters
    ----------
    cell : sequence of float
        (a, b, c, alpha, beta, gamma) in angstrom and degrees.
    species : sequence of str
        Symbol of the element of each of the N atoms.
    positions : array_like
        (N, 3) in fractions of the cell.
    b_iso : float or array_like
        Isotropic Debye-Waller factor B = 8 pi^2 <u^2> in square angstrom, one or (N,).
    u_aniso : array_like, optional
        (N, 6) anisotropic displacements U11, U22, U33, U12, U13, U23 in square angstrom as CIF files have them. A row
        of NaN leaves the atom to `b_iso`.
    occupancy : float or array_like
        Share of the cells in which the atom is there, one or (N,).

    Notes
    -----
    Cartesian axes: x along a, y in the plane of a and b, z along c*.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign.refine import Crystal
    >>> fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    >>> aluminium = Crystal((4.05,) * 3 + (90,) * 3, ["Al"] * 4, fcc, b_iso=0.86)
    >>> np.abs(aluminium.structure_factors([(1, 1, 1), (1, 0, 0)])).round(2)
    array([8.16, 0.  ])
    """

    cell: tuple[float, float, float, float, float, float]
    species: tuple[str, ...]
    positions: FloatArray
    b_iso: FloatArray
    u_aniso: FloatArray | None
    occupancy: FloatArray

    def __init__(
        self,
        cell: ArrayLike,
        species: tuple[str, ...] | list[str],
        positions: ArrayLike,
        *,
        b_iso: ArrayLike = 0.0,
        u_aniso: ArrayLike | None = None,
        occupancy: ArrayLike = 1.0,
    ) -> None:
        lengths = plain_array(cell, np.float64, "cell").copy()
        _require(lengths.shape == (6,), f"cell must be (a, b, c, alpha, beta, gamma), got shape {lengths.shape}")
        valid = bool(np.isfinite(lengths).all() and (lengths > 0).all() and (lengths[3:] < 180).all())
        _require(
            valid,
            f"cell needs lengths in angstrom above 0 and angles between 0 and 180 degrees, got {lengths.tolist()}",
        )
        cosines = np.cos(np.deg2rad(lengths[3:]))
        _require(1 - (cosines**2).sum() + 2 * cosines.prod() > 1e-9, f"no cell has the angles {lengths[3:].tolist()}")
        names = tuple(species)
        for name in dict.fromkeys(names):
            kirkland(name, np.zeros(1))
        n = len(names)
        _require(n > 0, "a crystal needs at least one atom")
        points = plain_array(positions, np.float64, "positions").copy()
        _require(points.shape == (n, 3), f"positions must be ({n}, 3), one row per species, got {points.shape}")
        values: dict[str, FloatArray | None] = {"positions": points}
        for key, value in (("b_iso", b_iso), ("occupancy", occupancy)):
            array = plain_array(value, np.float64, name).copy()
            _require(array.shape in ((), (n,)), f"{key} must be one number or {n}, one per atom, got {array.shape}")
            values[key] = array = np.broadcast_to(array, (n,)).copy()
            _require(bool((array >= 0).all() and np.isfinite(array).all()), f"{key} must not be negative")
        values["u_aniso"] = None
        if u_aniso is not None:
            values["u_aniso"] = tensors = plain_array(u_aniso, np.float64, "u_aniso").copy()
            _require(tensors.shape == (n, 6), f"u_aniso must be ({n}, 6), one row per atom, got {tensors.shape}")
        _require(bool(np.isfinite(points).all()), "positions must be finite")
        labels = [f"atom {i} ({name})" for i, name in enumerate(names)]
        require_apart(lengths.tolist(), labels, points, np.array(values["occupancy"]))
        for name, own in values.items():
            if own is not None:
                own.flags.writeable = False
            object.__setattr__(self, name, own)
        object.__setattr__(self, "cell", tuple(lengths.tolist()))
        object.__setattr__(self, "species", names)

    @classmethod
    def from_cif(cls, path: str | Path, *, block: str | None = None) -> "Crystal":
        """Read a crystal from a CIF file; its symmetry fills the cell.

        Coordinates of special positions may be rounded (0.333): atoms are put where the symmetry has them. What the
        file leaves open (displacements, charges, which of several blocks) is said in a `StackalignWarning`.

        Parameters
        ----------
        path : path-like
            The file.
        block : str, optional
            Name of the block, without ``data_``; the first one with a cell and atoms unless given.

        Returns
        -------
        Crystal
            With all atoms of the cell.

        Raises
        ------
        MissingDependencyError
            gemmi is not installed.
        DataError
            The file has no cell or no atoms, an atom of unknown species, atoms on top of each other, a cell that its
            space group forbids, or a space group with two origins and nothing that tells which.
        """
        try:
            import gemmi
        except ImportError as error:
            msg = 'CIF files need gemmi: pip install "stackalign[refine]"'
            raise MissingDependencyError(msg) from error
        from ._cif import read_cif

        return cls(**read_cif(Path(path), gemmi, block))

    @functools.cached_property
    def direct(self) -> FloatArray:
        """(3, 3) rows a, b, c in Cartesian coordinates, angstrom."""
        a, b, c = self.cell[:3]
        cos_a, cos_b, cos_g = (_cosine(angle) for angle in self.cell[3:])
        sin_g = np.sqrt(1 - cos_g**2)
        x, y = cos_b, (cos_a - cos_b * cos_g) / sin_g
        rows = [[a, 0, 0], [b * cos_g, b * sin_g, 0], [c * x, c * y, c * np.sqrt(1 - x * x - y * y)]]
        return np.array(rows, dtype=np.float64)

    @functools.cached_property
    def reciprocal(self) -> FloatArray:
        """(3, 3) rows a*, b*, c* in Cartesian coordinates, 1/angstrom."""
        return np.asarray(np.linalg.inv(self.direct).T)

    @property
    def volume(self) -> float:
        """Volume of the cell in cubic angstrom."""
        return float(np.linalg.det(self.direct))

    def g_vectors(self, hkl: ArrayLike) -> FloatArray:
        """Return reciprocal lattice vectors in Cartesian coordinates.

        Parameters
        ----------
        hkl : array_like
            (..., 3) Miller indices.

        Returns
        -------
        numpy.ndarray
            (..., 3) in 1/angstrom.

        Examples
        --------
        >>> import numpy as np
        >>> from stackalign.refine import Crystal
        >>> iron = Crystal((2.866,) * 3 + (90,) * 3, ["Fe", "Fe"], np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))
        >>> round(float(1 / np.linalg.norm(iron.g_vectors((1, 1, 0)))), 3)  # spacing of the planes in angstrom
        2.027
        """
        index = plain_array(hkl, np.float64, "hkl")
        # Not a matrix product: its rounding depends on how many reflections there are.
        along = (index[..., i, None] * self.reciprocal[i] for i in range(3))
        return np.asarray(sum(along, np.zeros(3)))

    def structure_factors(self, hkl: ArrayLike, scattering: ScatteringFactors = kirkland) -> NDArray[np.complex128]:
        """Return F(hkl) in angstrom for electrons at rest, thermal motion included.

        F is the sum over the atoms of occupancy * f * exp(-B g^2 / 4) * exp(-2 pi i hkl.r): the coefficient of
        exp(+2 pi i g.r) in the potential.

        Parameters
        ----------
        hkl : array_like
            (..., 3) Miller indices.
        scattering : callable
            Scattering factors of the species; those of Kirkland by default.

        Returns
        -------
        numpy.ndarray
            (...) complex128, in angstrom.
        """
        index = plain_array(hkl, np.float64, "hkl")
        g2 = np.square(self.g_vectors(index)).sum(-1)
        total = np.zeros(g2.shape, dtype=np.complex128)
        factor = {name: scattering(name, g2) for name in dict.fromkeys(self.species)}
        for atom, name in enumerate(self.species):
            x, y, z = self.positions[atom]
            phase = np.exp(-2j * np.pi * (index[..., 0] * x + index[..., 1] * y + index[..., 2] * z))
            total += self.occupancy[atom] * factor[name] * self._thermal(atom, index, g2) * phase
        return total

    def _thermal(self, atom: int, hkl: FloatArray, g2: FloatArray) -> FloatArray:
        """Debye-Waller factor of the amplitude of one atom."""
        if self.u_aniso is None or np.isnan(self.u_aniso[atom]).any():
            return np.asarray(np.exp(-0.25 * self.b_iso[atom] * g2))
        u11, u22, u33, u12, u13, u23 = self.u_aniso[atom]
        tensor = np.array([[u11, u12, u13], [u12, u22, u23], [u13, u23, u33]])
        scaled = hkl * np.linalg.norm(self.reciprocal, axis=1)
        return np.asarray(np.exp(-2 * np.pi**2 * np.einsum("...i,ij,...j->...", scaled, tensor, scaled)))

    @functools.cached_property
    def inversion_center(self) -> FloatArray | None:
        """A point (3,) in fractions of the cell about which the crystal is its own inverse; None without one."""
        rare = min(dict.fromkeys(self.species), key=self.species.count)
        first, *_ = members = [i for i, name in enumerate(self.species) if name == rare]
        for other in members:
            center = np.asarray((self.positions[first] + self.positions[other]) / 2)
            if self._maps_onto_itself(2 * center - self.positions):
                return center
        return None

    def _maps_onto_itself(self, images: FloatArray) -> bool:
        difference = images[:, None] - self.positions
        near = (np.abs(difference - np.round(difference)) < TOLERANCE).all(-1)
        near &= np.asarray(self.species)[:, None] == np.asarray(self.species)
        for values in (self.occupancy, self.b_iso):
            near &= np.abs(values[:, None] - values) < TOLERANCE
        if self.u_aniso is not None:
            tensors = np.nan_to_num(self.u_aniso, nan=-1.0)
            near &= (np.abs(tensors[:, None] - tensors) < TOLERANCE).all(-1)
        return bool(near.any(1).all())

    def shifted(self, origin: ArrayLike) -> "Crystal":
        """Return the same crystal with its origin at another point.

        Parameters
        ----------
        origin : array_like
            (3,) in fractions of the cell.

        Returns
        -------
        Crystal
            The same crystal with other coordinates.
        """
        return self._with(positions=self.positions - plain_array(origin, np.float64, "origin"))

    @property
    def parameters(self) -> dict[str, float]:
        """Everything that can be varied, by name; see `with_parameters`."""
        values = dict(zip(CELL, self.cell, strict=True))
        for name in dict.fromkeys(self.species):
            members = [i for i, other in enumerate(self.species) if other == name]
            values[f"b_iso.{name}"] = float(self.b_iso[members].mean())
        for i in range(len(self.species)):
            values |= {f"{axis}.{i}": float(x) for axis, x in zip("xyz", self.positions[i], strict=True)}
            values[f"occupancy.{i}"] = float(self.occupancy[i])
        return values

    def with_parameters(self, changes: Mapping[str, float]) -> "Crystal":
        """Return a crystal in which some parameters have other values.

        Names: ``a b c alpha beta gamma`` of the cell, each alone (a cubic crystal that stays cubic needs a, b and c);
        ``b_iso.Ga`` for all atoms of a species, ``b_iso`` for all atoms, both in place of anisotropic displacements;
        ``x.0 y.0 z.0 occupancy.0`` for the atom of that index.

        Parameters
        ----------
        changes : mapping
            Name to value, see above.

        Returns
        -------
        Crystal
            The other one.
        """
        cell, arrays = list(self.cell), {"positions": self.positions.copy(), "b_iso": self.b_iso.copy()}
        arrays["occupancy"] = self.occupancy.copy()
        tensors = None if self.u_aniso is None else self.u_aniso.copy()
        known = self.parameters
        for name, value in changes.items():
            head, _, tail = name.partition(".")
            if name in CELL:
                cell[CELL.index(name)] = float(value)
            elif head == "b_iso" and (not tail or name in known):
                members = [i for i, other in enumerate(self.species) if tail in ("", other)]
                arrays["b_iso"][members] = value
                if tensors is not None:
                    tensors[members] = np.nan
            elif name in known and head == "occupancy":
                arrays["occupancy"][int(tail)] = value
            elif name in known:
                arrays["positions"][int(tail), "xyz".index(head)] = value
            else:
                msg = f"unknown parameter {name!r} of the crystal: use one of {', '.join(list(known)[:8])}, ..."
                raise ValueError(msg)
        return self._with(cell=cell, u_aniso=tensors, **arrays)

    def _with(self, **changes: Any) -> "Crystal":
        names = ("cell", "species", "positions", "b_iso", "u_aniso", "occupancy")
        return Crystal(**{name: getattr(self, name) for name in names} | changes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, as JSON takes them."""
        tensors = None if self.u_aniso is None else self.u_aniso.tolist()
        plain = {name: getattr(self, name).tolist() for name in ("positions", "b_iso", "occupancy")}
        return {"cell": list(self.cell), "species": list(self.species), "u_aniso": tensors} | plain


def _cosine(degrees: float) -> float:
    """Cosine that is exactly 0 at 90 degrees, so that right angles stay right."""
    return 0.0 if degrees == 90 else float(np.cos(np.deg2rad(degrees)))


def _require(valid: bool, text: str) -> None:
    if not valid:
        raise ValueError(text)
