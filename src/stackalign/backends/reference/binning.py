"""Means of bins, as the protocol specifies them."""

import numpy as np

from stackalign.backends._protocol import Array, BinArrays, real_kind

__all__ = ["bin_mean"]


def bin_mean(images: Array, mask: Array | None, factors: tuple[int, int], workers: int, /) -> BinArrays:
    """See `Backend.bin_mean`."""
    fy, fx = factors
    n, height, width = images.shape
    h, w = height // fy, width // fx
    valid = np.isfinite(images) if mask is None else np.isfinite(images) & mask
    values = np.where(valid, images, 0).astype(np.float64)
    counts = valid[:, : h * fy, : w * fx].reshape(n, h, fy, w, fx).sum(axis=(2, 4), dtype=np.int64)
    sums = values[:, : h * fy, : w * fx].reshape(n, h, fy, w, fx).sum(axis=2).sum(axis=3)
    means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return BinArrays(means.astype(real_kind(images.dtype)), counts)
