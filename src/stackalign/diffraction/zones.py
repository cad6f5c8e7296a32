"""Brillouin zones: the regions of a pattern that are nearer to one Bragg peak than to any other."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign._carriers import plain_array
from stackalign._types import FloatArray
from stackalign.errors import DataError
from stackalign.io.provenance import to_jsonable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .peaks import BraggPeaks

__all__ = ["BrillouinZones", "ZoneConsistency", "brillouin_zones"]


SHORT = 0.05
"""Sides shorter than this share of a zone's mean side come from the noise of the peaks: four zones meet there."""


@dataclass(frozen=True)
class ZoneConsistency:
    """How alike zones are: those of a perfect lattice are the same polygon again and again.

    Parameters
    ----------
    count : int
        Zones that were compared.
    sides : int
        Number of sides that most have.
    share : float
        Share of the zones that have it.
    area, area_deviation : float
        Mean area in square pixels, and its standard deviation as a share of it.
    vertex_deviation : float
        Root mean square distance in pixels of the vertices of those zones from the mean polygon's.
    """

    count: int
    sides: int
    share: float
    area: float
    area_deviation: float
    vertex_deviation: float

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON knows them."""
        plain: dict[str, Any] = to_jsonable(dict(vars(self)))
        return plain


@dataclass(frozen=True)
class BrillouinZones:
    """Zones around peaks.

    Parameters
    ----------
    peaks : numpy.ndarray
        (N, 2) (row, col).
    vertices : tuple of numpy.ndarray
        Of each zone the (V, 2) corners (row, col) in their order; (0, 2) for a zone that is not closed.
    center : numpy.ndarray
        (2,) middle of the pattern.
    bounds : (float, float, float, float)
        (top, left, bottom, right) of the image, in pixel indices.
    """

    peaks: FloatArray
    vertices: tuple[FloatArray, ...]
    center: FloatArray
    bounds: tuple[float, float, float, float]

    def __len__(self) -> int:
        return len(self.peaks)

    @cached_property
    def sides(self) -> NDArray[np.int64]:
        """(N,) number of sides, very short ones not counted; 0 for a zone that is not closed."""
        return np.array([_sides(v) for v in self.vertices], np.int64)

    @cached_property
    def areas(self) -> FloatArray:
        """(N,) areas in square pixels; NaN for a zone that is not closed."""
        return np.array([_area(v) if len(v) else np.nan for v in self.vertices])

    def visible_zones(
        self, symmetry: int | None = None, bbox: tuple[float, float, float, float] | None = None
    ) -> NDArray[np.int64]:
        """Indices of the zones that are closed and lie within the image, the nearest to the centre first.

        Parameters
        ----------
        symmetry : int, optional
            Number of sides that a zone must have, as 6 for a hexagonal lattice; any by default.
        bbox : (float, float, float, float), optional
            (top, left, bottom, right) instead of the image.

        Returns
        -------
        numpy.ndarray
            (Z,) int64 indices.
        """
        top, left, bottom, right = self.bounds if bbox is None else bbox
        if not (top < bottom and left < right):
            msg = f"bbox must be (top, left, bottom, right) with top < bottom and left < right, got {bbox}"
            raise ValueError(msg)
        if symmetry is not None and symmetry < 3:
            msg = f"symmetry is the number of sides of a zone, 3 or more, got {symmetry}"
            raise ValueError(msg)
        inside = [
            len(v) > 0 and bool(((v >= (top, left)) & (v <= (bottom, right))).all()) for v in self.vertices
        ]  # fmt: skip
        if symmetry is not None:
            inside = [i and s == symmetry for i, s in zip(inside, self.sides.tolist(), strict=True)]
        chosen = np.flatnonzero(inside)
        order = np.argsort(np.hypot(*(self.peaks[chosen] - self.center).T), kind="stable")
        result: NDArray[np.int64] = chosen[order]
        return result

    def consistency(self, zones: ArrayLike | None = None) -> ZoneConsistency:
        """Compare zones with each other, by default all visible ones.

        Parameters
        ----------
        zones : array_like, optional
            Indices of zones.

        Returns
        -------
        ZoneConsistency
            How much they differ in area and corners.

        Raises
        ------
        DataError
            There is no zone to compare.
        """
        chosen = self.visible_zones() if zones is None else plain_array(zones, np.int64, "zones")
        chosen = chosen[self.sides[chosen] > 0]
        if not len(chosen):
            msg = "no zone is closed and within the image: more peaks are needed, or a larger bbox"
            raise DataError(msg)
        counts = np.bincount(self.sides[chosen])
        sides = int(counts.argmax())
        alike = chosen[self.sides[chosen] == sides]
        polygons = [_merged(self.vertices[i], sides) - self.peaks[i] for i in alike]
        shapes = np.stack([_like(polygon, polygons[0]) for polygon in polygons])
        areas = self.areas[chosen]
        spread = np.sqrt(((shapes - shapes.mean(axis=0)) ** 2).sum(axis=2).mean())
        return ZoneConsistency(
            len(chosen), sides, len(alike) / len(chosen), float(areas.mean()), float(areas.std() / areas.mean()),
            float(spread),
        )  # fmt: skip

    def equivalent_scattering_vectors(self, q: ArrayLike, zones: ArrayLike | None = None) -> FloatArray:
        """Points that lie in other zones where a point (row, col) lies in its own.

        Parameters
        ----------
        q : array_like
            (2,) position in the image; the vector from the nearest peak to it is what is equivalent.
        zones : array_like, optional
            Indices of zones, by default all visible ones.

        Returns
        -------
        numpy.ndarray
            (M, 2), one in each zone.
        """
        point = plain_array(q, np.float64, "q")
        if point.shape != (2,) or not np.isfinite(point).all():
            msg = f"q must be one point (row, col), got {q!r}"
            raise ValueError(msg)
        nearest = self.peaks[np.hypot(*(self.peaks - point).T).argmin()]
        chosen = self.visible_zones() if zones is None else plain_array(zones, np.int64, "zones")
        equivalent: FloatArray = self.peaks[chosen] + (point - nearest)
        return equivalent

    def render(
        self, ax: "Axes | None" = None, zones: ArrayLike | None = None, *, transposed: bool = False, **style: Any
    ) -> "Axes":
        """Draw zones over an image, by default all visible ones.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        zones : array_like, optional
            Indices.
        transposed : bool
            Draw (col, row) where (x, y) should be (row, col).
        **style
            For `matplotlib.patches.Polygon`, such as ``edgecolor``.

        Returns
        -------
        matplotlib.axes.Axes
            The axes that were drawn on.
        """
        from stackalign.plot.diffraction import plot_zones

        return plot_zones(self, ax, zones, transposed=transposed, **style)


def brillouin_zones(
    peaks: "BraggPeaks | ArrayLike", shape: tuple[int, int], *, center: ArrayLike | None = None
) -> BrillouinZones:
    """Divide a pattern into the zones of its peaks.

    Parameters
    ----------
    peaks : BraggPeaks or (N, 2) array_like
        (row, col); the direct beam is one of them.
    shape : (int, int)
        Of the image.
    center : array_like, optional
        (row, col) of the middle of the pattern; by default that of the image.

    Returns
    -------
    BrillouinZones

    Raises
    ------
    DataError
        There are fewer than four peaks, or they lie on one line.

    Notes
    -----
    The Brillouin zone is the Wigner-Seitz cell of the reciprocal lattice: the Voronoi cell of a peak.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import diffraction
    >>> peaks = np.stack(np.meshgrid(np.arange(10, 100, 20), np.arange(10, 100, 20), indexing="ij"), -1).reshape(-1, 2)
    >>> zones = diffraction.brillouin_zones(peaks, (100, 100))
    >>> len(zones.visible_zones(symmetry=4)), zones.consistency().area  # squares of a lattice of 20 pixels
    (9, 400.0)
    """
    from scipy.spatial import QhullError, Voronoi

    points = plain_array(getattr(peaks, "position", peaks), np.float64, "peaks")
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        msg = f"peaks must be (N, 2) finite (row, col), got the shape {points.shape}"
        raise DataError(msg)
    _, first = np.unique(points, axis=0, return_index=True)
    points = points[np.sort(first)]
    try:
        if len(points) < 4:
            raise QhullError
        cells = Voronoi(points)
    except QhullError as error:
        msg = f"zones need four peaks that are not on one line, got {len(points)}"
        raise DataError(msg) from error
    corners = []
    for index in cells.point_region:
        region = cells.regions[index]
        if not region or -1 in region:
            corners.append(np.zeros((0, 2)))
            continue
        polygon = cells.vertices[region]
        around = np.arctan2(*(polygon - polygon.mean(axis=0)).T)
        corners.append(polygon[np.argsort(around)])
    middle = np.array([(n - 1) / 2 for n in shape]) if center is None else plain_array(center, np.float64, "center")
    return BrillouinZones(points, tuple(corners), middle, (-0.5, -0.5, shape[0] - 0.5, shape[1] - 0.5))


def _lengths(polygon: FloatArray) -> FloatArray:
    lengths: FloatArray = np.hypot(*(np.roll(polygon, -1, axis=0) - polygon).T)
    return lengths


def _sides(polygon: FloatArray) -> int:
    if not len(polygon):
        return 0
    lengths = _lengths(polygon)
    return int((lengths > SHORT * lengths.sum() / len(lengths)).sum())


def _area(polygon: FloatArray) -> float:
    y, x = polygon.T
    return float(abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2)


def _merged(polygon: FloatArray, sides: int) -> FloatArray:
    """The polygon with its shortest sides drawn together until so many are left."""
    points = polygon
    while len(points) > sides:
        k = int(_lengths(points).argmin())
        points = points.copy()
        points[k] = (points[k] + points[(k + 1) % len(points)]) / 2
        points = np.delete(points, (k + 1) % len(points), axis=0)
    return points


def _like(polygon: FloatArray, model: FloatArray) -> FloatArray:
    """The corners beginning with the one that makes the polygon most like a model."""
    turns = [np.roll(polygon, k, axis=0) for k in range(len(polygon))]
    return min(turns, key=lambda turned: float(((turned - model) ** 2).sum()))
