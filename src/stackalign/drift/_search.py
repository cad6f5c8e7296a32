"""Where frames may belong: the mean of the others, log-likelihoods over all shifts, and a prior for drift."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from stackalign._types import BoolArray, ComplexArray, FloatArray

from ._spectra import LONGEST_LAG, TAPER, WIDE, Bins, Frames, Spectrum, aligned_spectra, inner_window

__all__ = ["NEAR", "Filters", "Mean", "Search", "Smoothness", "rivals"]

SURE = 2.5
"""Standard deviations by which a shell's power must exceed that of noise to count as signal."""

NEAR = 2
"""Pixels around an answer within which another maximum is the same one."""


@dataclass(frozen=True)
class Filters:
    """Power of signal and noise by frequency, in steps of the shells of the first region that frames were cut to."""

    signal: FloatArray
    noise: FloatArray
    frequency: FloatArray
    """Radians per pixel of the shells."""

    @classmethod
    def of(cls, bins: Bins, total: ComplexArray, power: FloatArray, n: int) -> "Filters":
        """Measure them from the sum of n aligned spectra and of their squares."""
        noise = bins.radial(power - np.abs(total) ** 2 / n) / (n - 1)
        noise = np.maximum(noise, 1e-12 * noise.max(initial=1e-300))
        above = bins.radial(np.abs(total / n) ** 2) - noise / n
        signal = np.where(above > SURE * noise / n / np.sqrt(bins.modes), above, 0.0)
        ky, kx = bins.k
        return cls(signal, noise, bins.radial(np.hypot(ky, kx)))

    def planes(self, bins: Bins, n: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Share of signal in the mean of n - 1 frames, and the weight of a frame's difference from it."""
        share = self.signal / (self.signal + self.noise / (n - 1))
        weight = 1 / (self.noise * (1 + 1 / (n - 1)))
        ky, kx = bins.k
        at = np.interp(np.hypot(ky, kx), self.frequency, np.arange(len(self.frequency)))
        nearest = np.rint(at).astype(np.int64)
        planes = [(radial[nearest] * bins.used).astype(np.float32) for radial in (share, weight)]
        return planes[0], planes[1]


@dataclass(frozen=True)
class Mean:
    """Sum of the aligned spectra of n frames, and what of the mean is signal."""

    bins: Bins
    n: int
    total: ComplexArray
    share: NDArray[np.float32]
    """(h, w) Wiener filter of the mean of the others: signal over signal and noise."""
    weight: NDArray[np.float32]
    """(h, w) inverse variance of a difference between a frame and the mean of the others."""
    filters: Filters

    @classmethod
    def of(
        cls,
        frames: Frames,
        positions: FloatArray,
        first: int,
        workers: int | None,
        filters: Filters | None = None,
        taper: float = TAPER,
    ) -> "Mean":
        """Sum the frames; without `filters` these are measured."""
        bins, blocks = aligned_spectra(frames, positions, first, workers, taper)
        h, w = bins.shape
        total, power = np.zeros((h, w // 2 + 1), np.complex128), np.zeros((h, w // 2 + 1))
        for _, spectra in blocks:
            total += spectra.sum(axis=0)
            power += (np.abs(spectra) ** 2).sum(axis=0)
        n = len(positions)
        filters = Filters.of(bins, total, power, n) if filters is None else filters
        return cls(bins, n, total, *filters.planes(bins, n), filters)

    def of_others(self, spectra: Spectrum) -> Spectrum:
        """The filtered mean of all but each of the frames (m, h, w)."""
        others: Spectrum = ((self.total - spectra) * (self.share / (self.n - 1))).astype(np.complex64)
        return others


class Search:
    """Log-likelihoods of frames under a narrow window over all shifts against a template under a wide one.

    The pixels of a frame stay the same whatever the shift, so that what is expected there, and its energy, is all that
    has to be compared.
    """

    def __init__(self, frames: Frames, positions: FloatArray, first: int, workers: int | None) -> None:
        self.mean = Mean.of(frames, positions, first, workers, taper=WIDE)
        self.bins, self.blocks = aligned_spectra(frames, positions, first, workers, WIDE)
        self._workers = workers
        shape = self.bins.shape
        self._inner = inner_window(shape)
        expected = fft.irfft2(self.mean.total / self.mean.n * self.mean.share * np.sqrt(self.mean.weight), s=shape)
        energy = fft.rfft2(self._inner.astype(np.float64) ** 2).conj() * fft.rfft2(expected**2)
        self._scale = float(shape[0] * shape[1])
        self._energy = (0.5 * self._scale * fft.irfft2(energy, s=shape)).astype(np.float32)
        self.lags = [np.rint(fft.fftfreq(side, 1 / side)) for side in shape]

    def inside(self, max_move: float | None) -> BoolArray:
        """(h, w) whether a shift is looked at."""
        longest = [LONGEST_LAG * side if max_move is None else max(max_move, 1.0) for side in self.bins.shape]
        both: BoolArray = (np.abs(self.lags[0]) <= longest[0])[:, None] & (np.abs(self.lags[1]) <= longest[1])[None]
        return both

    def maps(self, templates: Spectrum, spectra: Spectrum, noise: float = 1.0) -> NDArray[np.float32]:
        """(m, h, w) by how far the content of each frame is from that of its template: [d] where it must move by d.

        `noise` is by how much the variance of the difference is smaller than that of one frame and n - 1 others.
        """
        shape = self.bins.shape
        root = np.sqrt(self.mean.weight)
        seen = fft.irfft2(spectra * root, s=shape, workers=self._workers) * self._inner
        # Correlated the other way round: the frame is held, and what the template must move by is what it is off.
        cross = fft.rfft2(seen, workers=self._workers).conj() * (templates * root)
        maps = self._scale * fft.irfft2(cross, s=shape, workers=self._workers) - self._energy
        likelihood: NDArray[np.float32] = maps * np.float32(noise)
        return likelihood


class Smoothness:
    """A prior for drift: frames mostly stand where their neighbours do, by a Laplace distribution."""

    def __init__(self, positions: FloatArray, lags: list[FloatArray]) -> None:
        n = len(positions)
        near = np.vstack([positions[1:2], 0.5 * (positions[:-2] + positions[2:]), positions[n - 2 : n - 1]])
        self._off = positions - near
        self._usual = max(1.0, float(np.median(np.hypot(*self._off.T))) / np.log(2))
        self._lags = lags

    def cost(self, k: int) -> NDArray[np.float32]:
        """(h, w) minus the logarithm of the prior of frame k after a move by each shift."""
        return self.of_step(self._off[k])

    def of_step(self, off: FloatArray) -> NDArray[np.float32]:
        """(h, w) likewise, of a frame or of all from one on, which are off by (2,) what neighbours suggest."""
        y, x = off[0] - self._lags[0], off[1] - self._lags[1]
        cost: NDArray[np.float32] = (np.hypot(y[:, None], x[None]) / self._usual).astype(np.float32)
        return cost


def rivals(maps: NDArray[np.float32], seen: BoolArray) -> FloatArray:
    """(m,) probability of all shifts that are not the answer, zero, or its neighbours."""
    odds = np.exp(np.clip(maps - maps[:, :1, :1], -80.0, 80.0), dtype=np.float64) * seen
    for y in range(-NEAR, NEAR + 1):
        for x in range(-NEAR, NEAR + 1):
            odds[:, y, x] = 0.0
    total = odds.sum(axis=(1, 2))
    chance: FloatArray = total / (1.0 + total)
    return chance
