"""What is left of two images that lie on each other: what has moved otherwise is there twice, with either sign."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fftfreq, irfft2, rfftfreq

from stackalign._types import FloatArray

__all__ = ["Difference", "Left", "common_part"]

NEAR = 1.5
"""Pixels around no lag that the spread of one spot and the filter of the background take up."""
ALONE = 0.3
"""Correlation of the reference with itself up to which a lag is no repetition of a lattice: strengths of spots that
change between two images are alike there too."""
SHARE, DEPTH = 0.03, 0.1
"""Share of the image's energy that has moved otherwise, and of the difference's, from which it is believed. Pairs of
the same sample have up to 0.02, or a depth of up to 0.05 where noise is all that is left."""
CHANCE = 8.0
"""Deviations of noise, of which the lowest of all lags has up to 5.5."""
STILL, STILL_SHARE = 0.25, 0.004
"""Shift in binned pixels up to which images have stood still, so that nothing is interpolated, and the share from which
a movement is believed then."""
FAR = 8.0
"""Pixels from which lags tell how the autocorrelation scatters."""


class Left(NamedTuple):
    """Share of the image's energy that has moved otherwise, 0 where that is not believed, and (row, col) by how far.

    The lag has either sign: a difference does not tell which of the two images was first.
    """

    share: float
    lag: FloatArray


class Difference:
    """Differences of images from one image, whose autocorrelation tells what has moved otherwise.

    Parameters
    ----------
    values : numpy.ndarray
        Spectrum (H, W // 2 + 1) of the one image without its background.
    pixels : float
        Number of its valid pixels.
    shape : (int, int)
        Of the images.
    sigma : float
        Of the Gaussian that was taken away as background.
    """

    def __init__(self, values: NDArray[np.complex64], pixels: float, shape: tuple[int, int], sigma: float) -> None:
        self.values, self.shape = values, shape
        own = irfft2(_power(values), shape)
        self.energy = max(float(own[0, 0]), 1e-30)
        square = fftfreq(shape[0])[:, None] ** 2 + rfftfreq(shape[1])[None] ** 2
        noise = irfft2((1 - np.exp(-2 * (np.pi * sigma) ** 2 * square)) ** 2, shape)
        self.noise = (noise / noise[0, 0]).astype(np.float32)
        rows, columns = (np.minimum(np.arange(n), n - np.arange(n)) for n in shape)
        lag = np.hypot(rows[:, None], columns)
        self.told, self.far = (lag > NEAR) & (own < ALONE * self.energy), lag > FAR
        self.chance = CHANCE / np.sqrt(max(pixels, 1.0))

    def __call__(self, values: NDArray[np.complex64], still: bool = False) -> Left:
        """Compare the spectrum of an image that was moved onto the one, or has stood still."""
        own = irfft2(_power(values), self.shape)[0, 0]
        left = self.values - values * np.float32(np.sqrt(self.energy / max(float(own), 1e-30)))
        cross = irfft2(_power(left), self.shape)
        energy = float(cross[0, 0])
        if not energy > (STILL_SHARE if still else SHARE) * self.energy:
            return NOTHING
        # All may be noise, which the filter makes look like its own opposite beside no lag.
        lags = np.where(self.told, cross / np.float32(energy) - self.noise, np.float32(0))
        place = np.unravel_index(int(np.argmin(lags)), lags.shape)
        depth = -float(lags[place])
        share = depth * energy / self.energy
        plain = depth > max(DEPTH, self.chance) and share > SHARE
        if not plain and still:
            plain = depth > max(self.chance, CHANCE * float(lags[self.far].std())) and share > STILL_SHARE
        if not plain:
            return NOTHING
        lag = [(int(k) + n // 2) % n - n // 2 for k, n in zip(place, self.shape, strict=True)]
        return Left(share, np.array(lag, np.float64))


NOTHING = Left(0.0, np.zeros(2))


def _power(values: NDArray[np.complex64]) -> NDArray[np.float32]:
    return np.asarray(values.real**2 + values.imag**2, np.float32)


def common_part(
    shape: tuple[int, int], shift: FloatArray
) -> tuple[NDArray[np.int64], tuple[slice, slice], tuple[slice, slice]]:
    """Whole pixels of a shift, and the parts of a reference and of an image that show the same where it moves by it."""
    whole = np.rint(shift).astype(np.int64)
    onto, moved = (
        tuple(slice(max(0, s * d), n + min(0, s * d)) for d, n in zip(whole.tolist(), shape, strict=True))
        for s in (1, -1)
    )
    return whole, (onto[0], onto[1]), (moved[0], moved[1])
