"""`CoarseOptimize`: `CoarseRefine` of `stackalign.refine` under its original name, and those of its methods."""

from typing import Any

from stackalign.refine import CoarseRefine, RefinementResult
from stackalign.refine._arguments import either

__all__ = ["CoarseOptimize"]


class CoarseOptimize(CoarseRefine):
    """`CoarseRefine` with the methods of the original; they take `filter`, the hook of one call, as well.

    Examples
    --------
    >>> from stackalign.compat.coarse import CoarseOptimize
    >>> from stackalign.refine import CoarseRefine
    >>> issubclass(CoarseOptimize, CoarseRefine), callable(CoarseOptimize.optimizeHV)
    (True, True)
    """

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
