"""What a microscopist should know about the radius that was chosen, with the number and the option that helps."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import ops
from stackalign._beam_stop import beam_stops
from stackalign.io import StackInfo

from .config import CroppingConfig
from .detector import find_faults

__all__ = ["Observed", "advice", "border_level"]

WORTH = 0.05
"""Share of the input's bytes that a remedy must save to be worth a line."""
SPOT, EVEN = 0.3, 0.7
"""Evenness of a diffraction pattern is mostly below 0.2, that of the image of a sample above 0.8."""
EDGE = 0.3
"""Share of the brightest pixels that an edge of the mean pattern reaches where the beam is cut; spots reach less."""
FEW = 0.005
"""Share of the patterns that count as few."""


@dataclass(frozen=True)
class Observed:
    """What the first pass leaves to be judged: rows of all patterns, and the mean pattern (and that of the squares)."""

    radii: NDArray[np.int64]
    centers: NDArray[np.float64]
    excluded: NDArray[np.bool_]
    total: NDArray[np.float64]
    mean: NDArray[np.float64]
    mean_square: NDArray[np.float64]
    n_mean: int
    radius: int
    mask: NDArray[np.bool_] | None


def advice(observed: Observed, info: StackInfo, config: CroppingConfig) -> list[str]:
    """Give sentences about a few patterns, detector faults and a background that decide on the window.

    Parameters
    ----------
    observed : Observed
    info : StackInfo
        Of the input.
    config : CroppingConfig

    Returns
    -------
    list of str
    """
    notes = []
    ignored = info.metadata.get("ignored_frames")
    if ignored:
        notes.append(_beyond_the_scan(int(ignored), info.scan_shape))
    if _may_be_transposed(info, observed):
        y, x = info.shape[1:]
        notes.append(
            f"the patterns are {y} x {x} pixels and there are {info.scan_shape[0]} x {info.scan_shape[1]} of them: if "
            "the detector's axes come first in this file, state the order of the axes (--axes yxRC)"
        )
    if not config.legacy_window:
        notes += [text for text in (_few_patterns(observed, info, config),) if text]
    notes += _detector_and_background(observed, info, config)
    return notes


def _beyond_the_scan(ignored: int, scan_shape: tuple[int, ...]) -> str:
    text = f"{ignored} frames beyond the scan {' x '.join(map(str, scan_shape))} are ignored"
    if len(scan_shape) == 2:
        whole, rest = divmod(ignored, scan_shape[0])
        if rest == 0:
            return (
                f"{text}: as many as {whole} for each row, so that rows are sheared if these are the flyback of the "
                f"beam; then state them (--skip-per-row {whole})"
            )
    return f"{text}; if they come first, as many must be skipped (--skip-frames {ignored})"


def _may_be_transposed(info: StackInfo, observed: Observed) -> bool:
    """Tell whether a scan looks like a detector, and its patterns like a scan.

    By the shape, where there are many tiny frames; else by the content: the sums of the patterns are a bright spot on
    darkness, and the mean pattern is as even as the image of a sample.
    """
    scan, frame = info.scan_shape, info.shape[1:]
    if len(scan) != 2 or info.channel_axis or info.metadata.get("axes"):
        return False
    if max(frame) <= 32 and min(scan) >= 2 * max(frame):
        return True
    return min(scan) >= 8 and _evenness(observed.total) < SPOT and _evenness(observed.mean) > EVEN


def _evenness(values: NDArray[np.float64]) -> float:
    """Share of the values that would make up the sum and the sum of squares, if they were alike: 1 for equal values."""
    squares = float((values**2).sum())
    return float(values.sum()) ** 2 / (values.size * squares) if squares > 0 and math.isfinite(squares) else math.nan


def _area(centers: NDArray[np.float64], radius: int, frame: tuple[int, int]) -> int:
    shape = ops.encircled_window(centers, radius, frame)[1]
    return int(shape[0]) * int(shape[1])


def _few_patterns(observed: Observed, info: StackInfo, config: CroppingConfig) -> str | None:
    """Name the patterns that alone ask for a larger window than all others."""
    used = np.flatnonzero(~observed.excluded)
    n = used.size
    if config.radius_policy != "max" or n < 4:
        return None
    frame = (info.shape[1], info.shape[2])
    order = used[np.argsort(observed.radii[used], kind="stable")[::-1]]
    margin = config.margin_pixels
    whole = frame[0] * frame[1]
    now = _area(observed.centers, int(observed.radii[order[0]]) + margin, frame)
    most = max(1, int(FEW * n))
    saved = [
        (now - _area(observed.centers, int(observed.radii[order[k]]) + margin, frame)) / whole
        for k in range(1, most + 1)
    ]
    if max(saved) < WORTH:
        return None
    k = 1 + next(i for i, value in enumerate(saved) if value >= 0.9 * max(saved))
    named = ", ".join(_named(int(p), info.scan_shape) for p in order[: min(k, 3)]) + (", ..." if k > 3 else "")
    percentile = _percentile(n, k)
    return (
        f"pattern{'s' if k > 1 else ''} {named} alone ask{'' if k > 1 else 's'} for a radius of "
        f"{observed.radii[order[0]]} px, the next of {observed.radii[order[k]]} px: look at "
        f"{'them' if k > 1 else 'it'}; --radius-policy {percentile:g} saves {saved[k - 1]:.0%} of the input's size more"
    )


def _named(pattern: int, scan_shape: tuple[int, ...]) -> str:
    if len(scan_shape) != 2:
        return str(pattern)
    y, x = divmod(pattern, scan_shape[1])
    return f"{pattern} (scan position {y}, {x})"


def _percentile(n: int, k: int) -> float:
    """Largest round percentile whose next higher radius leaves out the k largest of n."""
    exact = 100 * (n - 1 - k) / (n - 1)
    digits = 10.0 ** max(1, math.ceil(math.log10(n)) - 2)
    return math.floor(exact * digits) / digits


def border_level(pattern: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> float:
    """Level of a frame's four corners, each an eighth of its side: the median of their means over valid pixels.

    Means, because the median of single counts is 0; the median of them, because a spot may lie in one corner.
    """
    height, width = pattern.shape
    y, x = max(1, height // 8), max(1, width // 8)
    means = []
    for rows in (slice(None, y), slice(height - y, None)):
        for columns in (slice(None, x), slice(width - x, None)):
            corner = pattern[rows, columns]
            usable = np.isfinite(corner)
            if valid is not None:
                usable &= valid[rows, columns]
            if usable.any():
                means.append(float(corner[usable].mean(dtype=np.float64)))
    return float(np.median(means)) if means else 0.0


def _mean_radius(mean: NDArray[np.float64], target: float, valid: NDArray[np.bool_]) -> int | None:
    """Retention radius of the mean pattern about its own centroid; None where it has none.

    One small frame: NumPy does, and no kernel is compiled for it.
    """
    values = np.where(valid, mean, 0.0)
    total = float(values.sum())
    if total <= 0:
        return None
    y, x = np.indices(mean.shape)
    distance = np.hypot(y - (values * y).sum() / total, x - (values * x).sum() / total)
    cumulative = np.bincount(np.ceil(distance).astype(np.int64).ravel(), weights=values.ravel()).cumsum()
    return int((cumulative >= target * total * (1 - 1e-12)).argmax())


def _detector_and_background(observed: Observed, info: StackInfo, config: CroppingConfig) -> list[str]:
    """Say what the mean pattern shows, and by how much its own radius shrinks without it."""
    mean, mask, target = observed.mean, observed.mask, config.target_retention
    if not (mean > 0).any():
        return []
    valid = np.isfinite(mean) if mask is None else mask & np.isfinite(mean)
    notes: list[str] = []
    plain = _mean_radius(mean, target, valid)
    faults = find_faults(mean, observed.n_mean, info.dtype, mask, observed.mean_square)
    hidden = beam_stops(mean, valid & ~(faults.top | faults.bright)) & valid
    if hidden.any():
        faults = find_faults(mean, observed.n_mean, info.dtype, valid & ~hidden, observed.mean_square)
    good = valid & ~faults.any
    if not good.any():
        return []
    if faults.any.any():
        without = _mean_radius(mean, target, good)
        shrinks = plain is not None and without is not None and without < plain
        effect = f" (the mean pattern's radius is {without} px without them, {plain} px with)" if shrinks else ""
        notes.append(
            f"detector faults: {faults.words()}{effect}; leave them out with --mask auto, or with a mask of "
            "`stackalign mask`"
        )
        plain = without
    if hidden.any():
        notes.append(
            f"a beam stop hides {hidden.sum():,} pixels: the centroid is that of what is left; leave it out with "
            "--mask auto, or with a mask of `stackalign mask --beam-stop`, and state centres by --centers (`stackalign "
            "center` finds them)"
        )
    if config.background is None:
        notes += _background(observed, good, plain, target)
    return notes + _cut_by_the_frame(mean, good, config)


def _cut_by_the_frame(mean: NDArray[np.float64], good: NDArray[np.bool_], config: CroppingConfig) -> list[str]:
    """Say where the beam of the mean pattern touches the frame's edge: its centroid is then not its centre."""
    if config.center_method != "centroid" or min(mean.shape) < 8:
        return []
    values = np.where(good, mean - border_level(mean, good), 0.0)
    top = float(np.percentile(values[good], 99.5))
    sides = {"top": values[0], "bottom": values[-1], "left": values[:, 0], "right": values[:, -1]}
    # The median of five neighbours: a beam is wider than a fault.
    touched = [
        name
        for name, line in sides.items()
        if top > 0 and float(np.median(np.lib.stride_tricks.sliding_window_view(line, 5), axis=1).max()) > EDGE * top
    ]
    if not touched:
        return []
    return [
        f"the beam touches the frame's edge ({', '.join(touched)}): the centroid of what is seen is not its centre; "
        "state centres by --centers (`stackalign center` finds them), or --center-method manual"
    ]


def _background(observed: Observed, good: NDArray[np.bool_], plain: int | None, target: float) -> list[str]:
    """Say which share of the intensity a uniform background is, where the radius depends on it."""
    mean = observed.mean
    level = border_level(mean, good)
    total, pixels = float(mean[good].sum()), int(good.sum())
    share = level * pixels / total if total > 0 else 0.0
    if plain is None or level <= 0 or not math.isfinite(share) or share <= 1 - target:
        return []
    without = _mean_radius(mean - level, target, good)
    if without is None or plain - without < max(2, 0.1 * plain):
        return []
    # Noise of a pattern's total without its background, of which that of the corners' level is the larger part. The
    # largest of many patterns is off by three times as much, which may not exceed what the radius leaves out.
    height, width = mean.shape
    corners = 4 * max(1, height // 8) * max(1, width // 8)
    variance = max(0.0, border_level(observed.mean_square - mean**2, good))
    noise = math.sqrt(variance * (pixels + 1.5 * pixels**2 / corners))
    noisy = 3 * noise > (1 - target) * (total - level * pixels)
    remedy = "--background corner measures without it and leaves the data as they are"
    if noisy:
        remedy += ", with --radius-policy 50, as its noise is too large to find the radius of each single pattern"
    return [
        f"a uniform background of about {level:.3g} per pixel is {share:.0%} of the intensity and sets the radius "
        f"(mean pattern: {without} px without it, {plain} px with, {observed.radius} px for all with the margin): "
        f"{remedy}"
    ]
