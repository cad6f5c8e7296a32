"""Names of parameters, what they stand for in the simulator, and how far they move."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stackalign.refine.frames import ROI, DisplayFrame

from .model import FREE

__all__ = ["CELL", "FreeParameter", "canonical", "free_cell", "free_parameter", "scan_count"]

CELL = ("a", "b", "c", "alpha", "beta", "gamma")
ALIASES = {"hv": "kv", "dwf": "b_iso", "t": "thickness"}


@dataclass(frozen=True)
class FreeParameter:
    """One parameter to refine.

    Parameters
    ----------
    name : str
        As it is reported.
    low, high : float
        Bounds.
    start : float or None
        Value to start from, None where it is not known.
    step : float
        By which derivatives are taken.
    drives : tuple of str
        Parameters of the simulator that take its value; empty for those of the geometry.
    """

    name: str
    low: float
    high: float
    start: float | None
    step: float
    drives: tuple[str, ...] = ()

    @property
    def structural(self) -> bool:
        """It takes decompositions."""
        return bool(self.drives)


def canonical(name: str) -> str:
    """The name under which a parameter is kept: "hv" and "dwf" are what the original calls them."""
    return ALIASES.get(name.lower(), name)


def free_parameter(
    name: str,
    bounds: Sequence[float] | None,
    simulator: Any,
    frame: DisplayFrame,
    thickness: float | None,
    together: Sequence[str],
) -> FreeParameter:
    """Look a parameter up; `together` are all that are refined at once, on which depends what a, b and c drive."""
    drives: tuple[str, ...] = ()
    start: float | None
    if name == "thickness":
        start, step, span = thickness, 2.0, (200.0, 3000.0)
    elif name == "gl":
        start, step, span = frame.gl, 2e-4 * frame.gl, (0.9 * frame.gl, 1.1 * frame.gl)
    elif name == "rotation":
        start, step, span = frame.rotation, 0.05, (frame.rotation - 3, frame.rotation + 3)
    elif name in ("blur", "tilt_x", "tilt_y"):
        msg = f"{name} is always fitted along: see `blur` and `search_radius` of CoarseRefine"
        raise ValueError(msg)
    else:
        drives, start, step, span = _simulated(name, simulator, together)
    low, high = _bounds(name, span if bounds is None else bounds)
    if start is not None and not low <= start <= high and name != "thickness":
        start = (low + high) / 2
    return FreeParameter(name, low, high, start, step, drives)


def _simulated(
    name: str, simulator: Any, together: Sequence[str]
) -> tuple[tuple[str, ...], float, float, tuple[float, float]]:
    known: Mapping[str, float] = simulator.parameters
    group = [key for key in known if key.startswith("b_iso.")] if name == "b_iso" else []
    if name not in known and not group:
        listed = ", ".join([*(n for n in FREE if n in ("thickness", "gl", "rotation")), *list(known)[:8]])
        msg = f"this simulator cannot vary {name!r}; what can be refined: {listed}, ..."
        raise ValueError(msg)
    value = float(np.mean([known[key] for key in group])) if group else float(known[name])
    if group or name.startswith("b_iso."):
        return tuple(group) or (name,), value, 0.02, (0.0, max(2.0, 2 * value))
    if name == "kv":
        return (name,), value, 2e-5 * value, (value * 0.995, value * 1.005)
    if name in ("a", "b", "c"):
        return _driven(name, known, together), value, 1e-4 * value, (value * 0.99, value * 1.01)
    if name in CELL:
        return (name,), value, 0.01, (value - 1, value + 1)
    step = 1e-3 if abs(value) < 1 else 1e-3 * abs(value)
    return (name,), value, step, (value - 20 * step, value + 20 * step)


def _driven(name: str, known: Mapping[str, float], together: Sequence[str]) -> tuple[str, ...]:
    """Equal edges that are not refined by themselves follow a."""
    if name != "a":
        return (name,)
    return ("a", *(other for other in ("b", "c") if other not in together and known.get(other) == known["a"]))


def _bounds(name: str, bounds: Sequence[float]) -> tuple[float, float]:
    pair = np.asarray(bounds, dtype=np.float64)
    if pair.shape != (2,) or not np.isfinite(pair).all() or pair[0] >= pair[1]:
        msg = f"the bounds of {name} must be (lower, upper) with lower below upper, got {bounds!r}"
        raise ValueError(msg)
    if name in ("thickness", "gl", "kv", "a", "b", "c") and pair[0] <= 0:
        msg = f"{name} must stay above 0, got the bounds {tuple(pair.tolist())}"
        raise ValueError(msg)
    if name.startswith("b_iso") and pair[0] < 0:
        msg = f"{name} must not become negative, got the bounds {tuple(pair.tolist())}"
        raise ValueError(msg)
    return float(pair[0]), float(pair[1])


def free_cell(free: Literal["symmetry", "all"] | Sequence[str], known: Mapping[str, float]) -> tuple[str, ...]:
    """Names of the edges and angles to refine, see `CoarseRefine.optimize_unit_cell`."""
    if any(name not in known for name in CELL):
        msg = "this simulator has no unit cell to vary"
        raise ValueError(msg)
    if free == "all":
        return CELL
    if free != "symmetry":
        names = (free,) if isinstance(free, str) else tuple(free)
        if not names or any(name not in CELL for name in names):
            msg = f'free must be "symmetry", "all" or some of {", ".join(CELL)}, got {free!r}'
            raise ValueError(msg)
        return names
    edges = [name for name in ("a", "b", "c") if name == "a" or known[name] != known["a"]]
    return (*edges, *(name for name in ("alpha", "beta", "gamma") if known[name] not in (90.0, 120.0)))


def scan_count(parameter: FreeParameter, roi: ROI, frame: DisplayFrame) -> int:
    """How many values of a parameter the global scan tries."""
    reach = max(abs(v) for v in roi.bounds)
    span = parameter.high - parameter.low
    if parameter.name == "gl":  # a pixel and a half at the region's end
        return int(np.ceil(span / frame.gl * reach / 1.5)) + 1
    if parameter.name == "rotation":
        return int(np.ceil(np.deg2rad(span) * reach / 1.5)) + 1
    if parameter.name.startswith("b_iso"):
        return 3
    return 9 if parameter.name == "kv" else 5
