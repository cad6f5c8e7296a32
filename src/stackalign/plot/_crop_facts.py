"""Numbers and words of a crop that its pictures and its page share."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stackalign.crop.result import Flag

from ._text import number

if TYPE_CHECKING:
    from stackalign.crop.result import CropAnalysis, CropResult

__all__ = [
    "facts_line",
    "flag_words",
    "middle",
    "retention_range",
    "saved_share",
    "scan_grid",
    "scan_position",
    "window_corners",
]


def flag_words(flags: int) -> str:
    """Turn the flags of one pattern into words."""
    return ", ".join(flag.words for flag in Flag if flag & flags)


def scan_grid(analysis: "CropAnalysis") -> tuple[int, int] | None:
    """(rows, columns) of a scan that can be drawn as a map, None for a series."""
    long = [length for length in analysis.scan_shape if length > 1]
    if len(long) != 2 or long[0] * long[1] != analysis.n_patterns:
        return None
    return long[0], long[1]


def scan_position(analysis: "CropAnalysis", index: int) -> str:
    """Position of a pattern in the scan, in words; empty for a series."""
    if len(analysis.scan_shape) < 2:
        return ""
    return "(" + ", ".join(str(int(k)) for k in np.unravel_index(index, analysis.scan_shape)) + ")"


def middle(analysis: "CropAnalysis") -> NDArray[np.float64]:
    """Find the median (y, x) of the measured centres of the patterns that count, or the middle of the frame."""
    usable = np.isfinite(analysis.measured_centers).all(axis=1)
    counted = usable & ~analysis.excluded
    chosen = counted if counted.any() else usable
    if not chosen.any():
        return (np.array(analysis.original_shape, np.float64) - 1) / 2
    result: NDArray[np.float64] = np.median(analysis.measured_centers[chosen], axis=0)
    return result


def window_corners(result: "CropResult", centers: NDArray[np.float64]) -> NDArray[np.float64]:
    """First pixel (y, x) of the windows about centres (..., 2), by the rule that the crop used."""
    analysis = result.analysis
    before = np.array(analysis.window_before, np.float64)
    if result.config.legacy_window:
        return np.trunc(centers - before)
    if result.config.one_window:
        centers = np.broadcast_to(np.median(analysis.centers, axis=0), np.shape(centers))
    corners = np.floor(centers) - before
    # An axis along which the window is as long as the frame is kept whole and not shifted.
    whole = np.array(analysis.window) >= np.array(analysis.original_shape)
    return np.where(whole, 0.0, corners)


def retention_range(result: "CropResult") -> tuple[float, float]:
    """Mean and lowest retention of the patterns that count, NaN where there are none."""
    used = result.validation.used
    return (float(used.mean()), float(used.min())) if used.size else (float("nan"), float("nan"))


def saved_share(result: "CropResult") -> float:
    """Share of the bytes that the output does without, NaN for an input of unknown size."""
    return result.saved if result.input_bytes > 0 else float("nan")


def facts_line(result: "CropResult") -> str:
    """One line that says what was done."""
    analysis = result.analysis
    mean, lowest = retention_range(result)
    scan = " × ".join(str(length) for length in analysis.scan_shape) + " scan, " if len(analysis.scan_shape) > 1 else ""
    n = analysis.n_patterns
    before, after = (f"{h} × {w}" for h, w in (analysis.original_shape, analysis.window))
    return (
        f"{n:,} pattern{'s' * (n != 1)} ({scan}{before} → {after} px), "
        f"{number(saved_share(result), '.1%')} of the size saved, "
        f"retention mean {number(mean)}, lowest {number(lowest)}, status: {result.status}"
    )
