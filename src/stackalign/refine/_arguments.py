"""Checks of arguments that have two names, and of reflections that were measured."""

from collections.abc import Sequence
from typing import Any

from .simulator import Reflection, Simulator

__all__ = ["either", "require_reflections"]


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
