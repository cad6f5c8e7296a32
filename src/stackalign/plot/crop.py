"""Pictures of a crop: what was cut, how large, where, and what it kept."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stackalign.io.atomic import atomic_path

from ._canvas import SKY, axes_or_new, colour_bar, intensity_norm, new_figure, save_figure, say_in, title
from ._crop_choice import crop_choice_figure, crop_examples_figure, plot_saved_by_percentile, plot_scan_image
from ._crop_facts import facts_line, middle, window_corners
from ._crop_radii import plot_cumulative, plot_radius_histogram
from ._crop_scan import plot_center_drift, plot_retention_map
from ._text import short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from stackalign.crop.result import CropResult

__all__ = [
    "crop_choice_figure",
    "crop_examples_figure",
    "crop_figure",
    "plot_center_drift",
    "plot_cumulative",
    "plot_mean_pattern",
    "plot_mean_window",
    "plot_radius_histogram",
    "plot_retention_map",
    "plot_saved_by_percentile",
    "plot_scan_image",
    "save_crop_figure",
]


def plot_mean_pattern(result: "CropResult", *, ax: "Axes | None" = None) -> "Axes":
    """Draw the mean pattern before the crop, with the circle of the global radius and the window.

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
    The circle and the window stand at the median of the measured centres. The intensity scale is logarithmic where the
    image spans a decade or more, and the same as in `plot_mean_window`.

    Examples
    --------
    >>> from stackalign import crop, plot
    >>> patterns = crop.create_test_data(n_patterns=4, image_size=32, noise_level=0.0)
    >>> result = crop.crop_array(patterns, crop.CroppingConfig(visualization=False))[1]
    >>> plot.plot_mean_pattern(result).get_title().startswith("Mean pattern")
    True
    """
    ax = axes_or_new(ax)
    from matplotlib.patches import Rectangle

    analysis = result.analysis
    center = middle(analysis)
    height, width = analysis.window
    top, left = window_corners(result, center) - 0.5
    _show(ax, result, analysis.mean_pattern)
    _circle(ax, center, analysis.global_radius)
    outline: dict[str, Any] = {"fill": False, "linewidth": 1.3, "gid": "window"}
    ax.add_patch(Rectangle((left, top), width, height, edgecolor="black", **outline))
    ax.add_patch(Rectangle((left, top), width, height, edgecolor="white", linestyle=(0, (4, 3)), **outline))
    rows, columns = analysis.original_shape
    # A window may reach beyond the frame, which is never smaller than it: show both.
    ax.set_xlim(min(-0.5, left), max(columns - 0.5, left + width))
    ax.set_ylim(max(rows - 0.5, top + height), min(-0.5, top))
    n = analysis.n_mean
    title(
        ax,
        f"Mean pattern ({n:,} of {analysis.n_patterns:,})",
        f"circle: radius {analysis.global_radius} px; dashed: window {height} × {width} px",
    )
    return ax


def plot_mean_window(result: "CropResult", *, ax: "Axes | None" = None) -> "Axes":
    """Draw the mean of the cropped patterns, with the circle of the global radius.

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
    >>> plot.plot_mean_window(result).get_xlabel()
    'x (px)'
    """
    ax = axes_or_new(ax)
    analysis = result.analysis
    height, width = analysis.window
    window = result.validation.mean_window
    # Half a pixel of the centres is lost to whole-pixel windows, so that the circle stands at their median in it.
    usable = np.isfinite(analysis.centers).all(axis=1)
    counted = usable & ~analysis.excluded
    chosen = analysis.centers[counted if counted.any() else usable]
    inside = (
        np.median(chosen - window_corners(result, chosen), axis=0) if len(chosen) else np.array([height, width]) / 2
    )
    if window is None:
        say_in(ax, "no mean of the windows was kept")
        ax.set_aspect("equal")
        ax.set_xlabel("x (px)")
        ax.set_ylabel("y (px)")
    else:
        _show(ax, result, window)
        _calibrated(ax, result)
    ax.set_xlim(-0.5, width - 0.5)
    ax.set_ylim(height - 0.5, -0.5)
    _circle(ax, inside, analysis.global_radius)
    title(ax, "Mean cropped pattern", f"{height} × {width} px, same intensity scale")
    return ax


def crop_figure(result: "CropResult") -> "Figure":
    """Draw the six pictures of a crop on one page, under a line of facts.

    Parameters
    ----------
    result : CropResult

    Returns
    -------
    matplotlib.figure.Figure
        Not known to pyplot: it need not be closed.

    Examples
    --------
    >>> from stackalign import crop, plot
    >>> patterns = crop.create_test_data(n_patterns=4, image_size=32, noise_level=0.0)
    >>> result = crop.crop_array(patterns, crop.CroppingConfig(visualization=False))[1]
    >>> len(plot.crop_figure(result).axes) >= 6
    True
    """
    figure = new_figure(15.0, 9.0, w_pad=0.12, h_pad=0.1, wspace=0.04, hspace=0.04)
    axes = figure.subplots(2, 3)
    plot_mean_pattern(result, ax=axes[0, 0])
    plot_mean_window(result, ax=axes[0, 1])
    plot_cumulative(result, ax=axes[0, 2])
    plot_radius_histogram(result, ax=axes[1, 0])
    plot_center_drift(result, ax=axes[1, 1])
    plot_retention_map(result, ax=axes[1, 2])
    name = short_name(result.input_name) or "array"
    figure.suptitle(f"{name}\n{facts_line(result)}", fontsize=11.5, linespacing=1.5, parse_math=False)
    return figure


def save_crop_figure(result: "CropResult", path: str | os.PathLike[str], dpi: float = 150) -> None:
    """Draw `crop_figure` into a file, which appears complete or not at all.

    Parameters
    ----------
    result : CropResult
    path : path-like
        The extension says the format: .png, .pdf, .svg.
    dpi : float
        Resolution of what is drawn as pixels.

    Examples
    --------
    >>> from stackalign import crop, plot
    >>> patterns = crop.create_test_data(n_patterns=4, image_size=32, noise_level=0.0)
    >>> result = crop.crop_array(patterns, crop.CroppingConfig(visualization=False))[1]
    >>> plot.save_crop_figure(result, "crop.png", dpi=50)
    """
    with atomic_path(path) as partial:
        save_figure(crop_figure(result), partial, dpi)


def _show(ax: "Axes", result: "CropResult", image: NDArray[np.float64]) -> None:
    from matplotlib import colormaps

    norm, words = intensity_norm(result.analysis.mean_pattern, result.validation.mean_window)
    cmap = colormaps["inferno"].with_extremes(bad="#808080")
    drawn = ax.imshow(np.ma.masked_invalid(image), norm=norm, cmap=cmap, aspect="equal")
    ax.set_facecolor("#d0d0d0")
    ax.set_xlabel("x (px)")
    ax.set_ylabel("y (px)")
    beyond = bool((image[np.isfinite(image)] > norm.vmax).any())
    colour_bar(ax, drawn, f"mean intensity ({words})", "max" if beyond else "neither")


def _calibrated(ax: "Axes", result: "CropResult") -> None:
    """Give the windows axes in the detector's unit on the other sides, where the input states one."""
    known = result.calibration
    if known is None or not known.units or known.units == "px":
        return
    for place, size, origin, axis in zip(("right", "top"), known.pixel_size, known.origin, "yx", strict=True):
        to_units = (lambda p, s=size, o=origin: (p - o) * s, lambda u, s=size, o=origin: u / s + o)
        second = getattr(ax, f"secondary_{axis}axis")(place, functions=to_units)
        second.tick_params(labelsize=7)
        second.set_label(f"{axis} ({known.units})")
        if axis == "x":
            second.set_xlabel(f"x ({known.units})", fontsize=8)


def _circle(ax: "Axes", center: NDArray[np.float64], radius: int) -> None:
    from matplotlib.patches import Circle

    place = (float(center[1]), float(center[0]))
    ax.add_patch(Circle(place, radius, fill=False, edgecolor="black", linewidth=2.6))
    ax.add_patch(Circle(place, radius, fill=False, edgecolor=SKY, linewidth=1.5))
    ax.plot(*place, "+", color=SKY, markersize=8, markeredgewidth=1.4)
