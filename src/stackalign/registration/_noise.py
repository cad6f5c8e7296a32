"""How noisy images are, and how much they should be smoothed before bilinear interpolation is let near them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stackalign.backends import Array
from stackalign.ops.transfer import fetched

__all__ = [
    "NOISY",
    "Sampled",
    "bands_of",
    "block_share",
    "levels",
    "moving_share",
    "noise_levels",
    "response_levels",
    "sampled_noise",
    "second_difference_share",
    "smoothed_noise",
    "smoothing_for",
    "unsmoothed_noise",
]

SAMPLED = 1 << 15
"""Pixels per image that the noise is measured on."""

COUNTED, FEW_VALUES = 1024, 16
"""Pixels per image whose values are counted, and how many there may be for an image to be one of few counts."""

FREQUENCIES = 64
"""Between 0 and half a cycle per pixel."""

NOISY = 1.5
"""Smoothing from which on whole-pixel shifts are looked for in the smoothed images too: the noise would hide them."""

SMOOTHING = ((0.004, 0.0), (0.15, 0.7), (0.4, 1.0), (0.75, 1.5), (0.9, 2.0), (np.inf, 3.0))
"""Noise, in units of the image's deviation, up to which a sigma in pixels is used.

Bilinear interpolation averages noise most half-way between pixels, so a correlation of noisy images prefers half-pixel
shifts. A Gaussian over both images takes the noise away that this averaging could still take. With these the error
of scenes of natural images, holes and all, stays within 1.6 times the Cramer-Rao bound from 2 % to 50 % noise, where
without them it is 5 to 10 times the bound from 10 % noise on.
"""


def noise_levels(planes: Array) -> NDArray[np.float64]:
    """Standard deviation of the white noise in each plane (B, H, W), in the planes' units; 0 where there is nothing.

    The response of the mask [1, -2, 1] x [1, -2, 1], which structure of several pixels hardly excites, has six times
    the deviation of white noise (Immerkaer, Comput. Vis. Image Underst. 64, 300, 1996); the median of its magnitude
    is not disturbed by edges and stars. Only places with nine valid pixels count. On images of fine structure it is
    an upper bound.
    """
    return np.asarray(levels(planes)[0][0])


def response_levels(planes: Array) -> NDArray[np.float64]:
    """Do as `noise_levels` for planes without structure: by mean squares, so that few counts and large ones count."""
    bands = fetched([bands_of(planes)])[0]
    return np.array([_plain(_response(each.astype(np.float64))) for each in bands])


def levels(*stacks: Array) -> list[NDArray[np.float64]]:
    """`noise_levels` and `response_levels` of stacks (B, H, W), (2, B) for each."""
    return [np.array([_level(bands) for bands in rows]).T for rows in fetched([bands_of(planes) for planes in stacks])]


def bands_of(planes: Array, *, in_turn: bool = False) -> Array:
    """Three rows each of places all over the planes, (B, places, 3, W), or those beginning on even and odd in turn."""
    height, width = planes.shape[1:]
    n_bands = min(max(1, SAMPLED // width), height // 3)
    tops = np.unique(np.linspace(0, max(height - 3, 0), n_bands).astype(np.int64))
    if in_turn:
        tops = tops - (tops + np.arange(len(tops))) % 2
    rows = planes[:, (tops[:, None] + np.arange(3)).ravel()]
    return rows.reshape(planes.shape[0], len(tops), 3, width)


def _level(bands: NDArray[np.float32]) -> tuple[float, float]:
    values = bands.astype(np.float64)
    response = _response(values)
    if not response.size:
        return 0.0, 0.0
    robust, plain = 1.4826 * float(np.median(np.abs(response))) / 6.0, _plain(response)
    # The median of a few counts is one of their steps.
    some = values.ravel()[:: max(1, values.size // COUNTED)]
    return plain if len(np.unique(some[np.isfinite(some)])) <= FEW_VALUES else robust, plain


def _response(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Finite responses of the mask to bands (places, 3, W)."""
    across = values[:, 0] - 2 * values[:, 1] + values[:, 2]
    response = across[:, :-2] - 2 * across[:, 1:-1] + across[:, 2:]
    return np.asarray(response[np.isfinite(response)])


def _plain(response: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(response**2))) / 6.0 if response.size else 0.0


def smoothed_noise(noise: NDArray[np.float64], smooth: float) -> NDArray[np.float64]:
    """Variance of the noise in a plane that was smoothed and standardised.

    `noise` is the standard deviation of white noise in the standardised plane before.
    """
    # A measured deviation may be above 1, which is all there is.
    variance, power = np.minimum(noise, 1.0) ** 2, _autocorrelation(smooth, 0)
    return np.asarray(variance * power**2 / (1.0 - variance + variance * power**2))


def unsmoothed_noise(variance: NDArray[np.float64], smooth: float) -> NDArray[np.float64]:
    """Do the reverse of `smoothed_noise`: the standard deviation before a plane was smoothed and standardised."""
    share = np.minimum(variance, 1.0) / _autocorrelation(smooth, 0) ** 2
    return np.asarray(np.sqrt(share / (1.0 - np.minimum(variance, 1.0) + share)))


def _autocorrelation(smooth: float, lag: int) -> float:
    """Sum of the products of a Gaussian's weights with those at a lag."""
    if smooth == 0.0:
        return float(lag == 0)
    _, kernel = _kernel(smooth)
    return float((kernel[lag:] * kernel[: len(kernel) - lag]).sum())


def _kernel(smooth: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Places of a Gaussian's weights, and these."""
    at = np.arange(-int(4 * smooth + 2), int(4 * smooth + 2) + 1)
    kernel = np.exp(-0.5 * (at / smooth) ** 2) if smooth > 0.0 else (at == 0).astype(np.float64)
    return at, kernel / kernel.sum()


def block_share(noise: NDArray[np.float64], smooth: tuple[float, float], side: int) -> NDArray[np.float64]:
    """Variance (B,) of the mean of side x side pixels over that of one, in the difference of smoothed images of noise.

    `noise` (B, 2) is that of the two images before.
    """
    variances = _variances(noise, smooth)
    shares = np.array([_mean_share(side, s) ** 2 for s in smooth])
    return np.asarray((variances * shares).sum(axis=1) / variances.sum(axis=1))


def _mean_share(side: int, smooth: float) -> float:
    """Variance of the mean of pixels in a row over that of one, for noise smoothed along the row."""
    if smooth == 0.0:
        return 1.0 / side
    at = np.arange(-int(4 * smooth + 2), int(4 * smooth + 2) + 1)
    kernel = np.exp(-0.5 * (at / smooth) ** 2)
    wide = np.convolve(np.full(side, 1.0 / side), kernel)
    return float((wide**2).sum() / (kernel**2).sum())


def _variances(noise: NDArray[np.float64], smooth: tuple[float, float]) -> NDArray[np.float64]:
    """Variances (B, 2) of the noise of both images after they were smoothed, not 0."""
    both = [smoothed_noise(noise[:, k], smooth[k]) for k in (0, 1)]
    return np.stack(both, axis=1) + np.finfo(np.float32).tiny


def moving_share(noise: NDArray[np.float64], smooth: tuple[float, float]) -> NDArray[np.float64]:
    """Share (B,) of the second of two smoothed images in the variance of the noise of their difference.

    `noise` (B, 2) is that of the two before.
    """
    variances = _variances(noise, smooth)
    return np.asarray(variances[:, 1] / variances.sum(axis=1))


def second_difference_share(
    noise: NDArray[np.float64], smooth: tuple[float, float], sampled: "Sampled | None" = None
) -> NDArray[np.float64]:
    """Share (B,) that the response of `noise_levels` keeps of its deviation in the difference of smoothed images.

    `noise` (B, 2) is that of the two images before. With `sampled`, the second one was sampled between pixels, and the
    share is that of the deviation that the difference would have had without.
    """
    variances = _variances(noise, smooth)
    shares = []
    for s in smooth:
        own, beside, beyond = (_autocorrelation(s, lag) for lag in (0, 1, 2))
        shares.append((6.0 * own - 8.0 * beside + 2.0 * beyond) / (6.0 * own))
    kept = variances * np.square(shares)
    if sampled is not None:
        kept[:, 1] *= sampled.response
    return np.asarray(np.sqrt(kept.sum(axis=1) / variances.sum(axis=1)))


class Sampled(NamedTuple):
    """Shares (B,) that noise keeps where a cubic spline is sampled: of its variance, and of the mask's response to it.

    Half-way between pixels a spline shows little of what changes from one to the next, which the mask sees the most of.
    """

    variance: NDArray[np.float64]
    response: NDArray[np.float64]

    def of_difference(self, noise: NDArray[np.float64], smooth: tuple[float, float]) -> NDArray[np.float64]:
        """Share (B,) of the variance that the difference of two images keeps of which the second one is sampled."""
        variances = _variances(noise, smooth)
        return np.asarray((variances[:, 0] + variances[:, 1] * self.variance) / variances.sum(axis=1))


def sampled_noise(smooth: float, between: NDArray[np.float64]) -> Sampled:
    """Shares of noise smoothed by `smooth`; `between` (B, 2) is the mean along both axes of cos(2 pi x) over samples x.

    A wave of f cycles per pixel is seen with 1 - f cycles beside it, the share w of it: together they have
    ``1 - 2 w (1 - w) (1 - cos(2 pi x))`` of its power.
    """
    f = (np.arange(FREQUENCIES) + 0.5) / (2 * FREQUENCIES)
    own, other = np.sinc(f) ** 4, np.sinc(1.0 - f) ** 4
    lost = 2.0 * own * other / (own + other) ** 2
    at, kernel = _kernel(smooth)
    power = (np.cos(2.0 * np.pi * f[:, None] * at) @ kernel) ** 2
    losses = [(lost * weight).sum() / weight.sum() for weight in (power, power * np.sin(np.pi * f) ** 4)]
    return Sampled(*(np.prod(1.0 - loss * (1.0 - between), axis=1) for loss in losses))


def smoothing_for(noise: float) -> float:
    """Sigma in pixels for a level of noise."""
    return next(sigma for limit, sigma in SMOOTHING if noise <= limit)
