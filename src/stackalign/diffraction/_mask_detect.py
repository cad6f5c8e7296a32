"""Faults of a detector, from what many images have in common."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import percentile_filter

from stackalign._types import FloatArray

__all__ = ["detector_faults"]

AROUND = 9
"""Side in pixels of the neighbourhood that a pixel is compared with: dead lines and gaps are less than half of it."""
LOW, LOWEST = 0.5, 6.0
"""A dead pixel is below this share of the lower quantile around it, and by so many deviations of the mean."""
STANDS_OUT, LONELY = 8.0, 0.15
"""Deviations by which a hot pixel is above its neighbours, and the second of these as a share of its height."""
NOISY = 16.0
"""How many times the highest variance next to it a noisy pixel's is."""
QUIET, CALM = 0.05, 0.3
"""Share of the variance around a pixel below which it hardly changes, and that of a dead pixel at most."""
ALWAYS = 0.9
"""Share of its type's largest number that the mean of a gap has at least."""
LINE = 0.6
"""Share of a line's pixels that are faulty, from which all of it is."""


def detector_faults(
    mean: FloatArray,
    std: FloatArray,
    minimum: FloatArray,
    maximum: FloatArray,
    n_images: int,
    dtype: np.dtype[Any] | None = None,
) -> dict[str, NDArray[np.bool_]]:
    """Find gaps, dead and hot pixels, clusters and lines, by each pixel and its neighbourhood.

    Parameters
    ----------
    mean, std, minimum, maximum : numpy.ndarray
        (H, W) over all images; NaN where a pixel was never finite.
    n_images : int
        How many there were.
    dtype : numpy.dtype, optional
        Type of the images: its largest whole number marks gaps.

    Returns
    -------
    dict of str to numpy.ndarray
        (H, W) boolean by reason: "gap", "low", "high", "quiet", "noisy".

    Notes
    -----
    What a lens makes falls off over more than a pixel: a pixel that is high alone, or with one other, is a fault, and
    so is one far below most of those around it. Of pixels that few electrons hit nothing is said.
    """
    gap = np.zeros(mean.shape, bool)
    if dtype is not None and dtype.kind in "ui":
        top = float(np.iinfo(dtype).max)
        gap = (maximum == top) & (mean >= ALWAYS * top)
    known = np.isfinite(mean) & ~gap
    if not known.any():
        return {name: gap & (name == "gap") for name in ("gap", "low", "high", "quiet", "noisy")}
    level = np.where(known, mean, np.median(mean[known]))
    error = np.where(known, std, 0.0) / np.sqrt(max(1, n_images))
    typical = percentile_filter(error, 50, AROUND)
    dark = float(level[known].min())
    lower = percentile_filter(level, 30, AROUND)
    variance = np.where(known, std, 0.0) ** 2
    usual = percentile_filter(variance, 30, AROUND)
    # Between spots it is dark as well, and as noisy as that makes it.
    low = known & (level - dark < LOW * (lower - dark)) & (lower - level > LOWEST * typical)
    low &= (variance < CALM * usual) | (n_images < 2)
    high = known & _alone(level, np.maximum(typical, 1e-6 * (lower - dark + 1e-300)))
    # A pixel that was hardly ever hit says nothing by being quiet.
    hit = (lower - min(dark, 0.0)) * n_images > 30
    quiet = known & hit & (usual > 0) & (variance < QUIET * usual) & (n_images > 1)
    noisy = known & (n_images > 3) & (usual > 0) & _alone(variance, usual * np.sqrt(2.0 / max(2, n_images)), NOISY)
    faults = {"gap": gap, "low": low, "high": high, "quiet": quiet, "noisy": noisy}
    bad = np.logical_or.reduce(list(faults.values()))
    for axis in (0, 1):
        full = bad.mean(axis=1 - axis) > LINE
        lines = np.broadcast_to(full[:, None] if axis == 0 else full[None], bad.shape)
        faults["low"] = faults["low"] | (lines & known & ~bad)
    return faults


def _alone(values: FloatArray, error: FloatArray, times: float = 0.0) -> NDArray[np.bool_]:
    """Pixels far above all of their neighbours but one."""
    framed = np.pad(values, 1, mode="reflect")
    height, width = values.shape
    ring = np.stack(
        [framed[y : y + height, x : x + width] for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    )  # fmt: skip
    ordered = np.sort(ring, axis=0)
    ground, second = ordered[3], ordered[-2]
    above = values - ground
    plain = above > np.maximum(STANDS_OUT * error, times * np.abs(ordered[-3]))
    return np.asarray(plain & (second - ground < LONELY * above))
