"""Pictures of coalignments, in the coordinates of the maps.

Maps are taken as sunpy's, without importing it: they know how to draw themselves and bring their normalisation along.
"""

import copy
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from stackalign._carriers import plain_array
from stackalign._types import FloatArray

from ._canvas import axes_or_new, colour_bar, new_figure, say_in, title
from ._solar_search import correlation_with_iteration, plot_column_times, plot_history_scatter, plot_shift_map

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "blink_maps",
    "correlation_with_iteration",
    "pixel_lengths",
    "plot_alignment_before_after",
    "plot_column_times",
    "plot_history_scatter",
    "plot_map",
    "plot_residual",
    "plot_shift_map",
    "used_part",
]


_BAD = "#79897a"
"""Colour of what is invalid: not one of any scale of grey or of sunpy's."""

LEVELS = (60.0, 85.0, 97.0)
"""Percentiles of the reference at which contours are drawn."""


def pixel_lengths(solar_map: Any) -> tuple[float, float]:
    """Lengths (x, y) of a pixel on the sky, in the units of the map's axes."""
    x, y = np.linalg.norm(solar_map.wcs.pixel_scale_matrix, axis=0).tolist()
    return x, y


def used_part(image: ArrayLike) -> tuple[slice, slice]:
    """Rows and columns that hold anything: the ends of a slit are often empty."""
    known = np.isfinite(np.asarray(image, np.float64))
    if not known.any():
        return slice(0, known.shape[0]), slice(0, known.shape[1])
    rows, columns = (np.flatnonzero(known.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def plot_map(solar_map: Any, ax: "Axes | None" = None, *, label: str = "", limits: bool = True) -> "Axes":
    """Draw a map on axes of its own coordinates, with its colours and normalisation, and the limb of the Sun.

    Parameters
    ----------
    solar_map : GenericMap
    ax : WCSAxes, optional
    label : str
        Heading; the map's own by default.
    limits : bool
        Cut the range at the 1st and 99.7th percentile, which a bright pixel does not stretch, and leave out empty rows
        and columns around the image.

    Returns
    -------
    WCSAxes
    """
    axes = new_figure(5, 5).add_subplot(projection=solar_map) if ax is None else ax
    norm = solar_map.plot_settings.get("norm")
    image = np.asarray(solar_map.data, np.float64)
    known = image[np.isfinite(image)]
    if limits and known.size:
        low, high = np.percentile(known, [1.0, 99.7])
        if norm is not None and high > low:
            norm = _norm(norm, float(low), float(np.median(known)), float(high))
    x, y = pixel_lengths(solar_map)
    drawn = solar_map.plot(axes=axes, norm=norm, aspect=y / x, interpolation="nearest")
    drawn.set_cmap(drawn.get_cmap().with_extremes(bad=_BAD))
    _limb(solar_map, axes)
    rows, columns = used_part(image) if limits else (slice(0, image.shape[0]), slice(0, image.shape[1]))
    axes.set_xlim(columns.start - 0.5, columns.stop - 0.5)
    axes.set_ylim(rows.start - 0.5, rows.stop - 0.5)
    title(axes, label or str(solar_map.name))
    _coordinates(axes)
    return axes


def _norm(norm: Any, low: float, middle: float, high: float) -> Any:
    """The map's own scale over a range; a linear one as a square root where most of the image would be black."""
    from matplotlib.colors import PowerNorm

    stretch = type(getattr(norm, "stretch", None)).__name__
    if middle - low < 0.2 * (high - low) and (type(norm).__name__ == "Normalize" or stretch == "LinearStretch"):
        return PowerNorm(0.5, low, high, clip=True)
    norm = copy.copy(norm)
    norm.vmin, norm.vmax = low, high
    return norm


def _limb(solar_map: Any, axes: Any) -> None:
    """The limb as the map's observer saw it, by sunpy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what was assumed of a missing observer was said when the map was read
        solar_map.draw_limb(axes=axes, color="white", linewidth=1.0, linestyle="--", resolution=1000)


def _coordinates(axes: Any) -> None:
    for k, words in enumerate(("Tx (arcsec)", "Ty (arcsec)")):
        axes.coords[k].set_axislabel(words, fontsize=8)
        axes.coords[k].set_ticklabel(size=7, exclude_overlapping=True)
    axes.coords.grid(color="white", alpha=0.25, linewidth=0.5)


def plot_alignment_before_after(
    target_map: Any,
    reference_before: Any,
    reference_after: Any,
    corrected_map: Any = None,
    *,
    contours: Any = None,
) -> "Figure":
    """Draw a map with contours of the reference, before and after its correction.

    Parameters
    ----------
    target_map : GenericMap
        As it was.
    reference_before, reference_after : GenericMap or array
        The reference on the target's pixels, by the header before and after the correction.
    corrected_map : GenericMap, optional
        The target with the corrected header, for the coordinates of the second picture.
    contours : sequence of float, optional
        Percentiles of the reference, 60, 85 and 97 by default.

    Returns
    -------
    Figure

    Examples
    --------
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> figure = solar.plot_alignment_before_after(seen.raster, seen.truth.data, seen.truth.data, seen.truth)
    >>> len(figure.axes) >= 2
    True
    """
    (x, y), (rows, columns) = pixel_lengths(target_map), used_part(target_map.data)
    high = (rows.stop - rows.start) * y / ((columns.stop - columns.start) * x)
    figure = new_figure(11, float(np.clip(4.6 * high, 2.5, 6.0)) + 0.8)
    pairs = (
        (target_map, reference_before, "before"),
        (target_map if corrected_map is None else corrected_map, reference_after, "after"),
    )
    for k, (solar_map, reference, words) in enumerate(pairs):
        target = np.asarray(solar_map.data, np.float64)
        image = np.asarray(getattr(reference, "data", reference), np.float64)
        if image.shape != target.shape:
            msg = f"the reference must be on the target's pixels {target.shape}, got {image.shape}"
            raise ValueError(msg)
        axes = figure.add_subplot(1, 2, k + 1, projection=solar_map)
        plot_map(solar_map, axes, label=f"{words}: correlation {_score(target, image):.4f}")
        known = image[rows, columns]
        known = known[np.isfinite(known)]
        levels = np.unique(np.percentile(known, LEVELS if contours is None else contours)) if known.size else known
        if len(levels):
            axes.contour(image, levels=levels, colors=["#00E5FF"], linewidths=0.7, alpha=0.9)
    figure.suptitle("The map with contours of the reference (blue) and the limb (dashed)", fontsize=10)
    return figure


def _score(first: FloatArray, second: FloatArray) -> float:
    both = np.isfinite(first) & np.isfinite(second) if first.shape == second.shape else np.zeros(0, bool)
    if both.sum() < 3:
        return 0.0
    return float(np.corrcoef(first[both], second[both])[0, 1])


def plot_residual(
    target: ArrayLike, reference: ArrayLike, ax: "Axes | None" = None, *, aspect: float = 1.0, label: str = "difference"
) -> "Axes":
    """Draw the target minus the reference, both standardised over their common pixels.

    Parameters
    ----------
    target, reference : array_like
        (H, W) on one grid, NaN where invalid.
    ax : matplotlib.axes.Axes, optional
        Of a new figure by default.
    aspect : float
        Height of a pixel by its width.
    label : str
        Heading.

    Returns
    -------
    matplotlib.axes.Axes
    """
    axes = axes_or_new(ax)
    a, b = plain_array(target, np.float64, "target"), plain_array(reference, np.float64, "reference")
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 3:
        say_in(axes, "nothing in common")
        axes.set_axis_off()
        title(axes, label)
        return axes
    difference = np.full(a.shape, np.nan)
    difference[both] = (a[both] - a[both].mean()) / (a[both].std() or 1) - (b[both] - b[both].mean()) / (
        b[both].std() or 1
    )
    far = float(np.nanpercentile(np.abs(difference), 99)) or 1.0
    from matplotlib import colormaps

    drawn = axes.imshow(
        difference, origin="lower", cmap=colormaps["RdBu_r"].with_extremes(bad=_BAD), vmin=-far, vmax=far,
        aspect=aspect, interpolation="nearest",
    )  # fmt: skip
    rows, columns = used_part(difference)
    axes.set_xlim(columns.start - 0.5, columns.stop - 0.5)
    axes.set_ylim(rows.start - 0.5, rows.stop - 0.5)
    colour_bar(axes, drawn, "standard deviations", extend="both")
    title(axes, label, f"rms {np.sqrt(np.nanmean(difference**2)):.3f} of the images' standard deviation")
    axes.set_xlabel("x (pixel)")
    axes.set_ylabel("y (pixel)")
    return axes


def blink_maps(maps: Sequence[Any], *, labels: Sequence[str] | None = None, interval: int = 700) -> "FuncAnimation":
    """Let maps of one grid come and go on the same axes.

    Parameters
    ----------
    maps : sequence of GenericMap or array
        Two or more of one shape; the first gives the coordinates.
    labels : sequence of str, optional
        Heading of each.
    interval : int
        Milliseconds for which each one is shown.

    Returns
    -------
    matplotlib.animation.FuncAnimation
        ``.save("blink.gif")`` writes it, ``.to_jshtml()`` shows it in a notebook.
    """
    from matplotlib.animation import FuncAnimation

    images = [plain_array(getattr(m, "data", m), np.float64, "maps") for m in maps]
    if len(images) < 2 or len({image.shape for image in images}) != 1:
        msg = f"blinking needs two or more maps of one shape, got {[image.shape for image in images]}"
        raise ValueError(msg)
    words = [f"{k + 1}" for k in range(len(images))] if labels is None else list(labels)
    if len(words) != len(images):
        msg = f"{len(images)} maps need as many labels, got {len(words)}"
        raise ValueError(msg)
    figure = new_figure(5.5, 5.5)
    first = maps[0]
    has_wcs = hasattr(first, "wcs")
    axes = figure.add_subplot(projection=first.wcs) if has_wcs else figure.add_subplot()
    colours = first.plot_settings.get("cmap", "gray") if hasattr(first, "plot_settings") else "gray"
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    aspect: float = np.divide(*pixel_lengths(first)[::-1]) if has_wcs else 1.0
    drawn = axes.imshow(
        _unit(images[0]), origin="lower", cmap=colours, vmin=0, vmax=1, interpolation="nearest",
        aspect=aspect,
    )  # fmt: skip
    drawn.set_cmap(drawn.get_cmap().with_extremes(bad=_BAD))
    rows, columns = used_part(np.where(np.isfinite(images).any(axis=0), 1.0, np.nan))
    axes.set_xlim(columns.start - 0.5, columns.stop - 0.5)
    axes.set_ylim(rows.start - 0.5, rows.stop - 0.5)
    if has_wcs:
        _coordinates(axes)

    def show(number: int) -> list[Any]:
        drawn.set_data(_unit(images[number]))
        axes.set_title(words[number], fontsize=10)
        return [drawn]

    return FuncAnimation(figure, show, frames=len(images), interval=interval, blit=False)


def _unit(image: FloatArray) -> FloatArray:
    known = image[np.isfinite(image)]
    low, high = np.percentile(known, [1.0, 99.5]) if known.size else (0.0, 1.0)
    stretched: FloatArray = np.sqrt(np.clip((image - low) / ((high - low) or 1.0), 0.0, 1.0))
    return stretched
