"""Launches of the kernels that standardise planes on the CPU."""

import numpy as np

from stackalign.backends._planes import RIDGE, factors, half_weights
from stackalign.backends._protocol import Array
from stackalign.backends._threads import run

__all__ = ["standardise"]


def standardise(images: Array, mask: Array | None, smooth: float, workers: int, /) -> Array:
    """See `Backend.standardise`."""
    from stackalign_kernels.cpu import standardise as kernels

    n_images, height, width = images.shape
    n_rows = n_images * height
    # Numba wants an array in any case.
    valid, use_mask = (np.ones((1, 1, 1), np.bool_), False) if mask is None else (mask, True)
    smoothed = smooth > 0.0
    values = np.empty(images.shape if smoothed else (1, 1, 1))
    sums = np.empty((n_images, height, 3))
    moments = np.empty((n_images, 3))
    out = np.empty(images.shape, np.float32)
    run(lambda a, b: kernels.load(images, valid, use_mask, smoothed, a, b, values, sums), n_rows, workers)
    kernels.moments(sums, moments)
    if not smoothed:
        scales = factors(np, moments)
        run(lambda a, b: kernels.scale(images, valid, use_mask, moments[:, 1], scales, a, b, out), n_rows, workers)
        return out
    radius, weights = half_weights(smooth, kernels.GROUP)
    means = moments[:, 1].copy()
    wholes = moments[:, 0] == height * width
    fitted, fitted_sums = np.empty(images.shape), np.empty_like(sums)

    def fit(start: int, stop: int) -> None:
        kernels.fit(values, sums, means, wholes, weights, radius, RIDGE, start, stop, fitted, fitted_sums)

    run(fit, n_rows, workers)
    kernels.moments(fitted_sums, moments)
    scales = factors(np, moments)
    no_mask = np.ones((1, 1, 1), np.bool_)
    run(lambda a, b: kernels.scale(fitted, no_mask, False, moments[:, 1], scales, a, b, out), n_rows, workers)
    return out
