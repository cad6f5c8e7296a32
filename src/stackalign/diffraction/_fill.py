"""Numbers in the place of invalid ones, for what cannot do without."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["fill_nearest"]


def fill_nearest(data: NDArray[Any], valid: NDArray[np.bool_], axes: tuple[int, ...]) -> NDArray[Any]:
    """Copy data with the nearest valid element along these axes in the place of each invalid one.

    A curve or image without any valid element becomes 0.
    """
    from scipy.ndimage import distance_transform_edt

    out = np.where(valid, data, 0)
    if valid.all():
        return out
    moved, known = np.moveaxis(out, axes, range(-len(axes), 0)), np.moveaxis(valid, axes, range(-len(axes), 0))
    for at in np.ndindex(moved.shape[: -len(axes)]):
        if known[at].any() and not known[at].all():
            nearest = distance_transform_edt(~known[at], return_distances=False, return_indices=True)
            moved[at] = moved[at][tuple(nearest)]
    return out
