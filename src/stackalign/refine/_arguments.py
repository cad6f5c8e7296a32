"""Checks of what `CoarseRefine` is given."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stackalign._types import FloatArray

from .simulator import Reflection, Simulator

__all__ = ["check_matching", "check_widths", "disk_weights", "either", "require_reflections"]


def either(first: Any, second: Any, name: str, other: str, needed: bool = True) -> Any:
    """Return the one that is given of two arguments that mean the same."""
    if first is not None and second is not None:
        msg = f"{name} and {other} are the same: give one of them"
        raise ValueError(msg)
    value = second if first is None else first
    if value is None and needed:
        msg = f"{name} is needed"
        raise TypeError(msg)
    return value


def require_reflections(simulator: Simulator, measured: Sequence[Reflection]) -> None:
    """Raise for reflections that the simulator does not keep."""
    known = simulator.reflections
    missing = [] if known is None else [hkl for hkl in measured if hkl not in known]
    if missing:
        msg = (
            f"{missing} were measured and are not simulated: add them to `reflections` of the simulator, "
            "or leave them out with DiffractionData.select"
        )
        raise ValueError(msg)


def check_widths(**widths: float | None) -> None:
    """Raise for lengths that are not above 0; None stands for a default."""
    for name, value in widths.items():
        if value is not None and not (np.isfinite(value) and value > 0):
            msg = f"{name} must be above 0, got {value}"
            raise ValueError(msg)


def check_matching(metric: str, fine_grid: float, blur: Any, beam_check: float) -> None:
    """Raise for settings of the comparison that cannot be used."""
    if metric not in ("joint", "per_disk"):
        msg = f'metric must be "joint" or "per_disk", got {metric!r}'
        raise ValueError(msg)
    if not (np.isfinite(fine_grid) and 0.1 <= fine_grid <= 20):
        msg = f"fine_grid must be a spacing in pixels, got {fine_grid}"
        raise ValueError(msg)
    if blur != "fit" and not (isinstance(blur, int | float) and 0 <= blur <= 20):
        msg = f'blur must be "fit" or a width in pixels, got {blur!r}'
        raise ValueError(msg)
    if not (np.isfinite(beam_check) and 1 <= beam_check <= 20):
        msg = f"beam_check must be a factor of 1 (no check) or more, 20 at most, got {beam_check}"
        raise ValueError(msg)


def disk_weights(weights: ArrayLike | None, n_disks: int, metric: str) -> FloatArray | None:
    """Return (D,) weights of the disks, or None for none; they belong to one metric only."""
    if weights is None:
        return None
    disks = np.array(weights, dtype=np.float64)
    if disks.shape != (n_disks,) or (disks < 0).any() or not disks.any():
        msg = f"weights must be {n_disks} numbers, one per disk, not negative and not all 0"
        raise ValueError(msg)
    if metric == "joint":
        msg = 'weights are those of disks that are scored each by itself: metric="per_disk"'
        raise ValueError(msg)
    return disks
