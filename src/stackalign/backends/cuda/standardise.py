"""Launches of the kernels that standardise planes, for CuPy on a GPU and for NumPy where kernels run on the host."""

import numpy as np

from stackalign.backends._planes import RIDGE, factors, half_weights
from stackalign.backends._protocol import Array

from ._runtime import MAX_SCRATCH_BYTES, Runtime

__all__ = ["standardise"]

KERNELS = "standardise"
WARPS = 8
THREADS = 256
BYTES = 64
"""Of scratch per pixel where planes are fitted: pixels before and after, and five moments, and what finds the mask."""


def standardise(rt: Runtime, images: Array, mask: Array | None, smooth: float, workers: int) -> Array:
    """See `Backend.standardise`."""
    n_images, height, width = map(int, images.shape)
    out = rt.xp.empty(images.shape, np.float32)
    step = max(1, MAX_SCRATCH_BYTES // (BYTES * height * width))
    for first in range(0, n_images, step):
        some = slice(first, min(first + step, n_images))
        _standardise(rt, images[some], mask if mask is None or len(mask) == 1 else mask[some], smooth, out[some])
    return out


def _moments(rt: Runtime, values: Array) -> Array:
    """Pixels, mean and deviation (B, 3) of the images, in which NaN is not valid."""
    n_images, height, width = map(int, values.shape)
    n_rows = n_images * height
    sums = rt.xp.empty((n_rows, 3), np.float64)
    rows = rt.get_function(KERNELS, "standardise_rows", None)
    rows((-(-n_rows // WARPS),), (32 * WARPS,), (values, np.int64(n_rows), np.int32(width), sums))
    moments = rt.xp.empty((n_images, 3), np.float64)
    rt.get_function(KERNELS, "standardise_moments", None)((n_images,), (32,), (sums, np.int32(height), moments))
    return moments


def _standardise(rt: Runtime, images: Array, mask: Array | None, smooth: float, out: Array) -> None:
    xp = rt.xp
    values = images.astype(np.float64)
    valid = xp.isfinite(values) if mask is None else xp.isfinite(values) & mask
    values = xp.where(valid, values, np.nan)
    height, width = map(int, values.shape[1:])
    size, n_pixels = np.int64(height * width), np.int64(values.size)
    grid = (-(-values.size // THREADS),)
    moments = _moments(rt, values)
    if smooth > 0.0:
        radius, on_host = half_weights(smooth)
        weights = xp.asarray(on_host)
        along = xp.empty((len(values), 5, height, width), np.float64)
        rt.get_function(KERNELS, "standardise_along", None)(
            grid,
            (THREADS,),
            (values, moments, weights, np.int32(radius), n_pixels, size, np.int32(width), along),
        )
        before, values = values, xp.empty(values.shape, np.float64)
        fit = (before, along, moments, weights, np.int32(radius), np.float64(RIDGE), n_pixels)
        rt.get_function(KERNELS, "standardise_plane", None)(
            grid, (THREADS,), (*fit, np.int32(height), np.int32(width), values)
        )
        moments = _moments(rt, values)
    scale = rt.get_function(KERNELS, "standardise_scale", None)
    scale(grid, (THREADS,), (values, moments, factors(xp, moments), n_pixels, size, out))
