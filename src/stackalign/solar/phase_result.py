"""What one phase of a coalignment found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stackalign._types import FloatArray
from stackalign.io.provenance import to_jsonable
from stackalign.registration import RegistrationResult

from .misfit import Wanted
from .pixels import PixelTransform
from .plan import RasterPlan
from .skymodel import MODELS

__all__ = ["PhaseResult"]


@dataclass(frozen=True)
class PhaseResult:
    """One phase of a coalignment.

    Parameters
    ----------
    name : str
        "binned", "full" or "synthetic".
    model : str
        Key of `MODELS` of this phase.
    parameters, covariance : numpy.ndarray
        Of the whole correction after this phase, in the order of `names`.
    correction : PixelTransform
        The whole correction after this phase.
    score, overlap : float
        Correlation, and the share of the target's valid pixels that it is made of.
    flags : tuple of str
        Keys of `stackalign.solar.FLAGS`.
    binning : (int, int)
        Pixels (ny, nx) of the target that were averaged.
    moves : tuple of float
        By how many pixels each round moved the image at most; the last is below the tolerance, or the phase is flagged.
    registrations : tuple of RegistrationResult
        One for each round.
    target, reference : numpy.ndarray
        The images that the last round compared, on one grid.
    coverage : float
        Share of a synthetic raster that the frames cover, else NaN.
    plan : RasterPlan or None
        Which frame served which column.
    seconds : float
    details : dict
        Sentences with numbers, of some of the flags.
    larger_model : Wanted or None
        Parameters that the model holds and the images want, with their values.
    """

    name: str
    model: str
    parameters: FloatArray
    covariance: FloatArray
    correction: PixelTransform
    score: float
    overlap: float
    flags: tuple[str, ...]
    binning: tuple[int, int]
    moves: tuple[float, ...]
    registrations: tuple[RegistrationResult, ...] = field(repr=False)
    target: FloatArray = field(repr=False)
    reference: FloatArray = field(repr=False)
    coverage: float
    plan: RasterPlan | None = field(repr=False)
    seconds: float
    details: Mapping[str, str] = field(default_factory=dict)
    larger_model: Wanted | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return MODELS[self.model]

    @property
    def sigma(self) -> FloatArray:
        """(P,) standard errors."""
        return np.sqrt(np.diagonal(self.covariance))

    @property
    def wanted(self) -> Wanted | None:
        """Parameters that the model holds and the images want, with their values."""
        return self.larger_model

    @property
    def ok(self) -> bool:
        """No flag is set."""
        return not self.flags

    @property
    def history(self) -> FloatArray:
        """(N, 6) rows [iteration, dx, dy, squeeze_x, squeeze_y, corr] of every score that was looked at.

        By how much the image seems to be off, in the target's pixels, on the grid of its round; the scores of coarser
        levels are those of binned images.
        """
        rows: list[list[float]] = []
        for registration in self.registrations:
            for row in registration.history:
                values = dict(zip(registration.names, row[2:-1].tolist(), strict=True))
                scale = values.get("scale", 1.0)
                # What moves in the engine is the reference: the target moves the other way.
                rows.append([
                    float(len(rows)), -values["dx"] * self.binning[1], -values["dy"] * self.binning[0],
                    1.0 / values.get("sx", scale), 1.0 / values.get("sy", scale), float(row[-1]),
                ])  # fmt: skip
        return np.array(rows).reshape(-1, 6)

    def __getitem__(self, name: str) -> float:
        """Value of a parameter by name."""
        if name not in self.names:
            msg = f"the model {self.model!r} has the parameters {', '.join(self.names)}, not {name!r}"
            raise KeyError(msg)
        return float(self.parameters[self.names.index(name)])

    def to_dict(self) -> dict[str, Any]:
        """Numbers, strings and lists, as JSON takes them; without the images."""
        last = self.registrations[-1]
        plain: dict[str, Any] = to_jsonable(
            {
                "name": self.name,
                "model": self.model,
                "parameters": dict(zip(self.names, self.parameters.tolist(), strict=True)),
                "sigma": dict(zip(self.names, self.sigma.tolist(), strict=True)),
                "covariance": self.covariance,
                "score": self.score,
                "second_score": last.second_score,
                "overlap": self.overlap,
                "flags": self.flags,
                "binning": self.binning,
                "moves": self.moves,
                "noise": last.noise,
                "smooth": last.smooth,
                "evaluations": sum(r.n_evaluations for r in self.registrations),
                "reason": last.reason,
                "coverage": self.coverage,
                "seconds": self.seconds,
            }
        )
        return plain
