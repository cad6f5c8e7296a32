"""Launches of the kernel of means over transforms."""

import numpy as np
from numpy.typing import NDArray

from ._first_use import announced
from ._protocol import LEAST_WEIGHT, Array
from ._spline import real_planes
from ._threads import run

__all__ = ["affine_average"]

GROUP = 8
"""Images that share indices and weights of a row."""


@announced("affine_average")
def affine_average(images: Array, mask: Array | None, matrices: NDArray[np.float64], workers: int, /) -> Array:
    """See `Backend.affine_average`."""
    from stackalign_kernels.cpu import affine_average as kernels

    n, height, _ = images.shape
    out: Array | None = None
    group = min(GROUP, n) if len(matrices) == 1 else 1
    # A few images at a time: planes with NaN under the mask are a copy.
    step = max(group, workers)
    for first in range(0, n, step):
        some = slice(first, min(n, first + step))
        valid = None if mask is None else mask[some] if len(mask) > 1 else mask
        planes = np.ascontiguousarray(real_planes(np, images[some], valid))
        if out is None:
            out = np.empty(images.shape, planes.dtype)
        m = matrices if len(matrices) == 1 else matrices[some]
        limits = planes.dtype.type(LEAST_WEIGHT), np.finfo(planes.dtype).max

        def task(start: int, stop: int, planes=planes, m=m, limits=limits, part=out[some]) -> None:  # type: ignore[no-untyped-def]
            kernels.average(planes, m, *limits, group, start, stop, part)

        run(task, -(-len(planes) // group) * -(-height // kernels.BLOCK), workers)
    return out
