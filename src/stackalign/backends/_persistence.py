"""Persistence of peaks on the host; its kernel has no twin for GPUs, because each pixel waits for all higher ones."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["merge_tree"]


def merge_tree(image: NDArray[np.float64], valid: NDArray[np.bool_], /) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Flat indices of where peaks are born and where they die, -1 where they never do; of equal pixels the first.

    Parameters
    ----------
    image, valid : (H, W) numpy.ndarray
        Valid pixels are finite.
    """
    from stackalign_kernels.cpu import _persistence

    places = np.flatnonzero(valid)
    # Negated and stable: from the highest down, and of equal ones the first index first.
    order = places[np.argsort(-image.ravel()[places], kind="stable")]
    births, deaths = np.empty(order.size, np.int64), np.empty(order.size, np.int64)
    count = _persistence.merge_tree(order, *image.shape, births, deaths)
    return births[:count].copy(), deaths[:count].copy()
