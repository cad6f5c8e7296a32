"""The direct beam, where it is seen: the brightest spot or disk, its middle, and what speaks for it."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label, maximum_filter

from stackalign._types import FloatArray

__all__ = ["Beam", "Disk", "find_beams", "measured_disk", "without_spikes"]


PRODUCTS = 3.0
"""Sigma from which products with matrices are faster than filters."""
SIZES = 0.1
"""Step in pixels of the sigmas by which disks are compared, so that images of a scan share weights."""
BLUR = 1.5
"""Sigma in pixels of the Gaussian in whose maxima disks are looked for."""
SPIKE = 3.0
"""A pixel by so much higher than all its neighbours is no spot: optics make none so narrow."""
BRIGHTEST = 64
"""Pixels among which two that touch are looked for."""
LEVELS = ((0.2, 0.5), (0.25, 0.6), (0.35, 0.7), (0.45, 0.8), (0.5, 0.9))
"""Shares of the height of a disk between which its pixels begin to count: its outline, at several heights."""
LONGEST = 1.6
"""Ratio of the axes of what is no disk but an arc or a streak."""
NEAR = 40
"""Pixels around the top of a disk within which small ones are measured."""
MOST = 30
STEEP, NARROW = 1.5, 5.0
"""A disk has an outline: its radius at the lowest level is less than so many times that at the highest, or it is so
narrow, in pixels, that the detector blurs it. A halo has none."""
EVEN, FINEST = 1.2, 0.012
"""Scatter of outlines over the error of their mean where the background is even, and the least error in pixels."""
LARGEST = 0.25
"""Radius of the largest disk as a share of the image's shorter side."""


class Disk(NamedTuple):
    """A spot or disk: centre (row, col), standard error along an axis, radius, flux, and signal over its noise.

    It is `whole` where neither the edge nor the mask cuts it, `sharp` where it has an outline, as no halo has, and
    `tilt` is the contrast of the background on opposite sides of it, 0 where that is within the noise.
    """

    center: FloatArray
    sigma: float
    radius: float
    flux: float
    significance: float
    whole: bool
    tilt: float
    sharp: bool


class Beam(NamedTuple):
    """The brightest disk, and the fluxes of all, the highest first, at their places (K, 2)."""

    disk: Disk
    flux: FloatArray
    places: FloatArray


def without_spikes(image: FloatArray, valid: NDArray[np.bool_]) -> tuple[FloatArray, NDArray[np.bool_]]:
    """The image without single pixels that stand out of all their neighbours, which count as invalid."""
    lowest = float(image[valid].min()) if valid.any() else 0.0
    around = _highest_neighbour(np.where(valid, image, lowest))
    steps = np.abs(np.diff(image, axis=1))[valid[:, 1:] & valid[:, :-1]]
    noise = float(np.quantile(steps, 0.9)) if steps.size else 0.0
    spike = valid & (image - lowest > SPIKE * (around - lowest) + 6.0 * noise)
    touching = _touching(image, valid & ~spike, lowest, noise)
    if not spike.any() and not len(touching):
        return image, valid
    spike[tuple(touching.T)] = True
    around[tuple(touching.T)] = lowest if not len(touching) else np.median(image[valid & ~spike])
    return np.where(spike, around, image), valid & ~spike


def _highest_neighbour(image: FloatArray) -> FloatArray:
    """Highest of the eight neighbours of each pixel; those beyond the edge are as the edge."""
    framed = np.pad(image, 1, mode="edge")
    beside = np.maximum(framed[:, :-2], framed[:, 2:])
    rows = np.maximum(beside, framed[:, 1:-1])
    return np.asarray(np.maximum(np.maximum(rows[:-2], rows[2:]), beside[1:-1]))


def _touching(image: FloatArray, valid: NDArray[np.bool_], lowest: float, noise: float) -> NDArray[np.intp]:
    """Places (K, 2) of those among the brightest pixels that stand out of all their neighbours but one."""
    values = np.where(valid, image, -np.inf).ravel()
    few = np.argpartition(values, -min(BRIGHTEST, values.size - 1))[-BRIGHTEST:]
    places = np.stack(np.unravel_index(few[np.isfinite(values[few])], image.shape), axis=1)
    framed = np.pad(np.where(valid, image, lowest), 1, mode="edge")
    steps = np.array([(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)])
    around = np.sort(framed[places[:, :1] + steps[:, 0], places[:, 1:] + steps[:, 1]], axis=1)
    high = image[tuple(places.T)] - lowest > SPIKE * (around[:, -2] - lowest) + 6.0 * noise
    return np.asarray(places[high], np.intp)


def _blurred(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """`scipy.ndimage.gaussian_filter` with zeros around; for wide Gaussians by products with two matrices."""
    if sigma < PRODUCTS:
        narrow: NDArray[np.float32] = gaussian_filter(image, sigma, mode="constant")
        return narrow
    rows, columns = (_weights(n, sigma) for n in image.shape)
    return np.asarray(rows @ image @ columns, np.float32)


def _mean(image: NDArray[np.float32], usable: NDArray[np.float32], sigma: float, whole: bool) -> NDArray[np.float32]:
    """Gaussian mean of the usable pixels of an image that is 0 elsewhere; of a `whole` one weights are products."""
    if whole and sigma >= PRODUCTS:
        weight = np.outer(*(_weights(n, sigma).sum(axis=1) for n in image.shape))
    else:
        weight = _blurred(usable, sigma)
    return np.asarray(_blurred(image, sigma) / np.maximum(weight, 1e-6), np.float32)


@lru_cache(maxsize=64)
def _weights(size: int, sigma: float) -> NDArray[np.float32]:
    """Matrix of a Gaussian along an axis, the same for the images of a scan."""
    reach = int(4.0 * sigma + 0.5)
    total = float(np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).sum())
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    weights = np.where(distance <= reach, np.exp(-0.5 * (distance / sigma) ** 2) / total, 0.0)
    return np.asarray(weights, np.float32)


def find_beams(image: FloatArray, valid: NDArray[np.bool_]) -> Beam | None:
    """Find the brightest disk of an image, and how bright others of its size are; None where none stands out."""
    usable, whole = valid.astype(np.float32), bool(valid.all())
    share = gaussian_filter(usable, BLUR, mode="constant")
    filled = np.where(valid, image, 0.0).astype(np.float32)
    smooth = gaussian_filter(filled, BLUR, mode="constant") / np.maximum(share, 1e-6)
    seen = valid & (share > 0.5)
    if not seen.any():
        return None
    top = np.unravel_index(int(np.argmax(np.where(seen, smooth, -np.inf))), image.shape)
    disk = _measured_near(image, valid, smooth, top)
    if disk is None:
        return None
    # Others by the flux that a disk of the same size takes up.
    size = max(1.0, round(0.6 * disk.radius / SIZES) * SIZES)
    narrow, wide = (_mean(filled, usable, sigma, whole) for sigma in (size, 3 * size))
    response = np.where(valid, narrow - wide, 0.0)
    reach = max(2, int(np.ceil(1.5 * disk.radius)))
    peak = (maximum_filter(response, 2 * reach + 1) == response) & (response > 0) & valid
    places = np.argwhere(peak).astype(np.float64)
    flux = response[peak].astype(np.float64)
    far = np.hypot(*(places - disk.center).T) > 1.2 * disk.radius + 2
    own = float(flux[~far].max(initial=0.0))
    order = np.argsort(-flux[far], kind="stable")[:MOST]
    return Beam(disk._replace(flux=own), flux[far][order], places[far][order])


def _measured_near(
    image: FloatArray, valid: NDArray[np.bool_], smooth: NDArray[np.float32], top: tuple[np.intp, ...]
) -> Disk | None:
    """`measured_disk`, of a part of the image where that holds all of a small disk's surroundings."""
    levels = Levels(float(np.median(smooth[valid])), float(smooth[valid].min()), float(np.quantile(image[valid], 0.02)))
    low = [max(0, int(t) - NEAR) for t in top]
    high = [min(n, int(t) + NEAR + 1) for t, n in zip(top, image.shape, strict=True)]
    if all(b - a == 2 * NEAR + 1 for a, b in zip(low, high, strict=True)):
        part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        place = np.array([float(t) - a for t, a in zip(top, low, strict=True)])
        disk = measured_disk(image[part], valid[part], smooth[part], place, levels)
        if disk is not None and 2.6 * disk.radius + 10.0 + 4 * BLUR < NEAR:
            return disk._replace(center=disk.center + low)
    return measured_disk(image, valid, smooth, np.array(top, np.float64), levels)


class Levels(NamedTuple):
    """Of a whole image: median and least of its smoothed valid pixels, and the quantile 0.02 of them as they are."""

    ground: float
    lowest: float
    dark: float


def _outlines(
    smooth: NDArray[np.float32], valid: NDArray[np.bool_], top: tuple[int, int], ground: float, height: float
) -> tuple[list[FloatArray], list[float], list[float]]:
    """Middles, radii and ratios of the axes of what stands out about a top, between each two of the levels."""
    middles: list[FloatArray] = []
    radii: list[float] = []
    ratios: list[float] = []
    for low, high in LEVELS:
        region, _ = label(smooth >= ground + low * (height - ground))
        rows, columns = np.nonzero((region == region[top]) & valid)
        share = ((smooth[rows, columns] - ground) / (height - ground) - low) / (high - low)
        weight = share.clip(0.0, 1.0)
        total = float(weight.sum())
        if not total > 0:
            continue
        middle = np.array([rows @ weight, columns @ weight]) / total
        middles.append(middle)
        radii.append(np.sqrt(total / np.pi))
        away = np.stack([rows, columns]) - middle[:, None]
        axes = np.linalg.eigvalsh((away * weight) @ away.T / total + np.eye(2) / 12)
        ratios.append(float(np.sqrt(axes[1] / axes[0])))
    return middles, radii, ratios


def _distances(shape: tuple[int, ...], center: FloatArray) -> FloatArray:
    """Distance of each pixel from a centre."""
    distances: FloatArray = np.hypot(*(np.indices(shape) - center[:, None, None]))
    return distances


def _ring(distance: FloatArray, valid: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Valid pixels around a disk, beyond its blurred edge."""
    return valid & (distance > 1.6 * radius + 2 * BLUR) & (distance < 2.6 * radius + 3 * BLUR)


def measured_disk(
    image: FloatArray, valid: NDArray[np.bool_], smooth: NDArray[np.float32], top: FloatArray, levels: Levels
) -> Disk | None:
    """Middle and size of the disk with its top at a place, by its outlines at several levels."""
    size = min(image.shape)
    y, x = (int(v) for v in top)
    height = float(smooth[y, x])
    ground = levels.ground
    local = ground
    for attempt in range(2):
        middles, radii, ratios = _outlines(smooth, valid, (y, x), local, height)
        if not radii or attempt:
            break
        # The disk stands on what is around it, which may be a halo.
        distance = _distances(image.shape, np.array(middles).mean(axis=0))
        around = _ring(distance, valid, float(np.median(radii)))
        if around.sum() < 8:
            break
        local = min(float(np.median(smooth[around])), 0.7 * height + 0.3 * ground)
    if not radii:
        return None
    radius = float(np.median(radii))
    if radius > LARGEST * size or float(np.median(ratios)) > LONGEST:
        return None
    center = np.mean(middles, axis=0)
    distance = _distances(image.shape, center)
    around = _ring(distance, valid, radius)
    scatter = float(image[around].std()) if around.sum() > 8 else 0.0
    pixels = max(1.0, np.pi * radius**2)
    contrast = max(height - local, 1e-30)
    noise = scatter / np.sqrt(min(pixels, 4 * np.pi * BLUR**2))
    # The outlines' scatter says how round the disk is; the noise moves an outline by noise over slope.
    uneven = float(np.std(middles, axis=0).max())
    inside = distance <= radius
    rough = float(image[inside & valid].std()) if (inside & valid).sum() > 3 else 0.0
    # Counts are noisier where there are more of them; the disk's own structure is an upper bound.
    lowest = levels.lowest
    counted = scatter * np.sqrt(1.0 + contrast / max(local - lowest, 1e-9 * contrast))
    moved = max(scatter, min(rough, contrast, counted)) / contrast * max(radius, 1.0) / np.sqrt(pixels)
    whole = bool((distance[~valid].min(initial=np.inf) > radius + 2) and _apart(center, image.shape) > radius + 2)
    tilt = _tilt(image, valid, center, 1.6 * radius + 2 * BLUR, levels.dark)
    # Outlines at several heights scatter by more than their mean does, unless the background pulls all of them.
    sigma = float(np.hypot(np.hypot(uneven, moved) / (EVEN if tilt <= 0 else 1.0), FINEST))
    sharp = radius <= NARROW or max(radii) < STEEP * min(radii)
    return Disk(center, sigma, radius, 0.0, contrast / max(noise, 1e-30), whole, tilt, sharp)


def _tilt(image: FloatArray, valid: NDArray[np.bool_], center: FloatArray, near: float, lowest: float) -> float:
    """Largest contrast of the medians of opposite quadrants beside a disk, less three times its error."""
    dy, dx = np.indices(image.shape) - center[:, None, None]
    away = np.hypot(dy, dx)
    ring = valid & (away > near) & (away < near + 10.0)
    contrast = 0.0
    for turn in (0.0, np.pi / 4):
        quarter = np.floor((np.arctan2(dy[ring], dx[ring]) + turn) / (np.pi / 2)).astype(int) % 4
        parts = [image[ring][quarter == k] - lowest for k in range(4)]
        for one, other in ((parts[0], parts[2]), (parts[1], parts[3])):
            if min(one.size, other.size) < 8:
                continue
            a, b = float(np.median(one)), float(np.median(other))
            error = 1.25 * float(np.hypot(one.std() / np.sqrt(one.size), other.std() / np.sqrt(other.size)))
            contrast = max(contrast, (abs(a - b) - 3.0 * error) / max(abs(a + b), 1e-30))
    return contrast


def _apart(center: FloatArray, shape: tuple[int, ...]) -> float:
    """Distance of a place to the nearest edge of the image."""
    return float(min(center.min(), (np.array(shape) - 1 - center).min()))
