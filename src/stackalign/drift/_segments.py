"""Long drifts: parts of a series whose frames show a common region, and how they are joined."""

import numpy as np

from stackalign._types import FloatArray

from ._joint import Joint
from ._spectra import common_region

__all__ = ["chosen_segments", "joined"]

LEAST_COMMON = 0.5
"""Share of each side of a frame that all frames of a part must show."""

LEAST = 3
"""Frames of a part: each is compared with the mean of the others."""


def chosen_segments(positions: FloatArray, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Return (first, last) of parts that overlap by half; one part where all frames have enough in common.

    Parameters
    ----------
    positions : numpy.ndarray
        (N, 2) drift of the frames, in pixels.
    shape : tuple of int
        (H, W) of a frame.
    """
    n = len(positions)
    segments, first = [], 0
    while True:
        last = min(first + LEAST, n)
        while last < n and _common(positions[first : last + 1], shape):
            last += 1
        segments.append((max(0, min(first, last - LEAST)), last))
        if last == n:
            return segments
        first = max(first + 1, (first + last) // 2)


def _common(positions: FloatArray, shape: tuple[int, int]) -> bool:
    size = common_region(positions, shape)[2]
    return all(side >= LEAST_COMMON * full for side, full in zip(size, shape, strict=True))


def joined(parts: list[tuple[int, Joint]], positions: FloatArray) -> Joint:
    """Put parts together, each moved so that the frames which it shares with those before agree.

    Parameters
    ----------
    parts : list
        (first frame, solution), in order.
    positions : numpy.ndarray
        (N, 2) of the pairs, for frames that a part says nothing about.

    Returns
    -------
    Joint
        Of all frames; covariances grow from joint to joint.
    """
    n = len(positions)
    place, spread = np.full((n, 2), np.nan), np.full((n, 2, 2), np.inf)
    rival, evidence, score = np.ones(n), np.full(n, -np.inf), np.full(n, -np.inf)
    walked = np.zeros((2, 2))
    for first, part in parts:
        here = slice(first, first + len(part.positions))
        known = np.isfinite(place[here, 0])
        offset = positions[first] - part.positions[0]
        if known.any():
            offset = (place[here][known] - part.positions[known]).mean(axis=0)
            walked = walked + 2 * part.covariance[known].mean(axis=0) / known.sum()
        new = ~known
        place[here][new] = (part.positions + offset)[new]
        spread[here][new] = (part.covariance + walked)[new]
        better = part.evidence > evidence[here]
        for target, values in ((rival, part.rival), (evidence, part.evidence), (score, part.score)):
            target[here][better] = values[better]
    return Joint(place - place[0], spread, rival, evidence, score)
