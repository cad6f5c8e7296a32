"""What stands still while the specimen drifts: hot and dead pixels and lines of the detector."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from stackalign._types import BoolArray

from ._spectra import BLOCK_BYTES, Frames, Plane

__all__ = ["Filled", "without_static"]

SIDE = 5
"""Pixels along a side of the neighbourhood that a pixel is compared with."""

CLEAR = 10.0
"""Robust standard deviations of the mean frame's fine structure from which on a pixel is the detector's."""

LARGEST_SHARE = 0.2
"""Where more pixels than this stand out, it is the scene that has such structure."""

REACH = 1.0
"""Sigma in pixels of the Gaussian whose mean of good pixels replaces a bad one."""


@dataclass(frozen=True)
class Filled:
    """Frames whose bad pixels have the mean of their surroundings.

    Parameters
    ----------
    frames : Frames
    bad : numpy.ndarray
        (H, W).
    """

    frames: Frames
    bad: BoolArray

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, H, W)."""
        return self.frames.shape

    def read(self, start: int, stop: int) -> Plane:
        """Return the frames from start to before stop.

        Parameters
        ----------
        start, stop : int
            Numbers of frames.
        """
        return self.over(np.array(self.frames.read(start, stop)))

    def over(self, planes: Plane) -> Plane:
        """Fill planes (n, H, W) in place, and return them.

        Parameters
        ----------
        planes : numpy.ndarray
            (n, H, W) float32.
        """
        good = (~self.bad).astype(np.float32)
        weight = ndimage.gaussian_filter(good, REACH, mode="nearest")
        for plane in planes:
            near = ndimage.gaussian_filter(plane * good, REACH, mode="nearest")
            # Far from any good pixel, as in a wide gap, the mean of the frame has to do.
            mean = float(plane[~self.bad].mean())
            surrounding = np.divide(near, weight, out=np.full_like(near, mean), where=weight > 1e-3)
            plane[self.bad] = surrounding[self.bad]
        return planes


@dataclass(frozen=True)
class Residual:
    """Frames without what they have in common where they are.

    Parameters
    ----------
    frames : Frames
    mean : numpy.ndarray
        (H, W) of all frames.
    """

    frames: Frames
    mean: Plane

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, H, W)."""
        return self.frames.shape

    def read(self, start: int, stop: int) -> Plane:
        """Return the frames from start to before stop.

        Parameters
        ----------
        start, stop : int
            Numbers of frames.
        """
        rest: Plane = self.frames.read(start, stop) - self.mean
        return rest


def without_static(frames: Frames) -> tuple[Frames, Plane]:
    """Return the frames with pixels filled that stand out of their surroundings in the mean of all, and that mean.

    A scene that drifts is blurred in the mean, the detector is not. Where the scene does not drift, its own brightest
    points are a small part of it.

    Parameters
    ----------
    frames : Frames
    """
    n, height, width = frames.shape
    total = np.zeros((height, width))
    step = max(1, BLOCK_BYTES // (4 * height * width))
    for start in range(0, n, step):
        total += frames.read(start, min(start + step, n)).sum(axis=0, dtype=np.float64)
    fine = total - ndimage.median_filter(total, SIDE, mode="nearest")
    usual = 1.4826 * float(np.median(np.abs(fine)))
    bad: BoolArray = np.abs(fine) > CLEAR * max(usual, 1e-12 * float(np.abs(total).max()))
    if not bad.any() or bad.mean() > LARGEST_SHARE:
        return frames, (total / n).astype(np.float32)
    filled = Filled(frames, bad)
    return filled, filled.over((total / n).astype(np.float32)[None])[0]
