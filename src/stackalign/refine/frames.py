"""Where things are: pixels of the experiment, pixels of the display, tilts, and the regions that are matched."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stackalign._carriers import plain_array
from stackalign._types import BoolArray, FloatArray

from .beam import Beam
from .crystal import Crystal

__all__ = ["ROI", "DisplayFrame"]


@dataclass(frozen=True)
class DisplayFrame:
    """The maps between pixels of the experiment, pixels of the display, and tilts.

    Parameters
    ----------
    gx : float
        Length in 1/angstrom of the reciprocal lattice vector along the x-axis of the beam's frame; see `for_beam`.
    gl : float
        Length of the same vector in pixels, which have the same size in the experiment and in the display.
    center : (float, float)
        (y, x) of the pixel of the experiment that is the display's origin: the middle of the disk of 000 of a CBED
        pattern, usually the middle of LARBED images.
    rotation : float
        Degrees by which the experiment is turned so that gx points to the right. Positive turns the content
        counter-clockwise as an array is printed.
    flip : bool
        Whether the experiment is mirrored left to right before it is turned. With `rotation` in steps of 90 degrees
        these are the eight orientations of an image.
    tilt : (float, float)
        Tilt (x, y) in 1/angstrom at the display's origin, in the frame of the beam.

    Notes
    -----
    Pixels are (row, column); those of the display count from its origin, columns along gx, rows downwards. Tilts are
    the (x, y) of `stackalign.refine.Beam`: x along gx, y upwards. A refined unit cell does not change the size of a
    pixel in 1/angstrom, gx / gl.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign.refine import Beam, Crystal, DisplayFrame
    >>> fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    >>> silicon = Crystal((5.431,) * 3 + (90,) * 3, ["Si"] * 8, np.concatenate([fcc, fcc + 0.25]), b_iso=0.47)
    >>> frame = DisplayFrame.for_beam(silicon, Beam(200, (1, 1, 0), (0, 0, 2)), gl=40.0, center=(63.5, 63.5))
    >>> frame.to_tilt([0.0, 40.0]).round(4)  # forty pixels along gx: one length of 002
    array([0.3683, 0.    ])
    """

    gx: float
    gl: float
    center: tuple[float, float]
    rotation: float = 0.0
    flip: bool = False
    tilt: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for name, meaning in (("gx", "1/angstrom"), ("gl", "pixels")):
            value = float(getattr(self, name))
            if not (np.isfinite(value) and value > 0):
                msg = f"{name}, the length of the x-axis vector in {meaning}, must be above 0, got {value:g}"
                raise ValueError(msg)
            object.__setattr__(self, name, value)
        if not np.isfinite(self.rotation):
            msg = f"rotation must be a number of degrees, got {self.rotation}"
            raise ValueError(msg)
        for name in ("center", "tilt"):
            pair = plain_array(getattr(self, name), np.float64, name)
            if pair.shape != (2,) or not np.isfinite(pair).all():
                msg = f"{name} must be two numbers, got {getattr(self, name)!r}"
                raise ValueError(msg)
            object.__setattr__(self, name, (float(pair[0]), float(pair[1])))

    @classmethod
    def for_beam(cls, crystal: Crystal, beam: Beam, gl: float, center: tuple[float, float], **options: Any) -> Any:
        """Return a frame whose x-axis vector is that of the beam.

        Parameters
        ----------
        crystal, beam : Crystal, Beam
            They give the length of the vector ``beam.x_axis``, of its part across the zone axis.
        gl, center, **options
            See `DisplayFrame`.

        Returns
        -------
        DisplayFrame
            Of the class that it is called on.
        """
        g = beam.frame(crystal) @ crystal.g_vectors(beam.x_axis)
        return cls(float(np.hypot(g[0], g[1])), gl, center, **options)

    @property
    def step(self) -> float:
        """Size of a pixel in 1/angstrom."""
        return self.gx / self.gl

    def with_(self, **changes: Any) -> "DisplayFrame":
        """Return a frame in which some values differ.

        Parameters
        ----------
        **changes
            Fields of `DisplayFrame` by name.

        Returns
        -------
        DisplayFrame
            The other one.
        """
        return replace(self, **changes)

    @property
    def matrix(self) -> FloatArray:
        """(2, 2) from offsets (dy, dx) in the experiment to offsets (row, column) in the display."""
        angle = np.deg2rad(self.rotation)
        cos, sin = np.cos(angle), np.sin(angle)
        if self.rotation % 90 == 0:
            cos, sin = np.round(cos), np.round(sin)
        turn = np.array([[cos, -sin], [sin, cos]])
        return turn * (np.array([1.0, -1.0]) if self.flip else 1.0)

    def to_display(self, points: ArrayLike) -> FloatArray:
        """Go from pixels of the experiment to those of the display.

        Parameters
        ----------
        points : array_like
            (..., 2) pixels (y, x) of the experiment.

        Returns
        -------
        numpy.ndarray
            (..., 2) pixels (row, column) of the display.
        """
        return np.asarray((_pairs(points) - self.center) @ self.matrix.T)

    def to_experiment(self, points: ArrayLike) -> FloatArray:
        """Go from pixels of the display to those of the experiment.

        Parameters
        ----------
        points : array_like
            (..., 2) pixels (row, column) of the display.

        Returns
        -------
        numpy.ndarray
            (..., 2) pixels (y, x) of the experiment.
        """
        return np.asarray(_pairs(points) @ self.matrix + self.center)

    def to_tilt(self, points: ArrayLike) -> FloatArray:
        """Go from pixels of the display to tilts.

        Parameters
        ----------
        points : array_like
            (..., 2) pixels (row, column) of the display.

        Returns
        -------
        numpy.ndarray
            (..., 2) tilts (x, y) in 1/angstrom.
        """
        return np.asarray(_pairs(points)[..., ::-1] * (self.step, -self.step) + self.tilt)

    def to_pixel(self, tilts: ArrayLike) -> FloatArray:
        """Go from tilts to pixels of the display.

        Parameters
        ----------
        tilts : array_like
            (..., 2) tilts (x, y) in 1/angstrom.

        Returns
        -------
        numpy.ndarray
            (..., 2) pixels (row, column) of the display.
        """
        offset = (_pairs(tilts) - self.tilt) / (self.step, -self.step)
        return np.asarray(offset[..., ::-1])


@dataclass(frozen=True)
class ROI:
    """Regions of the display that are matched: one rectangle or several, the same for all disks.

    Parameters
    ----------
    rectangles : sequence of (top, left, bottom, right)
        In pixels of the display, which count from its origin. Ends are included.

    Examples
    --------
    >>> from stackalign.refine import ROI
    >>> ROI.rectangle(30, 20).contains([[0, 0], [0, 12]])
    array([ True, False])
    """

    rectangles: tuple[tuple[float, float, float, float], ...]

    def __post_init__(self) -> None:
        values = plain_array(self.rectangles, np.float64, "rectangles")
        if values.ndim != 2 or values.shape[1:] != (4,) or not len(values) or not np.isfinite(values).all():
            msg = f"rectangles must be a list of (top, left, bottom, right), got {self.rectangles!r}"
            raise ValueError(msg)
        if (values[:, 2:] <= values[:, :2]).any():
            msg = f"a rectangle needs its top above its bottom and its left before its right, got {values.tolist()}"
            raise ValueError(msg)
        object.__setattr__(self, "rectangles", tuple(tuple(row) for row in values.tolist()))

    @classmethod
    def rectangle(cls, height: float, width: float, center: Sequence[float] = (0.0, 0.0)) -> "ROI":
        """Return one rectangle about a pixel of the display.

        Parameters
        ----------
        height, width : float
            Of the rectangle, in pixels of the display.
        center : (float, float)
            Its middle (row, column), in pixels of the display.

        Returns
        -------
        ROI
            One region.
        """
        row, column = center
        return cls(((row - height / 2, column - width / 2, row + height / 2, column + width / 2),))

    def __or__(self, other: "ROI") -> "ROI":
        """Return both regions together."""
        return ROI(self.rectangles + other.rectangles)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(top, left, bottom, right) of all rectangles together."""
        values = np.array(self.rectangles)
        low, high = values[:, :2].min(0), values[:, 2:].max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def contains(self, points: ArrayLike) -> BoolArray:
        """Tell which pixels of the display lie within.

        Parameters
        ----------
        points : array_like
            (..., 2) pixels (row, column) of the display.

        Returns
        -------
        numpy.ndarray
            (...) boolean.
        """
        p = _pairs(points)
        inside = np.zeros(p.shape[:-1], dtype=bool)
        for top, left, bottom, right in self.rectangles:
            inside |= (p[..., 0] >= top) & (p[..., 0] <= bottom) & (p[..., 1] >= left) & (p[..., 1] <= right)
        return inside


def _pairs(points: ArrayLike) -> FloatArray:
    array = plain_array(points, np.float64, "points")
    if not array.ndim or array.shape[-1] != 2:
        msg = f"points must be pairs along the last axis, got shape {array.shape}"
        raise ValueError(msg)
    return array
