"""Which patterns are not to be trusted."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .result import Flag

if TYPE_CHECKING:
    from .measure import Measurements

__all__ = ["flag_patterns", "hot_pixel", "set_aside"]

HOT_RATIO = 20.0
"""A hot pixel exceeds its neighbours and the typical lit pixel by this factor; a focused probe spreads over several."""

COMMON = (Flag.NON_FINITE, Flag.NEGATIVE, Flag.HOT_PIXEL)
"""Flags that describe the detector, not the pattern, when more than half of the patterns have them."""


def hot_pixel(pattern: NDArray[Any], mask: NDArray[np.bool_] | None) -> tuple[int, int] | None:
    """Find a single pixel that stands alone far above everything around it.

    Parameters
    ----------
    pattern : numpy.ndarray
        (H, W).
    mask : numpy.ndarray, optional
        (H, W) boolean, True = valid.

    Returns
    -------
    tuple of int or None
        (y, x) of the brightest valid pixel if it exceeds `HOT_RATIO` times its brightest neighbour and the median of
        the pixels that are not zero; None otherwise. Single counts on an empty detector are their own median.
    """
    values = pattern
    if mask is not None or pattern.dtype.kind == "f":
        valid = np.isfinite(pattern) if mask is None else np.isfinite(pattern) & mask
        values = np.where(valid, pattern, pattern.dtype.type(0))
    y, x = np.unravel_index(int(values.argmax()), values.shape)
    peak = float(values[y, x])
    around = np.sort(values[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2], axis=None).astype(np.float64)
    if around.size > 1 and peak <= HOT_RATIO * around[-2]:
        return None  # the usual case, decided by nine pixels
    lit = values[values > 0]
    return (int(y), int(x)) if lit.size > 1 and peak > HOT_RATIO * float(np.median(lit)) else None


def flag_patterns(rows: "Measurements", mask: NDArray[np.bool_] | None, frame: tuple[int, int]) -> NDArray[np.uint8]:
    """Flag every pattern from what was measured."""
    n_pixels = frame[0] * frame[1] if mask is None else int(mask.sum())
    flags = np.zeros(len(rows.total), np.uint8)
    flags[~(rows.total > 0)] |= np.uint8(Flag.EMPTY)
    flags[rows.n_valid < n_pixels] |= np.uint8(Flag.NON_FINITE)
    flags[rows.minimum < 0] |= np.uint8(Flag.NEGATIVE)
    flags[rows.hot[:, 0] >= 0] |= np.uint8(Flag.HOT_PIXEL)
    inside = (rows.centers >= -0.5) & (rows.centers <= np.array(frame) - 0.5)  # false for NaN, after an overflow
    flags[~inside.all(axis=1)] |= np.uint8(Flag.OFF_FRAME)
    return flags


def set_aside(flags: NDArray[np.uint8], hot: NDArray[np.int32] | None = None) -> tuple[NDArray[np.bool_], list[str]]:
    """Decide which patterns stay out of the maximum and of the statistics, and say so.

    A flag of `COMMON` that more than half of the patterns with signal carry is a property of the detector or of an
    earlier correction: it is reported and excludes nobody.

    Parameters
    ----------
    flags : numpy.ndarray
        (N,) sums of `Flag`.
    hot : numpy.ndarray, optional
        (N, 2) hot pixel of each pattern, negative where there is none: named where many share it.

    Returns
    -------
    excluded : numpy.ndarray
        (N,) bool.
    notes : list of str
    """
    lit = (flags & int(Flag.EMPTY)) == 0
    n_lit = int(lit.sum())
    excluding = int(Flag.EMPTY | Flag.OFF_FRAME)
    notes = []
    for flag in COMMON:
        count = int((((flags & int(flag)) != 0) & lit).sum())
        if 2 * count <= n_lit:
            excluding |= int(flag)
        else:
            advice = (
                f"; {_most_frequent(hot)}mask it with --mask auto, or with a mask of your own"
                if flag is Flag.HOT_PIXEL
                else ""
            )
            notes.append(
                f"{count} of {n_lit} patterns have the flag {flag.words!r}: taken as a property of the data set, "
                f"none is left out for it{advice}"
            )
    excluded = (flags & excluding) != 0
    if excluded.all():
        # Each of the rest is flagged for something: better all that have signal than none.
        excluded = ~lit
        notes.append("every pattern with signal is flagged, so none of them is left out")
    return excluded, notes


def _most_frequent(hot: NDArray[np.int32] | None) -> str:
    if hot is None or not (hot[:, 0] >= 0).any():
        return ""
    pixels, counts = np.unique(hot[hot[:, 0] >= 0], axis=0, return_counts=True)
    y, x = pixels[counts.argmax()]
    return f"in {counts.max()} of them it is the pixel (y, x) = ({y}, {x}): "
