"""Whether images show a pattern at all: noise, hot pixels alone and bands give numbers that mean nothing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stackalign._types import FloatArray

__all__ = ["doubts_of_file", "doubts_of_image"]

LOOKED_AT = 16
"""Images of a file, evenly spaced, whose sum is looked at."""
HIGHEST = 0.005
"""Share of the pixels that are cut to the level of the others: hot pixels are fewer."""
CHANCE = 5.0
"""Correlation of neighbours in units of its standard deviation for white noise. Of 780 images of flat Poisson noise,
10^-3 to 10^3 counts a pixel, none was taken for a pattern."""
LEFT_OVER = 0.05
"""Share of the covariance of neighbours that may remain when all that varies along one direction is taken away. Bands
at any angle leave 0.00 to 0.02, rings and lattices 0.6 and more."""
PAIRS = 6.0
"""Pairs of lit neighbours that are the least in a pattern of single electrons."""
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))


def doubts_of_file(reader: Any, mask: NDArray[np.bool_] | None) -> dict[str, str]:
    """Look at the sum of a few images of a reader; flags with a sentence, none where there is a pattern."""
    n, height, width = reader.info.shape
    total = np.zeros((height, width))
    valid = np.ones((height, width), np.bool_) if mask is None else np.array(mask, np.bool_)
    image = np.empty((1, height, width), reader.info.dtype)
    frames = np.unique(np.linspace(0, n - 1, min(n, LOOKED_AT)).astype(int))
    for frame in frames.tolist():
        reader.read(frame, frame + 1, image)
        known = np.isfinite(image[0])
        if known.any():
            total += np.where(known, image[0], 0.0)
            valid &= known
    return doubts_of_image(total, valid)


def doubts_of_image(image: NDArray[Any], valid: NDArray[np.bool_]) -> dict[str, str]:
    """Flags of an image that shows no diffraction pattern, each with a sentence.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W).
    valid : numpy.ndarray
        (H, W) boolean.

    Returns
    -------
    dict
        "empty", "constant", "insignificant" (noise and single bright pixels) or "undetermined" (a band).
    """
    if not valid.any():
        return {"empty": "no pixel is valid"}
    values = image[valid].astype(np.float64)
    if values.min() == values.max():
        return {"constant": f"all valid pixels are {values[0]:g}"}
    planes = _without_highest(image.astype(np.float64), valid)
    chance, covariance = _of_neighbours(planes, valid)
    lit = float((planes > 0).sum())
    # A pair of lit pixels adds the inverse of the share of those: of few electrons one pair is many sigma.
    if chance < CHANCE or len(NEIGHBOURS) * covariance * lit < PAIRS:
        text = f"neighbouring pixels are as alike as those of noise ({chance:.1f} sigma): noise or hot pixels alone"
        return {"insignificant": text}
    left = min(_left_over(planes, valid, angle) for angle in _directions(planes, valid)) / covariance
    if left < LEFT_OVER:
        return {"undetermined": f"the image varies along one direction, as a band does ({max(left, 0):.0%} is left)"}
    return {}


def _without_highest(image: FloatArray, valid: NDArray[np.bool_]) -> FloatArray:
    """The image with its highest pixels cut, of mean 0 and variance 1 over the valid pixels, 0 elsewhere."""
    values = image[valid]
    top = np.quantile(values, 1 - HIGHEST)
    middle = np.median(values)
    if top <= middle:  # sparse electrons: what is lit is lit
        top = values[values > middle].min(initial=np.inf)
    low = np.minimum(image, top)
    low = np.where(valid, low - low[valid].mean(), 0.0)
    scale = low[valid].std()
    return low / scale if scale > 0 else low


def _of_neighbours(planes: FloatArray, valid: NDArray[np.bool_]) -> tuple[float, float]:
    """Correlation of neighbours in standard deviations for white noise, and their mean covariance."""
    total = pairs = 0.0
    for dy, dx in NEIGHBOURS:
        first = (slice(0, -dy or None), slice(max(0, -dx), -max(0, dx) or None))
        second = (slice(dy, None), slice(max(0, dx), -max(0, -dx) or None))
        total += float((planes[first] * planes[second]).sum())
        pairs += float((valid[first] & valid[second]).sum())
    if pairs == 0:
        return 0.0, 0.0
    return total / np.sqrt(pairs), total / pairs


def _directions(planes: FloatArray, valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Angles near that along which a smoothed image varies most."""
    gy, gx = (ndimage.gaussian_filter(planes, 2.0, order=order) for order in ((1, 0), (0, 1)))
    inner = ndimage.binary_erosion(valid, iterations=4)
    yy, yx, xx = (float((a * b)[inner].sum()) for a, b in ((gy, gy), (gy, gx), (gx, gx)))
    angle = 0.5 * np.arctan2(2 * yx, yy - xx)  # from y towards x
    return np.asarray(angle + np.deg2rad(np.linspace(-3, 3, 13)))


def _left_over(planes: FloatArray, valid: NDArray[np.bool_], angle: float) -> float:
    """Covariance of neighbours without what varies along one direction."""
    y, x = np.indices(planes.shape)
    along = y * np.cos(angle) + x * np.sin(angle)
    bins = np.round(along - along.min()).astype(np.intp)
    n = int(bins.max()) + 1
    counts = np.bincount(bins[valid], minlength=n)
    means = np.bincount(bins[valid], planes[valid], minlength=n) / np.maximum(counts, 1)
    return _of_neighbours(np.where(valid, planes - means[bins], 0.0), valid)[1]
