"""Which way round an image is: turned by quarters, mirrored or not, where nobody noted it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .result import RefinementResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from .coarse import CoarseRefine

__all__ = ["OrientationTrial", "find_orientation"]


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


def find_orientation(
    refiner: "CoarseRefine",
    thickness_bounds: Sequence[float] = (200.0, 3000.0),
    *,
    fine_grid: float = 6.0,
    on_trial: "Callable[[OrientationTrial], None] | None" = None,
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
    """
    frame, trials = refiner.data.frame, list[OrientationTrial]()
    for flip in (frame.flip, not frame.flip):
        for turn in (0, 90, 180, 270):
            rotation = (frame.rotation + turn) % 360
            turned = refiner.with_(
                data=refiner.data.with_frame(flip=flip, rotation=rotation), metric="per_disk", fine_grid=fine_grid
            )
            found = turned.optimize({"thickness": (float(thickness_bounds[0]), float(thickness_bounds[1]))})
            trials.append(OrientationTrial(flip, rotation, found))
            if on_trial is not None:
                on_trial(trials[-1])
    return tuple(sorted(trials, key=lambda trial: -trial.score))
