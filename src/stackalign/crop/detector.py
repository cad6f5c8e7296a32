"""Faults of the detector that are the same in all patterns: found in the mean of patterns spread over the stack."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign._beam_stop import beam_stops
from stackalign.io import StackReader

__all__ = ["DetectorFaults", "add_sample", "find_faults", "mask_of_stack"]

N_SAMPLED = 128
REACH = 6
"""Faults up to this wide along one axis are seen: the median over 2 * REACH + 1 pixels is that of what is around."""
TOP_SHARE = 0.9
"""A pixel whose mean reaches this share of the type's largest value stands there in most patterns."""
NOISE = 3.0
BRIGHT = 3.0
STEP = 20.0
"""A bright fault stands above its surroundings by the factor BRIGHT, and has no flank: the step at its edge is STEP."""
LINE_STEP = 4.0
LINE = 12
"""A straight line of this many pixels, up to REACH wide, is a fault with a smaller step: no pattern has such lines."""
STEADY = 0.5
_BLOCK = 1 << 16
LEAST = 4
"""Of fewer patterns nobody can say what they have in common."""
DARK_COUNTS = 30.0
"""A pixel without any count is dead where its surroundings have this many: by chance it happens in one of 1e13."""


@dataclass(frozen=True)
class DetectorFaults:
    """Pixels that do not measure, (H, W) boolean each, True = fault.

    Parameters
    ----------
    top : numpy.ndarray
        At the largest value of the integer type: filled gaps, pixels that the detector marks as bad.
    bright : numpy.ndarray
        Far above everything around them, without a flank.
    dark : numpy.ndarray
        Without signal between pixels that have some.
    """

    top: NDArray[np.bool_]
    bright: NDArray[np.bool_]
    dark: NDArray[np.bool_]

    @property
    def any(self) -> NDArray[np.bool_]:
        """All of them."""
        return self.top | self.bright | self.dark

    def words(self) -> str:
        """How many of which kind, and where: as "64 pixels at the type's largest value (row 50)"."""
        kinds = (
            (self.top, "at the type's largest value"),
            (self.bright, "far above all around them"),
            (self.dark, "without signal"),
        )
        faults = [(which, text) for which, text in kinds if which.any()]
        return ", ".join(
            f"{which.sum()} pixel{'s' if which.sum() > 1 else ''} {text} ({_where(which)})" for which, text in faults
        )


def _where(which: NDArray[np.bool_]) -> str:
    """Rows and columns that are faulty in most of their length, and the place of the first of the other pixels."""
    rows = np.flatnonzero(which.mean(axis=1) > 0.5)
    columns = np.flatnonzero(which.mean(axis=0) > 0.5)
    parts = [_numbers(name, values) for name, values in (("row", rows), ("column", columns)) if values.size]
    rest = which.copy()
    rest[rows] = False
    rest[:, columns] = False
    if rest.any():
        y, x = np.argwhere(rest)[0]
        parts.append(f"(y, x) = ({y}, {x})" + (" and others" if rest.sum() > 1 else ""))
    return ", ".join(parts)


def _numbers(name: str, values: NDArray[np.intp]) -> str:
    if values.size == 1:
        return f"{name} {values[0]}"
    if values.size == values[-1] - values[0] + 1:
        return f"{name}s {values[0]} to {values[-1]}"
    listed = ", ".join(map(str, values[:4]))
    return f"{name}s {listed}" + (" and others" if values.size > 4 else "")


def find_faults(
    mean: NDArray[np.float64],
    n: int,
    dtype: np.dtype[Any],
    mask: NDArray[np.bool_] | None = None,
    mean_square: NDArray[np.float64] | None = None,
) -> DetectorFaults:
    """Find faults in the mean of some patterns.

    Parameters
    ----------
    mean : numpy.ndarray
        (H, W) float64.
    n : int
        Number of patterns in the mean; of fewer than `LEAST` nothing is found.
    dtype : numpy.dtype
        Of the patterns.
    mask : numpy.ndarray, optional
        (H, W) boolean, True = valid: other pixels are known to be faulty and not reported.
    mean_square : numpy.ndarray, optional
        (H, W) mean of the squares of the same patterns. A pixel that is bright in less than half of them, as where
        single events are counted, is no fault.

    Returns
    -------
    DetectorFaults

    Notes
    -----
    The surroundings of a pixel are the smaller of two medians of valid pixels, over the column and over the row of
    ``2 * REACH + 1`` pixels about it, which a fault up to REACH wide along one axis does not change. A bright group is
    a fault only if it widens the mean pattern: the direct beam, however sharp, does the opposite, and groups of its
    size are taken for diffracted beams.
    """
    if n < LEAST:
        none = np.zeros(mean.shape, np.bool_)
        return DetectorFaults(none, none, none)
    known = np.ones(mean.shape, np.bool_) if mask is None else mask
    top = np.zeros(mean.shape, np.bool_)
    if dtype.kind in "iu" and dtype.itemsize > 1:  # one byte is easily filled by the beam itself
        top = known & (mean >= TOP_SHARE * np.iinfo(dtype).max)
    valid = known & ~top & np.isfinite(mean)
    positive = mean[valid & (mean > 0)]
    quantum = 1 / n if dtype.kind in "iu" else float(positive.min()) if positive.size else 1.0
    along = _medians(mean, valid)
    # (sum of x)^2 / (n sum of x^2) is the share of the patterns that make up the sum.
    steady = valid if mean_square is None else valid & (mean**2 >= STEADY * mean_square)
    bright = _bright(mean, valid, steady, np.fmin(*along), quantum)
    return DetectorFaults(top, bright, _dark(mean, valid, np.fmax(*along), DARK_COUNTS * quantum))


def _medians(mean: NDArray[np.float64], valid: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Medians along y and along x of valid pixels, the lower of two in the middle; 0 where there are none."""
    values = np.where(valid, mean, np.nan)
    return [_median_along_rows(values.T).T, _median_along_rows(values)]


def _median_along_rows(values: NDArray[np.float64]) -> NDArray[np.float64]:
    padded = np.pad(values, [(0, 0), (REACH, REACH)], constant_values=np.nan)
    medians = np.empty(values.shape)
    block = max(1, _BLOCK // values.shape[1])
    for first in range(0, len(values), block):
        rows = padded[first : first + block]
        windows = np.sort(np.lib.stride_tricks.sliding_window_view(rows, 2 * REACH + 1, axis=1), axis=-1)
        number = np.isfinite(windows).sum(axis=-1)  # NaN come last
        middle = np.maximum(number - 1, 0) // 2
        median = np.take_along_axis(windows, middle[..., None], axis=-1)[..., 0]
        medians[first : first + block] = np.nan_to_num(median)
    return medians


def _dark(
    mean: NDArray[np.float64], valid: NDArray[np.bool_], around: NDArray[np.float64], least: float
) -> NDArray[np.bool_]:
    """Whole rows and columns without signal between lit ones, and groups of pixels that lit ones enclose.

    At the border nothing encloses: a margin of zeros is no fault.
    """
    from scipy import ndimage

    zero = valid & (mean == 0)
    labels, number = ndimage.label(zero, np.ones((3, 3), np.bool_))
    dark = np.zeros(mean.shape, np.bool_)
    if number:
        share = ndimage.mean(around >= least, labels, np.arange(1, number + 1))
        enclosed = np.concatenate([[False], np.asarray(share) >= 0.9])
        for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            enclosed[border] = False
        dark |= enclosed[labels]
    for axis in (0, 1):
        lines = np.where(valid, mean, 0.0).sum(axis=1 - axis)
        usable = valid.any(axis=1 - axis)
        place = dark if axis == 0 else dark.T
        for first, last in _runs(usable & (lines == 0)):
            between = first > 0 and last < len(lines) and last - first <= REACH
            if between and min(lines[first - 1], lines[last]) >= LINE * least:
                place[first:last] |= (valid if axis == 0 else valid.T)[first:last]
    return dark


def _runs(which: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and behind the last index of each run of True."""
    steps = np.flatnonzero(np.diff(np.concatenate([[False], which, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(steps[::2], steps[1::2], strict=True)]


def _bright(
    mean: NDArray[np.float64],
    valid: NDArray[np.bool_],
    steady: NDArray[np.bool_],
    around: NDArray[np.float64],
    quantum: float,
) -> NDArray[np.bool_]:
    """Connected pixels that stand above their surroundings, end abruptly and widen the pattern."""
    from scipy import ndimage

    # Numbers with noise about zero have no smallest step: what scatters about its surroundings is their noise.
    floor = max(quantum, NOISE * 1.4826 * float(np.median(np.abs(mean - around)[valid]))) if valid.any() else quantum
    lifted = steady & (mean > BRIGHT * np.maximum(around, floor))
    labels, number = ndimage.label(lifted, np.ones((3, 3), np.bool_))
    # The brightest pixel beside each that does not belong to the group: the foot of the step.
    foot = ndimage.maximum_filter(np.where(valid & ~lifted, mean, 0.0), size=3)
    edge = lifted & (ndimage.minimum_filter(lifted.view(np.uint8), size=3, mode="nearest") == 0)
    step = mean / np.maximum(foot, floor)
    compact: list[int] = []
    lines: list[int] = []
    for k, place in enumerate(ndimage.find_objects(labels), 1):
        group = labels[place] == k
        inside = group & edge[place]
        height, width = group.shape
        line = max(height, width) >= LINE and min(height, width) <= REACH and group.mean() > 0.8
        if inside.any() and np.median(step[place][inside]) >= (LINE_STEP if line else STEP):
            (lines if line else compact).append(k)
    widening = _widening(mean, valid, labels, compact, lines)
    return np.isin(labels, widening) if number and widening else np.zeros(mean.shape, np.bool_)


def _widening(
    mean: NDArray[np.float64], valid: NDArray[np.bool_], labels: NDArray[np.int32], compact: list[int], lines: list[int]
) -> list[int]:
    """Groups that increase the mean square distance from the centroid of all that is in no group."""
    from scipy import ndimage

    y, x = np.indices(mean.shape)
    rest = np.where(valid & ~np.isin(labels, compact + lines), mean, 0.0)
    total = float(rest.sum())
    if total <= 0:
        return []
    center = float((rest * y).sum()) / total, float((rest * x).sum()) / total
    distance = (y - center[0]) ** 2 + (x - center[1]) ** 2
    typical = float((rest * distance).sum()) / total
    weight = ndimage.sum(mean, labels, compact)
    spread = ndimage.sum(mean * distance, labels, compact)
    pixels = np.bincount(labels.ravel())
    far = [k for k, w, d in zip(compact, weight, spread, strict=True) if d > typical * w]
    sizes = [int(pixels[k]) for k in compact if k not in set(far)]

    def like_a_beam(k: int) -> bool:
        return any(size > 1 and size / 2 <= pixels[k] <= 2 * size for size in sizes)

    return [*lines, *(k for k in far if not like_a_beam(k))]


def add_sample(sums: NDArray[np.float64], pattern: NDArray[Any]) -> None:
    """Add a pattern and its square to the two planes of `sums`, (2, H, W), invalid pixels as 0."""
    values = pattern.astype(np.float64)
    if pattern.dtype.kind == "f":
        values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    with np.errstate(over="ignore"):  # float64 near its end overflows; such a pattern is flagged
        sums[0] += values
        sums[1] += values * values


def mask_of_stack(reader: StackReader, mask: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Find the pixels of a stack that measure, from patterns spread over it: no fault, and not behind a beam stop.

    Parameters
    ----------
    reader : StackReader
    mask : numpy.ndarray, optional
        (H, W) boolean, True = valid: what is known already.

    Returns
    -------
    numpy.ndarray
        (H, W) boolean, True = valid: in `mask`, no detector fault, and not in the shadow of a beam stop.
    """
    count = reader.info.shape[0]
    chosen = range(0, count, max(1, count // N_SAMPLED))
    sums = np.zeros((2, *reader.info.shape[1:]))
    block = np.empty((1, *reader.info.shape[1:]), reader.info.dtype)
    for k in chosen:
        reader.read(k, k + 1, block)
        add_sample(sums, block[0])
    mean, mean_square = sums / len(chosen)
    faults = find_faults(mean, len(chosen), reader.info.dtype, mask, mean_square)
    bright = ~(faults.top | faults.bright)
    good = ~faults.any & ~beam_stops(mean, bright if mask is None else bright & mask)
    return good if mask is None else good & mask
