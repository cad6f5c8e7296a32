"""Rows and columns of one value: dead lines of a detector, frames, bars and what lies outside a field of view."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from stackalign.backends import Array
from stackalign.ops import asarray, device_of, to_numpy
from stackalign.ops.transfer import fetched

__all__ = ["without_dead_lines"]

MOST = 0.5
"""Share of the lines along an axis beyond which such lines are what an image shows."""

ALIKE = 0.5
"""Share of the pixels beside a dead line that may have its value: more where an object ends on an empty background."""


def without_dead_lines(*stacks: Array) -> list[Array]:
    """Set rows and columns of images (B, H, W) to NaN that have one value from end to end and an edge beside them.

    They stand still when all else moves. Stacks of images without any are returned as they are.
    """
    alike = [
        pixels
        for images in stacks
        if _has_surroundings(images)
        for pixels in (
            (images[:, 1:] == images[:, :-1]).all(axis=1),
            (images[:, :, 1:] == images[:, :, :-1]).all(axis=2),
        )
    ]
    constant = iter(fetched(alike) if alike else ())
    return [
        _cleaned(images, next(constant), next(constant)) if _has_surroundings(images) else images for images in stacks
    ]


def _has_surroundings(images: Array) -> bool:
    return bool(min(images.shape[1:]) >= 3)


def _cleaned(images: Array, columns: NDArray[np.bool_], rows: NDArray[np.bool_]) -> Array:
    """Images without the dead ones of their constant columns (B, W) and rows (B, H)."""
    cleaned: Any = None
    for b in np.flatnonzero(columns.any(axis=1) | rows.any(axis=1)).tolist():
        plane = to_numpy(images[b])
        dead = _dead(plane, columns[b]), _dead(plane.T, rows[b])
        if not (dead[0].any() or dead[1].any()):
            continue
        if cleaned is None:
            exact = images.dtype.itemsize > 4 or images.dtype.name in ("uint32", "int32")
            cleaned = images.astype(np.float64 if exact else np.float32)
        lost = asarray(dead[0][None, :] | dead[1][:, None], device_of(images))
        cleaned[b] = array_namespace(images).where(lost, np.nan, cleaned[b])
    return images if cleaned is None else cleaned


def _dead(plane: NDArray[Any], constant: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Those constant columns of a plane that end at an edge."""
    dead = np.zeros_like(constant)
    value = plane[0]
    # Constant lines side by side belong together where they have the same value.
    breaks = np.flatnonzero((constant[1:] != constant[:-1]) | (constant[1:] & (value[1:] != value[:-1]))) + 1
    for lines in np.split(np.arange(len(constant)), breaks):
        first, last = int(lines[0]), int(lines[-1])
        if constant[first]:
            beside = [c for c in (first - 1, last + 1) if 0 <= c < len(constant)]
            dead[first : last + 1] = all((plane[:, c] == value[first]).mean() < ALIKE for c in beside)
    return dead if dead.sum() <= MOST * len(constant) else np.zeros_like(dead)
