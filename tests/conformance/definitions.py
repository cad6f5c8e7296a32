"""What definitions are computed with: correctly rounded sums.

Every backend is compared with the reference; the definitions are what the reference itself is compared with.
"""

import math

import numpy as np

__all__ = ["NEAR", "assert_close", "correct_sum", "usable"]

NEAR = 1e-12
"""Relative to the sum of magnitudes, for float64 sums in a fixed order against correctly rounded ones."""


def usable(patterns: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """What is finite and under the mask."""
    return np.isfinite(patterns) & (True if mask is None else mask)


def correct_sum(values: np.ndarray) -> float | int:
    """The sum, exact for integers and correctly rounded for floats."""
    return math.fsum(values.tolist()) if values.dtype.kind == "f" else sum(values.tolist())


def assert_close(found: float, wanted: float, magnitude: float) -> None:
    """Compare sums."""
    assert abs(found - wanted) <= NEAR * magnitude, (found, wanted)
