"""The two images of a phase on one grid, as they are handed to the engine."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign._types import FloatArray

from .grid import Grid, sampler_of
from .phase import Phase, Request, Settings
from .pixels import PixelTransform
from .plan import RasterPlan
from .polish import Agreement, compare
from .sampling import high_pass
from .skymodel import SkyModel
from .target import Target

__all__ = ["Comparison"]


@dataclass
class Comparison:
    """The target on the grid of a phase, and the reference sampled there by any correction.

    Parameters
    ----------
    phase : Phase
    target : Target
    settings : Settings
    grid : Grid
    fixed : numpy.ndarray
        The target on the grid, NaN is invalid.
    plan, coverage
        Of the synthetic raster that was sampled last.
    """

    phase: Phase
    target: Target
    settings: Settings
    grid: Grid
    fixed: FloatArray
    plan: RasterPlan | None = None
    coverage: float = float("nan")

    @classmethod
    def of(cls, phase: Phase, target: Target, settings: Settings) -> "Comparison":
        """Put the target onto the grid of a phase."""
        grid = Grid.of(target.image.shape, phase)
        made = cls(phase, target, settings, grid, grid.framed(target.image))
        made.fixed = made.without_background(made.fixed, np.isfinite(made.fixed))
        return made

    def sampled(self, correction: PixelTransform) -> FloatArray:
        """The reference on the grid by a corrected header."""
        sampler = sampler_of(self.phase)
        moving, self.plan, self.coverage = sampler(self.target, self.settings, self.grid, correction, self.plan)
        valid = np.isfinite(moving)
        # Near the target's edges the two backgrounds are alike if they are those of the same pixels.
        return self.without_background(moving, valid if self.phase.search else valid & np.isfinite(self.fixed))

    def without_background(self, image: FloatArray, weights: NDArray[np.bool_]) -> FloatArray:
        """An image on the grid less its smooth part, if that is asked for."""
        if self.settings.background is None:
            return image
        return high_pass(image, weights, tuple(np.divide(self.settings.background, self.grid.binning).tolist()))

    def request(self, moving: FloatArray, *, search: bool = False, model: str | None = None) -> Request:
        """What the engine is asked to register: every shift within reach, or a climb from where the images are."""
        return Request(self.fixed, moving, self._engine_settings(model or self.phase.model.engine, search))

    def agreement(
        self, moving: FloatArray, correction: PixelTransform, smooth: tuple[float, float]
    ) -> Agreement | None:
        """Compare the images, which are aligned, by linear steps."""
        return compare(self.fixed, moving, self.grid.to_pixels, correction, self.target.image.shape, smooth)

    def closest(self, moving: FloatArray, correction: PixelTransform, smooth: tuple[float, float]) -> Agreement | None:
        """Compare two images as they were smoothed, and smoothed alike: a wrong roll looks like a softer image."""
        widths = dict.fromkeys([smooth, (min(smooth), min(smooth))])
        agreements = [self.agreement(moving, correction, both) for both in widths]
        usable = [one for one in agreements if one is not None and one.usable]
        return min(usable, key=lambda one: one.residual) if usable else None

    def distance(self, first: PixelTransform, second: PixelTransform) -> float:
        """Pixels of the target by which two corrections differ at most."""
        corners = self.phase.model.corners
        return float(np.linalg.norm(first(corners) - second(corners), axis=1).max())

    @property
    def free(self) -> SkyModel:
        """The largest model on the same pixels."""
        return SkyModel("affine", self.phase.model.jacobian, self.phase.model.shape)

    def _engine_settings(self, model: str, search: bool) -> dict[str, Any]:
        # The engine moves the sampled reference onto the target: where the target is magnified, that is shrunk.
        reach = [int(np.ceil(r / k)) for r, k in zip(self.phase.reach, self.phase.binning, strict=True)]
        bounds: dict[str, tuple[float, float]] = {"dy": (-reach[0], reach[0]), "dx": (-reach[1], reach[1])}
        if self.settings.scale_range is not None:
            low, high = self.settings.scale_range
            names = {"shift+scale": ("sy", "sx"), "affine": ("sy", "sx"), "similarity": ("scale",)}.get(model, ())
            bounds |= dict.fromkeys(names, (1.0 / high, 1.0 / low))
        options: dict[str, Any] = {
            "model": model,
            "bounds": bounds,
            "smooth": self.settings.smooth,
            # Flags below: of the target's valid pixels, not of the frame with its margin.
            "min_overlap": self.settings.min_overlap,
        }
        return options | {"max_shift": max(reach)} if search else options | {"start": {}}
