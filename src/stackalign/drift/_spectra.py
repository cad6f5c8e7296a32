"""Spectra of the frames of a series, cut so that they show the same part of the scene."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.signal.windows import tukey

from stackalign._types import BoolArray, FloatArray, IntArray

__all__ = ["Bins", "Frames", "Held", "aligned_spectra", "common_region", "has_region", "inner_window", "window"]

Plane = NDArray[np.float32]
Spectrum = NDArray[np.complex64]

TAPER = 0.25
"""Share of each axis that the window of a frame rises and falls over."""

MARGIN, WIDE = 0.1, 0.1
"""Share of each axis that a template is narrower by at either end, and taper of the frames that move under it."""

LONGEST_LAG = 0.45
"""Longest shift along an axis that is looked at, as a share of it."""

LEAST_SIDE = 12
"""Pixels of the shortest common region that is worked with."""

BLOCK_BYTES = 1 << 25
"""Bytes of frames that are transformed together."""


class Frames(Protocol):
    """Frames of one shape that can be read in any order."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, H, W)."""
        ...

    def read(self, start: int, stop: int) -> Plane:
        """Return the frames (n, H, W) from start to before stop: float32, every pixel finite."""
        ...


@dataclass(frozen=True)
class Held:
    """Frames that are in memory.

    Parameters
    ----------
    planes : numpy.ndarray
        (N, H, W) float32.
    """

    planes: Plane

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, H, W)."""
        n, h, w = self.planes.shape
        return n, h, w

    def read(self, start: int, stop: int) -> Plane:
        """Return the frames from start to before stop.

        Parameters
        ----------
        start, stop : int
            Numbers of frames.
        """
        return self.planes[start:stop]


@dataclass(frozen=True)
class Bins:
    """Frequencies of the real transform of a frame.

    Parameters
    ----------
    shape : tuple of int
        (h, w) of the frame in pixels.
    """

    shape: tuple[int, int]

    @cached_property
    def k(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Angular frequencies along y (h, 1) and x (1, w // 2 + 1), in radians per pixel."""
        h, w = self.shape
        y = (2 * np.pi * fft.fftfreq(h)).astype(np.float32)
        return y[:, None], (2 * np.pi * fft.rfftfreq(w)).astype(np.float32)[None]

    @cached_property
    def used(self) -> BoolArray:
        """All but the mean and the Nyquist frequencies, which do not turn with a shift."""
        ky, kx = self.k
        some: BoolArray = (np.abs(ky) < 0.999 * np.pi) & (kx < 0.999 * np.pi) & ((ky != 0) | (kx != 0))
        return some

    @cached_property
    def count(self) -> NDArray[np.float32]:
        """How often each bin stands in the full transform: 2, or 1 in columns that are their own conjugates."""
        h, w = self.shape
        count = np.full((h, w // 2 + 1), 2.0, np.float32)
        count[:, 0] = 1.0
        if w % 2 == 0:
            count[:, -1] = 1.0
        return count

    @cached_property
    def shell(self) -> IntArray:
        """Number of the ring of frequencies that each bin belongs to."""
        ky, kx = self.k
        least = min(self.shape)
        number = (np.hypot(ky, kx) * (least / (2 * np.pi))).astype(np.int64)
        return np.minimum(number, least // 2)

    @cached_property
    def modes(self) -> FloatArray:
        """Independent complex numbers in each shell."""
        return np.maximum(np.bincount(self.shell.ravel(), self.count.ravel()) / 2, 1.0)

    def radial(self, power: NDArray[np.floating]) -> FloatArray:
        """Return the mean of a plane of power in each shell.

        Parameters
        ----------
        power : numpy.ndarray
            (h, w // 2 + 1).
        """
        total = np.bincount(self.shell.ravel(), (power * self.count).ravel().astype(np.float64))
        mean: FloatArray = total / (2 * self.modes)
        return mean

    def turned(self, spectra: Spectrum, shifts: FloatArray) -> Spectrum:
        """Return the spectra (n, ...) of frames whose content moves by shifts (n, 2), in pixels.

        Parameters
        ----------
        spectra : numpy.ndarray
            (n, h, w // 2 + 1).
        shifts : numpy.ndarray
            (n, 2), to larger indices where positive.
        """
        ky, kx = self.k
        down = np.exp(-1j * shifts[:, 0, None, None] * ky[None]).astype(np.complex64)
        right = np.exp(-1j * shifts[:, 1, None, None] * kx[None]).astype(np.complex64)
        moved: Spectrum = spectra * down * right
        return moved


def window(shape: tuple[int, int], taper: float = TAPER) -> Plane:
    """Return a Tukey window.

    Parameters
    ----------
    shape : tuple of int
        (h, w).
    taper : float
        Share of each axis over which it rises and falls.
    """
    both: Plane = np.outer(tukey(shape[0], taper), tukey(shape[1], taper)).astype(np.float32)
    return both


def inner_window(shape: tuple[int, int], margin: float = MARGIN) -> Plane:
    """Return a window within another: what moves by less than the margin stays under the wider one.

    Parameters
    ----------
    shape : tuple of int
        (h, w).
    margin : float
        Share of each axis that is zero at either end.
    """
    inner: Plane = np.zeros(shape, np.float32)
    y, x = (round(side * margin) for side in shape)
    inner[y : shape[0] - y, x : shape[1] - x] = window((shape[0] - 2 * y, shape[1] - 2 * x))
    return inner


def common_region(drift: FloatArray, shape: tuple[int, int]) -> tuple[IntArray, IntArray, tuple[int, int]]:
    """Return the whole-pixel drift (n, 2), the corner (2,) of what all frames show, in the first, and its size.

    Parameters
    ----------
    drift : numpy.ndarray
        (n, 2) by how much the scene stands further down and right in each frame.
    shape : tuple of int
        (H, W) of a frame.
    """
    whole = np.rint(drift).astype(np.int64)
    corner = -whole.min(axis=0)
    size = np.array(shape) - whole.max(axis=0) - corner
    return whole, corner, (int(size[0]), int(size[1]))


def has_region(positions: FloatArray, shape: tuple[int, int]) -> bool:
    """Tell whether frames have at least an eighth of each side in common.

    Parameters
    ----------
    positions : numpy.ndarray
        (n, 2) drift of the frames.
    shape : tuple of int
        (H, W) of a frame.
    """
    size = common_region(positions, shape)[2]
    return all(side >= max(LEAST_SIDE, full // 8) for side, full in zip(size, shape, strict=True))


def aligned_spectra(
    frames: Frames, drift: FloatArray, first: int, workers: int | None, taper: float = TAPER
) -> tuple[Bins, Iterator[tuple[slice, Spectrum]]]:
    """Return the frequencies and, block by block, spectra of the frames with their drift taken back.

    Parameters
    ----------
    frames : Frames
    drift : numpy.ndarray
        (n, 2) of the frames from `first` on.
    first : int
        Number of the first frame.
    workers : int, optional
        Threads of the transforms.
    taper : float
        Of the window.

    Returns
    -------
    bins, blocks
        Each block is (where in `drift`, (m, h, w // 2 + 1) complex64).
    """
    whole, corner, size = common_region(drift, (frames.shape[1], frames.shape[2]))
    bins, weights = Bins(size), window(size, taper)
    step = max(1, BLOCK_BYTES // (8 * size[0] * size[1]))

    def blocks() -> Iterator[tuple[slice, Spectrum]]:
        for start in range(0, len(drift), step):
            some = slice(start, min(start + step, len(drift)))
            planes = frames.read(first + some.start, first + some.stop)
            cut = np.empty((len(planes), *size), np.float32)
            for k, (plane, (y, x)) in enumerate(zip(planes, whole[some] + corner, strict=True)):
                cut[k] = plane[y : y + size[0], x : x + size[1]]
            cut -= cut.mean(axis=(1, 2), keepdims=True)
            spectra = fft.rfft2(cut * weights, workers=workers)
            yield some, bins.turned(spectra, whole[some] - drift[some])

    return bins, blocks()
