"""What a refinement found."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stackalign._results import Tabular
from stackalign._types import FloatArray
from stackalign.io.atomic import write_text_atomic

from .frames import DisplayFrame
from .simulator import Reflection

__all__ = ["WARNINGS", "RefinementResult"]


WARNINGS: Mapping[str, str] = {
    "on_border": "the optimum lies on a bound, or on the border of the searched area: the true one may lie beyond",
    "degenerate": "the data leave a combination of parameters open",
    "few_beams": "the simulation has too few beams for the thickness",
    "poor": "measured and simulated disks do not look alike",
    "misfit": "the residual is not noise: something in the model is wrong, or missing",
    "inconsistent": "the disks disagree, or one of them fits far worse than the others",
    "model_too_small": "the images want a parameter elsewhere that was held",
    "ambiguous": "another value fits as well, by what noise explains",
    "unchecked": "what more beams would change could not be looked at: error bars lack it",
    "not_converged": "the search ended before the steps became small",
}
"""Why a result should not be trusted; `RefinementResult.warnings` begin with these words."""
FLAGS = {"on_border": "on_bound", "degenerate": "undetermined", "poor": "misfit"}
"""Flags whose names are those of the other pipelines, by the words of `WARNINGS`."""


class Refiner(Protocol):
    """What a result needs of the `CoarseRefine` that it is of."""

    def with_result(self, result: "RefinementResult") -> Any:
        """Return a refiner that starts from a result."""
        ...


@dataclass(frozen=True, eq=False)
class RefinementResult(Tabular):
    """Values that bring the simulation closest to the experiment, with error bars.

    Parameters
    ----------
    names : tuple of str
        Parameters that were fitted together at the end, of the rows of `covariance`: "tilt_x" and "tilt_y" in
        1/angstrom, "thickness" in angstrom, "gl" and "blur" in pixels, "rotation" in degrees, "kv", "b_iso..." in
        square angstrom, "a" ... "gamma".
    values : dict
        Their values, and those that were held.
    covariance : numpy.ndarray
        (P, P) from the residual between the disks, which includes what the simulation cannot describe, as far as it
        varies from place to place, plus the squares of `systematic`. What is wrong everywhere shows in it for
        parameters that were held (`held`); for the rest see `goodness`.
    correlation : numpy.ndarray
        (P, P) correlation coefficients of the parameters, from the curvature of the score.
    score : float
        Zero-normalised correlation, over all disks or averaged over them.
    disk_scores : dict
        Coefficient of each disk by itself.
    frame : DisplayFrame
        With the refined tilt, gl and rotation.
    wavenumber : float or None
        1/wavelength in 1/angstrom where the simulator knows it.
    position_map : numpy.ndarray
        (rows, columns) score of the global search at the best candidate, over the positions of the region.
    map_tilts : numpy.ndarray
        (2, 2) tilts (x, y) of the first and last element of the map.
    history : tuple of dict
        Every evaluation: stage, score, and values by name.
    n_decompositions : int
        Sets of decompositions, each of a grid of tilts.
    n_tilts : int
        Decompositions of single tilts.
    n_evaluations : int
        Comparisons of simulated with measured disks.
    seconds : float
        Time that it took.
    warnings : tuple of str
        Each begins with a key of `WARNINGS`; empty for a result that can be trusted.
    systematic : dict or None
        Part of the error bars that is not noise, by name: what beams left out of the simulation may still do, see
        `CoarseRefine`; the scatter of the parameters between the disks beyond noise, where there are three or more; and
        what each parameter among `held` would move if it were off by its `change`. None where nothing of this is known.
    goodness : float or None
        Reduced chi-square: the mean squared residual over the variance of the noise, which is that of the data or,
        where they have none, measured from differences of neighbouring pixels. About 1 where the model is right; None
        where the noise could not be measured.
    disk_goodness : dict
        The same of each disk.
    held : dict
        Name of a parameter that was held ("kv", "b_iso", "absorptive_ratio", "gl", "rotation") to its `value`; to
        `moves`, the derivatives of the fitted parameters with respect to it; and to `wanted`, the change of it that the
        images ask for, with its `sigma` and the share of the residual that it `explains`. `uncertainty` is that of the
        value, stated as `CoarseRefine.held_sigma` or assumed; `change` is by how much it may be off where all of them
        are looked at together: what the residual asks for, and of a stated uncertainty what that leaves open.
    beam_factor : float
        By what the thresholds of the simulator's beams were divided in the simulation that the result is of.
    beam_tilts : tuple or None
        Tilts (x, y) of two opposite corners of the region for which its beams were chosen.
    """

    names: tuple[str, ...]
    values: Mapping[str, float]
    covariance: FloatArray
    correlation: FloatArray
    score: float
    disk_scores: Mapping[Reflection, float]
    frame: DisplayFrame
    wavenumber: float | None
    position_map: FloatArray
    map_tilts: FloatArray
    history: tuple[Mapping[str, Any], ...] = field(repr=False)
    n_decompositions: int
    n_tilts: int
    n_evaluations: int
    seconds: float
    warnings: tuple[str, ...]
    systematic: Mapping[str, float] | None = None
    goodness: float | None = None
    disk_goodness: Mapping[Reflection, float] = field(default_factory=dict)
    held: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    beam_factor: float = 1.0
    beam_tilts: tuple[tuple[float, float], tuple[float, float]] | None = None
    _refiner: Refiner | None = field(default=None, repr=False)

    def __getitem__(self, name: str) -> float:
        """Value of a parameter by name; "hv" is "kv" and "dwf" is "b_iso"."""
        name = {"hv": "kv", "dwf": "b_iso"}.get(name.lower(), name)
        if name not in self.values:
            msg = f"there is no {name!r} in this result; it has {', '.join(self.values)}"
            raise KeyError(msg)
        return self.values[name]

    @property
    def sigma(self) -> dict[str, float]:
        """Standard deviations of the fitted parameters."""
        return dict(zip(self.names, np.sqrt(np.diagonal(self.covariance)).tolist(), strict=True))

    def columns(self) -> dict[str, Any]:
        """Return a table by columns, one row a refined parameter."""
        systematic = self.systematic or {}
        return {
            "parameter": np.array(self.names),
            "value": np.array([self.values[name] for name in self.names], np.float64),
            "sigma": np.sqrt(np.diagonal(self.covariance)),
            "systematic": np.array([systematic.get(name, np.nan) for name in self.names], np.float64),
        }

    def correlation_of(self, first: str, second: str) -> float:
        """Correlation coefficient of two fitted parameters.

        Parameters
        ----------
        first, second : str
            Names of fitted parameters.

        Returns
        -------
        float
            From -1 to 1.
        """
        return float(self.correlation[self.names.index(first), self.names.index(second)])

    @property
    def tilt(self) -> tuple[float, float]:
        """Tilt (x, y) at the origin of the display in 1/angstrom."""
        return self.frame.tilt

    @property
    def tilt_mrad(self) -> tuple[float, float] | None:
        """The same in thousandths of the sine of the angle."""
        if self.wavenumber is None:
            return None
        return self.tilt[0] / self.wavenumber * 1e3, self.tilt[1] / self.wavenumber * 1e3

    @property
    def tilt_gx(self) -> tuple[float, float]:
        """The same in lengths of gx."""
        return self.tilt[0] / self.frame.gx, self.tilt[1] / self.frame.gx

    @property
    def flags(self) -> tuple[str, ...]:
        """What there is to doubt, in one word each: the first words of `warnings`, named as in other pipelines."""
        words = (text.partition(":")[0] for text in self.warnings)
        return tuple(dict.fromkeys(FLAGS.get(word, word) for word in words))

    @property
    def ok(self) -> bool:
        """No flag."""
        return not self.flags

    def apply(self) -> Any:
        """Return a `CoarseRefine` that starts from this result: its `optimize` finds further parameters."""
        if self._refiner is None:
            msg = "a result from a file does not hold its data: make a CoarseRefine and set its values"
            raise ValueError(msg)
        return self._refiner.with_result(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, as JSON takes them."""
        contents = {f.name: getattr(self, f.name) for f in fields(self) if not f.name.startswith("_")}
        contents["frame"] = {f.name: getattr(self.frame, f.name) for f in fields(self.frame)}
        for name in ("disk_scores", "disk_goodness"):
            contents[name] = [[list(hkl), value] for hkl, value in getattr(self, name).items()]
        derived = {"sigma": _plain(self.sigma), "flags": list(self.flags), "ok": self.ok}
        return {name: _plain(value) for name, value in contents.items()} | derived

    def save(self, path: str | Path) -> None:
        """Write as JSON; a file that exists is replaced at once or not at all.

        Parameters
        ----------
        path : path-like
            The JSON file.
        """
        write_text_atomic(path, json.dumps(self.to_dict(), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "RefinementResult":
        """Read what `save` wrote; `apply` needs the data and is not possible then.

        Parameters
        ----------
        path : path-like
            The JSON file.

        Returns
        -------
        RefinementResult
            The result without its data.
        """
        contents = {"systematic": None} | json.loads(Path(path).read_text())
        for name in ("sigma", "flags", "ok"):
            contents.pop(name, None)
        for name in ("covariance", "correlation", "position_map", "map_tilts"):
            array = np.array(contents[name], dtype=object)
            contents[name] = np.where(array == None, np.inf, array).astype(np.float64)  # noqa: E711
        frame = contents["frame"]
        contents["frame"] = DisplayFrame(**frame | {name: tuple(frame[name]) for name in ("center", "tilt")})
        for name in ("disk_scores", "disk_goodness"):
            pairs = {tuple(hkl): value for hkl, value in contents.get(name, [])}
            contents[name] = {hkl: float("nan") if value is None else value for hkl, value in pairs.items()}
        contents |= {name: tuple(contents[name]) for name in ("names", "history", "warnings")}
        corners = contents.get("beam_tilts")
        contents["beam_tilts"] = None if corners is None else tuple(tuple(corner) for corner in corners)
        return cls(**contents)

    def __str__(self) -> str:
        sigma = self.sigma
        noise = "" if self.goodness is None else f", residual {self.goodness:.2f} x noise"
        lines = [f"score {self.score:.4f}{noise}, {self.n_evaluations} evaluations, {self.seconds:.1f} s"]
        for name in self.names:
            part = f" (of it {self.systematic[name]:.2g} systematic)" if self.systematic else ""
            lines.append(f"  {name:<10} {self.values[name]:.6g} +- {sigma[name]:.2g}{part}")
        return "\n".join([*lines, *self._held_lines(), *(f"  ! {text}" for text in self.warnings)])

    def _held_lines(self) -> list[str]:
        """What was held, to what uncertainty, and what that would do to the first length that was fitted."""
        name = next((n for n in ("thickness", "gl") if n in self.names), None)
        known = {k: facts for k, facts in self.held.items() if name in facts["moves"] and facts.get("uncertainty")}
        return [
            f"  held {k} = {facts['value']:.4g} +- {facts['uncertainty']:.2g}, the images want "
            f"{facts['value'] + facts['wanted']:.4g} +- {facts['sigma']:.2g}: {name} would move by "
            f"{facts['moves'][name] * facts['uncertainty']:.2g} with one standard uncertainty"
            for k, facts in known.items()
        ]


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
