"""Sums over bins, as the protocol specifies them: NumPy, slow and readable."""

import numpy as np

from stackalign.backends._bins import BinTable
from stackalign.backends._protocol import Array, BinSums

__all__ = ["bin_sums"]


def bin_sums(images: Array, mask: Array | None, table: BinTable, workers: int, /) -> BinSums:
    """See `Backend.bin_sums`."""
    n, b = len(images), table.n_bins
    k = table.labels.shape[1]
    labels = table.labels.ravel()
    weights = np.ones(labels.shape) if table.weights is None else table.weights.ravel().astype(np.float64)
    result = BinSums(np.zeros((n, b)), np.full((n, b), np.nan), np.zeros((n, b)))
    for i, image in enumerate(images):
        valid = np.isfinite(image) if mask is None else np.isfinite(image) & mask[i if len(mask) > 1 else 0]
        used = np.repeat(valid.ravel(), k) & (labels < b) & (weights > 0)
        bins, w = labels[used], weights[used]
        v = np.repeat(image.ravel(), k)[used].astype(np.float64)
        result.bin_weight[i] = total = np.bincount(bins, w, b)
        some = total > 0
        mean = np.divide(np.bincount(bins, w * v, b), total, out=np.full(b, np.nan), where=some)
        result.bin_mean[i] = mean
        result.bin_m2[i] = np.bincount(bins, w * (v - mean[bins]) ** 2, b)
    return result
