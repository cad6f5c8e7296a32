"""Parameters that were held: what they would move, and whether the images want them elsewhere."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stackalign._types import FloatArray
from stackalign.errors import DataError, StackalignWarning
from stackalign.ops import asarray

from .climb import End, FineResult, squares
from .grid import TiltGrid
from .model import Model

if TYPE_CHECKING:
    from .search import Search

__all__ = ["Held", "held_parameters"]

COARSER = 2.0
"""Spacing of the grid on which derivatives of the structure are taken, over that of the fine grid."""
ABSORPTION_STEP = 0.02
"""Absorptive over elastic potential by which its derivative is taken."""


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
    wanted : float
        Change of it that would lower the residual most, to first order, all else following.
    sigma : float
        Standard deviation of `wanted`.
    explains : float
        Share of the squared residual that would go.
    """

    name: str
    value: float
    moves: Mapping[str, float]
    wanted: float
    sigma: float
    explains: float


def held_parameters(search: "Search", fine: FineResult) -> list[Held]:
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


def _structure(search: "Search", fine: FineResult) -> dict[str, tuple[float, FloatArray]]:
    """Derivatives that take decompositions, one sided, on a wider grid with the beams of the search."""
    simulator: Any = search.simulator
    if not hasattr(simulator, "with_parameters"):
        return {}
    full = search.driven(fine.point.simulator)
    simulator = simulator.with_parameters(full) if full else simulator
    changed = _changed(simulator, set(full))
    if not changed:
        return {}
    fine_grid, end = fine.end.model.grid, fine.end
    coarser = COARSER if end.model.hook is None else 1.0  # filters may not take images that are interpolated so far
    shape = tuple(int(np.ceil((n - 1) / coarser)) + 1 for n in fine_grid.shape)
    grid = TiltGrid(fine_grid.first, coarser * fine_grid.spacing, (shape[0], shape[1]))
    tilts = asarray(grid.tilts, device=search.refiner.device)

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
            for name, (value, step, other) in changed.items():
                moved = values(other)
                if base is not None and moved is not None:
                    rows[name] = (value, (moved - base) / step)
    except (DataError, ValueError):  # as many beams as fit once may not fit twice: the list is then shorter
        return rows
    return rows


def _changed(simulator: Any, fitted: set[str]) -> dict[str, tuple[float, float, Any]]:
    """Held parameter to its value, a step, and the simulator with that step taken."""
    known, found = simulator.parameters, dict[str, tuple[float, float, Any]]()
    if "kv" in known and "kv" not in fitted:
        step = 2e-3 * known["kv"]
        found["kv"] = (known["kv"], step, simulator.with_parameters({"kv": known["kv"] + step}))
    thermal = [name for name in known if name.startswith("b_iso.")]
    if thermal and not fitted.intersection(thermal):
        value = float(np.mean([known[name] for name in thermal]))
        more = {name: known[name] + 0.05 for name in thermal}
        if getattr(getattr(simulator, "crystal", None), "u_aniso", None) is None:
            found["b_iso"] = (value, 0.05, simulator.with_parameters(more))
    if hasattr(simulator, "absorption") and "absorptive_ratio" not in fitted:
        ratio = simulator.absorptive_ratio
        if simulator.absorption is None:
            other = replace(simulator, absorption="perturbative", absorptive_ratio=ABSORPTION_STEP)
            found["absorptive_ratio"] = (0.0, ABSORPTION_STEP, other)
        elif not callable(ratio):
            other = simulator.with_parameters({"absorptive_ratio": ratio + ABSORPTION_STEP / 2})
            found["absorptive_ratio"] = (float(ratio), ABSORPTION_STEP / 2, other)
    return found


def _held(fine: FineResult, name: str, value: float, row: FloatArray) -> Held:
    end: End = fine.end
    jacobian, residual = end.profiled(np.vstack([end.rows, row[None]])), end.residual
    own, rest = jacobian[-1], jacobian[:-1]
    scale = np.sqrt(np.maximum(np.square(rest).sum(1), 1e-300))
    rest = rest / scale[:, None]
    moves = -np.linalg.pinv(rest @ rest.T, rcond=1e-9, hermitian=True) @ (rest @ own)
    left = own + moves @ rest
    curvature = max(float(left @ left), 1e-300)
    wanted = float(left @ residual) / curvature
    after = residual - wanted * left
    clustered = np.square(np.bincount(squares(end.model.pixels), left * after)).sum() / curvature**2
    plain = float(after @ after) / max(1, len(after) - len(rest) - 1) / curvature
    explains = wanted**2 * curvature / max(float(residual @ residual), 1e-300)
    derivatives = dict(zip(fine.names, (moves / scale).tolist(), strict=True))
    return Held(name, value, derivatives, wanted, float(np.sqrt(max(plain, clustered))), explains)
