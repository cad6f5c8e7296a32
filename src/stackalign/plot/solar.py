"""Pictures of coalignments, in the coordinates of the maps.

Maps are taken as sunpy's, without importing it: they know how to draw themselves and bring their normalisation along.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._canvas import BLUE, GREY, ORANGE, VERMILLION, axes_or_new, colour_bar, new_figure, say_in, title

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "blink_maps",
    "correlation_with_iteration",
    "plot_alignment_before_after",
    "plot_column_times",
    "plot_history_scatter",
    "plot_map",
    "plot_residual",
]

FloatArray = NDArray[np.float64]

NAMES = ("iteration", "dx", "dy", "squeeze_x", "squeeze_y", "corr")
LEVELS = (60.0, 85.0, 97.0)
"""Percentiles of the reference at which contours are drawn."""


def plot_map(solar_map: Any, ax: "Axes | None" = None, *, label: str = "", limits: bool = True) -> "Axes":
    """Draw a map on axes of its own coordinates, with the normalisation that it brings along.

    Parameters
    ----------
    solar_map : GenericMap
    ax : WCSAxes, optional
    label : str
        Heading; the map's own by default.
    limits : bool
        Cut the range at the 1st and 99.7th percentile, which a bright pixel does not stretch.

    Returns
    -------
    WCSAxes
    """
    axes = new_figure(5, 5).add_subplot(projection=solar_map) if ax is None else ax
    settings: dict[str, Any] = {"aspect": _aspect(solar_map), "interpolation": "nearest"}
    norm = solar_map.plot_settings.get("norm")
    known = np.asarray(solar_map.data, np.float64)
    known = known[np.isfinite(known)]
    if limits and known.size:
        low, high = np.percentile(known, [1.0, 99.7])
        if norm is not None and high > low:
            import copy

            norm = copy.copy(norm)
            norm.vmin, norm.vmax = float(low), float(high)
    drawn = solar_map.plot(axes=axes, norm=norm, **settings)
    drawn.set_cmap(drawn.get_cmap().with_extremes(bad="#79897a"))
    title(axes, label or str(solar_map.latex_name))
    _coordinates(axes)
    return axes


def _aspect(solar_map: Any) -> float:
    """Height of a pixel over its width on the sky, so that the Sun is round."""
    lengths = np.linalg.norm(solar_map.wcs.pixel_scale_matrix, axis=0)
    return float(lengths[1] / lengths[0])


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
        Percentiles of the reference.

    Returns
    -------
    Figure
    """
    figure = new_figure(11, 5.6)
    pairs = (
        (target_map, reference_before, "before"),
        (target_map if corrected_map is None else corrected_map, reference_after, "after"),
    )
    for k, (solar_map, reference, words) in enumerate(pairs):
        image = np.asarray(getattr(reference, "data", reference), np.float64)
        axes = figure.add_subplot(1, 2, k + 1, projection=solar_map)
        score = _score(np.asarray(solar_map.data, np.float64), image)
        plot_map(solar_map, axes, label=f"{words}: correlation {score:.4f}")
        known = image[np.isfinite(image)]
        levels = np.unique(np.percentile(known, LEVELS if contours is None else contours)) if known.size else known
        if len(levels):
            axes.contour(image, levels=levels, colors=["#00E5FF"], linewidths=0.7, alpha=0.9)
    figure.suptitle("Contours of the reference on the map", fontsize=10)
    return figure


def _score(first: FloatArray, second: FloatArray) -> float:
    both = np.isfinite(first) & np.isfinite(second) if first.shape == second.shape else np.zeros(0, bool)
    if both.sum() < 3:
        return 0.0
    return float(np.corrcoef(first[both], second[both])[0, 1])


def plot_residual(target: ArrayLike, reference: ArrayLike, ax: "Axes | None" = None, *, aspect: float = 1.0) -> "Axes":
    """Draw the target minus the reference, both standardised over their common pixels."""
    axes = axes_or_new(ax)
    a, b = np.asarray(target, np.float64), np.asarray(reference, np.float64)
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 3:
        say_in(axes, "nothing in common")
        return axes
    difference = np.full(a.shape, np.nan)
    difference[both] = (a[both] - a[both].mean()) / (a[both].std() or 1) - (b[both] - b[both].mean()) / (
        b[both].std() or 1
    )
    far = float(np.nanpercentile(np.abs(difference), 99)) or 1.0
    drawn = axes.imshow(
        difference, origin="lower", cmap="RdBu_r", vmin=-far, vmax=far, aspect=aspect, interpolation="nearest"
    )
    colour_bar(axes, drawn, "standard deviations", extend="both")
    title(axes, "Difference of the standardised images")
    axes.set_xlabel("x (pixel)")
    axes.set_ylabel("y (pixel)")
    return axes


def plot_history_scatter(history: ArrayLike, x: str = "dx", y: str = "dy", ax: "Axes | None" = None) -> "Axes":
    """Draw every candidate that was scored, coloured by its correlation; the best one is marked.

    Parameters
    ----------
    history : array_like
        (N, 6) rows [iteration, dx, dy, squeeze_x, squeeze_y, corr].
    x, y : str
        Columns along the axes.
    """
    axes = axes_or_new(ax)
    rows = _history(history)
    if not len(rows):
        say_in(axes, "no candidate was scored")
        return axes
    i, j = (NAMES.index(_known(name)) for name in (x, y))
    order = np.argsort(rows[:, 5])
    drawn = axes.scatter(
        rows[order, i], rows[order, j], c=rows[order, 5], s=14, cmap="viridis", linewidths=0, rasterized=True
    )
    axes.plot(rows[:, i], rows[:, j], color=GREY, linewidth=0.4, alpha=0.5, zorder=0)
    best = rows[order[-1]]
    axes.plot(best[i], best[j], "o", markersize=11, markerfacecolor="none", markeredgecolor=VERMILLION, label="best")
    axes.legend(fontsize=8)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    colour_bar(axes, drawn, "correlation")
    title(axes, "Candidates", f"best {x} {best[i]:.4g}, {y} {best[j]:.4g}, correlation {best[5]:.5f}")
    return axes


def correlation_with_iteration(history: ArrayLike, ax: "Axes | None" = None) -> "Axes":
    """Draw the correlation of each candidate by iteration, and the best so far."""
    axes = axes_or_new(ax)
    rows = _history(history)
    if not len(rows):
        say_in(axes, "no candidate was scored")
        return axes
    axes.plot(rows[:, 0], rows[:, 5], ".", color=BLUE, markersize=5, label="candidates")
    axes.plot(rows[:, 0], np.maximum.accumulate(rows[:, 5]), color=ORANGE, linewidth=1.5, label="best so far")
    axes.set_xlabel("iteration")
    axes.set_ylabel("correlation")
    axes.legend(fontsize=8, loc="lower right")
    title(axes, "Correlation", f"from {rows[0, 5]:.4f} to {rows[:, 5].max():.4f}")
    return axes


def _history(history: ArrayLike) -> FloatArray:
    rows = np.asarray(history, np.float64)
    if rows.size and (rows.ndim != 2 or rows.shape[1] != len(NAMES)):
        msg = f"history must have the columns {', '.join(NAMES)}, got the shape {rows.shape}"
        raise ValueError(msg)
    return rows.reshape(-1, len(NAMES))


def _known(name: str) -> str:
    if name not in NAMES:
        msg = f"history has the columns {', '.join(NAMES)}, not {name!r}"
        raise ValueError(msg)
    return name


def plot_column_times(plan: Any, ax: "Axes | None" = None) -> "Axes":
    """Draw how long before or after each column the frames that serve it were taken."""
    axes = axes_or_new(ax)
    seconds, weights = plan.seconds, plan.weights
    for k, (words, colour) in enumerate((("nearest frame", BLUE), ("second frame", ORANGE))):
        use = weights[:, k] > 0
        if use.any():
            axes.plot(np.flatnonzero(use), seconds[use, k], ".", color=colour, markersize=4, label=words)
    axes.axhline(0.0, color=GREY, linewidth=0.6)
    axes.set_xlabel("column")
    axes.set_ylabel("frame after column (s)")
    axes.legend(fontsize=8)
    title(axes, "Time from each column to its frame", f"{len(plan.used)} of {len(plan.names)} frames serve")
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

    images = [np.asarray(getattr(m, "data", m), np.float64) for m in maps]
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
    drawn = axes.imshow(
        _unit(images[0]), origin="lower", cmap=colours, vmin=0, vmax=1, interpolation="nearest",
        aspect=_aspect(first) if has_wcs else "equal",
    )  # fmt: skip
    if has_wcs:
        _coordinates(axes)

    def show(number: int) -> list[Any]:
        drawn.set_data(_unit(images[number]))
        axes.set_title(words[number], fontsize=10)
        return [drawn]

    animation = FuncAnimation(figure, show, frames=len(images), interval=interval, blit=False)
    return animation


def _unit(image: FloatArray) -> FloatArray:
    known = image[np.isfinite(image)]
    low, high = np.percentile(known, [1.0, 99.5]) if known.size else (0.0, 1.0)
    stretched: FloatArray = np.sqrt(np.clip((image - low) / ((high - low) or 1.0), 0.0, 1.0))
    return stretched
