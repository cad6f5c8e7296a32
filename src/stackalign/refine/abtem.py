"""abTEM's Bloch waves as a simulator, for those who have installed it; nothing of it is used otherwise."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign._types import FloatArray
from stackalign.errors import MissingDependencyError

from .beam import Beam
from .crystal import Crystal
from .simulator import Reflection, as_reflections, as_thicknesses, as_tilts, reflection_indices

__all__ = ["AbtemSimulator"]


@dataclass(frozen=True, eq=False)
class AbtemSimulator:
    """Diffracted intensities by abTEM (GPL-3, installed by the user). See `Simulator`.

    Parameters
    ----------
    crystal : Crystal
        What scatters; isotropic Debye-Waller factors alone.
    beam : Beam
        Energy and orientation. abTEM turns the foil with the crystal: its surface is always across the beam, whatever
        `Beam.normal` says.
    reflections : sequence of (h, k, l)
        Reflections to keep. abTEM chooses its beams anew for each tilt; where it leaves a reflection out, its intensity
        is 0.
    sg_max, g_max : float
        abTEM's limits of the excitation error and of the length of reflections, in 1/angstrom.
    parametrization : str
        abTEM's scattering factors: "kirkland" as `BlochSimulator` has them, "lobato" or "peng".

    Notes
    -----
    Runs on the host. Every call of `intensities` diagonalises again: ask for all thicknesses at once.
    """

    crystal: Crystal
    beam: Beam
    reflections: tuple[Reflection, ...]
    sg_max: float = 0.02
    g_max: float = 3.0
    parametrization: str = "kirkland"

    def __post_init__(self) -> None:
        object.__setattr__(self, "reflections", as_reflections(self.reflections))
        for name in ("sg_max", "g_max"):
            if not getattr(self, name) > 0:
                msg = f"{name} must be above 0, got {getattr(self, name)}"
                raise ValueError(msg)
        if self.crystal.u_aniso is not None:
            msg = "abTEM has isotropic Debye-Waller factors alone: use with_parameters({'b_iso': ...}) of the crystal"
            raise ValueError(msg)

    @property
    def parameters(self) -> dict[str, float]:
        """Values in use: "kv" and those of `Crystal.parameters`."""
        return {"kv": self.beam.kv} | self.crystal.parameters

    def requires(self, name: str) -> frozenset[str]:
        """See `Simulator.requires`."""
        self.with_parameters({name: self.parameters.get(name, 0.0)})
        return frozenset({"beams", "decompositions"} | (set() if name == "kv" else {"potentials"}))

    def with_parameters(self, changes: Mapping[str, float]) -> "AbtemSimulator":
        """Return a simulator in which parameters have other values.

        Parameters
        ----------
        changes : mapping of str to float
            New values by the names of the parameters.

        Returns
        -------
        AbtemSimulator
            A new one; this one stays as it is.
        """
        crystal = self.crystal.with_parameters({name: value for name, value in changes.items() if name != "kv"})
        return replace(self, crystal=crystal, beam=replace(self.beam, kv=float(changes.get("kv", self.beam.kv))))

    def prepare(self, parameters: Mapping[str, float], tilts: Any) -> "PreparedAbtem":
        """See `Simulator.prepare`."""
        changed = self.with_parameters(parameters)
        return PreparedAbtem(changed, np.asarray(as_tilts(tilts)), changed._structure_factor)

    @functools.cached_property
    def _structure_factor(self) -> Any:
        try:
            from abtem.bloch import StructureFactor
            from ase import Atoms
        except ImportError as error:
            msg = "AbtemSimulator needs abTEM (GPL-3), which is not part of any extra: pip install abtem"
            raise MissingDependencyError(msg) from error
        crystal = self.crystal
        atoms = Atoms(list(crystal.species), scaled_positions=crystal.positions, cell=crystal.direct, pbc=True)
        sigma = np.sqrt(crystal.b_iso / (8 * np.pi**2))
        # abTEM couples beams by potentials of up to twice g_max; a taper there would change them.
        return StructureFactor(
            atoms,
            g_max=2 * self.g_max,
            parametrization=self.parametrization,
            thermal_sigma=list(sigma),
            occupancy=list(crystal.occupancy),
            cutoff="hard",
        ).build(lazy=False)  # once, rather than at every tilt


@dataclass(frozen=True, eq=False)
class PreparedAbtem:
    """Tilts and potentials; abTEM does the rest when thicknesses are known."""

    simulator: AbtemSimulator
    tilts: FloatArray
    structure_factor: Any

    @property
    def reflections(self) -> tuple[Reflection, ...]:
        """See `Prepared.reflections`."""
        return self.simulator.reflections

    def intensities(
        self, thicknesses_angstrom: ArrayLike, reflections: Sequence[Reflection] | None = None
    ) -> FloatArray:
        """See `Prepared.intensities`."""
        thicknesses = as_thicknesses(thicknesses_angstrom)
        chosen = [self.reflections[i] for i in reflection_indices(self.reflections, reflections)]
        result = np.zeros((len(thicknesses), len(chosen), len(self.tilts)))
        for i, tilt in enumerate(self.tilts):
            hkl, intensities = self.one(tilt, thicknesses)
            row = {item: j for j, item in enumerate(as_reflections(hkl.tolist()))}
            for j, item in enumerate(chosen):
                if item in row:
                    result[:, j, i] = intensities[:, row[item]]
        return result

    def one(self, tilt: FloatArray, thicknesses_angstrom: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
        """Return all beams (N, 3) of abTEM at one tilt and their intensities (n_t, N)."""
        import abtem

        with abtem.config.set({"precision": "float64"}):
            waves = self.waves(tilt)
            patterns = waves.calculate_diffraction_patterns(thicknesses_angstrom, lazy=False)
        return np.asarray(waves.hkl, dtype=np.int64), np.asarray(patterns.array, dtype=np.float64)

    def waves(self, tilt: FloatArray) -> Any:
        """Return abTEM's object for one tilt."""
        from abtem.bloch import BlochWaves

        return BlochWaves(
            self.structure_factor,
            energy=self.simulator.beam.kv * 1e3,
            sg_max=self.simulator.sg_max,
            g_max=self.simulator.g_max,
            orientation_matrix=self.orientation(tilt),
        )

    def orientation(self, tilt: FloatArray) -> FloatArray:
        """(3, 3) rotation of the crystal that brings the incoming beam onto abTEM's z axis."""
        k = self.simulator.beam.wavenumber
        x, y = tilt / k
        beam = np.array([x, y, -np.sqrt(1 - x * x - y * y)])
        axis = np.cross(beam, [0, 0, -1.0])
        cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        straight = np.eye(3) + cross + cross @ cross / (1 - beam[2])
        return np.asarray(np.diag([1.0, -1.0, -1.0]) @ straight @ self.simulator.beam.frame(self.simulator.crystal))
