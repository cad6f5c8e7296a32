"""What the matching asks of a simulation, and checks that simulators share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import ArrayLike, NDArray

from stackalign._carriers import plain_array

from .beam import Beam

__all__ = [
    "AdjustableSimulator",
    "BeamListSimulator",
    "Neighbour",
    "OrientedSimulator",
    "OscillatingPrepared",
    "Prepared",
    "Reflection",
    "Simulator",
    "as_reflections",
    "as_thicknesses",
    "as_tilts",
    "reflection_indices",
    "require_known",
]

Array = Any
Reflection = tuple[int, int, int]


class Prepared(Protocol):
    """A simulation of fixed parameters at fixed tilts; thicknesses are still free, and cheap."""

    @property
    def reflections(self) -> tuple[Reflection, ...]:
        """Reflections that can be asked for."""
        ...

    def intensities(self, thicknesses_angstrom: ArrayLike, reflections: Sequence[Reflection] | None = None) -> Array:
        """Calculate intensities, in units of the incident beam.

        Parameters
        ----------
        thicknesses_angstrom : array_like
            (n,) thicknesses.
        reflections : sequence of (h, k, l), optional
            Those that are wanted; all by default.

        Returns
        -------
        array
            (n_thicknesses, n_reflections, T), at home where the tilts are.
        """
        ...


@runtime_checkable
class OscillatingPrepared(Prepared, Protocol):
    """A prepared simulation that knows how fast its intensities oscillate with the thickness."""

    @property
    def step_angstrom(self) -> float:
        """Thickness step that samples the fastest oscillation well; infinite where there is none."""
        ...


@runtime_checkable
class Simulator(Protocol):
    """A source of diffracted intensities. Immutable: what varies is an argument, never a state."""

    @property
    def reflections(self) -> tuple[Reflection, ...] | None:
        """Reflections whose intensities `prepare` keeps; None where `prepare` chooses them."""
        ...

    @property
    def parameters(self) -> Mapping[str, float]:
        """Values in use of all parameters that `prepare` can vary, by name."""
        ...

    def requires(self, name: str) -> frozenset[str]:
        """Tell what a change of a parameter makes necessary.

        Parameters
        ----------
        name : str
            Of a parameter.

        Returns
        -------
        frozenset of str
            A subset of "beams" (another list of beams may be better), "potentials" (structure factors) and
            "decompositions" (the expensive step); empty for a parameter that costs nothing, such as the thickness.

        Raises
        ------
        ValueError
            The simulator cannot vary this parameter.
        """
        ...

    def prepare(self, parameters: Mapping[str, float], tilts: Array) -> Prepared:
        """Simulate with changed parameters.

        Parameters
        ----------
        parameters : mapping
            Changes to `parameters`, by name; empty for none.
        tilts : array
            (T, 2) transverse part of the incoming wave vector in 1/angstrom, in the frame of the beam; the results
            are on the device of this array.

        Returns
        -------
        Prepared
            Gives intensities at any thickness.
        """
        ...


@runtime_checkable
class AdjustableSimulator(Simulator, Protocol):
    """A simulator whose values in use can be changed for good, so that a refinement can go on from a result."""

    def with_parameters(self, changes: Mapping[str, float]) -> "AdjustableSimulator":
        """Return a simulator in which parameters have other values."""
        ...


@runtime_checkable
class OrientedSimulator(Simulator, Protocol):
    """A simulator that knows its electron beam, from which results have angles in mrad."""

    @property
    def beam(self) -> Beam:
        """Energy and orientation."""
        ...


@dataclass(frozen=True)
class Neighbour:
    """A simulator in which one parameter is a step away.

    Parameters
    ----------
    value : float
        Of the parameter, before the step.
    step : float
        By how much it differs in `simulator`.
    simulator : Simulator
        With that step.
    drives : tuple of str
        Parameters of the simulator that take the step together.
    """

    value: float
    step: float
    simulator: Simulator
    drives: tuple[str, ...]


@runtime_checkable
class BeamListSimulator(AdjustableSimulator, OrientedSimulator, Protocol):
    """A simulator with a list of beams: it can be fixed, and more beams may be better."""

    @property
    def beams(self) -> Any:
        """List of beams that is used whatever the tilts are; None where `prepare` chooses one."""
        ...

    def with_beams(self, tilts: Array) -> "BeamListSimulator":
        """Return a simulator whose beams are fixed to the choice for the region of these tilts (T, 2)."""
        ...

    def with_parameters(self, changes: Mapping[str, float]) -> "BeamListSimulator":
        """Return a simulator in which parameters have other values."""
        ...

    def tighter(self, factor: float) -> "BeamListSimulator":
        """Return a simulator that chooses more beams: its thresholds are divided by a factor."""
        ...

    def neighbours(self) -> Mapping[str, Neighbour]:
        """Return simulators in which a parameter that is often held, and often wrong, is a step away, by its name."""
        ...


def as_tilts(tilts: Array) -> Array:
    """Check tilts: (T, 2), finite, float64; the array stays on its device."""
    if not hasattr(tilts, "shape"):
        tilts = plain_array(tilts, np.float64, "tilts")
    if len(tilts.shape) != 2 or tilts.shape[1] != 2 or tilts.shape[0] == 0:
        msg = f"tilts must be (T, 2) with the x and y parts of wave vectors in 1/angstrom, got shape {tilts.shape}"
        raise ValueError(msg)
    xp = array_namespace(tilts)
    if not bool(xp.all(xp.isfinite(tilts))):
        msg = "tilts must be finite"
        raise ValueError(msg)
    return xp.astype(tilts, xp.float64, copy=False)


def as_thicknesses(thicknesses_angstrom: ArrayLike) -> NDArray[np.float64]:
    """Check thicknesses: one or more, finite, not negative."""
    values = np.atleast_1d(plain_array(thicknesses_angstrom, np.float64, "thicknesses_angstrom"))
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all() or (values < 0).any():
        msg = f"thicknesses must be a list of numbers in angstrom, none of them negative, got {thicknesses_angstrom!r}"
        raise ValueError(msg)
    return values


def as_reflections(reflections: Sequence[Sequence[int]]) -> tuple[Reflection, ...]:
    """Check a list of reflections: triples of whole numbers, none of them twice."""
    listed: list[Reflection] = []
    for item in reflections:
        triple = np.asarray(item)
        if triple.shape != (3,) or not np.array_equal(triple, np.round(triple)):
            msg = f"a reflection must be three whole numbers (h, k, l), got {item!r}"
            raise ValueError(msg)
        listed.append((int(triple[0]), int(triple[1]), int(triple[2])))
    if len(set(listed)) != len(listed):
        msg = f"a reflection is listed twice: {listed}"
        raise ValueError(msg)
    return tuple(listed)


def reflection_indices(known: Sequence[Reflection], reflections: Sequence[Reflection] | None) -> list[int]:
    """Find reflections in a list; all of them for None."""
    if reflections is None:
        return list(range(len(known)))
    position = {item: i for i, item in enumerate(known)}
    missing = [item for item in as_reflections(reflections) if item not in position]
    if missing:
        msg = f"the reflections {missing} were not simulated: ask the simulator for them, it has {list(known)[:12]}"
        raise ValueError(msg)
    return [position[item] for item in as_reflections(reflections)]


def require_known(name: str, parameters: Mapping[str, float]) -> None:
    """Raise for a parameter that a simulator cannot vary."""
    if name not in parameters:
        listed = ", ".join(parameters) or "none"
        msg = f"this simulator cannot vary {name!r}; it can vary: {listed}"
        raise ValueError(msg)
