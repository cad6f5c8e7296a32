"""Hot pixels of detectors: found by a masked median and median deviation, and by edges that no lens makes."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._threads import governed
from stackalign.errors import DataError
from stackalign.io.provenance import provenance, to_jsonable

from ._inputs import checked_images

__all__ = ["HotSpots", "remove_hot_spots"]


STRIDE = 4
"""The local background is smooth: it is taken at every fourth pixel and interpolated."""
COLD = 2
"""Of the eight neighbours, sorted, the one that is cold: even at the edge of a hot block three are."""
ROUNDS = 64
CROWDED = 0.1
"""Share of hot pixels in a window from which its median is taken anew without them."""
SIGMA = 1.4826
"""Standard deviation of Gaussian noise in units of its median absolute deviation."""


@dataclass(frozen=True)
class HotSpots:
    """Images without their hot pixels, and which these were.

    Parameters
    ----------
    images : numpy.ndarray
        In the type of the input; hot pixels have the median of the good pixels around them, all others are untouched.
    mask : numpy.ndarray
        Boolean, of the shape of the images, True = valid: False at hot pixels and where the mask given was False.
    hot : numpy.ndarray
        Boolean, of the shape of the images: the hot pixels alone.
    n_hot : numpy.ndarray
        int64, one for each image.
    provenance : dict
        Versions and settings.
    """

    images: NDArray[Any]
    mask: NDArray[np.bool_]
    hot: NDArray[np.bool_]
    n_hot: NDArray[np.int64]
    provenance: dict[str, Any] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Counts and positions (row, col) or (image, row, col) as JSON knows them."""
        plain = to_jsonable(
            {
                "shape": self.images.shape,
                "n_hot": self.n_hot,
                "hot": np.argwhere(self.hot),
                "provenance": self.provenance,
            }
        )
        assert isinstance(plain, dict)
        return plain


@governed
def remove_hot_spots(
    images: Any, *, mask: Any = None, threshold: float = 8.0, contrast: float = 8.0, size: int = 9
) -> HotSpots:
    """Find hot pixels, single ones and blocks of them, and replace them; spots that a lens has made stay as they are.

    Parameters
    ----------
    images : array_like
        (H, W) or (N, H, W), real numbers; NaN and infinite pixels are invalid.
    mask : array_like, optional
        Boolean (H, W) or (N, H, W), True = valid.
    threshold : float
        A hot pixel is above the local background by so many standard deviations, as the median absolute deviation
        around it says.
    contrast : float
        And so many times as high above the background as the cold ones among its neighbours, or, beside a higher pixel,
        by so much closer to that one: spots of a full width at half maximum of 3 pixels and more fall off more evenly.
    size : int
        Width of the window of the local background, in pixels, odd: more than three times the width of a spot.

    Returns
    -------
    HotSpots

    Raises
    ------
    DataError
        Images are complex or too small, or a mask leaves nothing.
    ValueError
        A number makes no sense.

    Warns
    -----
    StackalignWarning
        A mask leaves less than 5 % of an image: is its polarity right? True = valid.

    Notes
    -----
    Works on the host. Blocks of hot pixels are taken off from their edges inwards, in as many rounds as that takes.
    Of blocks that are wider than half a window something may be left; for them take a larger `size`, or mask them.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import diffraction
    >>> image = np.random.default_rng(0).poisson(50.0, (32, 32))
    >>> image[10, 20] = 9000
    >>> found = diffraction.remove_hot_spots(image)
    >>> np.argwhere(found.hot), bool(found.images[10, 20] < 80)
    (array([[10, 20]]), True)
    """
    if not (threshold > 0 and contrast > 1):
        msg = f"threshold must be above 0 and contrast above 1, got {threshold} and {contrast}"
        raise ValueError(msg)
    if int(size) != size or size < 5 or size % 2 == 0:
        msg = f"size must be an odd number of pixels from 5, got {size}"
        raise ValueError(msg)
    values, valid, single = checked_images(images, mask, "cpu")
    if min(values.shape[1:]) < 3:
        msg = f"images must have at least 3 x 3 pixels, got {tuple(values.shape[1:])}"
        raise DataError(msg)
    cleaned = np.array(values)
    hot = np.zeros(values.shape, bool)
    usable = np.isfinite(values)
    if valid is not None:
        usable &= valid
    for k, image in enumerate(values):
        hot[k], cleaned[k] = _one(image, usable[k], threshold, contrast, size)
    settings = {"threshold": threshold, "contrast": contrast, "size": size}
    record = provenance(settings, [], device="cpu")
    counts = hot.sum(axis=(1, 2))
    good = usable & ~hot
    if single:
        return HotSpots(cleaned[0], good[0], hot[0], counts, record)
    return HotSpots(cleaned, good, hot, counts, record)


def _one(
    image: NDArray[Any], usable: NDArray[np.bool_], threshold: float, contrast: float, size: int
) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    from scipy.ndimage import uniform_filter

    hot = np.zeros(image.shape, bool)
    if not usable.any():
        return hot, image
    work = np.where(usable, image, np.nan).astype(np.float32 if image.dtype.itemsize <= 2 else np.float64)
    whole = image.dtype.kind != "f"
    background, noise = _background(work, size)
    typical = np.nanmedian(noise[::STRIDE, ::STRIDE])
    least = max(float(typical), 1.0 if whole else 0.0)
    for _ in range(ROUNDS):
        above = work - background
        floor = np.maximum(noise, least)
        with np.errstate(invalid="ignore"):
            candidates = np.argwhere((above > threshold * floor) & ~hot)
        cliff, cold = _is_cliff(above, floor, candidates, contrast)
        fresh = candidates[cliff]
        if not len(fresh):
            break
        rows, columns = fresh.T
        hot[rows, columns] = True
        # What is now known to be hot counts as cold: the next layer of a block has become its edge.
        work[rows, columns] = cold[cliff] + background[rows, columns]
        crowded = uniform_filter(hot.astype(np.float32), size)[rows, columns] > CROWDED
        _update(work, background, noise, fresh[crowded], size)
    cleaned = np.array(image)
    rows, columns = np.nonzero(hot)
    if rows.size:
        work[hot] = np.nan
        replacement = _surroundings(work, rows, columns)
        missing = np.isnan(replacement)
        replacement[missing] = background[rows[missing], columns[missing]]
        cleaned[hot] = np.rint(replacement) if whole else replacement
    return hot, cleaned


def _is_cliff(
    above: NDArray[Any], floor: NDArray[Any], candidates: NDArray[np.int64], contrast: float
) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Whether pixels end more suddenly towards the cold ones among their neighbours than any spot; and what is cold.

    On the flank of a spot, a pixel is to the next one outwards as the next one inwards is to it, and for a Gaussian the
    ratio of the two ratios is ``exp(1 / sigma**2)`` wherever that is.
    """
    if not len(candidates):
        return np.zeros(0, bool), np.zeros(0)
    padded = np.pad(above, 1, constant_values=np.nan)
    y, x = candidates.T
    around = [(dy, dx) for dy in range(3) for dx in range(3) if (dy, dx) != (1, 1)]
    neighbours = np.sort(np.stack([padded[y + dy, x + dx] for dy, dx in around], axis=1), axis=1)  # NaN comes last
    count = (~np.isnan(neighbours)).sum(axis=1)
    value = above[y, x]
    each = np.arange(len(value))
    # Of few neighbours, at a border or a mask, one of the lower half; of none, the background.
    cold = neighbours[each, np.clip(np.minimum(COLD, count // 2), 0, 7)]
    cold[count == 0] = 0.0
    highest = np.where(count > 0, neighbours[each, np.clip(count - 1, 0, 7)], value)
    lowest = np.maximum(cold, floor[y, x])
    cliff: NDArray[np.bool_] = value * value > contrast * lowest * np.maximum(value, highest)
    return cliff, cold


def _background(work: NDArray[Any], size: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Median of the valid pixels of the window around each pixel, and their deviation from it."""
    height, width = work.shape
    half = size // 2
    padded = np.pad(work, half, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size))
    rows, columns = _grid(height), _grid(width)
    middle = np.empty((rows.size, columns.size), work.dtype)
    spread = np.empty_like(middle)
    for k, row in enumerate(rows):
        pixels = windows[row, columns].reshape(columns.size, -1)
        middle[k] = _median(pixels)
        spread[k] = _median(np.abs(pixels - middle[k][:, None]))
    return tuple(_interpolated(_filled(p), rows, columns, height, width) for p in (middle, SIGMA * spread))  # type: ignore[return-value]


def _grid(length: int) -> NDArray[np.int64]:
    points = np.arange(0, length, STRIDE)
    return points if points[-1] == length - 1 else np.append(points, length - 1)


def _median(pixels: NDArray[Any]) -> NDArray[Any]:
    """Of the finite numbers of each row; NaN where there is none."""
    ordered = np.sort(pixels, axis=1)  # NaN comes last
    if not np.isnan(ordered[:, -1]).any():
        middle = pixels.shape[1] // 2
        return np.asarray(
            ordered[:, middle] if pixels.shape[1] % 2 else ordered[:, middle - 1 : middle + 1].mean(axis=1)
        )
    count = (~np.isnan(ordered)).sum(axis=1)
    each = np.arange(len(ordered))
    low, high = np.maximum(count - 1, 0) // 2, np.maximum(count, 1) // 2
    high = np.minimum(high, np.maximum(count - 1, 0))
    medians: NDArray[Any] = 0.5 * (ordered[each, low] + ordered[each, high])
    return medians


def _filled(points: NDArray[Any]) -> NDArray[Any]:
    from ._fill import fill_nearest

    return fill_nearest(points, np.isfinite(points), (0, 1))


def _interpolated(
    points: NDArray[Any], rows: NDArray[np.int64], columns: NDArray[np.int64], height: int, width: int
) -> NDArray[Any]:
    """Linear interpolation of what is known on a grid."""

    def along(values: NDArray[Any], known: NDArray[np.int64], length: int) -> NDArray[Any]:
        if known.size == 1:
            return np.repeat(values, length, axis=0)
        at = np.arange(length)
        left = np.clip(np.searchsorted(known, at, side="right") - 1, 0, known.size - 2)
        share = ((at - known[left]) / (known[left + 1] - known[left])).astype(values.dtype)[:, None]
        return np.asarray(values[left] * (1 - share) + values[left + 1] * share)

    return along(along(points, rows, height).T, columns, width).T


def _update(
    work: NDArray[Any], background: NDArray[Any], noise: NDArray[Any], fresh: NDArray[np.int64], size: int
) -> None:
    """Take the background anew around pixels that turned out to be hot, in whole tiles."""
    tile = 16 * STRIDE
    margin = size // 2 + STRIDE
    tiles = np.unique(
        (
            fresh[:, None] + np.array([[-margin, -margin], [-margin, margin], [margin, -margin], [margin, margin]])
        ).reshape(-1, 2)
        // tile,
        axis=0,
    )
    height, width = work.shape
    for ty, tx in tiles:
        top, left = max(0, ty * tile), max(0, tx * tile)
        bottom, right = min(height, (ty + 1) * tile), min(width, (tx + 1) * tile)
        if top >= bottom or left >= right:
            continue
        # The grid of the part coincides with that of the whole; a margin makes windows at its border complete.
        y0, x0 = max(0, top - 4 * STRIDE), max(0, left - 4 * STRIDE)
        y1, x1 = min(height, bottom + 4 * STRIDE), min(width, right + 4 * STRIDE)
        part = _background(work[y0:y1, x0:x1], size)
        for whole, new in zip((background, noise), part, strict=True):
            whole[top:bottom, left:right] = new[top - y0 : bottom - y0, left - x0 : right - x0]


def _surroundings(work: NDArray[Any], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[Any]:
    """Median of the good pixels within two of each of these; of those next to it where there are four."""
    padded = np.pad(work, 2, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5))[rows, columns]
    near = _median(np.ascontiguousarray(windows[:, 1:4, 1:4]).reshape(len(rows), -1))
    enough = (~np.isnan(windows[:, 1:4, 1:4])).sum(axis=(1, 2)) >= 4
    return np.where(enough, near, _median(windows.reshape(len(rows), -1)))
