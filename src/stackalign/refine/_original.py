"""The spelling of the first implementation, and checks of what its users give."""

from collections.abc import Sequence
from typing import Any

from .result import RefinementResult
from .simulator import Reflection, Simulator

__all__ = ["OriginalNames", "either", "require_reflections"]


class OriginalNames:
    """Methods of `CoarseRefine` under their first names; they also take `filter`, the hook of one call."""

    def optimizeOrientationThickness(self, *args: Any, **options: Any) -> RefinementResult:  # noqa: N802
        """See `optimize_orientation_thickness`."""
        result: RefinementResult = _filtered(self, options).optimize_orientation_thickness(*args, **options)
        return result

    def optimizeOrientationGL(self, *args: Any, **options: Any) -> RefinementResult:  # noqa: N802
        """See `optimize_orientation_gl`."""
        result: RefinementResult = _filtered(self, options).optimize_orientation_gl(*args, **options)
        return result

    def optimizeHV(self, *args: Any, **options: Any) -> RefinementResult:  # noqa: N802
        """See `optimize_hv`."""
        result: RefinementResult = _filtered(self, options).optimize_hv(*args, **options)
        return result

    def optimizeDWF(self, *args: Any, **options: Any) -> RefinementResult:  # noqa: N802
        """See `optimize_dwf`."""
        result: RefinementResult = _filtered(self, options).optimize_dwf(*args, **options)
        return result

    def optimizeUnitCell(self, *args: Any, **options: Any) -> RefinementResult:  # noqa: N802
        """See `optimize_unit_cell`."""
        result: RefinementResult = _filtered(self, options).optimize_unit_cell(*args, **options)
        return result


def _filtered(refiner: Any, options: dict[str, Any]) -> Any:
    """Take `filter` or `preprocess` out of the options of one call."""
    hook = either(options.pop("preprocess", None), options.pop("filter", None), "preprocess", "filter", False)
    return refiner if hook is None else refiner.with_(preprocess=hook)


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
