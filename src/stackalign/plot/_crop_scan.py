"""Where in the scan: the drift of the centres and the retention, as maps or as series."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._canvas import (
    BLUE,
    GREY,
    MAX_MARKS,
    ORANGE,
    VERMILLION,
    axes_or_new,
    block_mean,
    colour_bar,
    extremes,
    map_aspect,
    mark_rows,
    mark_size,
    say_in,
    title,
)
from ._crop_facts import middle, retention_range, scan_grid
from ._text import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from stackalign.crop.result import CropResult

__all__ = ["plot_center_drift", "plot_retention_map"]

MAX_SAMPLE = 4000
LEAST_ROOM = 5e-3
"""Of the retention's colours beyond its values: differences of 1e-4 are no structure."""

ARROWS = 16
"""Arrows along the longer side of a scan; more cannot be told apart."""


def plot_center_drift(result: "CropResult", *, ax: "Axes | None" = None) -> "Axes":
    """Draw how far the measured centre of each pattern lies from the median centre.

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
    A scan of 2 x 2 positions or more becomes a map of the distance with arrows for the direction, drawn as the detector
    is drawn: x to the right, y down. A series becomes two lines. Patterns that are left out as flagged are marked.

    Examples
    --------
    >>> from stackalign import crop, plot
    >>> patterns = crop.create_test_data(n_patterns=4, image_size=32, noise_level=0.0)
    >>> result = crop.crop_array(patterns, crop.CroppingConfig(visualization=False))[1]
    >>> axes = plot.plot_center_drift(result)
    """
    ax = axes_or_new(ax)
    analysis = result.analysis
    moved = analysis.measured_centers - middle(analysis)
    moved = np.where(analysis.excluded[:, None], np.nan, moved)
    grid = scan_grid(analysis)
    if grid is not None:
        _drift_map(ax, moved.reshape(*grid, 2))
        _mark_cells(ax, analysis.excluded.reshape(grid))
    else:
        for axis, name, colour, style in ((0, "y", VERMILLION, "-"), (1, "x", BLUE, "-")):
            shown = extremes(moved[:, axis])
            ax.plot(
                shown,
                moved[shown, axis],
                style,
                marker="o" if len(moved) <= 60 else None,
                color=colour,
                markersize=3,
                linewidth=1.1,
                label=name,
                rasterized=len(shown) > MAX_MARKS,
            )
        _series(ax, result, "distance from the median centre (px)")
        finite = moved[np.isfinite(moved)]
        if not finite.any():
            ax.set_ylim(-1, 1)
            say_in(ax, "one centre for all patterns" if finite.size else "no pattern has a usable centre", 0.3)
    detail = ""
    if analysis.fit is not None:
        y, x = analysis.fit.rms
        detail = f"plane fitted; residual rms y {number(y, '.3g')}, x {number(x, '.3g')} px"
    title(ax, "Drift of the measured centre", detail)
    return ax


def plot_retention_map(result: "CropResult", *, ax: "Axes | None" = None) -> "Axes":
    """Draw the share of the intensity that each window kept.

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
    A scan of 2 x 2 positions or more becomes a map, a series becomes points. Target and minimum are lines, on the
    colour bar of a map. Patterns below the minimum are marked, and so are those that are left out as flagged. Of a long
    series the lowest and the highest of each bin and an even sample are drawn.

    Examples
    --------
    >>> from stackalign import crop, plot
    >>> patterns = crop.create_test_data(n_patterns=4, image_size=32, noise_level=0.0)
    >>> result = crop.crop_array(patterns, crop.CroppingConfig(visualization=False))[1]
    >>> axes = plot.plot_retention_map(result)
    """
    ax = axes_or_new(ax)
    analysis, validation = result.analysis, result.validation
    kept = np.where(validation.excluded, np.nan, validation.retentions)
    low = np.isfinite(kept) & (kept < validation.min_retention)
    grid = scan_grid(analysis)
    if grid is not None:
        _retention_cells(ax, kept.reshape(grid), validation.target_retention, validation.min_retention)
        _mark_cells(ax, analysis.excluded.reshape(grid), low.reshape(grid))
    else:
        # The extremes alone would hide where most patterns lie.
        shown = np.union1d(extremes(kept), np.arange(0, len(kept), max(1, len(kept) // MAX_SAMPLE)))
        thin = len(shown) > MAX_MARKS
        words = "patterns" if len(shown) == len(kept) else "patterns (extremes and a sample)"
        ax.plot(shown, kept[shown], ".", color=BLUE, markersize=3 if thin else 6, rasterized=thin, label=words)
        below = shown[low[shown]]
        if below.size:
            ax.plot(below, kept[below], "s", color=VERMILLION, fillstyle="none", label="below the minimum")
        ax.axhline(
            validation.target_retention,
            color="black",
            linestyle="--",
            label=f"target {validation.target_retention:.4g}",
        )
        ax.axhline(
            validation.min_retention, color=VERMILLION, linestyle=":", label=f"minimum {validation.min_retention:.4g}"
        )
        _series(ax, result, "retention (share of the total)")
    if not np.isfinite(kept).any():
        say_in(ax, "no pattern has a retention", 0.3)
    mean, lowest = retention_range(result)
    title(ax, "Retention", f"mean {number(mean)}, lowest {number(lowest)}")
    return ax


def _series(ax: "Axes", result: "CropResult", label: str) -> None:
    """Finish the Axes of a series: room for the marks, names, legend."""
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    excluded = np.flatnonzero(result.analysis.excluded)
    mark_rows(ax, excluded, f"flagged, left out ({excluded.size:,})")
    n = result.analysis.n_patterns
    ax.set_xlim(-0.5 - 0.02 * n, n - 0.5 + 0.02 * n)
    low, high = ax.get_ylim()
    ax.set_ylim(low - 0.12 * (high - low), high + 0.3 * (high - low))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7, min_n_ticks=1))
    ax.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    ax.grid(alpha=0.25)
    ax.set_xlabel("pattern (index)")
    ax.set_ylabel(label)
    ax.legend(loc="upper right", fontsize=8, ncols=2, framealpha=0.9)


def _map(ax: "Axes", values: NDArray[np.float64], cmap: str, low: float, high: float, label: str, extend: str) -> Any:
    """Draw a map of the scan; cells without a value let the hatched background through. Gives the colour bar."""
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    drawn = ax.imshow(
        np.ma.masked_invalid(values),
        cmap=colormaps[cmap].with_extremes(bad=(0.0, 0.0, 0.0, 0.0)),
        vmin=low,
        vmax=high,
        aspect=map_aspect(*values.shape),
        interpolation="nearest",
    )
    ax.patch.set(facecolor="#e6e6e6", hatch="////", edgecolor=GREY, linewidth=0)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=7, min_n_ticks=1))
    ax.set_xlabel("scan x (positions)")
    ax.set_ylabel("scan y (positions)")
    return colour_bar(ax, drawn, label, extend)


def _drift_map(ax: "Axes", moved: NDArray[np.float64]) -> None:
    distance = np.hypot(moved[..., 0], moved[..., 1])
    finite = distance[np.isfinite(distance)]
    if finite.size == 0:
        _map(ax, distance, "cividis", 0.0, 1.0, "distance from the median centre (px)", "neither")
        say_in(ax, "no pattern has a usable centre")
        return
    # One wild centre must not leave the rest in one colour.
    farthest, usual = float(finite.max()), float(np.percentile(finite, 99))
    high = usual if farthest > 3 * usual > 0 else farthest
    extend = "max" if farthest > high else "neither"
    _map(ax, distance, "cividis", 0.0, high or 1.0, "distance from the median centre (px)", extend)
    if farthest == 0:
        say_in(ax, "one centre for all patterns")
        return
    _arrows(ax, moved)


def _arrows(ax: "Axes", moved: NDArray[np.float64]) -> None:
    """Arrows of the mean movement of blocks of patterns."""
    length_y, length_x = moved.shape[:2]
    steps = (-(-length_y // ARROWS), -(-length_x // ARROWS))
    if map_aspect(length_y, length_x) == "equal":
        steps = (max(steps), max(steps))
    dy, dx = block_mean(moved[..., 0], steps), block_mean(moved[..., 1], steps)
    rows, columns = (
        np.array([(first + min(first + step, length) - 1) / 2 for first in range(0, length, step)])
        for length, step in zip((length_y, length_x), steps, strict=True)
    )
    lengths = np.hypot(dy, dx)
    long = float(np.percentile(lengths[np.isfinite(lengths)], 98))
    if long <= 0:
        return
    x, y = np.meshgrid(columns, rows)
    seen = np.isfinite(lengths)
    # Directions are those of the screen, where the detector's y points down: hence the sign.
    ax.quiver(
        x[seen],
        y[seen],
        dx[seen],
        -dy[seen],
        angles="uv",
        pivot="mid",
        units="width",
        scale=long * max(len(columns), 4) / 0.95,
        width=0.006,
        headwidth=4,
        color="white",
        edgecolor="black",
        linewidth=0.5,
    )
    ax.plot([], [], ">", color="white", markeredgecolor="black", label="direction on the detector")


def _retention_cells(ax: "Axes", kept: NDArray[np.float64], target: float, minimum: float) -> None:
    from matplotlib.ticker import ScalarFormatter

    finite = kept[np.isfinite(kept)]
    low, high = minimum, 1.0
    if finite.size:
        # The colours follow the bulk; what lies below is marked, and the bar ends in a point.
        low, high = float(np.percentile(finite, 1)), float(np.percentile(finite, 99.5))
        if low - target < 2 * (high - low):
            low = min(low, target)
        high = max(high, target)
        room = max(0.05 * (high - low), LEAST_ROOM)
        low, high = low - room, high + room
    under, over = bool((finite < low).any()), bool((finite > high).any())
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get((under, over), "neither")
    bar = _map(ax, kept, "viridis", low, high, "retention (share of the total)", extend).ax
    bar.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    for value, name, style in ((target, "target", "--"), (minimum, "minimum", ":")):
        place = "on" if low <= value <= high else "below"
        ax.plot([], [], color=GREY, linestyle=style, label=f"{name} {value:.4g} ({place} the bar)")
        if low <= value <= high:
            bar.axhline(value, color="black", linestyle=style, linewidth=2.6, gid=name)
            bar.axhline(value, color="white", linestyle=style, linewidth=1.4, gid=name)


def _mark_cells(ax: "Axes", excluded: NDArray[np.bool_], low: NDArray[np.bool_] | None = None) -> None:
    """Mark flagged patterns, and those that kept too little, and put the legend under the map."""
    from matplotlib.transforms import ScaledTranslation

    marks = [(excluded, "x", ORANGE, "flagged, left out")]
    if low is not None:
        marks.append((low, "s", VERMILLION, "below the minimum"))
    for which, shape, colour, words in marks:
        rows, columns = np.nonzero(which)
        if rows.size:
            every = -(-rows.size // MAX_MARKS)
            ax.plot(
                columns[::every],
                rows[::every],
                shape,
                color=colour,
                fillstyle="none",
                markersize=mark_size(rows.size),
                markeredgewidth=1.5,
                label=f"{words} ({rows.size:,})",
                rasterized=True,
            )
    if ax.get_legend_handles_labels()[0]:
        # In points below the axes, not in their units: a map may be as flat as a third of its width.
        below = ax.transAxes + ScaledTranslation(0.0, -33 / 72, ax.figure.dpi_scale_trans)
        ax.legend(
            loc="upper center", bbox_to_anchor=(0.5, 0.0), bbox_transform=below, fontsize=8, ncols=2, frameon=False
        )
