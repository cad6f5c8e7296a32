"""How wrong samples of a cubic spline still are, from how fine the structure is that both images show."""

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from stackalign import transforms
from stackalign._types import FloatArray
from stackalign.backends import Array

from ._sums import summed

__all__ = ["interpolation_covariance", "interpolation_errors", "places_between", "roughness"]

SAMPLED = 1 << 15
"""Pixels per image and axis that the structure is measured on."""

LEAST_ERROR, MOST_ERROR, HALF_WAY = 0.00004, 0.0018, 26.0
"""Pixels of error where all structure is smooth, and where it reaches to the finest waves; and the fourth power of the
ratio of `interpolation_errors` at which half of the larger one is due.

Up to some 0.25 cycles per pixel `put_in_phase` leaves a few hundred-thousandths of a pixel of what a cubic spline puts
off. Waves near half a cycle are seen as others where pixels are elsewhere, and no interpolation knows which they were.
Rms errors of pairs without noise, or with little, were 0.00002 to 0.00005 px for ratios of 0.004 to 0.6 (blobs, smooth
and band-limited noise), 0.001 for 1.7 to 2.3 (text, pores, power laws), 0.0013 to 0.0023 for 2.7 to 14 (gravel, print).
"""

PLACES = 16
"""Places along each axis that are looked at for where samples fall between pixels."""

LARGEST_RATIO = 256.0
"""That of the wave with two pixels per period."""


def roughness(reference: Array, resampled: Array) -> list[Array]:
    """Sums (B,) of products of first and fifth differences of both planes, with their counts, along y and then x.

    The noise of one image has nothing in common with that of the other. Planes are (B, H, W) with NaN where invalid.
    """
    xp = array_namespace(reference)
    step = max(1, int(reference.shape[1] * reference.shape[2]) // SAMPLED)
    sums = []
    for lines in (slice(None), slice(None, None, step)), (slice(None, None, step), slice(None)):
        along_y = lines[0] == slice(None)
        first = [_differences(planes[:, lines[0], lines[1]], along_y) for planes in (reference, resampled)]
        fifth = first
        for _ in range(4):
            fifth = [_differences(d, along_y) for d in fifth]
        for of_reference, of_samples in (first, fifth):
            product = of_reference * of_samples
            valid = xp.isfinite(product)
            sums += [summed(xp.where(valid, product, np.float32(0))), valid.sum(axis=(1, 2))]
    return sums


def _differences(planes: Array, along_y: bool) -> Array:
    return planes[:, 1:] - planes[:, :-1] if along_y else planes[:, :, 1:] - planes[:, :, :-1]


def interpolation_errors(sums: list[FloatArray]) -> FloatArray:
    """Pixels (B, 2) along y and x by which interpolation may put the images off, from `roughness` on the host.

    The mean square of fifth differences over that of first ones is the mean of (2 sin(pi f))^8 over the slopes' waves.
    """
    errors = []
    for first, n_first, fifth, n_fifth in (sums[:4], sums[4:]):
        of_first, of_fifth = (s / np.maximum(n, 1) for s, n in ((first, n_first), (fifth, n_fifth)))
        known = of_first > 0
        ratio = np.where(known, of_fifth / np.where(known, of_first, 1.0), LARGEST_RATIO)
        fine = np.clip(ratio, 0.0, LARGEST_RATIO) ** 4
        errors.append(np.hypot(LEAST_ERROR, MOST_ERROR * fine / (fine + HALF_WAY)))
    return np.stack(errors, axis=1)


def interpolation_covariance(
    errors: FloatArray, model: str, reach: FloatArray, matrices: FloatArray, shape: tuple[int, int]
) -> FloatArray:
    """Covariance (B, P, P) of parameters from `interpolation_errors` (B, 2).

    `reach` (P,) are the pixels that each parameter moves the farthest one by, `matrices` (B, 2, 3) where the moving
    images are sampled. Half of the variance belongs to the places of the scene on the reference's pixels, which are the
    same everywhere; the other half averages out as far as scales and angles put samples between pixels in all ways.
    """
    names = transforms.MODELS[model]
    alike = np.abs(places_between(matrices, shape)) ** 2
    shifts = errors * np.sqrt(0.5 * (1.0 + alike))
    of_parameter = {"dy": shifts[:, 0], "dx": shifts[:, 1]}
    farthest = errors.max(axis=1)
    size = np.stack([of_parameter.get(name, farthest) for name in names], axis=1) / reach
    return np.asarray(size[:, :, None] ** 2 * np.eye(len(names)))


def places_between(matrices: FloatArray, shape: tuple[int, int]) -> NDArray[np.complex128]:
    """Means (B, 2) of exp(2 pi i x) of the places x along y and x at which samples of a shape fall between pixels."""
    y, x = (np.linspace(0.0, side - 1.0, PLACES) for side in shape)
    points = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    between = np.exp(2j * np.pi * (transforms.apply(matrices[:, None], points) - points))
    return np.asarray(between.mean(axis=1))
