"""Background and noise of a diffraction pattern, and the matched filter for its spots."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from stackalign._types import FloatArray
from stackalign.ops import bin_mean
from stackalign.registration.background import between, bin_factor, bin_kernel, smooth_background

from ._peak_noise import WHITE, Noise

__all__ = [
    "Filtered",
    "Ground",
    "MatchedFilter",
    "Plane",
    "calibrated",
    "counted",
    "find_ground",
    "ground_beside",
    "is_spot",
    "quiet_electron",
]

Plane = NDArray[np.float32]

BRIGHTEST = 30
"""Peaks by whose signal-to-noise ratio widths are compared: more than a direct beam and its halo make."""

WINDOWS = (24, 24, 48, 48, 48, 48, 48, 48)
"""The background is smooth over these parts of the image, one for each round: first as if there were no halo."""

CLIPPED = 3.0
FEW = 1e-3
"""Clipping has ended when it changes less than this share of the pixels. Images without noise take longest: then what
is left scatters by little, and weak spots stand out."""

BLUR = 1.2
"""Noise is clipped where this Gaussian of the image stands out: spots are wider than pixels."""

FEW_ELECTRONS = 2.5
"""Electrons on one spot that noise alone puts there where electrons are few."""

SEEN = 0.6
"""Share of a spot's weight that must lie on valid pixels."""

FEWEST_BELOW = 64
SAMPLED = 4096
HALF_NORMAL = 0.7306
"""Between the median and the quantile 0.84 of the absolute values of normal numbers of the deviation 1."""
MOST_CORRELATED = 5.0
"""The scatter of a blurred image over that of independent pixels where the detector blurs more than `BLUR` does."""
ROUNDS = 2
LEAST_FALL, EVEN = 0.25, 0.42
"""Least fall of a spot over two widths in any direction, as a share of its height and of the fall in another."""
BESIDE = 3.0
"""Widths of a spot around it in which its electrons are."""
NEWTON = 12
SMOOTH = 2.0
"""Width in pixels from which sums of Gaussian weights over pixels are integrals."""
LOOKS, PIXELS, RARE = 6.0, 1 << 16, 2.0
"""Independent sums of which a maximum of an image of so many pixels is the highest, and deviations from which the
saddle point gives their chance."""
TRUNCATE = 4.0
NEAR = np.float32(1e-6)
CANDIDATES = 96


class Ground(NamedTuple):
    """What is left of an image above its background, its valid pixels, and the variance of its noise.

    Nothing stands out of the `quiet` pixels.
    """

    rest: Plane
    weight: Plane
    variance: Plane
    quiet: NDArray[np.bool_]


class Filtered(NamedTuple):
    """Signal-to-noise ratios for spots of one width."""

    width: float
    snr: Plane
    peaks: Plane
    """Those of the brightest maxima, the highest first."""


class _Means:
    """Gaussian means of the valid pixels, each about the mean of all; that where there is no valid pixel near.

    The weights are those of all planes with the same valid pixels.
    """

    def __init__(self, valid: NDArray[np.bool_], sigma: float) -> None:
        self.valid, self.sigma = valid, sigma
        height, width = valid.shape
        self.factor = bin_factor(sigma, (height, width))
        if self.factor:
            self.rows, self.columns = (bin_kernel(n, self.factor, sigma) for n in (height, width))
        self.scale: Plane | None = None
        self.far: NDArray[np.bool_] | None = None

    def __call__(self, values: Plane) -> Plane:
        if not self.factor:
            level = np.float32(values[self.valid].mean(dtype=np.float64))
            plain = np.asarray(smooth_background((values - level)[None], self.valid[None], self.sigma)[0])
            return np.where(np.isfinite(plain), plain, np.float32(0)) + level
        means, counts = bin_mean(values, self.factor, mask=self.valid, return_count=True, workers=1)
        weight = counts.astype(np.float32)
        if self.scale is None:
            below = between(self.rows, weight, self.columns)
            far = below <= NEAR
            self.far = far if far.any() else None
            self.scale = np.reciprocal(np.maximum(below, NEAR, out=below), out=below)
        means = np.where(counts > 0, means, 0).astype(np.float64)
        middle = float((means * counts).sum() / max(1, int(counts.sum())))
        mean: Plane = between(self.rows, ((means - middle) * counts).astype(np.float32), self.columns)
        mean *= self.scale
        if self.far is not None:
            mean[self.far] = 0
        mean += np.float32(middle)
        return mean


def find_ground(pixels: Plane, valid: NDArray[np.bool_], quantum: float = 0.0) -> Ground:
    """Background and noise, from the pixels that nothing stands out of; pixels that are not valid must be 0.

    Of a detector that counts, single electrons are the background: `quantum` is what one adds to a pixel.
    """
    weight = valid.astype(np.float32)
    seen = _seen(weight, valid, BLUR)
    # The scatter of a mean over 4 pi BLUR^2 pixels; fewer where they are not valid.
    share = np.maximum(seen, np.float32(0.1)) * np.float32(CLIPPED**2 / (4.0 * np.pi * BLUR**2))
    single = np.float32(FEW_ELECTRONS * quantum / (2.0 * np.pi * BLUR**2))
    quiet = valid
    for part in WINDOWS:
        means = _Means(quiet, max(10.0, min(pixels.shape) / part))
        rest = means(pixels)
        np.subtract(pixels, rest, out=rest)
        rest *= weight
        variance = means(rest * rest)
        np.maximum(variance, 0, out=variance)
        stands = ndimage.gaussian_filter(rest, BLUR, mode="constant")
        limit = np.sqrt(variance * share)
        limit *= _correlated(stands, limit, valid)
        before, quiet = quiet, valid & (stands <= limit + single)
        if not quiet.any():
            quiet = valid
        if part == WINDOWS[-1] and np.count_nonzero(before ^ quiet) < FEW * quiet.size:
            break
    known = variance[valid & (variance > 0)]
    floor = 1e-6 * float(known.mean(dtype=np.float64)) if known.size else 1.0
    # Where the window has seen no electron, another one is no surprise.
    floor = max(floor, quantum**2 / (4.0 * np.pi * max(10.0, min(pixels.shape) / part) ** 2))
    return Ground(rest, weight, np.maximum(variance, np.float32(floor)), quiet)


def ground_beside(pixels: Plane, ground: Ground, places: NDArray[np.int64], width: float, electron: float) -> Ground:
    """Background and noise of few electrons beside spots: those of the spots would be a good part of all.

    How many electrons are seen about a place is by chance; one more is assumed than are seen.
    """
    beside = ground.quiet.copy()
    reach = int(np.ceil(BESIDE * width))
    window = np.argwhere(np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) <= BESIDE * width) - reach
    around = (places[:, None] + window).reshape(-1, 2)
    around = around[((around >= 0) & (around < pixels.shape)).all(axis=1)]
    beside[tuple(around.T)] = False
    if np.count_nonzero(beside) < FEWEST_BELOW:
        return ground
    sigma = max(10.0, min(pixels.shape) / WINDOWS[-1])
    means = _Means(beside, sigma)
    rest = (pixels - means(pixels)) * ground.weight
    one = electron**2 / (4.0 * np.pi * sigma**2)
    variance = np.maximum(means(rest * rest), 0) + np.float32(one)
    return Ground(rest, ground.weight, np.asarray(variance, np.float32), beside)


def quiet_electron(rest: Plane, seen: NDArray[np.bool_], share: float) -> float:
    """What an electron adds at most if nothing stands out of this share of an image without other noise."""
    stands = ndimage.gaussian_filter(rest, BLUR, mode="constant")
    return float(np.quantile(stands[seen], share)) * 2.0 * np.pi * BLUR**2 / FEW_ELECTRONS


def _correlated(stands: Plane, limit: Plane, valid: NDArray[np.bool_]) -> np.float32:
    """By how much a blurred image scatters more than one of independent pixels would: detectors blur as well.

    From what lies below the background, where spots do not, about its own middle: spots raise the background at first.
    """
    below = (valid & (stands < 0) & (limit > 0)).ravel().nonzero()[0]
    if len(below) < FEWEST_BELOW:
        return np.float32(1)
    below = below[:: max(1, len(below) // SAMPLED)]
    middle, outer = np.quantile(-stands.flat[below] / limit.flat[below], (0.5, 0.84))
    ratio = CLIPPED / HALF_NORMAL * float(outer - middle)
    return np.float32(min(max(1.0, ratio), MOST_CORRELATED))


def _seen(weight: Plane, valid: NDArray[np.bool_], sigma: float) -> Plane:
    """Share of a Gaussian's weight that lies on valid pixels."""
    if valid.all():
        return _seen_of_all(weight.shape, sigma)
    seen: Plane = ndimage.gaussian_filter(weight, sigma, mode="constant")
    return seen


def _seen_of_all(shape: tuple[int, ...], sigma: float) -> Plane:
    rows, columns = (ndimage.gaussian_filter1d(np.ones(n), sigma, mode="constant") for n in shape)
    return np.outer(rows, columns).astype(np.float32)


def _transfer(sigma: float, size: int) -> Plane:
    """Transform of the Gaussian of `scipy.ndimage`, which is real."""
    reach = int(TRUNCATE * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    wrapped = np.zeros(size)
    wrapped[np.arange(-reach, reach + 1)] = taps / taps.sum()
    transfer: Plane = fft.fft(wrapped).real.astype(np.float32)
    return transfer


class MatchedFilter:
    """The matched filter for spots of any width up to a largest: image and mask are transformed once."""

    def __init__(self, ground: Ground, widest: float, noise: Noise = WHITE) -> None:
        reach = int(TRUNCATE * widest + 0.5)
        self.shape = ground.rest.shape
        self.size = tuple(fft.next_fast_len(n + reach, real=True) for n in self.shape)
        self.rest = fft.rfft2(ground.rest, self.size)
        self.weight = None if ground.weight.all() else fft.rfft2(ground.weight, self.size)
        self.scale = np.reciprocal(np.sqrt(ground.variance))
        self.noise = noise

    def _gaussian(self, spectrum: NDArray[np.complex64], sigma: float) -> Plane:
        rows, columns = (_transfer(sigma, n) for n in self.size)
        product = spectrum * rows[:, None]
        product *= columns[: spectrum.shape[1]]
        out: Plane = fft.irfft2(product, self.size, overwrite_x=True)[: self.shape[0], : self.shape[1]]
        return out

    def __call__(self, width: float) -> Filtered:
        narrow = width / np.sqrt(2.0)
        seen = (
            _seen_of_all(self.shape, narrow) if self.weight is None else np.array(self._gaussian(self.weight, narrow))
        )
        snr = self._gaussian(self.rest, width) * self.scale
        hidden = seen < SEEN
        np.sqrt(np.maximum(seen, np.float32(1e-9), out=seen), out=seen)
        snr *= np.float32(np.sqrt(4.0 * np.pi) * width / self.noise.scatter(width))
        snr /= seen
        snr[hidden] = 0
        return Filtered(width, snr, _brightest(snr, int(np.ceil(2 * width))))


def _brightest(snr: Plane, reach: int) -> Plane:
    """The highest of the positive pixels that none within a square around them is above."""
    # Such a pixel is the highest of its block too, if the block fits into a quarter of the square.
    block = reach + 1
    starts = [np.arange(0, n, block) for n in snr.shape]
    highest = np.maximum.reduceat(np.maximum.reduceat(snr, starts[0], axis=0), starts[1], axis=1)
    chosen = np.flatnonzero(highest > 0)
    if not len(chosen):
        return np.zeros(0, np.float32)
    count = CANDIDATES
    framed = np.pad(snr, reach + block, constant_values=-np.inf)
    while True:
        values = highest.flat[chosen]
        few = chosen if len(chosen) <= count else chosen[np.argpartition(-values, count)[:count]]
        tops = np.sort(_tops(framed, snr.shape, few, highest.flat[few], reach))[::-1]
        # Blocks that were not looked at are lower than all of these.
        if len(tops) >= BRIGHTEST or len(few) == len(chosen):
            return tops[:BRIGHTEST]
        count *= 4


def _tops(framed: Plane, shape: tuple[int, ...], blocks: NDArray[Any], values: Plane, reach: int) -> Plane:
    block, edge = reach + 1, 2 * reach + 1
    across = -(-shape[1] // block)
    y, x = blocks // across * block, blocks % across * block
    inside, around = np.arange(block), np.arange(-reach, reach + 1)
    cells = framed[(y[:, None] + inside + edge)[:, :, None], (x[:, None] + inside + edge)[:, None, :]]
    place = cells.reshape(len(blocks), -1).argmax(axis=1)
    y, x = y + place // block, x + place % block
    square = framed[(y[:, None] + around + edge)[:, :, None], (x[:, None] + around + edge)[:, None, :]]
    tops: Plane = values[square.max(axis=(1, 2), initial=-np.inf) <= values]
    return tops


def calibrated(snr: Plane, width: float) -> Plane:
    """Divide by the local scatter of what is no peak, where that is above 1.

    Pixels of a real detector are not independent, and backgrounds have structure: what is left of an image scatters by
    more than the noise of its pixels says. The scatter is that of what lies below the background, which noise and
    structure do as often as above it, and spots do not, however much of the window they fill.
    """
    window = max(8.0 * width, min(snr.shape) / WINDOWS[-1])
    squares = snr * snr
    quiet = snr < 0
    if np.count_nonzero(quiet) < FEWEST_BELOW:
        return snr
    scatter = np.maximum(_Means(quiet, window)(squares), np.float32(1))
    for _ in range(ROUNDS):
        quiet = (snr != 0) & (squares < np.float32(CLIPPED**2) * scatter)
        scatter = np.maximum(np.maximum(_Means(quiet, window)(squares), scatter), np.float32(1))
    return np.asarray(snr / np.sqrt(scatter), np.float32)


def counted(snr: FloatArray, variance: FloatArray, quantum: float, width: float, pixels: int = PIXELS) -> FloatArray:
    """Signal-to-noise ratios that a Gaussian tail would give what a tail of counts gives.

    The chance that a sum of Poisson counts with Gaussian weights reaches a value comes from the saddle point of its
    cumulants (Lugannani and Rice 1980, Adv. Appl. Probab. 12, 475), times the number of looks at it: the highest of
    some shifts and widths is taken, and of an image's `pixels`. A ratio z stands for the chance ``exp(-z**2 / 2)``.
    """
    from scipy.special import erfcx

    if not quantum > 0:
        return snr
    mean = np.maximum(variance / quantum**2, 1e-12)
    area = 2.0 * np.pi * width**2
    # The sum in units of what is expected.
    ratio = 1.0 + np.maximum(snr, 0.0) / (2.0 * np.sqrt(np.pi) * width * np.sqrt(mean))
    t = np.log(ratio) + np.log1p(np.log(ratio))  # The root is near; Newton on the logarithm converges from there.
    t = np.maximum(t, 1e-9)
    cumulants = _smooth_cumulants if width >= SMOOTH else _pixel_cumulants
    for _ in range(NEWTON):
        _, value, slope = cumulants(t, width)
        t = np.maximum(t - (np.log(value) - np.log(ratio)) * value / np.maximum(slope, 1e-12), 1e-9)
    entire, _, slope = cumulants(t, width)
    rate = np.maximum(mean * area * (t * ratio - entire), 1e-12)
    r, u = np.sqrt(2.0 * rate), np.maximum(t * np.sqrt(mean * area * slope), 1e-6)
    # The chance is phi(r) times a factor near 1 / u.
    factor = np.sqrt(np.pi / 2.0) * erfcx(r / np.sqrt(2.0)) + 1.0 / u - 1.0 / r
    rare = (
        rate + 0.5 * np.log(2.0 * np.pi) - np.log(np.maximum(factor, 1e-12)) - np.log(LOOKS * max(1.0, pixels / PIXELS))
    )
    chance = np.where(r > RARE, np.sqrt(np.maximum(2.0 * rare, 0.0)), r)
    return np.where(snr > 0, np.minimum(chance, snr), snr)


def _smooth_cumulants(t: FloatArray, width: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Generating function and its first two derivatives, per expected weight, of counts with Gaussian weights."""
    from scipy.special import expi

    entire = np.where(t < 1e-3, t + t * t / 4 + t**3 / 18, expi(np.maximum(t, 1e-3)) - np.log(t) - np.euler_gamma)
    value = np.expm1(t) / t
    return entire, value, np.where(t < 1e-3, 0.5 + t / 3, (np.exp(t) - value) / t)


def _pixel_cumulants(t: FloatArray, width: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The same of pixels: weights that are narrow are not smooth between them."""
    weights, number = _pixel_weights(width)
    powers = t[:, None] * weights
    share = number / (2.0 * np.pi * width**2)
    exponential = np.exp(powers)
    return np.expm1(powers) @ share, exponential @ (share * weights), exponential @ (share * weights**2)


@lru_cache(maxsize=64)
def _pixel_weights(width: float) -> tuple[FloatArray, NDArray[np.int64]]:
    """Different weights of pixels about one, and their numbers."""
    lags = np.arange(-int(4 * width + 1), int(4 * width + 1) + 1) ** 2
    squares, number = np.unique(np.add.outer(lags, lags), return_counts=True)
    return np.exp(-squares / (2.0 * width**2)), number


def is_spot(snr: Plane, places: NDArray[np.int64], width: float) -> NDArray[np.bool_]:
    """Tell spots, which fall off to all sides, from streaks, arcs and bands, which go on in one direction.

    Of the falls over two widths along four directions the least must be a good part of the greatest, as far as noise
    can tell.
    """
    if not len(places):
        return np.zeros(0, bool)
    reach = max(2, round(2.0 * width))
    edge = np.array(snr.shape) - 1
    top = snr[tuple(places.T)].astype(np.float64)
    falls = []
    for dy, dx in ((1, 0), (0, 1), (1, 1), (1, -1)):
        step = np.rint(np.array((dy, dx)) * reach / np.hypot(dy, dx)).astype(np.int64)
        sides = [places + step, places - step]
        inside = [((s >= 0) & (s <= edge)).all(axis=1) for s in sides]
        values = [np.where(i, snr[tuple(np.clip(s, 0, edge).T)], np.nan) for s, i in zip(sides, inside, strict=True)]
        both = np.where(np.isnan(values[0]), values[1], np.where(np.isnan(values[1]), values[0], sum(values) / 2))
        falls.append(top - np.nan_to_num(both))
    least, greatest = np.min(falls, axis=0), np.max(falls, axis=0)
    return np.asarray((least >= LEAST_FALL * top) & (least + 1.0 >= EVEN * greatest))
