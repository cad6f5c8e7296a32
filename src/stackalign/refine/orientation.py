"""Which way round an image is: turned by quarters, mirrored or not, where nobody noted it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from stackalign.backends._threads import governed
from stackalign.ops import asarray

from .beam import Beam
from .result import RefinementResult
from .simulator import BeamListSimulator, Neighbour, Prepared, Reflection, Simulator

if TYPE_CHECKING:
    from .coarse import CoarseRefine

__all__ = ["OrientationTrial", "find_orientation"]

KEPT = 3
"""Simulations that are remembered."""


@dataclass(frozen=True, eq=False)
class OrientationTrial:
    """One of the eight orientations and what was found with it.

    Parameters
    ----------
    flip : bool
        `DisplayFrame.flip`.
    rotation : float
        `DisplayFrame.rotation` in degrees.
    result : RefinementResult
        Of thickness and tilt, on a wide grid.
    """

    flip: bool
    rotation: float
    result: RefinementResult

    @property
    def score(self) -> float:
        """Mean correlation of the disks."""
        return self.result.score


@dataclass(frozen=True, eq=False)
class _Remembering:
    """A simulator that does nothing twice: all orientations are looked for in the same grid of tilts."""

    simulator: Simulator
    made: dict[Any, Any] = field(default_factory=dict)

    @property
    def reflections(self) -> tuple[Reflection, ...] | None:
        return self.simulator.reflections

    @property
    def parameters(self) -> Mapping[str, float]:
        return self.simulator.parameters

    def requires(self, name: str) -> frozenset[str]:
        return self.simulator.requires(name)

    def prepare(self, parameters: Mapping[str, float], tilts: Any) -> Prepared:
        key = (*sorted(parameters.items()), *_key(tilts))
        prepared: Prepared = self._remembered(key, lambda: self.simulator.prepare(parameters, tilts))
        return prepared

    def _remembered(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self.made:
            while len(self.made) >= KEPT:  # the first is the grid of all orientations
                self.made.pop(list(self.made)[1])
            self.made[key] = make()
        return self.made[key]


@dataclass(frozen=True, eq=False)
class _RememberingBeams(_Remembering):
    """The same for a simulator with a list of beams: it is chosen once."""

    simulator: BeamListSimulator

    @property
    def beam(self) -> Beam:
        return self.simulator.beam

    @property
    def beams(self) -> Any:
        return self.simulator.beams

    def with_beams(self, tilts: Any) -> "_RememberingBeams":
        fixed: _RememberingBeams = self._remembered(
            ("beams", *_key(tilts)), lambda: _RememberingBeams(self.simulator.with_beams(tilts))
        )
        return fixed

    def with_parameters(self, changes: Mapping[str, float]) -> BeamListSimulator:
        return self.simulator.with_parameters(changes)

    def tighter(self, factor: float) -> BeamListSimulator:
        return self.simulator.tighter(factor)

    def neighbours(self) -> Mapping[str, Neighbour]:
        return self.simulator.neighbours()


def _remembering(simulator: Simulator) -> _Remembering:
    return _RememberingBeams(simulator) if isinstance(simulator, BeamListSimulator) else _Remembering(simulator)


def _key(tilts: Any) -> tuple[Any, ...]:
    values = asarray(tilts, "cpu")
    return values.shape, values.tobytes()


@governed
def find_orientation(
    refiner: "CoarseRefine",
    thickness_bounds: Sequence[float] = (200.0, 3000.0),
    *,
    fine_grid: float = 6.0,
    on_trial: Callable[[OrientationTrial], None] | None = None,
) -> tuple[OrientationTrial, ...]:
    """Try all eight orientations of the images, and thickness and tilt with each.

    Parameters
    ----------
    refiner : CoarseRefine
        Its frame's rotation is one of the four; disks are scored each by itself whatever its metric is: brightness
        alone, which any orientation has, brings the joint score to 0.5.
    thickness_bounds : (float, float)
        In angstrom.
    fine_grid : float
        Spacing in pixels of the grid that decides.
    on_trial : callable, optional
        Called with each trial as it is done.

    Returns
    -------
    tuple of OrientationTrial
        The best first. `refiner.with_result(trials[0].result)` goes on from there.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign.refine import (
    ...     ROI,
    ...     CallableSimulator,
    ...     CoarseRefine,
    ...     DiffractionData,
    ...     DisplayFrame,
    ...     find_orientation,
    ... )
    >>> def fringes(parameters, tilts, thicknesses, reflections):
    ...     x, y = 12 * tilts[:, 0], 12 * tilts[:, 1]
    ...     return (2 + np.sin(thicknesses[:, None] / 50 + x) * np.cos(y - 0.4 * x) + 0.1 * x)[:, None, :]
    >>> frame = DisplayFrame(gx=0.3, gl=40.0, center=(23.5, 23.5), rotation=90)
    >>> tilts = frame.to_tilt(frame.to_display(np.indices((48, 48)).reshape(2, -1).T)).reshape(-1, 2)
    >>> image = fringes({}, tilts, np.array([430.0]), ())[0].reshape(1, 48, 48)
    >>> data = DiffractionData.from_larbed(image, [(0, 0, 0)], frame.with_(rotation=0))
    >>> refiner = CoarseRefine(CallableSimulator(fringes, [(0, 0, 0)]), data, ROI.rectangle(30, 30))
    >>> best = find_orientation(refiner, (380, 480))[0]
    >>> best.rotation, best.flip
    (90, False)
    """
    frame, trials = refiner.data.frame, list[OrientationTrial]()
    simulator = _remembering(refiner.simulator)
    for flip in (frame.flip, not frame.flip):
        for turn in (0, 90, 180, 270):
            rotation = (frame.rotation + turn) % 360
            turned = refiner.with_(
                data=refiner.data.with_frame(flip=flip, rotation=rotation), metric="per_disk", fine_grid=fine_grid
            )
            bounds = (float(thickness_bounds[0]), float(thickness_bounds[1]))
            # Which orientation it is does not hang on a few beams more.
            result = turned.with_(simulator=simulator, beam_check=1, check_held=False).optimize({"thickness": bounds})
            trials.append(OrientationTrial(flip, rotation, replace(result, _refiner=turned)))
            if on_trial is not None:
                on_trial(trials[-1])
    return tuple(sorted(trials, key=lambda trial: -trial.score))
