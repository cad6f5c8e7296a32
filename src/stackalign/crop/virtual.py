"""Virtual images of a scan: what a disc about the beam and the ring around it collect of each pattern."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .result import CropAnalysis, VirtualImages

__all__ = ["VirtualDetectors", "virtual_detectors", "virtual_images"]

SHARE = 0.5
"""Share of its largest value at which the radial mean of the mean pattern ends the bright field."""
APART = 1.25
"""Inner radius of the dark field, in radii of the bright one, so that the beam's flank is in neither."""
LARGEST = 0.4
"""Share of the frame's shorter side that the bright field's radius has at most: beyond it there is no dark field."""


@dataclass(frozen=True)
class VirtualDetectors:
    """Two concentric discs that stay where they are while the beam scans.

    Parameters
    ----------
    center : tuple of float
        (y, x) in pixels.
    bright_radius, dark_radius : float
        Outer radius of the bright field and inner one of the dark field, in pixels.
    top, left : int
        First pixel of the box that holds both discs.
    inside : numpy.ndarray
        (2, h, w) float64 over that box: 1 within `bright_radius`, and within `dark_radius`; 0 where a pixel is masked.
    """

    center: tuple[float, float]
    bright_radius: float
    dark_radius: float
    top: int
    left: int
    inside: NDArray[np.float64]

    def sums(self, block: NDArray[Any]) -> NDArray[np.float64]:
        """Sums (n, 2) of patterns (n, H, W) within both discs; pixels that are not finite count as 0."""
        height, width = self.inside.shape[1:]
        box = block[:, self.top : self.top + height, self.left : self.left + width].astype(np.float64)
        if block.dtype.kind == "f":
            np.nan_to_num(box, copy=False, posinf=0.0, neginf=0.0)
        # Pattern by pattern: the bits do not depend on how many are in a chunk.
        return np.stack([np.einsum("khw,hw->k", self.inside, pattern) for pattern in box])


def virtual_detectors(analysis: CropAnalysis, mask: NDArray[np.bool_] | None) -> VirtualDetectors | None:
    """Place the detectors by the mean pattern; None for a series, and where there is no beam or no room around it."""
    if sum(length > 1 for length in analysis.scan_shape) != 2:
        return None
    mean = analysis.mean_pattern
    valid = np.isfinite(mean) if mask is None else np.isfinite(mean) & mask
    center = np.median(analysis.centers, axis=0)
    y, x = np.indices(mean.shape)
    distance = np.hypot(y - center[0], x - center[1])
    ring = np.rint(distance).astype(np.intp)
    count = np.bincount(ring[valid])
    if not np.isfinite(center).all() or not count.size:
        return None
    profile = np.bincount(ring[valid], mean[valid]) / np.maximum(count, 1)
    top = int(profile.argmax())
    below = np.flatnonzero(profile[top:] < SHARE * profile[top])
    if profile[top] <= 0 or not below.size:
        return None
    last = top + int(below[0]) - 1
    fall = profile[last] - profile[last + 1]
    bright = max(1.0, last + float((profile[last] - SHARE * profile[top]) / fall))
    dark = APART * bright + 1.0
    if bright > LARGEST * min(mean.shape):
        return None
    rows, columns = (
        slice(max(0, int(c - dark)), max(1, int(c + dark) + 2)) for c in center
    )  # beyond the frame a slice ends
    near, good = distance[rows, columns], valid[rows, columns]
    if not near.size:
        return None
    inside = np.stack([(near <= radius) & good for radius in (bright, dark)]).astype(np.float64)
    return VirtualDetectors((float(center[0]), float(center[1])), bright, dark, rows.start, columns.start, inside)


def virtual_images(
    detectors: VirtualDetectors | None, sums: NDArray[np.float64] | None, total: NDArray[np.float64]
) -> VirtualImages | None:
    """Bright field, and the dark field as what is left of the total."""
    if detectors is None or sums is None:
        return None
    return VirtualImages(
        sums[:, 0], total - sums[:, 1], detectors.center, detectors.bright_radius, detectors.dark_radius
    )
