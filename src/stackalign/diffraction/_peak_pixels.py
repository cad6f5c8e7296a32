"""Single pixels of a diffraction pattern: hot ones, and those that single electrons make."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

__all__ = ["blurred_electron", "electron_of_events", "hot_pixels", "is_cluster"]

FloatArray = NDArray[np.float64]

BRIGHT = 0.02
"""Share of the pixels among which hot ones are looked for first."""
HOT, ALONE = 8.0, 0.1
"""Deviations by which a hot pixel is above its neighbours, and the share of that by which the highest of them is: a
Gaussian of the sigma 0.45 px on the middle of a pixel has more."""
LEAST_WIDTH, PLAIN, THIRD = 1.0, 6.0, 0.2
"""Width of spots in pixels, deviations of the noise, and height of the third neighbour as a share of the highest
pixel's, below which that is one of a cluster of hot pixels: of a Gaussian of the sigma 1 px it has half."""
MANY_ELECTRONS = 20
"""On the highest pixel, or chance makes neighbours of all heights."""

EVENT, MANY_EVENTS = 4.2, 8
"""Deviations of the pixels' noise from which a maximum is an event, and how many make a measurement."""
FULL = 0.2
"""Share of the pixels above that, from which events are no single ones."""
SHARP, ISOLATED, MOSTLY = 0.58, 0.35, 0.6
"""Mean of the four neighbours and highest pixel two away, as shares of an electron's height, and the share of such
events among those that stand alone: a spot that a lens makes is wider."""
EMPTY = 0.6
"""Deviations of the noise by which the mean of the pixels around an event is above the ground at most."""
LARGEST_EVENT, VARIOUS = 8.0, 3.0
"""Height of an electron over the usual one at most, and that of the constant one instead of various ones."""
CLEAR, STRONG = 1.35, 8.5
"""Height of events over the least one, or over the noise, from which they are all that there are."""

REACH, EMPTY_SHARE, NOTHING, USUAL, BESIDE = 4, 0.2, 0.02, 0.25, 0.04
"""Pixels over which a detector blurs an electron, share of the pixels that are far from any where electrons are few,
height of these as a share of the usual maximum's, quantile of the sums around maxima that is one electron's, and height
beside a maximum up to which its electron ends."""


def _counted_electron(whole: FloatArray, height: FloatArray, dark: float) -> float:
    """What an electron adds in counts: sums over 3 x 3 pixels, their middles, and the share of pixels without any."""
    # Other electrons are on neighbouring pixels by chance; a detector that shares charge puts more there.
    chance = -8.0 * float(np.log(dark))
    beside = float((whole - height).mean()) - chance
    return float(np.median(height)) + max(beside, 0.0)


def electron_of_events(pixels: FloatArray, valid: NDArray[np.bool_], counts: bool) -> float:
    """What an electron adds to an image, from those that are seen alone; 0 where they are not.

    Of counts it is the usual one. Amplifiers give electrons various heights: the ratio of the sums of their cubes and
    squares is the height of a constant one, and makes the tail of a sum no longer than that of as high ones.
    """
    values = pixels[valid]
    if values.size < MANY_EVENTS:
        return 0.0
    ground = float(np.median(values))
    below = ground - values[values < ground]
    if counts and below.size:
        return 0.0
    noise = 1.4826 * float(np.median(below)) if below.size else 0.0
    above = np.where(valid, pixels - ground, 0.0)
    least = EVENT * noise
    if not noise > 0 and (above > 0).any():  # A blurred electron without noise reaches far.
        least = 0.3 * float(np.median(above[above > 0]))
    high = above > least
    if not MANY_EVENTS <= np.count_nonzero(high) < FULL * values.size:
        return 0.0
    top = high & (maximum_filter(above, 3) == above)
    top[[0, 1, -2, -1]] = top[:, [0, 1, -2, -1]] = False
    rows, columns = top.nonzero()
    if len(rows) < MANY_EVENTS:
        return 0.0
    window = np.arange(-2, 3)
    around = above[rows[:, None, None] + window[:, None], columns[:, None, None] + window]
    height = around[:, 2, 2].copy()
    frame = np.ones((5, 5), bool)
    frame[1:4, 1:4] = False
    alone = around[:, frame].max(axis=1) < np.maximum(ISOLATED * height, EVENT * noise)
    alone &= around[:, frame].mean(axis=1) < np.maximum(EMPTY * noise, 0.03 * height)  # On no spot or halo.
    beside = around[:, [1, 3, 2, 2], [2, 2, 1, 3]].mean(axis=1)
    sharp = alone & (beside < SHARP * height)
    if sharp.sum() < max(MANY_EVENTS, MOSTLY * alone.sum()):
        return 0.0
    whole = around[sharp, 1:4, 1:4].sum(axis=(1, 2))
    usual = float(np.median(whole))
    if counts:
        return _counted_electron(whole, height[sharp], float(np.mean(values == ground)))
    whole = np.minimum(whole, LARGEST_EVENT * usual).clip(0.0)
    electron = min(float((whole**3).sum() / max(float((whole**2).sum()), 1e-300)), VARIOUS * usual)
    # Of weak electrons only the highest are seen, and those that do not matter look higher than they are.
    plain = float(np.median(height[sharp])) > CLEAR * least or electron > STRONG * noise
    return electron if plain else 0.0


def is_cluster(
    rest: NDArray[np.float32],
    variance: NDArray[np.float32],
    places: NDArray[np.int64],
    width: float,
    electron: float,
) -> NDArray[np.bool_]:
    """Tell one or two hot pixels from spots of a width, by the third of their neighbours."""
    if width < LEAST_WIDTH or not len(places):
        return np.zeros(len(places), bool)
    framed = np.pad(rest, 2, constant_values=np.nan)
    window = np.arange(5)
    around = framed[places[:, 0, None, None] + window[:, None], places[:, 1, None, None] + window].astype(np.float64)
    # The maximum of the filtered image lies between two hot pixels.
    inner = np.nan_to_num(around[:, 1:4, 1:4], nan=-np.inf).reshape(len(places), 9)
    best = inner.argmax(axis=1)
    y, x = best // 3, best % 3
    each = np.arange(len(places))
    top = inner[each, best]
    ring = np.stack([around[each, y + dy, x + dx] for dy in range(3) for dx in range(3) if (dy, dx) != (1, 1)])
    third = np.sort(np.nan_to_num(ring, nan=np.inf), axis=0)[-3]
    noise = np.sqrt(variance[tuple(places.T)].astype(np.float64))
    return np.asarray((top > np.maximum(PLAIN * noise, MANY_ELECTRONS * electron)) & (third < THIRD * top))


def hot_pixels(
    pixels: FloatArray,
    valid: NDArray[np.bool_],
    quantum: float,
    places: NDArray[np.int64] | None = None,
    least: float = 0.0,
) -> NDArray[np.int64]:
    """Find single pixels (N, 2) so far above all of their neighbours that no spot of a lens can be the cause.

    Looked for among these places, or among the brightest pixels.
    """
    if places is None:
        values = pixels[valid]
        kept = max(1, int(BRIGHT * len(values)))
        limit = np.partition(values, len(values) - kept)[len(values) - kept]
        places = np.argwhere(valid & (pixels > limit) if limit > values.min() else valid & (pixels > values.min()))
    if not len(places):
        return places
    framed = np.pad(np.where(valid, pixels, np.nan), 1, constant_values=np.nan)
    rows, columns = places.T
    ring = np.stack(
        [framed[rows + y, columns + x] for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    )  # fmt: skip
    known = ~np.isnan(ring)
    count = known.sum(axis=0)
    filled = np.where(known, ring, 0.0)
    mean = filled.sum(axis=0) / np.maximum(count, 1)
    scatter = np.sqrt((np.where(known, ring - mean, 0.0) ** 2).sum(axis=0) / np.maximum(count, 1))
    highest = np.where(known, ring, -np.inf).max(axis=0)
    lowest = float(pixels[valid].min())
    floor = np.sqrt(quantum * np.maximum(mean - lowest, 0.0) + quantum**2)
    above = pixels[rows, columns] - mean
    hot = (count > 2) & (above > (least or HOT) * np.maximum(scatter, floor)) & (highest - mean < ALONE * above)
    return np.asarray(places[hot], np.int64)


def blurred_electron(pixels: FloatArray, valid: NDArray[np.bool_]) -> float:
    """Sum of what one electron adds to pixels of a detector that blurs it and has no noise; 0 where none is alone.

    The sums around maxima above the darkest pixel are those of one or more electrons.
    """
    above = np.where(valid, pixels - pixels[valid].min(), 0.0)
    top = (maximum_filter(above, 2 * REACH + 1) == above) & (above > NOTHING * above.max())
    top[:REACH] = top[-REACH:] = False
    top[:, :REACH] = top[:, -REACH:] = False
    rows, columns = top.nonzero()
    if len(rows) < MANY_EVENTS:
        return 0.0
    if np.mean(above < NOTHING * np.median(above[top])) < EMPTY_SHARE:
        return 0.0
    height = above[rows, columns].astype(np.float64)
    shares = [
        np.mean([above[rows + d, columns], above[rows - d, columns]], axis=0) / height for d in range(2, REACH + 1)
    ]
    reach = 1 + sum(float(np.median(share)) > BESIDE for share in shares)
    window = np.arange(-reach, reach + 1)
    around = above[rows[:, None, None] + window[:, None], columns[:, None, None] + window]
    return float(np.quantile(around.sum(axis=(1, 2), dtype=np.float64), USUAL))
