# SPDX-License-Identifier: BSD-3-Clause
"""Launches of the kernel of sums over bins, for CuPy on a GPU and for NumPy where kernels run on the host."""

import numpy as np

from stackalign.backends._bins import BinTable
from stackalign.backends._protocol import Array, BinSums

from ._runtime import MAX_GRID_Y, THREADS, Runtime, mask_args

__all__ = ["bin_sums"]


def _at_home(rt: Runtime, table: BinTable) -> tuple[Array, Array, Array]:
    if rt.home not in table.at_home:
        starts, pixels, weights = table.segments
        if weights is None:
            weights = np.ones(1, np.float32)
        if not pixels.size:
            pixels = np.zeros(1, np.int32)  # CuPy passes no null pointers
        table.at_home[rt.home] = tuple(rt.xp.asarray(a) for a in (starts, pixels, weights))
    starts, pixels, weights = table.at_home[rt.home]
    return starts, pixels, weights


def bin_sums(rt: Runtime, images: Array, mask: Array | None, table: BinTable, workers: int) -> BinSums:
    """See `Backend.bin_sums."""
    n, pixels = len(images), table.labels.shape[0]
    result = BinSums(*(rt.xp.empty((n, table.n_bins), np.float64) for _ in range(3)))
    kernel = rt.get_function("bins", "bin_sums", images.dtype)
    starts, entries, weights = _at_home(rt, table)
    for first in range(0, n, MAX_GRID_Y):
        kernel(
            (-(-table.n_bins // (THREADS // 32)), min(MAX_GRID_Y, n - first)),
            (THREADS,),
            (
                images,
                *mask_args(rt, mask),
                np.int64(first),
                np.int64(pixels),
                np.int64(table.n_bins),
                starts,
                entries,
                weights,
                np.int32(table.weights is not None),
                *result,
            ),
        )
    return result
