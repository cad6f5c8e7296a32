"""The shadow of a beam stop in a mean pattern: a bar, a needle, or a disc on a stem, from the frame's edge inward."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["beam_stops"]

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

WORKING = 384
"""Side in pixels of the image that is searched; larger ones are binned to it."""
WIDEST = 0.13
"""Half the width of a shadow, as a share of the frame's longer side, up to which the level beside it bridges it."""
SPOTS = 40
"""Bright features narrower than 1 / SPOTS of the side say nothing about the level beside a shadow."""
HALF = 0.5
"""Depth of a shadow, from the level beside it to the darkest of the image, at which its edge is drawn."""
DEPTHS = (HALF, 0.65, 0.8, 0.9, 0.95, 0.98)
"""Depths at which regions are looked at: on a steep halo what surrounds a shadow is not at the level of all sides."""
DIM = 0.35
"""A shadow has at most this share of the brightness beside it, counted from zero or the smallest value."""
SIGNIFICANT = 4.0
REACH, LONG = 0.12, 2.0
"""A shadow reaches inward this share of the side at least, and this many times its own width."""
MOUTH = 0.3
"""Share of the frame's longer side that a shadow takes of the frame's edge at most."""
STEM = 0.45
"""Share of the length along which both flanks follow straight lines; the rest may be a disc."""
STRAIGHT = 0.12
"""Distance from its line at which a flank counts as straight, in widths of the stem and at least 1.5 pixels."""
GAP = 8
AHEAD = 0.06
"""Share of the side over which nothing dark may follow the tip."""
LINE = 2.2
"""What is narrower in pixels and runs along a row or a column is a dead line."""
FLANK, LEAST_FLANK = 0.15, 2.5
"""Distance from a flank, in widths of the stem and at least in pixels, within which the step has happened."""
STEEP = 0.75
"""Share of the step that has happened there."""
DEEP = 0.6
"""Depth of the middle of a shadow."""
SURE = 10.0
"""Deviations of the mean step along each flank."""


@dataclass(frozen=True)
class _Levels:
    """What is seen at the working scale: without spots, smoothed, the error, the level beside shadows, the depth."""

    plain: Floats
    smooth: Floats
    error: Floats
    beside: Floats
    depth: Floats
    dark: float
    least: float


def beam_stops(mean: NDArray[np.generic], known: Booleans | None = None, *, margin: int = 2) -> Booleans:
    """Find the shadows of beam stops.

    Parameters
    ----------
    mean : numpy.ndarray
        (H, W) mean over the images of a stream, or one image.
    known : numpy.ndarray, optional
        (H, W) boolean, True = valid; pixels that are not finite are invalid as well.
    margin : int
        Pixels about the shadow that are taken for its penumbra.

    Returns
    -------
    numpy.ndarray
        (H, W) boolean, True = hidden.
    """
    values = np.asarray(mean, np.float64)
    valid = np.isfinite(values) if known is None else np.isfinite(values) & known
    valid &= ~_gaps(np.where(valid, values, 0.0))
    hidden: Booleans = np.zeros(values.shape, np.bool_)
    if min(values.shape) < 32 or valid.mean() < 0.25:
        return hidden
    factor = -(-max(values.shape) // WORKING)
    levels = _levels(*_binned(values, valid, factor))
    if levels is None:
        return hidden
    for shadow in _shadows(levels):
        hidden |= _at_full_size(shadow, values.shape, factor)
    if margin > 0 and hidden.any():
        hidden = ndimage.binary_dilation(hidden, _disc(margin))
    return hidden


def _disc(radius: int) -> Booleans:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(y * y + x * x <= radius * (radius + 0.8))


def _gaps(values: Floats) -> Booleans:
    """Rows and columns, up to GAP wide, that are dark along the whole frame: gaps between chips, dead lines."""
    gaps = np.zeros(values.shape, np.bool_)
    lit = np.minimum(values, np.percentile(values, 99)) - min(0.0, values.min())  # no hot pixel makes a line bright
    for axis in (0, 1):
        # Each quarter by itself: a beam stop ends within the frame.
        quarters = [part.sum(axis=1 - axis) for part in np.array_split(lit, 4, axis=1 - axis)]
        around = [ndimage.percentile_filter(sums, 50, size=2 * GAP + 1, mode="nearest") for sums in quarters]
        dark = np.all([sums <= HALF * usual for sums, usual in zip(quarters, around, strict=True)], axis=0)
        gaps |= dark[:, None] if axis == 0 else dark[None]
    return gaps


def _binned(values: Floats, valid: Booleans, factor: int) -> tuple[Floats, Booleans]:
    """Block means of valid pixels; blocks at the far edges may be smaller."""
    height, width = (-(-n // factor) for n in values.shape)
    pad = [(0, height * factor - values.shape[0]), (0, width * factor - values.shape[1])]
    blocks = (height, factor, width, factor)
    total = np.pad(np.where(valid, values, 0.0), pad).reshape(blocks).sum(axis=(1, 3))
    count = np.pad(valid, pad).reshape(blocks).sum(axis=(1, 3))
    return total / np.maximum(count, 1), count > 0


def _levels(binned: Floats, valid: Booleans) -> _Levels | None:
    """Smooth, take off spots, and bridge whatever is narrow and dark."""
    if not valid.all():
        nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
        binned = binned[tuple(nearest)]
    # Single hot pixels stand above all but two of their neighbours.
    calm = np.minimum(binned, ndimage.rank_filter(binned, -3, size=3))
    side = max(calm.shape)
    sigma = float(np.clip(side / 256, 0.6, 1.0))
    smooth = ndimage.gaussian_filter(calm, sigma, mode="nearest")
    spread = ndimage.percentile_filter(np.abs(calm - smooth), 60, size=7)  # 0.84 deviations
    error = ndimage.uniform_filter(spread, 7) / 0.84 / (sigma * np.sqrt(4 * np.pi))
    plain = ndimage.grey_opening(smooth, size=2 * round(side / SPOTS / 2) + 1, mode="nearest")
    reach = round(WIDEST * side)
    dark = float(np.percentile(plain, 0.5))
    bright = float(np.percentile(plain, 99))
    if not bright > dark:
        return None
    framed = np.pad(plain, reach, constant_values=-np.inf)
    beside = ndimage.grey_closing(framed, size=2 * reach + 1, mode="nearest")[reach:-reach, reach:-reach]
    beside = np.maximum(beside, plain)
    span = beside - dark
    clear = (span > SIGNIFICANT * error) & (span > 1e-9 * (bright - dark))
    depth = np.where(clear, (beside - smooth) / np.where(clear, span, 1.0), 0.0)
    return _Levels(plain, smooth, error, beside, depth, dark, float(smooth.min()))


def _shadows(levels: _Levels) -> list[Floats]:
    """Depths of the regions that look like a beam stop, at the shallowest of the depths at which they do."""
    side = max(levels.depth.shape)
    taken = np.zeros(levels.depth.shape, np.bool_)
    chosen = []
    for least in DEPTHS:
        labels, _ = ndimage.label(levels.depth > least, np.ones((3, 3)))
        for number, place in enumerate(ndimage.find_objects(labels), 1):
            if max(p.stop - p.start for p in place) < REACH * side / 2:
                continue
            region = np.asarray(ndimage.binary_fill_holes(labels == number), np.bool_)
            if (region & taken).any():
                continue
            shape = _shape(region, levels)
            if shape is not None:
                chosen.append(_drawn(region, shape, levels))
                taken |= region
    return chosen


def _drawn(region: Booleans, shape: "_Shape", levels: _Levels) -> Floats:
    """Depth of the region below what is right beside it, and 1 on its way to the frame's edge."""
    reach = max(3, round(0.75 * shape.width))
    framed = np.pad(levels.plain, reach, constant_values=-np.inf)
    beside = ndimage.grey_closing(framed, size=2 * reach + 1, mode="nearest")[reach:-reach, reach:-reach]
    span = np.maximum(beside, levels.plain) - levels.dark
    depth = np.where(span > 0, (beside - levels.smooth) / np.where(span > 0, span, 1.0), 0.0)
    near = ndimage.binary_dilation(region, iterations=max(2, round(0.2 * shape.width))) & shape.room(region.shape)
    depth = np.where(near, np.clip(depth, 0.0, 1.0), 0.0)
    return np.where(shape.way_out(region.shape), 1.0, np.where(region & near, np.maximum(depth, HALF + 1e-6), depth))


def _shape(region: Booleans, levels: _Levels) -> "_Shape | None":
    """Measure the region as a stem that comes from the frame's edge; None where it is no beam stop."""
    side = max(region.shape)
    points = np.argwhere(region).astype(np.float64)
    for origin, direction in _mouths(region, points):
        across = np.array([-direction[1], direction[0]])
        sections = _sections((points - origin) @ direction, (points - origin) @ across)
        for low, high, straight in _stems(sections):
            shape = _Shape(origin, direction, low, high, straight, float(sections[-1, 0]))
            long = shape.tip - straight[0] + 1
            head = sections[sections[:, 0] >= straight[-1]]
            widest = float((head[:, 2] - head[:, 1]).max()) + 1
            if (
                min(shape.width, widest) <= 0
                or max(shape.width, widest) > 2 * WIDEST * side
                or long < max(REACH * side, LONG * shape.width)
            ):
                continue
            if shape.is_dead_line():
                continue
            if _is_shadow(shape, levels):
                return shape
    return None


@dataclass(frozen=True)
class _Shape:
    """A stem: where it comes in, the direction inward, its flanks as lines, where they are followed, and its end."""

    origin: Floats
    direction: Floats
    low: Floats
    high: Floats
    straight: Floats
    tip: float

    @property
    def width(self) -> float:
        return float(np.median(np.polyval(self.high - self.low, self.straight))) + 1

    def is_dead_line(self) -> bool:
        """Whether it is a part of a row or a column of the detector."""
        aligned = max(np.abs(self.direction)) > 0.999 and max(abs(self.low[0]), abs(self.high[0])) < 0.05
        return bool(aligned and self.width < LINE)

    def points(self, along: Floats, beyond: Floats) -> Floats:
        """(2, n) rows and columns."""
        across = np.array([-self.direction[1], self.direction[0]])
        return (self.origin + np.outer(along, self.direction) + np.outer(beyond, across)).T

    def middle(self, along: Floats) -> Floats:
        """Rows and columns on the centre line."""
        return self.points(along, np.polyval(self.low + self.high, along) / 2)

    def way_out(self, shape: tuple[int, ...]) -> Booleans:
        """Pixels between the flanks from the frame's edge to the middle of the stem."""
        return np.asarray(self._within(shape, 0.0) & (self._along(shape) <= np.median(self.straight)))

    def room(self, shape: tuple[int, ...]) -> Booleans:
        """All pixels but those beside the stem, where the region may run into other dark ones."""
        beside = self._along(shape) <= self.straight[int(0.9 * (len(self.straight) - 1))]
        return np.asarray(~beside | self._within(shape, max(2.0, 0.2 * self.width)))

    def _along(self, shape: tuple[int, ...]) -> Floats:
        y, x = (n - o for n, o in zip(np.indices(shape), self.origin, strict=True))
        return np.asarray(y * self.direction[0] + x * self.direction[1])

    def _within(self, shape: tuple[int, ...], more: float) -> Booleans:
        y, x = (n - o for n, o in zip(np.indices(shape), self.origin, strict=True))
        along, beyond = self._along(shape), x * self.direction[0] - y * self.direction[1]
        return np.asarray(
            (beyond >= np.polyval(self.low, along) - more) & (beyond <= np.polyval(self.high, along) + more)
        )


def _mouths(region: Booleans, points: Floats) -> list[tuple[Floats, Floats]]:
    """Where the frame's edge may be met, and the direction inward; none where that is at several places or too wide."""
    shape = np.array(region.shape)
    middle = points.mean(axis=0)
    axis = np.linalg.eigh(np.cov((points - middle).T))[1][:, 1]
    rim = np.ones(region.shape, np.bool_)
    rim[1:-1, 1:-1] = False
    touching, number = ndimage.label(region & rim, np.ones((3, 3)))
    if number > 1:
        return []
    if number == 1:
        contact = np.argwhere(touching).astype(np.float64)
        if np.ptp(contact, axis=0).max() + 1 > MOUTH * shape.max():
            return []
        origin = contact.mean(axis=0)
        return [(origin, axis if (middle - origin) @ axis > 0 else -axis)]
    # Where its surroundings are as dark as the stop nothing is seen of it on the way to one of the edges.
    mouths = []
    for direction in (axis, -axis):
        steps = [
            (m - (0.0 if d > 0 else n - 1.0)) / d
            for d, n, m in zip(direction, shape, middle, strict=True)
            if abs(d) > 1e-9
        ]
        mouths.append((middle - min(steps) * direction, direction))
    return mouths


def _sections(along: Floats, beyond: Floats) -> Floats:
    """(n, 3): distance from the mouth, and where the region begins and ends across."""
    place = np.rint(along).astype(np.intp)
    order = np.argsort(place, kind="stable")
    distances, first = np.unique(place[order], return_index=True)
    low = np.minimum.reduceat(beyond[order], first)
    high = np.maximum.reduceat(beyond[order], first)
    return np.stack([distances, low, high], axis=1).astype(np.float64)


def _stems(sections: Floats) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Lines along both flanks, and the distances at which both are followed.

    The lines are those of all sections, of the outer ones, since a disc may be at the tip, and of the inner ones, since
    what surrounds the stem may be as dark as it is near the frame's edge.
    """
    n = len(sections)
    if n < 8:
        return
    for part in (sections, sections[: max(8, n * 3 // 5)], sections[-max(8, n * 3 // 5) :]):
        low, high = (_line(part[:, 0], part[:, k]) for k in (1, 2))
        allowed = max(1.5, STRAIGHT * (float(np.median(part[:, 2] - part[:, 1])) + 1))
        off = [np.abs(np.polyval(line, sections[:, 0]) - sections[:, k]) for line, k in ((low, 1), (high, 2))]
        follows = np.maximum(*off) <= allowed
        if follows.mean() >= STEM:
            yield low, high, sections[follows, 0]


def _line(x: Floats, y: Floats) -> Floats:
    """Slope and intercept, medians over pairs (Theil and Sen)."""
    first, second = np.triu_indices(len(x), max(1, len(x) // 3))
    slope = float(np.median((y[second] - y[first]) / (x[second] - x[first])))
    return np.array([slope, float(np.median(y - slope * x))])


def _is_shadow(shape: _Shape, levels: _Levels) -> bool:
    """Whether both flanks are steep, the tip ends within the frame, and nothing shines on the way to the edge."""
    steps = [_step(shape, levels, outward) for outward in (-1.0, 1.0)]
    if min(steps) <= 0:
        return False
    step = min(steps)
    inside = float(np.median(_at(levels.smooth, shape.middle(shape.straight))))
    # Far enough that a line that goes on behind something bright is not taken for one that ends.
    ahead = max(shape.width, AHEAD * max(levels.smooth.shape))
    beyond = _at(levels.smooth, shape.middle(shape.tip + np.linspace(0.25 * shape.width, ahead, 15)))
    beyond = beyond[np.isfinite(beyond)]
    if not beyond.size or float(np.median(beyond)) - inside <= HALF * step:
        return False
    way = _at(levels.smooth, shape.middle(np.arange(0.0, shape.straight[0])))
    return not np.isfinite(way).any() or bool(np.nanmax(way) - inside < HALF * step)


def _step(shape: _Shape, levels: _Levels, outward: float) -> float:
    """Rise of the level across a flank, 0 where it is not steep, far enough and beyond doubt."""
    reach = max(LEAST_FLANK, FLANK * shape.width)
    edge = np.asarray(np.polyval(shape.low if outward < 0 else shape.high, shape.straight), np.float64) + outward / 2
    inside = _at(levels.smooth, shape.middle(shape.straight))
    near, far = (_at(levels.smooth, shape.points(shape.straight, edge + k * reach * outward)) for k in (1.0, 2.5))
    seen = np.isfinite(inside) & np.isfinite(far) & np.isfinite(near)
    if seen.sum() < 8:
        return 0.0
    step = float(np.median(far[seen] - inside[seen]))
    rise = float(np.median(near[seen] - inside[seen]))
    error = float(np.median(_at(levels.error, shape.middle(shape.straight))[seen])) / np.sqrt(seen.sum() / 4)
    deep = float(np.median(_at(levels.depth, shape.middle(shape.straight))[seen])) > DEEP
    floor = min(0.0, levels.least)
    dim = float(np.median(inside[seen])) - floor < DIM * (float(np.median(far[seen])) - floor)
    return step if deep and dim and rise > STEEP * step and step > SURE * error else 0.0


def _at(image: Floats, points: Floats) -> Floats:
    """Bilinear; NaN outside."""
    return np.asarray(ndimage.map_coordinates(image, points, order=1, mode="constant", cval=np.nan), np.float64)


def _at_full_size(depth: Floats, shape: tuple[int, ...], factor: int) -> Booleans:
    """Cut at half depth between the middles of the blocks."""
    if factor == 1:
        return np.asarray(depth > HALF)
    rows, columns = ((np.arange(n) - (factor - 1) / 2) / factor for n in shape)
    grid = np.meshgrid(rows, columns, indexing="ij")
    return np.asarray(ndimage.map_coordinates(depth, grid, order=1, mode="nearest") > HALF)
