"""Spikes: single pixels that nothing behind a lens can make, such as cosmic rays and hot pixels, left out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from stackalign.backends import Array
from stackalign.ops import asarray, device_of, to_numpy
from stackalign.ops.transfer import fetched

__all__ = ["without_spikes", "without_spikes_of"]

SAMPLED = 4096
"""Pixels per image that its contrast is measured on."""

OUTLYING, LEAST_HEIGHT, LEAST_RISE = 3.5, 3.0, 8.0
"""A spike is so many deviations of the image away from its median, so many of them above its surroundings, and so many
deviations of single pixels from their neighbours, those all over the image and those around it. Deviations are robust:
those of a normal distribution's quartiles."""

ALONE = 0.8
"""Share of a spike's height above its surroundings by which all but two of its neighbours are lower: 0.6 or less for
the middle of a star whose point-spread function has a sigma of 0.7 pixels or more. Two may be spikes themselves."""

MOST = 0.05
"""Share of an image beyond which such pixels are what the image shows."""

AROUND = np.array([(y, x) for y in range(-2, 3) for x in range(-2, 3) if (y, x) != (0, 0)])
BESIDE = np.abs(AROUND).max(axis=1) == 1


def without_spikes(images: Array, mask: Array | None = None) -> tuple[Array, NDArray[np.int64]]:
    """Set spikes to NaN.

    Parameters
    ----------
    images : array
        (N, H, W), real numbers on any device; NaN and infinite pixels are invalid.
    mask : array, optional
        Boolean, (H, W) or (N, H, W), True = valid.

    Returns
    -------
    images : array
        The images themselves where there is no spike, else a copy in floating point with NaN at the spikes.
    counts : numpy.ndarray
        (N,) spikes in each image.

    Notes
    -----
    A spike stands out from its surroundings of 5 x 5 pixels far beyond the noise, and all but two of its eight
    neighbours do not. Images that mostly have one value, such as counts of single electrons, are left as they are.
    """
    return without_spikes_of([(images, mask)])[0]


def without_spikes_of(stacks: Sequence[tuple[Array, Array | None]]) -> list[tuple[Array, NDArray[np.int64]]]:
    """`without_spikes` of stacks of one home with their masks; on a GPU what is waited for is waited for once."""
    outlying, limits = [], []
    for (images, _), sample in zip(stacks, fetched([_sample(*each) for each in stacks]), strict=True):
        contrast = np.array([_contrast(plane) for plane in sample])
        at = OUTLYING * contrast[:, 1]
        low, high = (asarray(contrast[:, 0] + sign * at, device_of(images))[:, None, None] for sign in (-1, 1))
        xp = array_namespace(images)
        outlying.append((((images < low) | (images > high)) & xp.isfinite(images)).sum(axis=(1, 2)))
        limits.append(contrast)
    cleaned = []
    for (images, mask), contrast, count in zip(stacks, limits, fetched(outlying), strict=True):
        cleaned.append(_cleaned(images, mask, contrast, np.flatnonzero((count > 0) & (contrast[:, 1] > 0))))
    return cleaned


def _sample(images: Array, mask: Array | None) -> Array:
    """Some pixels (N, ...) of each image in float64, NaN under the mask."""
    step = max(1, int(np.sqrt(images.shape[1] * images.shape[2] / SAMPLED)))
    sample = images[:, ::step, ::step].astype(np.float64)
    if mask is not None:
        sample = array_namespace(images).where(mask[..., ::step, ::step], sample, np.nan)
    return sample


def _cleaned(
    images: Array, mask: Array | None, contrast: NDArray[np.float64], chosen: NDArray[np.int64]
) -> tuple[Array, NDArray[np.int64]]:
    """Images of which some may have spikes, without them, and how many these are."""
    counts = np.zeros(len(images), np.int64)
    spikes: dict[int, NDArray[np.int64]] = {}
    for k in chosen.tolist():
        plane = to_numpy(images[k]).astype(np.float64)
        plane[~np.isfinite(plane)] = np.nan
        if mask is not None:
            plane[~to_numpy(mask if mask.ndim == 2 else mask[k])] = np.nan
        middle, deviation = contrast[k]
        places = _spikes(plane, np.argwhere(np.abs(plane - middle) > OUTLYING * deviation), deviation)
        if 0 < len(places) <= MOST * plane.size:
            spikes[k], counts[k] = places, len(places)
    if not spikes:
        return images, counts
    exact = images.dtype.itemsize > 4 or images.dtype.name in ("uint32", "int32")
    cleaned: Any = images.astype(np.float64 if exact else np.float32)
    for k, places in spikes.items():
        y, x = (asarray(np.ascontiguousarray(c), device_of(images)) for c in places.T)
        cleaned[k, y, x] = np.nan
    return cleaned, counts


def _contrast(values: NDArray[np.float64]) -> tuple[float, float]:
    """Median and robust deviation of finite values; 0 for the latter where most are the same."""
    values = values[np.isfinite(values)]
    if values.size < 16:
        return 0.0, 0.0
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float(middle), float(high - low) / 1.349


def _neighbours(
    padded: NDArray[np.float64], places: NDArray[np.int64], around: NDArray[np.int64] = AROUND
) -> NDArray[np.float64]:
    """(N, 24) pixels around places of a plane that is padded by 2, or those at other offsets."""
    width = padded.shape[1]
    offsets = around @ np.array([width, 1])
    return np.asarray(padded.ravel()[((places + 2) @ np.array([width, 1]))[:, None] + offsets])


def _medians(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Medians (N,) of the numbers in rows of which some are NaN, not all."""
    values = np.sort(values, axis=1)  # NaN come last
    count = np.isfinite(values).sum(axis=1)
    rows = np.arange(len(values))
    return np.asarray(0.5 * (values[rows, (count - 1) // 2] + values[rows, count // 2]))


def _stand_out(plane: NDArray[np.float64], padded: NDArray[np.float64], places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether all but two of the eight neighbours lie on one side of a place, which few places of an image do."""
    beside = _neighbours(padded, places, AROUND[BESIDE]) - plane[tuple(places.T)][:, None]
    return np.asarray(((beside >= 0).sum(axis=1) <= 2) | ((beside <= 0).sum(axis=1) <= 2))


def _spikes(plane: NDArray[np.float64], places: NDArray[np.int64], deviation: float) -> NDArray[np.int64]:
    """Those of the outlying places that are spikes."""
    padded = np.pad(plane, 2, constant_values=np.nan)
    places = places[_stand_out(plane, padded, places)]
    around = _neighbours(padded, places)
    enough = np.isfinite(around).sum(axis=1) >= len(AROUND) // 2
    places, around = places[enough], around[enough]
    values = plane[tuple(places.T)]
    height = values - _medians(around)
    sign = np.sign(height)
    # The third largest neighbour, towards the spike; what is not known is below all.
    beside = np.where(np.isfinite(around[:, BESIDE]), sign[:, None] * around[:, BESIDE], -np.inf)
    third = np.sort(beside, axis=1)[:, -3]
    height = np.abs(height)
    alone = (height > LEAST_HEIGHT * deviation) & (sign * values - third > ALONE * height)
    if not alone.any():
        return places[:0]
    places, around, height = places[alone], around[alone], height[alone]
    # The noise of counts and of speckle is that of what is near, and more than elsewhere where images are bright.
    rough = np.maximum(max(_roughness(plane, padded), _unit(plane)), _spreads(around))
    return np.asarray(places[height > LEAST_RISE * rough])


def _spreads(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Robust deviations (N,) of the numbers in rows of which some are NaN, not all."""
    low, high = np.nanquantile(values, (0.25, 0.75), axis=1)
    return np.asarray((high - low) / 1.349)


def _unit(plane: NDArray[np.float64]) -> float:
    """Smallest step between the values of some pixels: 1 for counts, whose few values have no meaningful quartiles."""
    some = plane.ravel()[:: max(1, plane.size // SAMPLED)]
    steps = np.diff(np.unique(some[np.isfinite(some)]))
    return float(steps.min(initial=np.inf))


def _roughness(plane: NDArray[np.float64], padded: NDArray[np.float64]) -> float:
    """Robust deviation of pixels from the median of their eight neighbours."""
    grid = np.linspace(0, plane.size - 1, min(SAMPLED, plane.size)).astype(np.int64)
    around = _neighbours(padded, np.stack(np.unravel_index(grid, plane.shape), axis=1))[:, BESIDE]
    values = plane.ravel()[grid]
    known = np.isfinite(around).all(axis=1) & np.isfinite(values)
    return _contrast(values[known] - np.median(around[known], axis=1))[1]
