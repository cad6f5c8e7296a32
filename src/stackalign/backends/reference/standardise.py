"""Standardised planes, as the protocol specifies them."""

import numpy as np
from scipy.ndimage import correlate1d

from stackalign.backends import _planes
from stackalign.backends._protocol import Array

__all__ = ["standardise"]


def standardise(images: Array, mask: Array | None, smooth: float, workers: int, /) -> Array:
    """See `Backend.standardise`."""
    return _planes.standardise(np, correlate1d, images, mask, smooth)
