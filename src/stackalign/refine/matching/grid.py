"""Regular grids of tilts, how far they reach, and the blur of images on them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from stackalign._types import FloatArray

__all__ = ["TiltGrid", "blurred", "rectangle", "scanned_area"]

Array = Any


@dataclass(frozen=True)
class TiltGrid:
    """Tilts on a grid that is laid out as the display is: rows downwards, columns along gx.

    Parameters
    ----------
    first : (float, float)
        Tilt (x, y) in 1/angstrom of the first node, the top left one.
    spacing : float
        In 1/angstrom.
    shape : (int, int)
        Rows and columns.
    """

    first: tuple[float, float]
    spacing: float
    shape: tuple[int, int]

    @property
    def tilts(self) -> FloatArray:
        """(rows * columns, 2) tilts (x, y)."""
        row, column = np.indices(self.shape)
        x = self.first[0] + column.ravel() * self.spacing
        y = self.first[1] - row.ravel() * self.spacing
        return np.stack([x, y], -1)

    @property
    def corners(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Tilts (x, y) of the first and the last node."""
        rows, columns = self.shape
        last = (self.first[0] + (columns - 1) * self.spacing, self.first[1] - (rows - 1) * self.spacing)
        return self.first, last

    def nodes(self, tilts: FloatArray) -> FloatArray:
        """(..., 2) row and column, between nodes, of tilts (x, y)."""
        return np.asarray((tilts - self.first)[..., ::-1] / (-self.spacing, self.spacing))

    def images(self, prepared: Any, thicknesses: Any, reflections: Any) -> Array:
        """Return simulated images (thicknesses, reflections, rows, columns)."""
        values = prepared.intensities(thicknesses, reflections)
        return values.reshape(*values.shape[:2], *self.shape)


def blurred(xp: Any, images: Array, sigma: float) -> Array:
    """Convolve the last two axes with a Gaussian of `sigma` nodes; edges are continued.

    The kernel is the discrete Gaussian, whose variance is exact however small it is.
    """
    if sigma <= 0:
        return images
    radius = int(np.ceil(4 * sigma)) + 1
    kernel = special.ive(np.arange(radius + 1), sigma * sigma)
    kernel = kernel / (kernel[0] + 2 * kernel[1:].sum())
    for axis in (-2, -1):
        n = images.shape[axis]
        index = xp.arange(n)
        total = images * float(kernel[0])
        for k in range(1, radius + 1):
            low, high = (xp.clip(index + s, 0, n - 1) for s in (-k, k))
            total = total + float(kernel[k]) * (xp.take(images, low, axis=axis) + xp.take(images, high, axis=axis))
        images = total
    return images


def rectangle(corners: tuple[tuple[float, float], tuple[float, float]]) -> FloatArray:
    """(4, 2) corners of a rectangle of tilts: beams that are chosen for them are those of all tilts within."""
    (left, top), (right, bottom) = corners
    return np.array([[left, top], [right, top], [left, bottom], [right, bottom]])


def scanned_area(
    bounds: tuple[float, float, float, float],
    gl: float,
    spacing: float | None,
    search_radius: float | None,
    *,
    wide: bool,
) -> tuple[float, float]:
    """Return spacing and reach in pixels of the grid of the global scan.

    Parameters
    ----------
    bounds : (float, float, float, float)
        Top, left, bottom and right of the region, in pixels of the display.
    gl : float
        Length of gx in pixels.
    spacing : float, optional
        By default a sixteenth of the region's shorter side, from 1 to 4 pixels.
    search_radius : float, optional
        Half of the side of the area in units of gx. By default a quarter of the region's longer side around it, and 8
        pixels at least.
    wide : bool
        False where 8 pixels are enough: each combination of structure parameters is decomposed on the whole area.
    """
    top, left, bottom, right = bounds
    shorter, longer = sorted((bottom - top, right - left))
    spacing = spacing or float(np.clip(shorter / 16, 1.0, 4.0))
    if search_radius is None:
        return spacing, max(8.0, 0.25 * longer) if wide else 8.0
    radius = search_radius * gl - longer / 2
    if radius < 0:
        msg = (
            f"the region of {bottom - top:g} x {right - left:g} pixels is larger than the search area of "
            f"{2 * search_radius * gl:g} pixels: raise search_radius, or take a smaller region"
        )
        raise ValueError(msg)
    return spacing, radius
