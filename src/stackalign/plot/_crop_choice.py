"""What a microscopist decides by: the image of the scan, patterns that stand out, and what a smaller radius saves."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stackalign.ops import encircled_window

from ._canvas import (
    BLUE,
    GREY,
    SKY,
    VERMILLION,
    axes_or_new,
    colour_bar,
    intensity_norm,
    map_aspect,
    mark_size,
    new_figure,
    say_in,
    title,
)
from ._crop_facts import scan_grid, scan_position, window_corners
from ._text import number as number_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from stackalign.crop.result import CropResult

__all__ = ["crop_choice_figure", "crop_examples_figure", "plot_saved_by_percentile", "plot_scan_image"]

PERCENTILES = np.array([*range(50, 90, 2), *range(90, 99), 99, 99.5, 99.8, 99.9, 100.0])
LARGEST = 5
"""Patterns with the largest radii that are marked."""


def plot_scan_image(result: "CropResult", *, field: str = "total", ax: "Axes | None" = None) -> "Axes":
    """Draw a virtual image of the scan, with flagged patterns and those with the largest radii marked.

    Parameters
    ----------
    result : CropResult
    field : {"total", "bright", "dark"}
        All of the intensity, that of a disc about the direct beam, or that beyond it (annular dark field).
    ax : matplotlib.axes.Axes, optional
        Of a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes

    Notes
    -----
    A scan of 2 x 2 positions or more becomes an image, a series becomes a line. Bright and dark field are of detectors
    that stay where they are; a series has none.

    Raises
    ------
    ValueError
        Another field.

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
    values, name, detail = _virtual_image(result, field)
    total = np.where(np.isfinite(values), values, np.nan)
    largest = np.array(analysis.largest(LARGEST), np.intp)
    flagged = np.flatnonzero(analysis.excluded)
    if grid is None:
        ax.plot(np.arange(total.size), total, color=BLUE, linewidth=1)
        ax.set_xlabel("pattern")
        ax.set_ylabel(name)
        places: dict[str, tuple[Any, ...]] = {
            "largest": (largest, total[largest]),
            "flagged": (flagged, total[flagged]),
        }
    else:
        ax.set_aspect(map_aspect(*grid))
        low, high, extend = _limits(total[~analysis.excluded])
        drawn = ax.imshow(
            total.reshape(grid), cmap="gray", vmin=low, vmax=high, aspect=map_aspect(*grid), interpolation="nearest"
        )
        colour_bar(ax, drawn, name, extend)
        ax.set_xlabel("scan column")
        ax.set_ylabel("scan row")
        places = {
            "largest": tuple(np.unravel_index(largest, grid)[::-1]),
            "flagged": tuple(np.unravel_index(flagged, grid)[::-1]),
        }
    _mark(ax, places)
    if not detail and largest.size:
        detail = f"largest radius: pattern {largest[0]} {scan_position(analysis, int(largest[0]))}"
    title(ax, f"{name.capitalize()} of each pattern", detail.strip())
    return ax


def _mark(ax: "Axes", places: dict[str, tuple[Any, ...]]) -> None:
    """Mark patterns (x, y) that are flagged or have the largest radii, with a legend where there are any."""
    for kind, shape, colour, words in (
        ("flagged", "x", VERMILLION, "flagged, left out"),
        ("largest", "o", BLUE, "largest radii"),
    ):
        x, y = places[kind]
        if len(x):
            size = mark_size(len(x))
            ax.plot(x, y, shape, color=colour, fillstyle="none", markersize=size, label=f"{words} ({len(x):,})")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=8)


def _limits(values: NDArray[np.float64]) -> tuple[float, float, str]:
    """Ends of the greys, and how the bar ends: a single bright pattern must not leave the others in the dark."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0, "neither"
    low, high = (float(v) for v in np.percentile(finite, (0.5, 99.5)))
    if not high > low:
        low, high = float(finite.min()), float(finite.max())
    under, over = bool((finite < low).any()), bool((finite > high).any())
    return low, high, {(True, True): "both", (True, False): "min", (False, True): "max"}.get((under, over), "neither")


def _virtual_image(result: "CropResult", field: str) -> tuple[NDArray[np.float64], str, str]:
    """Values, name and a remark on the detector."""
    virtual = result.virtual
    if field == "total":
        return result.analysis.total, "total intensity", ""
    if field not in ("bright", "dark"):
        msg = f"field must be total, bright or dark, got {field!r}"
        raise ValueError(msg)
    name = f"{field}-field intensity"
    if virtual is None:
        return np.full(result.analysis.n_patterns, np.nan), name, "there are no virtual detectors"
    place = f"({virtual.center[0]:.1f}, {virtual.center[1]:.1f})"
    if field == "bright":
        return virtual.bright, name, f"within {virtual.bright_radius:.1f} px of {place}"
    return virtual.dark, name, f"beyond {virtual.dark_radius:.1f} px of {place}"


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
    """Draw `plot_scan_image`, of all fields where there are virtual detectors, and `plot_saved_by_percentile`.

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
    if result.virtual is None:
        figure = new_figure(11.0, 4.4)
        left, right = figure.subplots(1, 2)
        plot_scan_image(result, ax=left)
        plot_saved_by_percentile(result, ax=right)
        return figure
    figure = new_figure(11.0, 8.8)
    axes = figure.subplots(2, 2)
    for field, ax in zip(("total", "bright", "dark"), axes.flat, strict=False):
        plot_scan_image(result, field=field, ax=ax)
    plot_saved_by_percentile(result, ax=axes[1, 1])
    return figure


def crop_examples_figure(result: "CropResult") -> "Figure | None":
    """Draw the pattern with the largest radius, and the one that keeps the least, before and after the crop.

    Parameters
    ----------
    result : CropResult

    Returns
    -------
    matplotlib.figure.Figure or None
        None where no pattern was kept to be drawn.

    Examples
    --------
    >>> from stackalign import crop, plot
    >>> patterns = crop.create_test_data(n_patterns=4, image_size=32, noise_level=0.0)
    >>> result = crop.crop_array(patterns, crop.CroppingConfig(visualization=False))[1]
    >>> len(plot.crop_examples_figure(result).axes) >= 2
    True
    """
    if not result.examples:
        return None
    figure = new_figure(11.0, 4.6 * len(result.examples))
    rows = figure.subplots(len(result.examples), 2, squeeze=False)
    for (k, pattern), (left, right) in zip(result.examples.items(), rows, strict=True):
        _example(left, right, result, k, pattern.astype(np.float64))
    return figure


def _example(left: "Axes", right: "Axes", result: "CropResult", k: int, pattern: NDArray[np.float64]) -> None:
    """Draw one pattern with its window, and what is in the window."""
    from matplotlib.patches import Circle, Rectangle

    analysis = result.analysis
    height, width = analysis.window
    top, start = (int(c) for c in window_corners(result, analysis.centers[k]))
    rows, columns = slice(max(0, top), max(0, top + height)), slice(max(0, start), max(0, start + width))
    norm, words = intensity_norm(pattern, pattern[rows, columns])
    center = analysis.centers[k]
    for ax in (left, right):
        drawn = ax.imshow(np.ma.masked_invalid(pattern), norm=norm, cmap="inferno", aspect="equal")
        for radius, style in ((analysis.global_radius, "-"), (int(analysis.radii[k]), ":")):
            ax.add_patch(Circle((center[1], center[0]), radius, fill=False, edgecolor=SKY, linestyle=style))
        ax.set_xlabel("x (px)")
        ax.set_ylabel("y (px)")
    colour_bar(right, drawn, f"intensity ({words})")
    left.add_patch(Rectangle((start - 0.5, top - 0.5), width, height, fill=False, edgecolor="white", linestyle="--"))
    rows_shown, columns_shown = analysis.original_shape
    left.set_xlim(min(-0.5, start - 0.5), max(columns_shown - 0.5, start + width - 0.5))
    left.set_ylim(max(rows_shown - 0.5, top + height - 0.5), min(-0.5, top - 0.5))
    right.set_xlim(start - 0.5, start + width - 0.5)
    right.set_ylim(top + height - 0.5, top - 0.5)
    reasons = [words for words, number in _reasons(result) if number == k]
    title(left, f"Pattern {k} {scan_position(analysis, k)}: {' and '.join(reasons)}", "dashed: its window")
    kept = float(result.validation.retentions[k])
    title(right, f"What is kept: {number_of(kept)}", f"solid: radius of all; dotted: its own, {analysis.radii[k]} px")


def _reasons(result: "CropResult") -> list[tuple[str, int]]:
    """Why a pattern is among the examples."""
    validation = result.validation
    reasons = [("largest radius", k) for k in result.analysis.largest(1)]
    kept = np.where(validation.excluded, np.nan, validation.retentions)
    return [*reasons, ("lowest retention", int(np.nanargmin(kept)))] if np.isfinite(kept).any() else reasons
