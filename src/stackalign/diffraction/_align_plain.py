"""Alignments that are plainly right, told by one short transform per image; the others need the full comparison."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fftfreq, irfft2, next_fast_len, rfft2, rfftfreq
from scipy.ndimage import gaussian_filter

from stackalign._types import FloatArray

from ._align_bands import bands_of
from ._align_left import STILL, Difference, Left

__all__ = ["Limits", "Plain", "agreement", "moved_otherwise", "plain"]

Images = NDArray[np.float32]
Masks = NDArray[np.bool_]
_Images = tuple[Images, Masks]

CHUNK = 16
"""Images that are transformed together."""
MARGIN = 0.75
"""Share of the limits of the full comparison below which an image is plain: the correlation here is periodic, and not
divided by the number of common pixels at each shift."""
HIGHEST = 1.05
"""How much higher the correlation at the shift is than anywhere else."""
LEAST_SEEN = 0.03
"""Correlation of an image with itself one pixel away, without which it shows nothing but noise."""
DOUBTED = 0.06, 4.0, 1.0
"""Binned pixels, and standard deviations, by which bands of the spectrum disagree that need a look at full resolution.
The finest is not asked: binning folds finer structure into it."""
SURELY = 1.25
"""By how much the significance that is needed is exceeded."""


class Limits(NamedTuple):
    """Limits of the full comparison.

    The significance that is needed, the pixels of one peak, the share of its height that a second one has, the
    standard deviations of that, the correlation of the reference with itself from which it repeats, and the share of
    what two images show that agrees.
    """

    significance: float
    near: int
    share: float
    deviations: float
    repeated: float
    alike: float


class Plain(NamedTuple):
    """Which images are plainly aligned, the significance (N,) of their scores without the background, and agreement."""

    clear: NDArray[np.bool_]
    significance: FloatArray
    alike: FloatArray


def agreement(fixed: _Images, moving: _Images, shifts: FloatArray, sigma: float) -> FloatArray:
    """Share (N,) of the fine structure of images that agrees with that of one at their shifts.

    Their correlation beside the maximum, over that of each with itself beside none: there noise has no part in either.
    The background, of a Gaussian of sigma, is taken away twice: halos must leave nothing. NaN where too little is seen.
    """
    height, width = (next_fast_len(n, real=True) for n in fixed[0].shape[1:])
    one, some = _spectra(*fixed, (height, width), sigma), _spectra(*moving, (height, width), sigma)
    return _Structure(one, (height, width), sigma)(some, shifts, _moved(shifts, (height, width)))


def moved_otherwise(fixed: _Images, moving: _Images, shift: FloatArray, sigma: float, still: bool) -> Left:
    """What has moved otherwise than by a shift (2,), less than a pixel, of one binned image; see `Difference`."""
    height, width = (next_fast_len(n, real=True) for n in fixed[0].shape[1:])
    one, other = (_spectra(*images, (height, width), sigma) for images in (fixed, moving))
    difference = Difference(one.values[0], float(one.pixels[0]), (height, width), sigma)
    return difference(other.values[0] * _moved(shift[None], (height, width))[0], still)


class _Spectra(NamedTuple):
    """Spectra (N, ...) of images without their background, their sums of squares and numbers of pixels (N,)."""

    values: NDArray[np.complex64]
    energy: FloatArray
    pixels: FloatArray


def plain(
    fixed: tuple[Images, Masks], moving: tuple[Images, Masks], shifts: FloatArray, sigma: float, limits: Limits
) -> Plain:
    """Find the alignments that need no further look.

    Parameters
    ----------
    fixed, moving : (images, masks)
        One binned image and N, each (N, H, W) with zeros where nothing is valid.
    shifts : numpy.ndarray
        (N, 2) in binned pixels.
    sigma : float
        Sigma of the background in binned pixels.
    limits : Limits

    Returns
    -------
    Plain
    """
    height, width = (next_fast_len(n, real=True) for n in fixed[0].shape[1:])
    shape = height, width
    one = _spectra(*fixed, shape, sigma)
    power = np.abs(one.values) ** 2 / np.float32(max(float(one.energy[0]), 1e-30))
    clear, significance = np.zeros(len(shifts), bool), np.zeros(len(shifts))
    alike = np.full(len(shifts), np.nan)
    structure = _Structure(one, shape, sigma)
    difference = Difference(one.values[0], float(one.pixels[0]), shape, sigma)
    bands = bands_of(shape)
    for start in range(0, len(shifts), CHUNK):
        part = slice(start, start + CHUNK)
        some = _spectra(moving[0][part], moving[1][part], shape, sigma)
        cross = irfft2(one.values * some.values.conj(), shape)
        cross /= np.maximum(np.sqrt(one.energy * some.energy), 1e-30).astype(np.float32)[:, None, None]
        # The sum of squares over all lags is that of the product of both autocorrelations.
        squares = np.einsum("nij,nij->n", cross, cross).astype(np.float64)
        independent = np.maximum(np.minimum(one.pixels, some.pixels) / np.maximum(squares, 1.0) - 3.0, 1.0)
        moved = _moved(shifts[part], shape)
        own = irfft2(power * moved, shape)
        alike[part] = structure(some, shifts[part], moved)
        for k, (image, model, shift) in enumerate(zip(cross, own, shifts[part], strict=True)):
            clear[start + k], significance[start + k] = _judged(image, model, shift, float(independent[k]), limits)
            clear[start + k] &= not alike[start + k] < limits.alike
            # Binned images between pixels differ by more than full ones, which the full comparison lays on each other.
            onto = some.values[k] * moved[k]
            clear[start + k] = clear[start + k] and not difference(onto, bool((np.abs(shift) < STILL).all())).share
            clear[start + k] = clear[start + k] and not bands(one.values[0], onto, *DOUBTED).period
    return Plain(clear, significance, alike)


def _spectra(images: Images, valid: Masks, shape: tuple[int, int], sigma: float) -> _Spectra:
    sigmas = (0.0, sigma, sigma)
    masks = valid[:1] if (valid == valid[:1]).all() else valid
    below = gaussian_filter(masks.astype(np.float32), sigmas, mode="constant")
    background = gaussian_filter(images, sigmas, mode="constant")
    background /= np.maximum(below, np.float32(1e-6))
    passed = np.subtract(images, background, out=background)
    passed *= masks
    energy = np.einsum("nij,nij->n", passed, passed).astype(np.float64)
    return _Spectra(rfft2(passed, shape), energy, masks.sum(axis=(1, 2)) * np.ones(len(images)))


class _Structure:
    """How much of the fine structure of images agrees with that of one: see `agreement`."""

    def __init__(self, one: _Spectra, shape: tuple[int, int], sigma: float) -> None:
        frequencies = fftfreq(shape[0])[:, None], rfftfreq(shape[1])[None]
        rows, columns = (1 + 2 * np.cos(2 * np.pi * f) for f in frequencies)
        square = sum(f**2 for f in frequencies)
        # The mean of the correlation at the eight lags of one pixel, of images that are filtered once more.
        weight = (rows * columns - 1) / 8 * (1 - np.exp(-2 * (np.pi * sigma) ** 2 * square)) ** 2
        weight[:, 1 : (shape[1] + 1) // 2] *= 2  # Only half of the spectrum is here.
        self.weight = weight.astype(np.float32)
        whole = (1 - np.exp(-2 * (np.pi * sigma) ** 2 * square)) ** 2
        whole[:, 1 : (shape[1] + 1) // 2] *= 2
        self.whole = whole.astype(np.float32)
        self.one, self.shape = one.values, shape
        self.own = self._beside(one.values)

    def _beside(self, values: NDArray[np.complex64]) -> tuple[FloatArray, FloatArray]:
        power = values.real**2 + values.imag**2
        near, all_ = (np.einsum("nij,ij->n", power, w).astype(np.float64) for w in (self.weight, self.whole))
        return near, near / np.maximum(all_, 1e-30)

    def __call__(self, some: _Spectra, shifts: FloatArray, moved: NDArray[np.complex64]) -> FloatArray:
        (one, seen), (two, also) = self.own, self._beside(some.values)
        product = (self.one * some.values.conj() * moved.conj()).real
        cross = np.einsum("nij,ij->n", product, self.weight).astype(np.float64)
        cross /= np.prod(np.maximum(1.0 - np.abs(shifts) / self.shape, 0.1), axis=1)
        known = (seen > LEAST_SEEN) & (also > LEAST_SEEN)
        return np.where(known, cross / np.sqrt(np.maximum(one * two, 1e-30)), np.nan)


def _moved(shifts: FloatArray, shape: tuple[int, int]) -> NDArray[np.complex64]:
    """Factors (N, ...) of spectra by which images move."""
    rows, columns = fftfreq(shape[0]), rfftfreq(shape[1])
    down, right = (np.exp(-2j * np.pi * f * shifts[:, k, None]) for k, f in enumerate((rows, columns)))
    factors: NDArray[np.complex64] = (down[:, :, None] * right[:, None]).astype(np.complex64)
    return factors


def _judged(cross: Images, own: Images, shift: FloatArray, independent: float, limits: Limits) -> tuple[bool, float]:
    """Whether one image is plainly aligned, and its significance.

    From its correlation with the reference over all lags, and that of the reference with itself, moved by the shift.
    """

    def deviations(value: float) -> float:
        return float(np.arctanh(min(max(value, 0.0), 0.999)) * np.sqrt(independent))

    whole = np.rint(shift).astype(int)
    reach = limits.near
    shape = np.array(cross.shape)
    window = np.arange(-reach, reach + 1)
    rows, columns = ((c + window) % n for c, n in zip(whole, shape, strict=True))
    peak = cross[rows[:, None], columns]
    here = float(peak[reach - 1 : reach + 2, reach - 1 : reach + 2].max())
    significance = deviations(here)
    if significance < SURELY * limits.significance:
        return False, significance
    main = here / float(np.prod(np.maximum(1.0 - np.abs(shift) / shape, 0.1)))
    rest = cross.copy()
    rest[rows[:, None], columns] = 0.0
    # Of what the reference repeats the binned images cannot tell which is the highest, and need not.
    if here < HIGHEST * float(rest.max()) and here < HIGHEST * float(rest[own < limits.repeated].max(initial=0.0)):
        return False, significance
    # Noise of the reference is in the peak of its own correlation alone, which makes the peak's height too small a
    # share of the rest.
    height = max(here, float(np.vdot(own, cross)) / max(float(np.vdot(own, own)), 1e-30))
    rest -= np.float32(height) * own.clip(0.0)
    rest[rows[:, None], columns] = 0.0
    second = float(rest.max())
    below = second < MARGIN * limits.share * main or deviations(second) < MARGIN * limits.deviations
    return below, significance
