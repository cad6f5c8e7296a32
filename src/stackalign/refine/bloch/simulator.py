"""Bloch waves: many tilts at once, all thicknesses from one decomposition."""

import functools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeGuard

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import ArrayLike

from stackalign._types import FloatArray
from stackalign.device import parse_bytes
from stackalign.errors import StackalignWarning
from stackalign.ops import to_numpy
from stackalign.refine.beam import Beam
from stackalign.refine.crystal import Crystal
from stackalign.refine.scattering import ScatteringFactors, kirkland
from stackalign.refine.simulator import Neighbour, Reflection, as_reflections, as_tilts, reflection_indices

from .companions import BeamError, thin_crystal
from .geometry import Geometry
from .selection import BeamList, BeamSelection, select_beams
from .solver import Absorption, PreparedBloch, Solver, SolverOptions
from .thermal import thermal_absorption

__all__ = ["BeamConvergence", "BlochSimulator"]

Array = Any
KV_STEP, B_STEP, ABSORPTION_STEP = 2e-3, 0.05, 0.02
"""Steps of derivatives: a share of the voltage, square angstrom, and absorptive over elastic potential."""


@dataclass(frozen=True, eq=False)
class BlochSimulator:
    """Diffracted intensities of a perfect crystal by Bloch waves. See `Simulator`.

    Parameters
    ----------
    crystal : Crystal
        What scatters.
    beam : Beam
        Energy and orientation; the frame of the tilts.
    reflections : sequence of (h, k, l), optional
        Reflections whose intensities are kept, 000 among them if it is wanted. All beams of the matrix unless given:
        the memory of the result grows with their number.
    selection : BeamSelection
        Rules by which `prepare` chooses beams for the region of its tilts.
    beams : BeamList, optional
        Beams to use in place of a choice at each `prepare`, see `with_beams`. Matching fixes them, so that intensities
        do not jump as parameters vary.
    absorption : None, "perturbative" or "exact"
        "exact" diagonalises a general complex matrix, 4 to 10 times slower. "perturbative" shifts the eigenvalues to
        first order and costs nothing; its error in intensity is 0.01 to 0.05 for ratios of 0.03 to 0.1.
    absorptive_ratio : float, "thermal" or callable
        Absorptive over elastic potential. "thermal": what thermal diffuse scattering takes out, by element,
        Debye-Waller factor and voltage, see `stackalign.refine.thermal_absorption`; the choice for measured disks. Or a
        function ``(geometry, hkl) -> U'`` in 1/angstrom^2 for tabulated values, where `geometry.beam` and
        `geometry.crystal` are those in use, with the origin at `geometry.crystal`'s.
    refraction : bool
        Whether the mean inner potential speeds up the electrons inside the crystal.
    scattering : callable
        Scattering factors; `stackalign.refine.kirkland` unless given.
    workers : int, optional
        Threads for arrays of the host; the cores of this process unless given. Results do not depend on it.
    memory_limit : int or str, optional
        Most memory of results and temporaries, such as "2GB". Tilts are worked on in chunks; results that do not fit
        are an error before any work.
    check_beams : bool
        Whether intensities of beams that `prepare` chose are compared with those of about twice as many, at a few of
        the tilts, and a warning is given where they differ by more than 0.01 of the incident beam: as much again is
        left. Not for `beams` that are given.

    Notes
    -----
    Thickness is measured along the foil's normal. The intensities are currents through planes parallel to the surface:
    over all beams of the matrix they add up to 1 without absorption. The effective potentials of beams that are folded
    in keep this sum; those beams have no intensity of their own.

    The folded beams of a selection follow the strong ones at once, which they do not in a crystal of a few unit cells:
    with the default selection, weak intensities are 10 to 50 % above the kinematic ones at 2 angstrom. Below 200
    angstrom intensities are therefore those of a second simulation with twenty times lower thresholds, which is made
    when such a thickness is first asked for and takes 2 to 5 times longer; from 200 to 250 angstrom the two are
    blended. Intensities are then within 1 % of the kinematic ones at 2 angstrom (3 % in Au). From 20 to 200 angstrom
    those above 0.01 of the incident beam are within 1 % of those of all beams in Si and Al, within 3 % in GaAs and
    SrTiO3, and within 0.03 of the incident beam in Au, which is warned of. It is not made for `beams` that are given,
    nor for a selection without folded beams, with `sg_max`, or with thresholds as low as its own.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign.refine import Beam, BlochSimulator, Crystal
    >>> fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    >>> silicon = Crystal((5.431,) * 3 + (90,) * 3, ["Si"] * 8, np.concatenate([fcc, fcc + 0.25]), b_iso=0.47)
    >>> simulator = BlochSimulator(silicon, Beam(200, (1, 1, 0), (0, 0, 2)), [(0, 0, 0), (1, -1, 1)])
    >>> tilts = simulator.beam.tilts_from_mrad([(2.0, 0.0), (0.0, 4.0)])
    >>> intensities = simulator.prepare({}, tilts).intensities([50.0, 100.0])
    >>> intensities.shape  # thicknesses, reflections, tilts
    (2, 2, 2)
    """

    crystal: Crystal
    beam: Beam
    reflections: tuple[Reflection, ...] | None = None
    selection: BeamSelection = field(default_factory=BeamSelection)
    beams: BeamList | None = None
    absorption: Literal["perturbative", "exact"] | None = None
    absorptive_ratio: float | Literal["thermal"] | Absorption = 0.05
    refraction: bool = True
    scattering: ScatteringFactors = kirkland
    workers: int | None = None
    memory_limit: int | str | None = None
    check_beams: bool = True

    def __post_init__(self) -> None:
        if self.reflections is not None:
            object.__setattr__(self, "reflections", as_reflections(self.reflections))
        if self.absorption not in (None, "perturbative", "exact"):
            msg = f'absorption must be None, "perturbative" or "exact", got {self.absorption!r}'
            raise ValueError(msg)
        ratio: Any = self.absorptive_ratio
        if not (callable(ratio) or ratio == "thermal" or (not isinstance(ratio, str) and 0 <= ratio < 1)):
            msg = f'absorptive_ratio must be from 0 to 1, "thermal" or a function, got {ratio!r}'
            raise ValueError(msg)
        if self.workers is not None and self.workers < 1:
            msg = f"workers must be 1 or more, got {self.workers}"
            raise ValueError(msg)
        if self.memory_limit is not None:
            parse_bytes(self.memory_limit)

    @property
    def parameters(self) -> dict[str, float]:
        """Values in use: "kv", "absorptive_ratio" where it is a number, and those of `Crystal.parameters`."""
        own = {"kv": self.beam.kv}
        if self.absorption is not None and _is_number(self.absorptive_ratio):
            own["absorptive_ratio"] = float(self.absorptive_ratio)
        return own | self.crystal.parameters

    def requires(self, name: str) -> frozenset[str]:
        """See `Simulator.requires`: every parameter needs decompositions; "kv" keeps the structure factors."""
        if name in ("kv", "absorptive_ratio") and name in self.parameters:
            return frozenset({"decompositions"} | ({"beams"} if name == "kv" else set()))
        value = 0.0 if name == "b_iso" else self.crystal.parameters.get(name, 0.0)
        self.crystal.with_parameters({name: value})  # says which names there are
        cell = name in ("a", "b", "c", "alpha", "beta", "gamma")
        return frozenset({"potentials", "decompositions"} | ({"beams"} if cell else set()))

    def with_parameters(self, changes: Mapping[str, float]) -> "BlochSimulator":
        """Return a simulator in which parameters have other values; the list of beams, if fixed, stays.

        Parameters
        ----------
        changes : mapping
            Values by name, see `parameters`.

        Returns
        -------
        BlochSimulator
            The other one.
        """
        left, own = dict(changes), dict[str, Any]()
        if "kv" in left:
            own["beam"] = replace(self.beam, kv=float(left.pop("kv")))
        if "absorptive_ratio" in left and "absorptive_ratio" in self.parameters:
            own["absorptive_ratio"] = float(left.pop("absorptive_ratio"))
        return replace(self, crystal=self.crystal.with_parameters(left) if left else self.crystal, **own)

    def with_beams(self, tilts: Array) -> "BlochSimulator":
        """Return a simulator whose beams are fixed to the choice for the region of these tilts.

        Parameters
        ----------
        tilts : array
            (T, 2) in 1/angstrom, in the frame of the beam.

        Returns
        -------
        BlochSimulator
            The other one.
        """
        return self.alike(beams=self._select(_to_host(as_tilts(tilts))))

    def tighter(self, factor: float) -> "BlochSimulator":
        """Return a simulator of more beams, see `BeamSelection.tighter`; and of many more that are folded in.

        Folding is cheap, and many weak beams of which each does little shift all lines the same way.

        Parameters
        ----------
        factor : float
            What thresholds are divided by.

        Returns
        -------
        BlochSimulator
            The other one.
        """
        selection = replace(self.selection.tighter(factor), weak=self.selection.weak / factor**3)
        return self.alike(selection=selection, beams=None)

    def alike(self, **changes: Any) -> "BlochSimulator":
        """Return a simulator of the same crystal in the same beam: what it knows of their geometry goes on.

        Parameters
        ----------
        **changes
            Other arguments of the simulator.

        Returns
        -------
        BlochSimulator
            The other one.
        """
        other = replace(self, **changes)
        other.__dict__["geometry"] = self.geometry  # where `cached_property` keeps it
        return other

    def neighbours(self) -> dict[str, Neighbour]:
        """See `BeamListSimulator.neighbours`: "kv", "b_iso" of all atoms, and "absorptive_ratio"."""
        known, nearby = self.parameters, dict[str, Neighbour]()
        kv = known["kv"]
        nearby["kv"] = Neighbour(kv, KV_STEP * kv, self.with_parameters({"kv": (1 + KV_STEP) * kv}), ("kv",))
        thermal = tuple(name for name in known if name.startswith("b_iso."))
        if thermal and self.crystal.u_aniso is None:
            warmer = self.with_parameters({name: known[name] + B_STEP for name in thermal})
            nearby["b_iso"] = Neighbour(float(np.mean([known[name] for name in thermal])), B_STEP, warmer, thermal)
        absorbing, ratio = ("absorptive_ratio",), self.absorptive_ratio
        if self.absorption is None:
            some = replace(self, absorption="perturbative", absorptive_ratio=ABSORPTION_STEP)
            nearby["absorptive_ratio"] = Neighbour(0.0, ABSORPTION_STEP, some, absorbing)
        elif _is_number(ratio):
            step = ABSORPTION_STEP / 2
            nearby["absorptive_ratio"] = Neighbour(
                float(ratio), step, self.with_parameters({"absorptive_ratio": ratio + step}), absorbing
            )
        return nearby

    @functools.cached_property
    def geometry(self) -> Geometry:
        """The crystal in the beam, with the origin at a centre of inversion where the crystal has one."""
        center = self.crystal.inversion_center
        crystal = self.crystal if center is None else self.crystal.shifted(center)
        return Geometry(crystal, self.beam, self.refraction, self.scattering)

    def _select(self, tilts: FloatArray) -> BeamList:
        include = np.array(self.reflections or [(0, 0, 0)], dtype=np.int64)
        return self.beams or select_beams(self.selection, self.geometry, tilts, include)

    def prepare(self, parameters: Mapping[str, float], tilts: Array) -> "PreparedBloch":
        """See `Simulator.prepare`; this is where the decompositions are made."""
        if parameters:
            return self.with_parameters(parameters).prepare({}, tilts)
        tilts = as_tilts(tilts)
        host = _to_host(tilts)
        if np.square(host).sum(-1).max() > 0.25 * self.beam.wavenumber**2:
            msg = "a tilt is larger than 30 degrees: tilts are in 1/angstrom, see Beam.tilts_from_mrad"
            raise ValueError(msg)
        beams = self._select(host)
        known = as_reflections(beams.strong.tolist())
        kept = self.reflections or known
        rows = np.array(reflection_indices(known, kept))
        options = SolverOptions(
            self.crystal.inversion_center is not None,
            self.absorption,
            thermal_absorption if isinstance(self.absorptive_ratio, str) else self.absorptive_ratio,
            self.selection.floor,
            self.workers,
            self.memory_limit,
        )
        prepared = Solver(options, self.geometry, beams, kept, rows, array_namespace(tilts)).solve(host)
        if self.beams is not None:
            return prepared
        error = BeamError(self, beams, kept, host) if self.check_beams else None
        return replace(prepared, beam_error=error, thin=thin_crystal(self, kept, tilts))

    def check_convergence(
        self, tilts: Array, thicknesses_angstrom: ArrayLike, *, factor: float = 3.0, n_tilts: int = 9
    ) -> "BeamConvergence":
        """Compare with a simulation of many more beams, at some of the tilts.

        Parameters
        ----------
        tilts : array
            (T, 2) the region; beams are chosen for all of it, compared are `n_tilts` spread over the list.
        thicknesses_angstrom : array_like
            Thicknesses to compare at: the error grows with thickness.
        factor : float
            By how much the thresholds of the selection are lowered.
        n_tilts : int
            Number of tilts to compare.

        Returns
        -------
        BeamConvergence
            Numbers of beams, and the largest and typical difference of intensities.
        """
        host = _to_host(as_tilts(tilts))
        some = host[np.unique(np.linspace(0, len(host) - 1, n_tilts).round().astype(int))]
        beams = self._select(host)
        kept = self.reflections or as_reflections(beams.strong.tolist()[:15])
        mine = replace(self, beams=beams, reflections=kept)
        other = replace(mine, beams=None, selection=self.selection.tighter(factor))
        more = other._select(host)
        other = replace(other, beams=more)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StackalignWarning)  # what is warned of is being measured
            here, there = (each.prepare({}, some).intensities(thicknesses_angstrom) for each in (mine, other))
        error = np.abs(here - there)
        return BeamConvergence(
            max_error=float(error.max()),
            rms_error=float(np.sqrt(np.square(error).mean())),
            worst=kept[int(error.max((0, 2)).argmax())],
            n_beams=(len(beams.strong), len(beams.weak)),
            n_reference=(len(more.strong), len(more.weak)),
        )


@dataclass(frozen=True)
class BeamConvergence:
    """What more beams would change.

    Parameters
    ----------
    max_error, rms_error : float
        Of the intensities, in units of the incident beam.
    worst : (h, k, l)
        Reflection with the largest error.
    n_beams, n_reference : (int, int)
        Beams in the matrix and folded in, of the simulator and of the one it was compared with.
    """

    max_error: float
    rms_error: float
    worst: Reflection
    n_beams: tuple[int, int]
    n_reference: tuple[int, int]


def _is_number(ratio: object) -> TypeGuard[float]:
    return not (callable(ratio) or isinstance(ratio, str))


def _to_host(tilts: Array) -> FloatArray:
    return np.asarray(to_numpy(tilts))
