"""Wave vectors inside the crystal, detuning of its beams, and potentials: for the beam selection and the matrix."""

from dataclasses import dataclass, field

import numpy as np

from stackalign._types import ComplexArray, FloatArray, IntArray
from stackalign.refine.beam import Beam
from stackalign.refine.crystal import Crystal
from stackalign.refine.scattering import ScatteringFactors, kirkland

from .potentials import PotentialTable

__all__ = ["Geometry", "Lattice"]


@dataclass(frozen=True, eq=False)
class Lattice:
    """Reflections within a length, in no particular order.

    Parameters
    ----------
    hkl : numpy.ndarray
        (N, 3) indices, 000 among them.
    g : numpy.ndarray
        (N, 3) vectors in the frame of the beam, 1/angstrom.
    strength : numpy.ndarray
        (N,) modulus of the potential in 1/angstrom^2, 0 for 000.
    """

    hkl: IntArray
    g: FloatArray
    strength: FloatArray


@dataclass(frozen=True, eq=False)
class Geometry:
    """A crystal in a beam; everything is in the beam's frame and in 1/angstrom.

    Parameters
    ----------
    crystal : Crystal
        With the origin where potentials are wanted.
    beam : Beam
        Energy and orientation.
    refraction : bool
        Whether the mean inner potential speeds up the electrons inside.
    scattering : callable
        Scattering factors.
    """

    crystal: Crystal
    beam: Beam
    refraction: bool = True
    scattering: ScatteringFactors = kirkland
    frame: FloatArray = field(init=False)
    _lattices: dict[tuple[float, int | None], "Lattice"] = field(init=False, repr=False, default_factory=dict)
    _potentials: PotentialTable = field(init=False, repr=False)
    inward: FloatArray = field(init=False)
    mean: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame", self.beam.frame(self.crystal))
        object.__setattr__(self, "inward", self.beam.inward_normal(self.crystal))
        object.__setattr__(self, "_potentials", PotentialTable(self._calculated))
        mean = float(self.potential(np.zeros((1, 3), dtype=np.int64))[0].real)
        object.__setattr__(self, "mean", mean)

    @property
    def wavenumber(self) -> float:
        """Length of the wave vector inside the crystal."""
        return float(np.sqrt(self.beam.wavenumber**2 + (self.mean if self.refraction else 0.0)))

    def potential(self, hkl: IntArray) -> ComplexArray:
        """Return U_hkl in 1/angstrom^2; each reflection is calculated once, however often it is asked for."""
        return self._potentials.values(hkl)

    def couplings(self, first: IntArray, second: IntArray) -> ComplexArray:
        """Return U_g-h (N, M) between the beams `first` (N, 3) and `second` (M, 3)."""
        return self._potentials.differences(first, second)

    def _calculated(self, hkl: IntArray) -> ComplexArray:
        scale = self.beam.mass_ratio / (np.pi * self.crystal.volume)
        return np.asarray(scale * self.crystal.structure_factors(hkl, self.scattering))

    def g_vectors(self, hkl: IntArray) -> FloatArray:
        """Return (N, 3) reciprocal lattice vectors in the frame of the beam."""
        return np.asarray(self.crystal.g_vectors(hkl) @ self.frame.T)

    def incident(self, tilts: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return wave vectors inside (T, 3) and their components along the inward normal (T,)."""
        k = self.beam.wavenumber
        across = np.square(tilts).sum(-1)
        outside = np.concatenate([tilts, -np.sqrt(k * k - across)[:, None]], 1)
        normal = (outside * self.inward).sum(-1)
        inside = np.sqrt(normal**2 + (self.mean if self.refraction else 0.0))
        return outside + (inside - normal)[:, None] * self.inward, inside

    def lattice(self, g_max: float, laue_zones: int | None) -> Lattice:
        """Return all reflections up to a length in 1/angstrom and a Laue zone, which are remembered.

        Raises
        ------
        ValueError
            There are too many.
        """
        if (g_max, laue_zones) not in self._lattices:
            self._lattices[g_max, laue_zones] = self._made_lattice(g_max, laue_zones)
        return self._lattices[g_max, laue_zones]

    def _made_lattice(self, g_max: float, laue_zones: int | None) -> Lattice:
        limits = np.floor(g_max * np.asarray(self.crystal.cell[:3])).astype(int)
        if np.prod(2.0 * limits + 1) > 3e7:
            msg = f"g_max={g_max} 1/angstrom reaches too many reflections of this cell: lower g_max"
            raise ValueError(msg)
        axes = [np.arange(-n, n + 1) for n in limits]
        hkl = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        if laue_zones is not None:
            hkl = hkl[np.abs(hkl @ np.asarray(self.beam.zone)) <= laue_zones + 1e-9]
        g = self.g_vectors(hkl)
        inside = np.square(g).sum(-1) <= g_max**2
        hkl, g = hkl[inside], g[inside]
        strength = np.abs(self.potential(hkl))
        strength[~hkl.any(1)] = 0.0
        return Lattice(hkl.astype(np.int64), g, strength)

    def detuning(self, tilts: FloatArray, hkl: IntArray, g: FloatArray | None = None) -> FloatArray:
        """Return 2 K s_g = K^2 - |K + g|^2, (T, N) in 1/angstrom^2: 0 on the Ewald sphere, positive inside of it.

        The vectors `g` of the reflections need not be made again where they are known.
        """
        vectors, _ = self.incident(tilts)
        g = self.g_vectors(hkl) if g is None else g
        # Not a matrix product: its rounding depends on how many tilts there are.
        along = vectors[:, :1] * g[:, 0] + vectors[:, 1:2] * g[:, 1] + vectors[:, 2:] * g[:, 2]
        return np.asarray(-2 * along - np.square(g).sum(-1))
