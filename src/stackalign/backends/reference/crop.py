"""Windows of patterns, as the protocol specifies them."""

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._protocol import Array, WindowArrays, sum_kind

from ._valid import valid_pixels

__all__ = ["crop_windows"]


def crop_windows(
    patterns: Array,
    mask: Array | None,
    corners: NDArray[np.int64],
    shape: tuple[int, int],
    out: Array | None,
    workers: int,
    /,
) -> WindowArrays:
    """See `Backend.crop_windows`."""
    n, height, width = patterns.shape
    kind = sum_kind(patterns.dtype)
    windows = np.empty((n, *shape), patterns.dtype) if out is None else out
    windows[...] = 0
    sums = np.zeros(n, kind)
    valid = valid_pixels(patterns, mask)
    for k, (y, x) in enumerate(corners.tolist()):
        rows = slice(max(y, 0), max(0, min(y + shape[0], height)))
        columns = slice(max(x, 0), max(0, min(x + shape[1], width)))
        kept = patterns[k, rows, columns]
        if kept.size:
            windows[k, rows.start - y : rows.stop - y, columns.start - x : columns.stop - x] = kept
            sums[k] = kept[valid[k, rows, columns]].sum(dtype=kind)
    return WindowArrays(windows, sums)
