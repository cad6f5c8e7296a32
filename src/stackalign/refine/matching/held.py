"""Parameters that were held: what they would move, and whether the images want them elsewhere."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign._types import FloatArray
from stackalign.errors import DataError, StackalignWarning
from stackalign.ops import asarray
from stackalign.refine.simulator import BeamListSimulator

from .climb import FineResult, squares
from .converge import Converged
from .levels import Simulated, wider_grid
from .model import Model
from .parameters import canonical
from .search import Search

__all__ = ["ASSUMED", "Evidence", "Held", "asked_change", "best_held", "held_parameters", "held_uncertainties"]

ASSUMED = {"kv": 0.005, "b_iso": 0.25, "absorptive_ratio": 0.5}
"""Standard uncertainty, as a share, of a parameter that was held and of which nothing is said."""
NO_ABSORPTION = 0.03
"""Standard uncertainty of the absorptive over the elastic potential where a simulation has none."""
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
    stated : bool
        Whether the uncertainty was stated, not assumed.
    """

    name: str
    value: float
    moves: Mapping[str, float]
    correction: float
    sigma: float
    explains: float
    uncertainty: float = 0.0
    stated: bool = False


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the residual says of all held parameters together, each beside what the fitted ones can do.

    Parameters
    ----------
    items : list of Held
        The Q parameters.
    left : numpy.ndarray
        (Q, n) their derivatives, the fitted parameters following, in units of the residual.
    residual : numpy.ndarray
        (n,) measured less simulated values, scaled.
    square : numpy.ndarray
        (n,) number of the square of pixels within which the residual may be correlated.
    fitted : int
        Number of fitted parameters.
    """

    items: list[Held]
    left: FloatArray
    residual: FloatArray
    square: NDArray[np.int64]
    fitted: int


def held_parameters(search: Search, converged: Converged) -> Evidence:
    """Look at voltage, Debye-Waller factor, absorption, gl and rotation, where they were not fitted."""
    fine = converged.fine
    rows = _geometry(fine) | _structure(search, converged)
    jacobian = fine.end.profiled(np.vstack([fine.end.rows, *(row[None] for _, row in rows.values())]))
    p = len(fine.names)
    scale = np.sqrt(np.maximum(np.square(jacobian[:p]).sum(1), 1e-300))
    fitted = jacobian[:p] / scale[:, None]
    moves = -np.linalg.pinv(fitted @ fitted.T, rcond=1e-9, hermitian=True) @ (fitted @ jacobian[p:].T)
    left = jacobian[p:] + moves.T @ fitted
    known = search.settings.held_sigma
    items = [
        _held(fine, name, value, moves[:, q] / scale, left[q], known.get(name))
        for q, (name, (value, _)) in enumerate(rows.items())
    ]
    return Evidence(items, left, fine.end.residual, squares(fine.end.model.pixels), p)


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


def asked_change(best: Held) -> float:
    """Return the change of a held parameter that the residual asks for, where it does so beyond doubt."""
    return best.correction if abs(best.correction) > SEEN * best.sigma else 0.0


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


def _structure(search: Search, converged: Converged) -> dict[str, tuple[float, FloatArray]]:
    """Derivatives that take decompositions, one sided, on a wider grid with the beams that the search ended with.

    Those of the search itself are too few where the fitted parameters can do nearly all that a held one does: with B
    held 0.1 too high in MgO, of whose derivative 0.06 was left, they asked for 0.03 more and these for 0.115 less.
    """
    end, base = converged.fine.end, _last_simulated(search, converged)
    if base is None:
        return {}
    full = search.driven(converged.fine.point.simulator)
    nearby = {n: other for n, other in base.simulator.neighbours().items() if not set(full) & set(other.drives)}

    def values(prepared: Any) -> FloatArray | None:
        pixels, hook = end.model.pixels, end.model.hook
        model = Model(pixels, base.grid, lambda _, __: prepared, end.model.reflections, hook, end.model.step)
        return model.at(model.filtered(converged.fine.point), converged.fine.point.frame)

    rows: dict[str, tuple[float, FloatArray]] = {}
    tilts = asarray(base.grid.tilts, device=search.settings.device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StackalignWarning)  # few beams are said of the result itself
            here = values(base.prepared)
            for name, other in nearby.items():
                moved = values(other.simulator.prepare({}, tilts))
                if here is not None and moved is not None:
                    rows[name] = (other.value, (moved - here) / other.step)
    except (DataError, ValueError):  # as many beams as fit once may not fit twice: the list is then shorter
        return rows
    return rows


def _last_simulated(search: Search, converged: Converged) -> Simulated | None:
    """Return the simulation with most beams, or one with those of the search; None where none can be varied."""
    if converged.simulated is not None:
        return converged.simulated
    simulator = search.simulator
    if not isinstance(simulator, BeamListSimulator):
        return None
    full, grid = search.driven(converged.fine.point.simulator), wider_grid(converged.fine)
    simulator = simulator.with_parameters(full) if full else simulator
    return Simulated(simulator, grid, simulator.prepare({}, asarray(grid.tilts, device=search.settings.device)))


def _held(fine: FineResult, name: str, value: float, moves: FloatArray, left: FloatArray, known: float | None) -> Held:
    """Measure a held parameter by the residual; `left` is what it does where the fitted ones follow by `moves`."""
    residual = fine.end.residual
    curvature = max(float(left @ left), 1e-300)
    correction = float(left @ residual) / curvature
    after = residual - correction * left
    clustered = np.square(np.bincount(squares(fine.end.model.pixels), left * after)).sum() / curvature**2
    plain = float(after @ after) / max(1, len(after) - len(moves) - 1) / curvature
    explains = correction**2 * curvature / max(float(residual @ residual), 1e-300)
    sigma = float(np.sqrt(max(plain, clustered)))
    uncertainty = _assumed(name, value) if known is None else known
    derivatives = dict(zip(fine.names, moves.tolist(), strict=True))
    return Held(name, value, derivatives, correction, sigma, explains, uncertainty, known is not None)
