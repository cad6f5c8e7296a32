"""Simulations that need no Bloch waves: any function, and images that another program has simulated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import ArrayLike, NDArray

from stackalign._carriers import plain_array

from .simulator import Array, Reflection, as_reflections, as_thicknesses, as_tilts, reflection_indices, require_known

__all__ = ["CallableSimulator", "StackSimulator"]


@dataclass(frozen=True)
class CallableSimulator:
    """Any function as a simulator.

    Parameters
    ----------
    function : callable
        ``function(parameters, tilts, thicknesses_angstrom, reflections)`` returns intensities
        (n_thicknesses, n_reflections, T) on the device of `tilts`; it is called once per `Prepared.intensities`.
    reflections : sequence of (h, k, l)
        What it simulates.
    parameters : mapping
        Values in use of what it can vary.
    needs : mapping
        Parameter to what a change makes necessary, see `Simulator.requires`; everything unless given.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign.refine import CallableSimulator
    >>> def fringes(parameters, tilts, thicknesses, reflections):
    ...     return np.sin(thicknesses[:, None, None] / 100 + tilts[None, None, :, 0]) ** 2
    >>> simulator = CallableSimulator(fringes, reflections=[(0, 0, 2)])
    >>> simulator.prepare({}, np.zeros((5, 2))).intensities([100.0, 200.0]).shape
    (2, 1, 5)
    """

    function: Callable[[Mapping[str, float], Array, NDArray[np.float64], tuple[Reflection, ...]], Array]
    reflections: tuple[Reflection, ...]
    parameters: Mapping[str, float] = field(default_factory=dict)
    needs: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reflections", as_reflections(self.reflections))

    def requires(self, name: str) -> frozenset[str]:
        """See `Simulator.requires`."""
        require_known(name, self.parameters)
        return self.needs.get(name, frozenset({"potentials", "decompositions"}))

    def with_parameters(self, changes: Mapping[str, float]) -> "CallableSimulator":
        """Return a simulator in which parameters have other values.

        Parameters
        ----------
        changes : mapping of str to float
            New values by the names of the parameters.

        Returns
        -------
        CallableSimulator
            A new one; this one stays as it is.
        """
        for name in changes:
            require_known(name, self.parameters)
        return replace(self, parameters={**self.parameters, **changes})

    def prepare(self, parameters: Mapping[str, float], tilts: Array) -> "PreparedCallable":
        """See `Simulator.prepare`."""
        for name in parameters:
            require_known(name, self.parameters)
        return PreparedCallable(self, {**self.parameters, **parameters}, as_tilts(tilts))


@dataclass(frozen=True, eq=False)
class PreparedCallable:
    """A function with its parameters and tilts."""

    simulator: CallableSimulator
    parameters: Mapping[str, float]
    tilts: Array

    @property
    def reflections(self) -> tuple[Reflection, ...]:
        """See `Prepared.reflections`."""
        return self.simulator.reflections

    def intensities(self, thicknesses_angstrom: ArrayLike, reflections: Sequence[Reflection] | None = None) -> Array:
        """See `Prepared.intensities`."""
        thicknesses = as_thicknesses(thicknesses_angstrom)
        chosen = tuple(self.reflections[i] for i in reflection_indices(self.reflections, reflections))
        result = self.simulator.function(dict(self.parameters), self.tilts, thicknesses, chosen)
        expected = (len(thicknesses), len(chosen), self.tilts.shape[0])
        if tuple(result.shape) != expected:
            msg = f"the function must return (thicknesses, reflections, tilts) = {expected}, got {tuple(result.shape)}"
            raise ValueError(msg)
        return result


@dataclass(frozen=True, eq=False)
class StackSimulator:
    """Images that were simulated before, by any program.

    Parameters
    ----------
    images : array
        (n_thicknesses, n_reflections, ny, nx) intensities on a regular grid of tilts, NumPy or CuPy.
    thicknesses_angstrom : array_like
        (n_thicknesses,) increasing. Between them intensities are interpolated linearly: take steps well below the
        shortest fringe.
    x, y : array_like
        (nx,) and (ny,) tilts of the grid in 1/angstrom, evenly spaced and increasing. Between them intensities are
        interpolated bilinearly; outside of them is an error.
    reflections : sequence of (h, k, l)
        What the images show.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign.refine import StackSimulator
    >>> images = np.array([100.0, 300.0])[:, None, None, None] * np.ones((2, 1, 3, 4))
    >>> stack = StackSimulator(
    ...     images, [100.0, 300.0], x=np.arange(4) / 10, y=np.arange(3) / 10, reflections=[(0, 0, 0)]
    ... )
    >>> stack.prepare({}, np.array([[0.15, 0.1]])).intensities([150.0])
    array([[[150.]]])
    """

    images: Array
    thicknesses_angstrom: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    reflections: tuple[Reflection, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "reflections", as_reflections(self.reflections))
        if type(self.images).__module__.partition(".")[0] != "cupy":
            object.__setattr__(self, "images", plain_array(self.images, None, "images"))
        for name in ("thicknesses_angstrom", "x", "y"):
            values = plain_array(getattr(self, name), np.float64, name)
            steps = np.diff(values)
            even = name == "thicknesses_angstrom" or np.allclose(steps, steps[:1], rtol=1e-6)
            if values.ndim != 1 or not len(values) or (steps <= 0).any() or not even:
                msg = f"{name} must be a list of increasing numbers, evenly spaced for x and y"
                raise ValueError(msg)
            object.__setattr__(self, name, values)
        expected = (len(self.thicknesses_angstrom), len(self.reflections), len(self.y), len(self.x))
        if tuple(self.images.shape) != expected:
            msg = f"images must be (thicknesses, reflections, y, x) = {expected}, got {tuple(self.images.shape)}"
            raise ValueError(msg)

    @property
    def parameters(self) -> dict[str, float]:
        """Nothing but the thickness can be varied."""
        return {}

    def requires(self, name: str) -> frozenset[str]:
        """See `Simulator.requires`."""
        require_known(name, self.parameters)
        return frozenset()

    def prepare(self, parameters: Mapping[str, float], tilts: Array) -> "PreparedStack":
        """See `Simulator.prepare`."""
        for name in parameters:
            require_known(name, self.parameters)
        tilts = as_tilts(tilts)
        xp = array_namespace(self.images, tilts)
        image, total = xp.reshape(self.images, (*self.images.shape[:2], -1)), 0.0
        (column, right), (row, below) = (_locate(xp, tilts[:, i], axis) for i, axis in enumerate((self.x, self.y)))
        for step_y, weight_y in ((0, 1 - below), (1, below)):
            for step_x, weight_x in ((0, 1 - right), (1, right)):
                y, x = xp.clip(row + step_y, 0, len(self.y) - 1), xp.clip(column + step_x, 0, len(self.x) - 1)
                total = total + xp.take(image, y * len(self.x) + x, axis=2) * (weight_y * weight_x)
        return PreparedStack(total, self.thicknesses_angstrom, self.reflections)


@dataclass(frozen=True, eq=False)
class PreparedStack:
    """Images at the tilts that were asked for."""

    images: Array
    thicknesses_angstrom: NDArray[np.float64]
    reflections: tuple[Reflection, ...]

    def intensities(self, thicknesses_angstrom: ArrayLike, reflections: Sequence[Reflection] | None = None) -> Array:
        """See `Prepared.intensities`."""
        values, grid = as_thicknesses(thicknesses_angstrom), self.thicknesses_angstrom
        if values.min() < grid[0] or values.max() > grid[-1]:
            msg = f"the images are of {grid[0]:g} to {grid[-1]:g} angstrom, got thicknesses outside: {values}"
            raise ValueError(msg)
        xp = array_namespace(self.images)
        below = np.clip(np.searchsorted(grid, values, side="right") - 1, 0, len(grid) - 1)
        above = np.minimum(below + 1, len(grid) - 1)
        share = (values - grid[below]) / np.where(above > below, grid[above] - grid[below], 1.0)
        images = xp.take(self.images, xp.asarray(reflection_indices(self.reflections, reflections)), axis=1)
        low, high = (xp.take(images, xp.asarray(index), axis=0) for index in (below, above))
        return low + (high - low) * xp.asarray(share)[:, None, None]


def _locate(xp: Any, values: Array, axis: NDArray[np.float64]) -> tuple[Array, Array]:
    """Index of the grid point below each value, and the share of the next one."""
    step = float(axis[1] - axis[0]) if len(axis) > 1 else 1.0
    position = (values - float(axis[0])) / step
    position = xp.where(xp.abs(position - xp.round(position)) < 1e-9, xp.round(position), position)
    if bool(xp.any((position < 0) | (position > len(axis) - 1))):
        msg = f"a tilt lies outside of the images, which reach from {axis[0]:g} to {axis[-1]:g} 1/angstrom"
        raise ValueError(msg)
    index = xp.astype(xp.floor(position), xp.int64)
    return index, position - index
