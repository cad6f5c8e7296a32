# SPDX-License-Identifier: BSD-3-Clause
"""Sums over rectangles from running sums, for all lags of a window."""

from collections.abc import Sequence
from typing import Any

from stackalign.backends._protocol import Array, Lags

__all__ = ["covered_sums"]


def covered_sums(
    xp: Any, planes: Sequence[Array], lags: Lags, before: tuple[int, int], after: Sequence[int], out: Array
) -> None:
    """Write the sums of planes (N, D, H, W) over what a frame without a mask covers of them, lag by lag.

    At a lag the frame covers ``max(0, lag - after) : min(size, lag + before)`` along each axis. A sum is a difference
    of running sums, in float64: four numbers per lag instead of transforms. `out` is (planes, N, rows, columns).
    """
    size = int(planes[0].shape[2]), int(planes[0].shape[3])
    # Zeros around the planes, so that what a lag covers begins and ends within the running sums.
    low = [min(0, lags[i] - after[i]) for i in (0, 1)]
    high = [max(size[i], lags[i + 2] + before[i]) for i in (0, 1)]
    padded = xp.zeros((len(planes), len(planes[0]), high[0] - low[0] + 1, high[1] - low[1] + 1))
    inside = padded[:, :, 1 - low[0] : 1 - low[0] + size[0], 1 - low[1] : 1 - low[1] + size[1]]
    for k, plane in enumerate(planes):
        inside[k] = plane[:, 0] if plane.shape[1] == 1 else plane.sum(axis=1)
    sums = padded.cumsum(axis=2).cumsum(axis=3)
    height, width = lags.shape
    y, x = (lags[i] - after[i] - low[i] for i in (0, 1))
    end_y, end_x = (lags[i] + before[i] - low[i] for i in (0, 1))
    rows = sums[:, :, end_y : end_y + height] - sums[:, :, y : y + height]
    xp.subtract(rows[..., end_x : end_x + width], rows[..., x : x + width], out=out)
