"""Images that were taken far from each other, in place or in time: said, and a flag where it can decide the answer."""

import warnings

import numpy as np

from stackalign._types import FloatArray
from stackalign.errors import StackalignWarning

from .columns import turned_pixels
from .observation import Observation

__all__ = ["far_apart", "seconds_between"]


DEGREES = 1.0
"""Between two observers, seen from the Sun, from which on that is said."""

HOURS = 12.0

HEIGHT = 0.01
"""Solar radii by which the height of what is seen is not known."""

LAW = 0.015
"""Share of the rotation by which published laws differ."""

MATTERS = 0.5
"""Pixels of the target from which on a shift that such a doubt makes is a flag."""

SIGMAS = 3.0


def far_apart(
    target: Observation, reference: Observation, *, rotation: str | None, seconds: float, sigma: FloatArray
) -> dict[str, str]:
    """Say that two observers or dates are far apart; a flag with its sentence where that may decide the answer.

    Parameters
    ----------
    target, reference : Observation
    rotation : str or None
    seconds : float
        Longest time from a part of the target to the image that it was compared with.
    sigma : numpy.ndarray
        (2,) pixels: standard errors of the shift.
    """
    said, worst = [], 0.0
    here, there = target.view.position, reference.view.position
    cosine = float(here @ there / np.linalg.norm(here) / np.linalg.norm(there))
    angle = float(np.arccos(np.clip(cosine, -1.0, 1.0)))
    if np.rad2deg(angle) > DEGREES:
        distance = float(np.linalg.norm(here)) - target.view.radius
        arcsec = HEIGHT * target.view.radius * np.sin(angle) / distance * 206264.8
        pixels = float(arcsec / target.steps.min())
        worst = max(worst, pixels)
        said.append(
            f"the observers of {target.name} and {reference.name} are {np.rad2deg(angle):.1f} degrees apart: "
            f"{HEIGHT:g} solar radii of height, which is not known better, shift structures by {pixels:.1f} pixels"
        )
    if seconds > HOURS * 3600:
        turned = 0.0 if rotation is None else LAW * turned_pixels(target.map, seconds)
        worst = max(worst, turned)
        said.append(
            f"{target.name} and {reference.name} were taken {seconds / 3600:.0f} hours apart, over which laws "
            f"of rotation differ by {turned:.1f} pixels, and structures change"
        )
    if not said:
        return {}
    sentence = "; ".join(said)
    warnings.warn(sentence, StackalignWarning, stacklevel=4)
    return {"misfit": sentence} if worst > max(MATTERS, SIGMAS * float(np.max(sigma))) else {}


def seconds_between(target: Observation, reference: Observation) -> float:
    """Seconds from the target's date to the reference's."""
    return abs(float((target.view.time - reference.view.time).to_value("s")))
