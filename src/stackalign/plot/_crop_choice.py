"""What a microscopist decides by: the image of the scan, patterns that stand out, and what a smaller radius saves."""

from typing import TYPE_CHECKING, Any

import numpy as np

from stackalign.ops import encircled_window

from ._canvas import BLUE, GREY, VERMILLION, axes_or_new, colour_bar, map_aspect, mark_size, new_figure, say_in, title
from ._crop_facts import scan_grid, scan_position

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from stackalign.crop.result import CropResult

__all__ = ["crop_choice_figure", "plot_saved_by_percentile", "plot_scan_image"]

PERCENTILES = np.array([*range(50, 90, 2), *range(90, 99), 99, 99.5, 99.8, 99.9, 100.0])
LARGEST = 5
"""Patterns with the largest radii that are marked."""


def plot_scan_image(result: "CropResult", *, ax: "Axes | None" = None) -> "Axes":
    """Draw the total intensity over the scan, with flagged patterns and those with the largest radii marked.

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
    A scan of 2 x 2 positions or more becomes an image, a series becomes a line.

    Examples
    --------
    >>> from stackalign import crop, plot
    >>> patterns = crop.create_test_data(n_patterns=4, image_size=32, noise_level=0.0)
    >>> result = crop.crop_array(patterns, crop.CroppingConfig(visualization=False))[1]
    >>> plot.plot_scan_image(result).get_title().startswith("Total intensity")
    True
    """
    ax = axes_or_new(ax)
    analysis = result.analysis
    grid = scan_grid(analysis)
    total = np.where(np.isfinite(analysis.total), analysis.total, np.nan)
    largest = np.array(analysis.largest(LARGEST), np.intp)
    flagged = np.flatnonzero(analysis.excluded)
    if grid is None:
        ax.plot(np.arange(total.size), total, color=BLUE, linewidth=1)
        ax.set_xlabel("pattern")
        ax.set_ylabel("total intensity")
        places: dict[str, tuple[Any, ...]] = {
            "largest": (largest, total[largest]),
            "flagged": (flagged, total[flagged]),
        }
    else:
        ax.set_aspect(map_aspect(*grid))
        drawn = ax.imshow(total.reshape(grid), cmap="gray", aspect=map_aspect(*grid), interpolation="nearest")
        colour_bar(ax, drawn, "total intensity")
        ax.set_xlabel("scan column")
        ax.set_ylabel("scan row")
        places = {
            "largest": tuple(np.unravel_index(largest, grid)[::-1]),
            "flagged": tuple(np.unravel_index(flagged, grid)[::-1]),
        }
    for name, shape, colour, words in (
        ("flagged", "x", VERMILLION, "flagged, left out"),
        ("largest", "o", BLUE, "largest radii"),
    ):
        x, y = places[name]
        if len(x):
            size = mark_size(len(x))
            ax.plot(x, y, shape, color=colour, fillstyle="none", markersize=size, label=f"{words} ({len(x):,})")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=8)
    detail = f"largest radius: pattern {largest[0]} {scan_position(analysis, int(largest[0]))}" if largest.size else ""
    title(ax, "Total intensity of each pattern", detail.strip())
    return ax


def plot_saved_by_percentile(result: "CropResult", *, ax: "Axes | None" = None) -> "Axes":
    """Draw the share of the input's pixels that a crop saves whose radius is a percentile of the patterns' radii.

    Parameters
    ----------
    result : CropResult
    ax : matplotlib.axes.Axes, optional
        Of a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> from stackalign import crop, plot
    >>> patterns = crop.create_test_data(n_patterns=4, image_size=32, noise_level=0.0)
    >>> result = crop.crop_array(patterns, crop.CroppingConfig(visualization=False))[1]
    >>> plot.plot_saved_by_percentile(result).get_xlabel()
    '--radius-policy (percentile of the radii)'
    """
    ax = axes_or_new(ax)
    analysis = result.analysis
    radii = analysis.radii[~analysis.excluded]
    ax.set_xlabel("--radius-policy (percentile of the radii)")
    ax.set_ylabel("pixels saved (%)")
    title(ax, "What a smaller radius saves", "patterns above the percentile lose intensity")
    if radii.size == 0:
        say_in(ax, "no pattern counts")
        return ax
    margin = result.config.margin_pixels
    chosen = [int(np.percentile(radii, p, method="higher")) + margin for p in PERCENTILES]
    whole = analysis.original_shape[0] * analysis.original_shape[1]
    saved = []
    for radius in chosen:
        height, width = encircled_window(analysis.centers, radius, analysis.original_shape)[1]
        saved.append(100 * (1 - height * width / whole))
    ax.plot(PERCENTILES, saved, "o-", color=BLUE, markersize=3, drawstyle="steps-pre")
    now = analysis.window[0] * analysis.window[1]
    ax.axhline(100 * (1 - now / whole), color=GREY, linestyle="--", label="this crop")
    ax.legend(fontsize=8)
    return ax


def crop_choice_figure(result: "CropResult") -> "Figure":
    """Draw `plot_scan_image` and `plot_saved_by_percentile` side by side.

    Parameters
    ----------
    result : CropResult

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> from stackalign import crop, plot
    >>> patterns = crop.create_test_data(n_patterns=4, image_size=32, noise_level=0.0)
    >>> result = crop.crop_array(patterns, crop.CroppingConfig(visualization=False))[1]
    >>> len(plot.crop_choice_figure(result).axes) >= 2
    True
    """
    figure = new_figure(11.0, 4.4)
    left, right = figure.subplots(1, 2)
    plot_scan_image(result, ax=left)
    plot_saved_by_percentile(result, ax=right)
    return figure
