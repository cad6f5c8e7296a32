"""Public operations on patterns, for tests that ask the same of all."""

from collections.abc import Callable

import numpy as np
import pytest

from stackalign import ops

__all__ = ["OPERATIONS", "arrays", "assert_same", "every_operation"]

OPERATIONS: dict[str, Callable[..., object]] = {
    "pattern_summary": lambda p, **k: ops.pattern_summary(p, (0.5, 0.98), **k),
    "centroid": ops.centroid,
    "retention_radius": lambda p, **k: ops.retention_radius(p, None, (0.5, 0.98), **k),
    "radial_cumulative": lambda p, **k: ops.radial_cumulative(p, None, **k),
    "crop_windows": lambda p, **k: ops.crop_windows(p, (1, -1), (3, 4), **k),
    "stack_statistics": ops.stack_statistics,
}

every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())


def arrays(result: object) -> list[np.ndarray]:
    """The arrays of a result, whatever its form."""
    if hasattr(result, "__dataclass_fields__"):
        return [getattr(result, name) for name in result.__dataclass_fields__]
    return [np.asarray(a) for a in (result if isinstance(result, tuple) else (result,))]


def assert_same(found: object, wanted: object) -> None:
    """The same numbers and, but for the copies of pixels, the same types."""
    for a, b in zip(arrays(found), arrays(wanted), strict=True):
        np.testing.assert_array_equal(a, b)
