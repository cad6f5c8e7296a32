"""Where the window of each pattern lies."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stackalign import ops

from .config import CroppingConfig

__all__ = ["Windows", "chosen_windows", "placed_windows"]


@dataclass(frozen=True)
class Windows:
    """Windows of one shape.

    Parameters
    ----------
    corners : numpy.ndarray
        (N, 2) int64, first pixel of each window, (y, x).
    shape : tuple of int
        (h, w).
    before : tuple of int
        Pixels between a corner and the pixel of its centre.
    radius : int
        Radius that the windows hold.
    filled : numpy.ndarray or None
        (N, 2) int64: rows and columns of each window that the legacy window fills; None where all are.
    """

    corners: NDArray[np.int64]
    shape: tuple[int, int]
    before: tuple[int, int]
    radius: int
    filled: NDArray[np.int64] | None = None


def placed_windows(
    centers: NDArray[np.float64], radius: int, frame: tuple[int, int], *, legacy: bool = False, one: bool = False
) -> Windows:
    """Place the windows.

    Parameters
    ----------
    centers : numpy.ndarray
        (N, 2) centres (y, x).
    radius : int
        Radius, margin included.
    frame : tuple of int
        (H, W).
    legacy : bool
        The window of the original script: the radius is clamped to ``min(H, W) // 2 - 1``, the side is 2 R, and the
        rows run from ``int(c - R)`` to ``int(c + R)``, truncated towards zero, so that a window which begins before
        the frame is one row shorter.
    one : bool
        One window for all patterns: that which holds each pattern's own, within the frame.
    """
    if not legacy:
        corners, shape, before = ops.encircled_window(centers, radius, frame)
        if one:
            return _one_window(centers, corners, shape, radius, frame)
        return Windows(corners, shape, (int(before[0]), int(before[1])), radius)
    radius = max(1, min(radius, min(frame) // 2 - 1))  # below 4 pixels the original wrote an empty window
    corners = np.trunc(centers - radius).astype(np.int64)
    ends = np.trunc(centers + radius).astype(np.int64)
    return Windows(corners, (2 * radius, 2 * radius), (radius, radius), radius, filled=ends - corners)


def chosen_windows(
    centers: NDArray[np.float64], radius: int, frame: tuple[int, int], config: CroppingConfig
) -> Windows:
    """Place the windows, of the kind that the configuration asks for."""
    return placed_windows(centers, radius, frame, legacy=config.legacy_window, one=config.one_window)


def _one_window(
    centers: NDArray[np.float64],
    corners: NDArray[np.int64],
    shape: tuple[int, int],
    radius: int,
    frame: tuple[int, int],
) -> Windows:
    """Window that holds all windows, as far as there is a frame."""
    first = np.maximum(corners.min(axis=0), 0)
    last = np.minimum((corners + shape).max(axis=0), frame)
    middle = np.floor(np.median(centers, axis=0)).astype(np.int64) - first
    height, width = (int(length) for length in last - first)
    return Windows(np.tile(first, (len(corners), 1)), (height, width), (int(middle[0]), int(middle[1])), radius)
