"""Whether odd and even lines of an image stand apart, as those of interlaced frames and of scans to and fro do."""

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace

from stackalign._types import FloatArray
from stackalign.backends import Array
from stackalign.ops.transfer import fetched

from ._noise import bands_of

__all__ = ["Combs", "combs_of"]

SEGMENT = 16
"""Pixels of a line whose noise is taken to hang together."""


@dataclass(frozen=True)
class Combs:
    """Evidence of B pairs.

    Parameters
    ----------
    apart : numpy.ndarray
        (B,) pixels by which odd lines stand farther from even ones in the moving image than in the reference, along the
        axis where that is the clearest.
    errors : numpy.ndarray
        (B,) the same in standard errors.
    """

    apart: FloatArray
    errors: FloatArray


def combs_of(reference: Array, moving: Array) -> Combs:
    """Measure both images (B, H, W) along both axes.

    What is common to both belongs to the detector, and moves nothing.
    """
    xp = array_namespace(reference)
    stacks = [bands_of(p, in_turn=True) for planes in (reference, moving) for p in (planes, xp.swapaxes(planes, 1, 2))]
    measured = [_apart(bands) for bands in fetched(stacks)]
    apart, error = (np.stack([m[k] for m in measured]).reshape(2, 2, -1) for k in (0, 1))
    difference, spread = apart[1] - apart[0], np.hypot(error[0], error[1])
    errors = np.abs(difference) / spread
    axis = errors.argmax(axis=0), np.arange(errors.shape[1])
    return Combs(np.abs(difference[axis]), errors[axis])


def _apart(bands: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Pixels (B,) by which odd lines stand aside, and their standard errors; infinite where nothing is seen.

    `bands` (B, places, 3, W) are three lines each, the first of which are odd and even in turn. The line in the middle
    differs from the mean of the others by the slope along it times how far it stands aside.
    """
    between = 0.5 * (bands[:, :, 0] + bands[:, :, 2])
    aside = (bands[:, :, 1] - between)[..., 1:-1]
    slope = 0.5 * (between[..., 2:] - between[..., :-2])
    slope = slope * np.where(np.arange(slope.shape[1]) % 2, 1.0, -1.0)[:, None]
    valid = np.isfinite(aside) & np.isfinite(slope)
    aside, slope = np.where(valid, aside, 0.0).astype(np.float64), np.where(valid, slope, 0.0).astype(np.float64)
    squares = (slope**2).sum(axis=(1, 2))
    known = squares > 0
    apart = np.where(known, (slope * aside).sum(axis=(1, 2)) / np.where(known, squares, 1.0), 0.0)
    scores = slope * (aside - apart[:, None, None] * slope)
    pieces = np.add.reduceat(scores, np.arange(0, max(scores.shape[2], 1), SEGMENT), axis=2)
    spread = np.sqrt((pieces**2).sum(axis=(1, 2)))
    return apart, np.where(known & (spread > 0), spread / np.where(known, squares, 1.0), np.inf)
