"""Numbers and words of a result that pictures and pages share."""

from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from stackalign.crop.result import CropAnalysis, CropResult

__all__ = [
    "EMPTY",
    "FLAG_WORDS",
    "facts_line",
    "flag_words",
    "middle",
    "number",
    "retention_range",
    "saved_share",
    "scan_grid",
    "scan_position",
    "short_name",
    "window_corners",
]

EMPTY = 1
FLAG_WORDS = {1: "empty", 2: "non finite", 4: "negative", 8: "hot pixel", 16: "off frame"}
"""Bits of ``analysis.flags``. `stackalign.crop.Flag` has them too, but stands above this layer; a test compares."""


def flag_words(flags: int) -> str:
    """Turn the flags of one pattern into words."""
    return ", ".join(words for bit, words in FLAG_WORDS.items() if flags & bit)


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


def number(value: float, form: str = ".4f") -> str:
    """Format a number; a dash where there is none."""
    return format(value, form) if np.isfinite(value) else "–"


def short_name(name: str, limit: int = 60) -> str:
    """Last part of a path, shortened in the middle, without characters that break a line."""
    last = PurePath(name).name or name
    last = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in last)
    if len(last) <= limit:
        return last
    tail = limit // 2
    return f"{last[: limit - tail - 1]}…{last[-tail:]}"


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
