"""A user-defined function of LiberTEM: centres and retention radii of a scan, computed where its partitions are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import ops
from stackalign.errors import MissingDependencyError

try:
    from libertem.udf import UDF
except ImportError as missing:
    _words = "stackalign.libertem needs LiberTEM: pip install libertem"
    raise MissingDependencyError(_words) from missing

__all__ = ["RetentionUDF"]


class RetentionUDF(UDF):  # type: ignore[misc] # LiberTEM is optional, and then Any
    """Centre, total and retention radii of every pattern, as `stackalign.pattern_summary` finds them.

    Parameters
    ----------
    fractions : sequence of float
        Of the intensity that the radii hold.
    centers : numpy.ndarray, optional
        (2,) centre (y, x) of all patterns; the centroid of each by default.
    mask : numpy.ndarray, optional
        (H, W) boolean, True = valid.

    Notes
    -----
    Results are navigation buffers: ``center`` (2 per pattern), ``total``, ``radius`` (one per fraction). LiberTEM has
    a process for each core, so that each works with one thread.

    Examples
    --------
    >>> from libertem.api import Context  # doctest: +SKIP
    >>> from stackalign.libertem import RetentionUDF  # doctest: +SKIP
    >>> context = Context()  # doctest: +SKIP
    >>> scan = context.load("auto", path="scan.mib")  # doctest: +SKIP
    >>> found = context.run_udf(scan, RetentionUDF((0.98,)))  # doctest: +SKIP
    >>> radii = found["radius"].data[..., 0]  # doctest: +SKIP
    """

    def __init__(
        self,
        fractions: Sequence[float] = (0.98,),
        centers: Any = None,
        mask: NDArray[np.bool_] | None = None,
    ) -> None:
        super().__init__(fractions=tuple(fractions), centers=centers, mask=mask)

    def get_result_buffers(self) -> dict[str, Any]:
        """Declare what is found of each pattern."""
        return {
            "center": self.buffer(kind="nav", dtype="float64", extra_shape=(2,)),
            "total": self.buffer(kind="nav", dtype="float64"),
            "radius": self.buffer(kind="nav", dtype="int64", extra_shape=(len(self.params.fractions),)),
        }

    def process_partition(self, partition: Any) -> None:
        """Measure the patterns of a partition."""
        patterns = np.ascontiguousarray(partition)
        summary = ops.pattern_summary(
            patterns, self.params.fractions, centers=self.params.centers, mask=self.params.mask, workers=1
        )
        self.results.center[:] = summary.centers
        self.results.total[:] = summary.total
        self.results.radius[:] = summary.radii
