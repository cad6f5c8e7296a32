"""Whether fine and coarse structure of two images that lie on each other ask for the same shift."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fftfreq, next_fast_len, rfft2, rfftfreq
from scipy.ndimage import gaussian_filter

from stackalign._types import FloatArray

__all__ = ["TOGETHER", "Apart", "Bands", "apart_of", "bands_of"]

EDGES = (0.03, 0.06, 0.1, 0.16, 0.25, 0.36)
"""Frequencies in cycles per pixel between bands."""
AXIS = 1.6
"""Frequencies, in units of the lowest one, up to which a spectrum's axis reaches: there is what differs from row to row
or from column to column, as lines of a detector do."""
COHERENT, FINEST = 0.2, 0.5
"""Coherence from which a band is asked, and the one of the highest frequencies: those of noise, edges and aliases are
less."""
SAME = 0.2
"""Pixels up to which bands of the same sample differ."""
CERTAIN = 6.0
"""Standard deviations by which a band differs if it is believed."""
RIM = 0.12
"""Share of a side over which an image falls off to its edges."""


class Apart(NamedTuple):
    """Shift (row, col) that the band which is the surest of it wants in addition, and the band's period.

    Both are in pixels, and 0 where all bands agree.
    """

    shift: FloatArray
    period: float


TOGETHER = Apart(np.zeros(2), 0.0)


class Bands:
    """Steps of the shift that bands of the spectra of two images want.

    Where an image has moved by d, the phase of the cross spectrum is ``2 pi f @ d`` at all frequencies f. What stands
    still, or moves otherwise, adds another phase, and most where it is strong: halos at low frequencies, the gain of
    pixels at high ones, that of rows along an axis. The scatter of a band's phase comes from its coherence.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        rows, columns = fftfreq(shape[0])[:, None], rfftfreq(shape[1])[None]
        radius = np.hypot(rows, columns)
        self.label = np.searchsorted(EDGES, radius.ravel(), side="right")
        near = [np.abs(f) * n < AXIS for f, n in zip((rows, columns), shape, strict=True)]
        fine = radius > EDGES[1]
        for k, axis in enumerate(near):
            self.label[(axis & fine).ravel()] = len(EDGES) + 1 + k
        self.count = len(EDGES) + 3
        whole = np.broadcast_to((columns > 0) & (2 * columns < 1), radius.shape)
        self.weight = np.where(whole, 2.0, 1.0).ravel()  # Only half of a spectrum is here.
        self.rows, self.columns = (
            2 * np.pi * np.broadcast_to(f, radius.shape).ravel() for f in (rows, columns)
        )  # fmt: skip
        self.squares = self.rows**2, self.rows * self.columns, self.columns**2
        self.radius = self._sums(radius.ravel()) / np.maximum(self._sums(np.ones(radius.size)), 1.0)

    def _sums(self, values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(self.label, self.weight * values, self.count), np.float64)

    def __call__(
        self,
        one: NDArray[np.complex64],
        other: NDArray[np.complex64],
        least: float = SAME,
        certain: float = CERTAIN,
        finest: float = FINEST,
    ) -> Apart:
        """Compare the spectra of two images of which the other has been moved onto the one."""
        first, second = (np.abs(a).ravel().astype(np.float64) ** 2 for a in (one, other))
        cross = (one * other.conj()).ravel()
        real, imaginary = cross.real.astype(np.float64), cross.imag.astype(np.float64)
        energy = np.sqrt(self._sums(first) * self._sums(second))
        coherence = self._sums(real) / np.maximum(energy, 1e-30)
        needed = np.full(self.count, COHERENT)
        needed[len(EDGES)] = finest
        asked = np.flatnonzero(coherence > needed)
        if not len(asked):
            return TOGETHER
        slope = -np.stack([self._sums(imaginary * f) for f in (self.rows, self.columns)], axis=1)
        bend = _matrices([self._sums(real * f) for f in self.squares])
        # Phases scatter by the incoherent part; half of it is in the imaginary one.
        both = first * second * self.weight
        scatter = _matrices([self._sums(both * f) for f in self.squares])
        scatter *= 0.5 * (1.0 - np.minimum(coherence, 0.999) ** 2)[:, None, None]
        return self._judged(asked, (slope, bend, scatter), least, certain)

    def _judged(
        self, asked: NDArray[np.intp], sums: tuple[FloatArray, FloatArray, FloatArray], least: float, certain: float
    ) -> Apart:
        slope, bend, scatter = sums
        surest, further = certain, TOGETHER
        curvatures, directions = np.linalg.eigh(bend)
        for k in asked:
            for curvature, direction in zip(curvatures[k], directions[k].T, strict=True):
                if not curvature > 0:
                    continue
                step = float(direction @ slope[k]) / curvature
                sigma = float(np.sqrt(direction @ scatter[k] @ direction)) / curvature
                if abs(step) > least and abs(step) > surest * sigma:
                    surest = abs(step) / max(sigma, 1e-12)
                    further = Apart(step * direction, 1.0 / float(self.radius[k]))
        return further


@lru_cache(maxsize=8)
def bands_of(shape: tuple[int, int]) -> Bands:
    """The same for all images of a size."""
    return Bands(shape)


def apart_of(
    one: NDArray[np.float32], other: NDArray[np.float32], seen: NDArray[np.bool_], shift: FloatArray, sigma: float
) -> Apart:
    """Compare two images (H, W), of which the other is to be moved by less than a pixel, without their background."""
    shape = tuple(next_fast_len(n, real=True) for n in one.shape)
    below = np.maximum(gaussian_filter(seen.astype(np.float32), sigma, mode="constant"), np.float32(1e-6))
    # Masks have no sharp edges here, as their own spectrum would tell of them.
    rim = np.outer(*(_rim(n) for n in one.shape)) * seen
    rim = rim.astype(np.float32) if seen.all() else (rim * np.clip(2 * below - 1, 0, 1)).astype(np.float32)
    spectra = []
    for image in (one, other):
        rest = np.where(seen, image - image[seen].mean(dtype=np.float64), 0).astype(np.float32)
        rest -= gaussian_filter(rest, sigma, mode="constant") / below
        spectra.append(rfft2(rest * rim, shape))
    rows, columns = fftfreq(shape[0])[:, None], rfftfreq(shape[1])[None]
    moved = np.exp(-2j * np.pi * (rows * shift[0] + columns * shift[1])).astype(np.complex64)
    return bands_of((shape[0], shape[1]))(spectra[0], spectra[1] * moved)


def _rim(size: int) -> FloatArray:
    """Weights that fall off to both ends."""
    reach = max(1, int(RIM * size))
    weights = np.ones(size)
    weights[:reach] = 0.5 - 0.5 * np.cos(np.pi * (np.arange(reach) + 0.5) / reach)
    weights[-reach:] = weights[:reach][::-1]
    return weights


def _matrices(parts: list[FloatArray]) -> FloatArray:
    """(K, 2, 2) symmetric matrices of their three parts."""
    a, b, c = parts
    return np.stack([np.stack([a, b], axis=1), np.stack([b, c], axis=1)], axis=1)
