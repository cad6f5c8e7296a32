"""Launches of the kernels that standardise planes on the CPU."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from stackalign.backends._planes import RIDGE, factors, half_weights
from stackalign.backends._protocol import Array
from stackalign.backends._threads import run
from stackalign.backends.cpu._arguments import mask_or_dummy, read_only

__all__ = ["first_calls", "standardise"]


def standardise(images: Array, mask: Array | None, smooth: float, workers: int, /) -> Array:
    """See `Backend.standardise`."""
    from stackalign_kernels.cpu import _plane_fits
    from stackalign_kernels.cpu import standardise as kernels

    n_images, height, width = images.shape
    n_rows = n_images * height
    valid, use_mask = mask_or_dummy(mask, (1, 1))
    smoothed = smooth > 0.0
    values = np.empty(images.shape if smoothed else (1, 1, 1))
    sums = np.empty((n_images, height, 3))
    moments = np.empty((n_images, 3))
    out = np.empty(images.shape, np.float32)
    run(lambda a, b: kernels.load(images, valid, use_mask, smoothed, a, b, values, sums), n_rows, workers)
    kernels.moments(sums, moments)
    means = moments[:, 1].copy()
    if not smoothed:
        scales = factors(np, moments)
        run(lambda a, b: kernels.scale(images, valid, use_mask, means, scales, a, b, out), n_rows, workers)
        return out
    radius, weights = half_weights(smooth, _plane_fits.GROUP)
    wholes = moments[:, 0] == height * width
    fitted, fitted_sums = np.empty(images.shape), np.empty_like(sums)

    def fit(start: int, stop: int) -> None:
        kernels.fit(values, sums, means, wholes, weights, radius, RIDGE, start, stop, fitted, fitted_sums)

    run(fit, n_rows, workers)
    kernels.moments(fitted_sums, moments)
    scales = factors(np, moments)
    fitted_means = moments[:, 1].copy()
    no_mask, _ = mask_or_dummy(None, (1, 1))
    smooth_images = read_only(fitted)
    run(lambda a, b: kernels.scale(smooth_images, no_mask, False, fitted_means, scales, a, b, out), n_rows, workers)
    return out


def first_calls(dtype: np.dtype[Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls, without `workers`, for which all kernels of this file are compiled for a type of pixels."""
    for smooth in (0.0, 1.0):
        yield "standardise", (np.ones((1, 8, 8), dtype), None, smooth)
