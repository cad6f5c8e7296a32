"""Which patterns are not to be trusted."""

import numpy as np
from numpy.typing import NDArray

from .measure import Measurements
from .result import Flag

__all__ = ["flag_patterns", "set_aside"]

COMMON = (Flag.NON_FINITE, Flag.NEGATIVE, Flag.HOT_PIXEL)
"""Flags that describe the detector, not the pattern, when more than half of the patterns have them."""


def flag_patterns(rows: Measurements, mask: NDArray[np.bool_] | None, frame: tuple[int, int]) -> NDArray[np.uint8]:
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
