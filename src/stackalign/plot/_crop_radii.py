"""How large: the radii of a crop and the profiles that they come from."""

from typing import TYPE_CHECKING, Any

import numpy as np

from stackalign.crop.result import Flag

from ._canvas import BLUE, GREY, ORANGE, VERMILLION, axes_or_new, say_in, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from stackalign.crop.result import CropAnalysis, CropResult

__all__ = ["plot_cumulative", "plot_radius_histogram"]

LOG_ABOVE = 50
"""Highest bar from which counts are drawn logarithmically: a single outlier would not be seen beside it."""


def plot_radius_histogram(result: "CropResult", *, ax: "Axes | None" = None) -> "Axes":
    """Draw how many patterns have which radius, and which of them set the radius of the windows.

    Parameters
    ----------
    result : CropResult
    ax : matplotlib.axes.Axes, optional
        Of a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes

    Notes
    -----
    Bins are one pixel wide. Patterns that are left out as flagged are hatched; empty ones have no radius and are not
    drawn.

    Examples
    --------
    >>> from stackalign import crop, plot
    >>> patterns = crop.create_test_data(n_patterns=4, image_size=32, noise_level=0.0)
    >>> result = crop.crop_array(patterns, crop.CroppingConfig(visualization=False))[1]
    >>> axes = plot.plot_radius_histogram(result)
    """
    ax = axes_or_new(ax)
    analysis = result.analysis
    radii, excluded = analysis.radii, analysis.excluded
    empty = (analysis.flags & Flag.EMPTY) != 0
    used, left_out = radii[~excluded], radii[excluded & ~empty]
    chosen = _chosen_radius(result)
    lines = [analysis.global_radius] if chosen is None else [chosen, analysis.global_radius]
    low = int(min([*lines, *(part.min() for part in (used, left_out) if part.size)]))
    high = int(max([*lines, *(part.max() for part in (used, left_out) if part.size)]))
    edges = np.arange(low, high + 2) - 0.5
    counts, others = (np.bincount(part - low, minlength=high - low + 1) for part in (used, left_out))
    ax.stairs(counts, edges, fill=True, color=BLUE, label=f"patterns ({used.size:,})")
    # The view follows the patterns that count; a hot pixel's radius must not squeeze them into a corner.
    span = [*lines, int(used.min()), int(used.max())] if used.size else [low, high]
    pad = max(4.0, 0.25 * (max(span) - min(span)))
    left, right = max(min(span) - pad, -0.7), max(span) + pad
    n_flagged = int(excluded.sum())
    if n_flagged:
        hidden = n_flagged - int(((left_out >= left) & (left_out <= right)).sum())
        label = f"flagged ({n_flagged:,}" + (f", {hidden:,} not shown)" if hidden else ")")
        ax.stairs(
            others, edges, fill=True, facecolor="none", edgecolor=ORANGE, hatch="////", linewidth=1.2, label=label
        )
    if chosen is not None:
        ax.axvline(chosen, color="black", linestyle="--", linewidth=1.3, label=f"target radius {chosen} px")
    words = "window radius" if chosen is None or result.config.legacy_window else "with margin"
    ax.axvline(
        analysis.global_radius,
        color=VERMILLION,
        linewidth=1.6,
        label=f"{words} {analysis.global_radius} px",
    )
    _scale_histogram(ax, (left, right), int(max(counts.max(initial=0), others.max(initial=0), 1)))
    title(ax, f"Radius that holds {result.config.target_retention:.4g} of the intensity", _largest(analysis))
    _point_at_largest(ax, analysis)
    return ax


def _scale_histogram(ax: "Axes", span: tuple[float, float], top: int) -> None:
    """Limits, ticks and labels of the histogram; `top` is its highest bar."""
    from matplotlib.ticker import MaxNLocator

    if top > LOG_ABOVE:
        ax.set_yscale("log")
        ax.set_ylim(0.6, top**1.45)
    else:
        ax.set_ylim(0, 1.5 * top)
        ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    ax.set_xlim(span)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    ax.set_xlabel("retention radius (px)")
    ax.set_ylabel("patterns (count)")
    ax.legend(loc="upper left", fontsize=8, ncols=2, framealpha=0.9)


def plot_cumulative(result: "CropResult", *, ax: "Axes | None" = None) -> "Axes":
    """Draw the share of the intensity within a radius, of the sample patterns.

    Parameters
    ----------
    result : CropResult
    ax : matplotlib.axes.Axes, optional
        Of a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes

    Notes
    -----
    Dots mark where each pattern reaches the target; patterns that are left out as flagged are dashed and grey.

    Examples
    --------
    >>> from stackalign import crop, plot
    >>> patterns = crop.create_test_data(n_patterns=4, image_size=32, noise_level=0.0)
    >>> result = crop.crop_array(patterns, crop.CroppingConfig(visualization=False))[1]
    >>> axes = plot.plot_cumulative(result)
    """
    ax = axes_or_new(ax)
    analysis, target = result.analysis, result.config.target_retention
    named = {False: "sample patterns", True: "flagged sample patterns"}
    length, highest = 2, 1.0
    for profile in analysis.profiles:
        flagged = bool(analysis.excluded[profile.index])
        share = np.ma.masked_invalid(profile.cumulative)
        length = max(length, len(share))
        if not flagged and share.count():
            highest = max(highest, float(share.max()))
        style: dict[str, Any] = (
            {"color": GREY, "linestyle": "--", "zorder": 1} if flagged else {"color": BLUE, "alpha": 0.65}
        )
        ax.plot(np.arange(len(share)), share, linewidth=1.3, label=named.pop(flagged, None), gid="profile", **style)
        k = profile.retention_radius
        if not flagged and k < len(share):
            ax.plot(k, share[k], "o", color=BLUE, markersize=4)
    ax.axhline(target, color="black", linestyle="--", linewidth=1.3, label=f"target {target:.4g}")
    ax.axvline(
        analysis.global_radius, color=VERMILLION, linewidth=1.6, label=f"window radius {analysis.global_radius} px"
    )
    ax.set_xlim(0, max(min(length - 1, 3 * analysis.global_radius), analysis.global_radius + 1))
    ax.set_ylim(0, min(1.06 * highest, 3.0))  # negative pixels can make a profile overshoot without bound
    ax.grid(alpha=0.25)
    ax.set_xlabel("radius (px)")
    ax.set_ylabel("share of the intensity within the radius")
    ax.legend(loc="lower right", fontsize=8, framealpha=0.9)
    if not analysis.profiles:
        say_in(ax, "no profiles: the radius was given")
    n = len(analysis.profiles)
    title(ax, "Encircled intensity", f"sample of {n} of {analysis.n_patterns:,}; dots: target reached" if n else "")
    return ax


def _chosen_radius(result: "CropResult") -> int | None:
    """Radius before the margin; None where it was not measured but taken from an earlier crop."""
    analysis, config = result.analysis, result.config
    if not analysis.profiles:
        return None
    if config.legacy_window:  # its margin may be cut off by the clamp
        return int(analysis.radii.max())
    return analysis.global_radius - config.margin_pixels


def _largest(analysis: "CropAnalysis") -> str:
    """Name the patterns that set the maximum; the next radius says whether they are outliers."""
    counted = analysis.radii[~analysis.excluded]
    if counted.size == 0 or not analysis.profiles:
        return ""
    largest = int(counted.max())
    holders = np.flatnonzero((analysis.radii == largest) & ~analysis.excluded)
    names = ", ".join(f"#{k}" for k in holders[: 3 if holders.size <= 3 else 1])
    more = f" and {holders.size - 1:,} more" if holders.size > 3 else ""
    below = counted[counted < largest]
    gap = f"; next {int(below.max())} px" if below.size else ""
    return f"largest {largest} px: {names}{more}{gap}"


def _point_at_largest(ax: "Axes", analysis: "CropAnalysis") -> None:
    counted = analysis.radii[~analysis.excluded]
    if counted.size and analysis.profiles:
        largest = int(counted.max())
        n = int((counted == largest).sum())
        ax.plot(largest, n, "v", color=BLUE, markeredgecolor="white", markersize=9, gid="largest", zorder=5)
