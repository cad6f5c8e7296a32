"""Parameters that were held: what they would move, and whether the images want them elsewhere."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stackalign._types import FloatArray
from stackalign.errors import DataError, StackalignWarning
from stackalign.ops import asarray
from stackalign.refine.simulator import BeamListSimulator

from .climb import End, FineResult, squares
from .converge import wider_grid
from .model import Model
from .parameters import canonical
from .search import Search

__all__ = ["ASSUMED", "Held", "asked_change", "best_held", "held_parameters", "held_uncertainties", "plausible_change"]

ASSUMED = {"kv": 0.005, "b_iso": 0.25, "absorptive_ratio": 0.5}
"""Standard uncertainty, as a share, of a parameter that was held and of which nothing is said."""
NO_ABSORPTION = 0.03
"""Standard uncertainty of the absorptive over the elastic potential where a simulation has none."""
NOISE_LIKE = 1.5
"""Reduced chi-square up to which the residual tells what a held parameter can be. Above it something else is wrong, and
what would correct a parameter to first order may have the wrong sign: with B held 25 % too low in MgO, at a chi-square
of 2.3, the residual asked for less of it by 3.5 standard deviations."""
DERIVATIVES = 0.15
"""How well a derivative by a held parameter is known, as a share of it: it is of fewer beams, and stands for a large
change. Where the fitted parameters can do nearly all that a held one does, the rest of it says nothing: with B held 0.1
too high in MgO, where 0.14 of its derivative was left, a residual of noise asked for 0.008 +- 0.010 less.
"""
SEEN = 3.0
"""Where the images want a held parameter elsewhere by so many of its standard deviations, that change counts in full:
with half of it, one in ten results for a Debye-Waller factor that was held 20 % off lay beyond three error bars
without a flag."""


@dataclass(frozen=True, eq=False)
class Held:
    """A parameter that was held.

    Parameters
    ----------
    name : str
        "kv", "b_iso", "absorptive_ratio", "gl" or "rotation".
    value : float
        At which it was held.
    moves : dict
        Fitted parameter to its derivative with respect to this one.
    correction : float
        Change of it that would lower the residual most, to first order, all else following.
    sigma : float
        Standard deviation of `correction`.
    explains : float
        Share of the squared residual that would go.
    uncertainty : float
        Standard uncertainty of the value, before the images are asked; 0 where none is assumed.
    own : float
        What it does to the images beside all that the fitted parameters can do, over all that it does.
    """

    name: str
    value: float
    moves: Mapping[str, float]
    correction: float
    sigma: float
    explains: float
    uncertainty: float = 0.0
    own: float = 1.0


def held_parameters(search: Search, fine: FineResult) -> list[Held]:
    """Look at voltage, Debye-Waller factor, absorption, gl and rotation, where they were not fitted."""
    rows = _geometry(fine) | _structure(search, fine)
    known = search.settings.held_sigma
    return [_held(fine, name, value, row, known.get(name)) for name, (value, row) in rows.items()]


def held_uncertainties(values: Mapping[str, float] | None) -> dict[str, float] | None:
    """Check standard uncertainties of held parameters, by name."""
    if values is None:
        return None
    checked = {canonical(name): float(value) for name, value in values.items()}
    for name, value in checked.items():
        if name not in ASSUMED:
            msg = f"held_sigma knows {', '.join(ASSUMED)}, got {name!r}"
            raise ValueError(msg)
        if not (np.isfinite(value) and value >= 0):
            msg = f"held_sigma of {name} must be a standard uncertainty, 0 or more, got {value}"
            raise ValueError(msg)
    return checked


def best_held(held: Sequence[Held]) -> Held | None:
    """Return the held parameter that would lower the residual most."""
    return max((item for item in held if _possible(item)), key=lambda item: item.explains, default=None)


def _possible(item: Held) -> bool:
    """Whether a parameter may have the value that the images want."""
    value = item.value + item.correction
    if item.name == "rotation":
        return abs(item.correction) < 5
    return value >= 0 and (item.name not in ("kv", "gl") or abs(item.correction) < 0.1 * item.value)


def plausible_change(item: Held, goodness: float, best: bool) -> float:
    """Return how far a held parameter may be from its true value: the root mean square of what is left in doubt.

    Its uncertainty and what the residual says are combined as two measurements, where the residual is noise and the
    parameter does more than the fitted ones can do. `best` says that no other would explain as much of the residual.
    """
    change, prior, seen = item.uncertainty, item.uncertainty**2, 1 - DERIVATIVES / max(item.own, 1e-9)
    if prior > 0 and goodness <= NOISE_LIKE and seen > 0:
        measured = (item.sigma / seen) ** 2
        weight = prior / (prior + measured)
        change = float(np.sqrt(weight * measured + (weight * item.correction) ** 2))
    return max(change, asked_change(item, best))


def asked_change(item: Held, best: bool) -> float:
    """Return by how much the residual itself says that a held parameter is off, where it does so beyond doubt."""
    return abs(item.correction) if best and abs(item.correction) > SEEN * item.sigma else 0.0


def _assumed(name: str, value: float) -> float:
    if name == "absorptive_ratio" and value == 0:
        return NO_ABSORPTION
    return ASSUMED.get(name, 0.0) * abs(value)


def _geometry(fine: FineResult) -> dict[str, tuple[float, FloatArray]]:
    model, point = fine.end.model, fine.point
    splines, rows = model.filtered(point), {}
    for name, step in (("gl", 2e-4 * point.frame.gl), ("rotation", 0.05)):
        if name in fine.names:
            continue
        value = point.get(name)
        both = [model.at(splines, point.moved({name: value + side}).frame) for side in (step, -step)]
        if both[0] is not None and both[1] is not None:
            rows[name] = (value, (both[0] - both[1]) / (2 * step))
    return rows


def _structure(search: Search, fine: FineResult) -> dict[str, tuple[float, FloatArray]]:
    """Derivatives that take decompositions, one sided, on a wider grid with the beams of the search."""
    simulator = search.simulator
    if not isinstance(simulator, BeamListSimulator):
        return {}
    full = search.driven(fine.point.simulator)
    simulator = simulator.with_parameters(full) if full else simulator
    nearby = {name: other for name, other in simulator.neighbours().items() if not set(full) & set(other.drives)}
    if not nearby:
        return {}
    grid, end = wider_grid(fine), fine.end
    tilts = asarray(grid.tilts, device=search.settings.device)

    def values(of: Any) -> FloatArray | None:
        prepared = of.prepare({}, tilts)
        model = Model(
            end.model.pixels, grid, lambda _, __: prepared, end.model.reflections, end.model.hook, end.model.step
        )
        return model.at(model.filtered(fine.point), fine.point.frame)

    rows: dict[str, tuple[float, FloatArray]] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StackalignWarning)  # few beams are said of the result itself
            base = values(simulator)
            for name, other in nearby.items():
                moved = values(other.simulator)
                if base is not None and moved is not None:
                    rows[name] = (other.value, (moved - base) / other.step)
    except (DataError, ValueError):  # as many beams as fit once may not fit twice: the list is then shorter
        return rows
    return rows


def _held(fine: FineResult, name: str, value: float, row: FloatArray, known: float | None) -> Held:
    end: End = fine.end
    jacobian, residual = end.profiled(np.vstack([end.rows, row[None]])), end.residual
    own, rest = jacobian[-1], jacobian[:-1]
    scale = np.sqrt(np.maximum(np.square(rest).sum(1), 1e-300))
    rest = rest / scale[:, None]
    moves = -np.linalg.pinv(rest @ rest.T, rcond=1e-9, hermitian=True) @ (rest @ own)
    left = own + moves @ rest
    curvature = max(float(left @ left), 1e-300)
    correction = float(left @ residual) / curvature
    after = residual - correction * left
    clustered = np.square(np.bincount(squares(end.model.pixels), left * after)).sum() / curvature**2
    plain = float(after @ after) / max(1, len(after) - len(rest) - 1) / curvature
    explains = correction**2 * curvature / max(float(residual @ residual), 1e-300)
    derivatives = dict(zip(fine.names, (moves / scale).tolist(), strict=True))
    sigma = float(np.sqrt(max(plain, clustered)))
    uncertainty = _assumed(name, value) if known is None else known
    own_share = float(np.sqrt(curvature) / max(np.linalg.norm(own), 1e-300))
    return Held(name, value, derivatives, correction, sigma, explains, uncertainty, own_share)
