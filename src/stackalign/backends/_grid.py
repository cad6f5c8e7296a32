"""Positions that are the same on every backend: pull matrices of planes, rounded to a grid."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["FINEST", "LONGEST", "Grid", "grid_of", "on_grid", "to_integers"]

FINEST, COARSEST = 44, 32
"""Most and fewest bits behind the point. A GPU takes whole pixels from the upper half of 64 bits."""

EXACT_BITS = 53
"""Of the significand of a float64."""

LONGEST = 2**28
"""Pixels along an axis up to which no sum of a position leaves 64 bits."""

_LARGEST = 2.0**61
"""In units of the grid: positions that are farther away are not told apart."""

_TILE = 32
"""Pixels beyond the image whose positions a GPU may compute."""


class Grid(NamedTuple):
    """Positions are multiples of ``2**-bits`` pixels.

    A quarter of what float64 holds exactly is room for images of these sides: the terms of a position may be four
    times as large.
    """

    bits: int

    @property
    def unit(self) -> float:
        """Grid points per pixel."""
        return float(2.0**self.bits)


def grid_of(shape: tuple[int, ...], moving: tuple[int, ...]) -> Grid:
    """Grid for the last two axes of the shapes of a reference and a moving image."""
    longest = int(max(*shape[-2:], *moving[-2:]))
    return Grid(max(COARSEST, min(FINEST, EXACT_BITS - 2 - (longest - 1).bit_length())))


def _scaled(matrices: NDArray[np.float64], shape: tuple[int, ...], grid: Grid) -> NDArray[Any]:
    """Numbers of the matrices in units of the grid, whole, as float64 within 64 bits."""
    with np.errstate(over="ignore"):
        scaled = np.rint(matrices * grid.unit)
    height, width = (int(n) + _TILE for n in shape[-2:])
    if np.abs(scaled).max(initial=0.0) * (height + width + 1) > _LARGEST:
        # A matrix that leaves the range within the image samples nothing: it would skip whole images from pixel to
        # pixel. An offset alone may be as large as it likes.
        with np.errstate(over="ignore"):
            reach = np.abs(scaled[..., 0]) * height + np.abs(scaled[..., 1]) * width
        wild = (reach > _LARGEST).any(axis=-1)
        scaled[wild] = (0.0, 0.0, -_LARGEST)
        np.clip(scaled, -_LARGEST, _LARGEST, out=scaled)
    return scaled


def on_grid(matrices: NDArray[np.float64], shape: tuple[int, ...], moving: tuple[int, ...]) -> NDArray[np.float64]:
    """Round pull matrices (..., 2, 3) for a reference and a moving image of these shapes; the last axes are y and x.

    Positions ``m02 + m00*y + m01*x`` are then multiples of the grid too, and exact in float64 in any order of the
    operations, unless a term is more than four times as long as the images.
    """
    grid = grid_of(shape, moving)
    rounded: NDArray[np.float64] = _scaled(matrices, shape, grid) / grid.unit
    return rounded


def to_integers(matrices: NDArray[np.float64], grid: Grid) -> NDArray[np.int64]:
    """Numbers of matrices of `on_grid`, in units of the grid."""
    return (matrices * grid.unit).astype(np.int64)
