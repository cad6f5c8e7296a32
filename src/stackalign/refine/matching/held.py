"""Parameters that were held: what they would move, and whether the images want them elsewhere."""

import warnings
from collections.abc import Mapping
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
from .search import Search

__all__ = ["Held", "held_parameters"]


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
    """

    name: str
    value: float
    moves: Mapping[str, float]
    correction: float
    sigma: float
    explains: float


def held_parameters(search: Search, fine: FineResult) -> list[Held]:
    """Look at voltage, Debye-Waller factor, absorption, gl and rotation, where they were not fitted."""
    rows = _geometry(fine) | _structure(search, fine)
    return [_held(fine, name, value, row) for name, (value, row) in rows.items()]


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


def _held(fine: FineResult, name: str, value: float, row: FloatArray) -> Held:
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
    return Held(name, value, derivatives, correction, float(np.sqrt(max(plain, clustered))), explains)
