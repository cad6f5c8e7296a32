"""What a phase of a coalignment is, and what it asks of the engine."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from stackalign._types import FloatArray
from stackalign.registration import RegistrationResult

from .phase_result import PhaseResult
from .pixels import PixelTransform
from .skymodel import SkyModel

__all__ = ["Phase", "Registering", "Request", "Settings"]


ROUGH = 4.0
"""Pixels by which the last round of a phase may move the image if another phase follows, which samples anew."""

ROUGH_SHARE = 0.02
"""The same as a share of the image's longer side, within which the next phase looks."""

NEAR = 0.3
"""Pixels from which on an image is moved by linear steps, see `polish`, and registered anew if it is farther."""


@dataclass(frozen=True)
class Request:
    """A pair of images of one shape to be registered, and how; NaN is invalid."""

    reference: FloatArray
    moving: FloatArray
    settings: dict[str, Any]

    @property
    def key(self) -> tuple[Any, ...]:
        """Requests of one key can be registered in lock-step."""
        return (self.reference.shape, repr(sorted(self.settings.items())))


Registering = Generator[Request, RegistrationResult, PhaseResult]
"""A phase at work."""


@dataclass(frozen=True)
class Settings:
    """What all phases share; the public docstring is that of `coalign`."""

    rotation: str | None
    height: float
    order: int
    smooth: float | str
    min_overlap: float
    tolerance: float
    max_rounds: int
    scale_range: tuple[float, float] | None
    raster: dict[str, Any] = field(default_factory=dict)
    enough: Callable[[Sequence[float]], bool] | None = None
    """Whether the correlations of the rounds so far are good enough to end a phase that still moves."""
    background: tuple[float, float] | None = None
    """Sigma in pixels (y, x) of the target of the Gaussian mean that both images are compared without."""
    screen: str = "nearest"
    """Where what is seen beyond the limb is taken to be, see `pixel_mapping`."""


@dataclass(frozen=True)
class Phase:
    """What one phase does.

    Parameters
    ----------
    name : str
    model : SkyModel
    binning : (int, int)
        Pixels (ny, nx) of the target that are averaged.
    reach : (float, float)
        How many pixels (y, x) of the target the image may be off; the reference is sampled that far around it.
    search : bool
        Look at every shift within reach, instead of climbing from where the image is thought to be.
    frames : sequence, optional
        For the synthetic raster.
    rough : bool
        Another phase follows: a few pixels are near enough, and error bars of its own are not worth a registration.
    whole_reach : (float, float), optional
        By how many pixels (y, x) the image may be off in all, not only after the phase before.
    origin : PixelTransform
        The correction from which that is counted.
    """

    name: str
    model: SkyModel
    binning: tuple[int, int]
    reach: tuple[float, float]
    search: bool
    frames: Sequence[Any] = ()
    rough: bool = False
    whole_reach: tuple[float, float] = (0.0, 0.0)
    origin: PixelTransform = field(default_factory=PixelTransform.identity)

    def tolerance(self, settings: Settings) -> float:
        """Pixels by which the last round may move a corner."""
        block = max(self.binning)
        rough = max(ROUGH, block, ROUGH_SHARE * max(self.model.shape))
        return max(settings.tolerance * block, rough if self.rough else NEAR if block == 1 else 0.0)
