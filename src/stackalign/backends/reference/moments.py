"""Second moments of patterns, as the protocol specifies them."""

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._protocol import Array
from stackalign.backends.reference._valid import valid_pixels

__all__ = ["second_moments"]


def second_moments(
    patterns: Array, mask: Array | None, centers: NDArray[np.float64], workers: int, /
) -> NDArray[np.float64]:
    """See `Backend.second_moments`."""
    height, width = patterns.shape[1:]
    values = np.where(valid_pixels(patterns, mask), patterns, 0).astype(np.float64)
    dy = (np.arange(height) - centers[:, :1])[:, :, None]
    dx = (np.arange(width) - centers[:, 1:])[:, None, :]
    terms = (values, values * dy * dy, values * dy * dx, values * dx * dx)
    return np.stack([term.sum(axis=(1, 2)) for term in terms], axis=1)
