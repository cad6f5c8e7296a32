"""What counts of a stack."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["valid_pixels"]


def valid_pixels(patterns: NDArray[Any], mask: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Finite pixels that the mask, if there is one, lets count."""
    finite: NDArray[np.bool_] = np.isfinite(patterns)
    return finite if mask is None else finite & mask
