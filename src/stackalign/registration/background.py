"""Smooth background of images with invalid pixels: a normalised Gaussian, as products with two small matrices."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stackalign._blas import on_one_thread
from stackalign.backends import Array
from stackalign.ops import asarray, bin_mean, device_of

__all__ = ["background_sigma", "band_pass", "between", "bin_factor", "bin_kernel", "smooth_background"]

FINE = 2
"""Bins per sigma: they widen the Gaussian by one part in a hundred."""
SEPARABLE = 4
NARROW = 8
SMALL = 1 << 19
"""Pixels."""


def bin_kernel(size: int, factor: int, sigma: float) -> NDArray[np.float32]:
    """Matrix (size, bins) of Gaussian weights of bins at pixels."""
    bins = size // factor
    middles = np.arange(bins) * factor + 0.5 * (factor - 1)
    distance = np.arange(size)[:, None] - middles[None, :]
    weights: NDArray[np.float32] = np.exp(-0.5 * (distance / sigma) ** 2).astype(np.float32)
    return weights


def between(rows: Array, middle: Array, columns: Array) -> Array:
    """Product rows @ middle @ columns.T, of a middle (..., b, c).

    On the host by one thread of BLAS: the others spin for longer than such a product takes.
    """
    if not isinstance(middle, np.ndarray):
        return rows @ middle @ columns.T
    with on_one_thread():
        product: Array = rows @ (middle @ columns.T)
    return product


def bin_factor(sigma: float, shape: tuple[int, int]) -> int:
    """Pixels per bin along each axis; 0 where bins do not pay."""
    factor = max(1, min(int(sigma / FINE), *shape))
    return factor if factor >= SEPARABLE else 0


def _filtered(images: NDArray[Any], mask: NDArray[np.bool_] | None, sigma: float) -> NDArray[np.float32]:
    """`smooth_background` of the pixels themselves, on the host: narrow Gaussians are few taps."""
    valid = np.isfinite(images) if mask is None else np.isfinite(images) & mask
    sigmas = (0.0, sigma, sigma)
    above = gaussian_filter(np.where(valid, images, 0).astype(np.float32), sigmas, mode="constant")
    below = gaussian_filter(valid.astype(np.float32), sigmas, mode="constant")
    near = below > 1e-6
    return np.where(near, above / np.where(near, below, 1), np.float32(np.nan))


def smooth_background(images: Array, mask: Array | None, sigma: float) -> Array:
    """Gaussian mean of the valid pixels around each pixel of (N, H, W), float32; NaN where there is none near."""
    xp = array_namespace(images)
    height, width = (int(s) for s in images.shape[1:])
    factor = bin_factor(sigma, (height, width))
    if factor == 0 and isinstance(images, np.ndarray):
        return _filtered(images, mask, sigma)
    factor = factor or max(1, min(int(sigma / FINE), height, width))
    small = height * width * len(images) <= SMALL
    means, counts = bin_mean(images, factor, mask=mask, return_count=True, workers=1 if small else None)
    weight = counts.astype(np.float32)
    total = xp.where(counts > 0, means, 0).astype(np.float32) * weight
    device = device_of(images)
    rows, columns = (asarray(bin_kernel(n, factor, sigma), device) for n in (height, width))
    above, below = (between(rows, a, columns) for a in (total, weight))
    near = below > 1e-6
    result: Any = xp.where(near, above / xp.where(near, below, 1), np.float32(np.nan))
    return result


def band_pass(images: Array, mask: Array | None, sigma: float) -> Array:
    """Images without their background, float32: the Gaussian mean of sigma / `NARROW` minus that of sigma.

    The narrow one keeps the pattern of the detector's pixels, which stands still, from outweighing what is left. A
    difference, because a ratio would weight dark regions, which are mostly noise, as the bright ones.
    """
    return smooth_background(images, mask, sigma / NARROW) - smooth_background(images, mask, sigma)


def background_sigma(value: float | bool | None, shape: tuple[int, ...]) -> float | None:
    """Sigma in pixels of the background of images of a shape (..., H, W); None to leave them as they are.

    Parameters
    ----------
    value : float or bool, optional
        A sigma; True is a fiftieth of the shorter side.
    shape : tuple of int

    Raises
    ------
    ValueError
        The sigma is not above 0.
    """
    if value is None or value is False:
        return None
    if value is True:
        return max(1.0, min(shape[-2:]) / 50)
    if not (np.isfinite(value) and value > 0):
        msg = f"background must be a sigma in pixels above 0, or True for a fiftieth of the image, got {value}"
        raise ValueError(msg)
    return float(value)
