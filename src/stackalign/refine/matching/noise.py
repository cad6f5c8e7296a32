"""Noise of measured disks, from the differences of neighbouring pixels where nobody gave a variance."""

import numpy as np
from scipy import ndimage

from stackalign._types import BoolArray, FloatArray

__all__ = ["measured_variance"]

LEVELS = 8
"""Classes of brightness by which the variance is looked at."""
FEWEST = 60
"""Pixels from which a variance is measured at all."""
SQUARE, QUIET = 8, 0.2
"""Squares of so many pixels are compared, and this share of them is taken to hold little but noise."""
WHITE = 1.6
"""Ratio of the noise at twice the distance to that of neighbours above which neighbours are taken to share noise."""


def measured_variance(image: FloatArray, mask: BoolArray) -> tuple[FloatArray, float]:
    """Return the variance of each pixel (H, W) and by how much more the mean of neighbours scatters than white noise.

    The variance is a straight line in the brightness, as counting noise and that of a detector are: fitted to squares
    of a second difference along both axes, which lets neither slopes nor lines along an axis through.
    """
    values = np.where(mask, image, 0.0)
    near, usable = _second_differences(values, mask, 1)
    if usable.sum() < FEWEST:
        return np.full(image.shape, np.nan), 1.0
    smooth = _mean_within(values, mask, 2.0)
    offset, slope = _line(smooth[usable], near[usable])
    variance = offset + slope * np.maximum(smooth, float(smooth[mask].min()))
    variance = np.maximum(variance, 0.05 * max(float(np.median(variance[mask])), 1e-300))
    far, both = _second_differences(values, mask, 2)
    both &= usable
    shared = 1.0
    if both.sum() >= FEWEST:
        # The quietest squares: structure is finer than two pixels in some places, noise is alike everywhere.
        rows, columns = (np.arange(n) // SQUARE for n in image.shape)
        square = (rows[:, None] * (columns[-1] + 1) + columns)[both]
        count = np.bincount(square)
        ratios = np.bincount(square, (far / variance)[both]) / np.maximum(count, 1)
        ratio = float(np.quantile(ratios[count >= min(SQUARE**2 // 2, count.max())], QUIET))
        shared = ratio if ratio > WHITE else 1.0
    return variance, shared


def _second_differences(values: FloatArray, mask: BoolArray, step: int) -> tuple[FloatArray, BoolArray]:
    """Squares of the second difference along y and x, as variances of a pixel, and where all its pixels are valid."""
    kernel = np.zeros(2 * step + 1)
    kernel[::step] = (1, -2, 1)
    difference, whole = values, mask.astype(np.float64)
    for axis in (0, 1):
        difference = ndimage.correlate1d(difference, kernel, axis=axis, mode="constant")
        whole = ndimage.minimum_filter1d(whole, 2 * step + 1, axis=axis, mode="constant")
    return difference * difference / 36, whole > 0.5


def _mean_within(values: FloatArray, mask: BoolArray, sigma: float) -> FloatArray:
    share = ndimage.gaussian_filter(mask.astype(np.float64), sigma)
    return np.asarray(ndimage.gaussian_filter(values, sigma) / np.maximum(share, 1e-9))


def _line(brightness: FloatArray, squares: FloatArray) -> tuple[float, float]:
    """Offset and slope, neither of them negative, of the mean square against brightness."""
    order = np.argsort(brightness, kind="stable")
    parts = np.array_split(order, min(LEVELS, max(2, len(order) // 50)))
    x = np.array([brightness[part].mean() for part in parts])
    y = np.array([squares[part].mean() for part in parts])
    weight = np.array([len(part) for part in parts]) / np.maximum(y, 0.02 * max(y.mean(), 1e-300)) ** 2
    low = min(0.0, float(x.min()))
    best = (float((weight * y).sum() / weight.sum()), 0.0)
    error = float((weight * (y - best[0]) ** 2).sum())
    through = (weight * y * (x - low)).sum() / max(float((weight * (x - low) ** 2).sum()), 1e-300)
    trials = [(-through * low, through)]
    middle = (weight * x).sum() / weight.sum()
    spread = float((weight * (x - middle) ** 2).sum())
    if spread > 0:
        slope = float((weight * (x - middle) * y).sum() / spread)
        level = float((weight * y).sum() / weight.sum() - slope * middle)
        if slope >= 0 and level + slope * low >= 0:
            trials = [(level, slope)]
    for offset, slope in trials:
        other = float((weight * (y - offset - slope * x) ** 2).sum())
        if slope >= 0 and other < error:
            best, error = (float(offset), float(slope)), other
    return best
