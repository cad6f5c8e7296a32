"""Pictures of Bragg peaks, their persistence, and their zones."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from stackalign._carriers import plain_array

from ._canvas import BLUE, GREY, VERMILLION, axes_or_new, colour_bar, intensity_norm, say_in, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from stackalign.diffraction import BraggPeaks, BrillouinZones
    from stackalign.ops import PersistencePairs

__all__ = ["plot_peaks", "plot_persistence", "plot_zones"]


def plot_peaks(
    image: ArrayLike,
    peaks: "BraggPeaks | ArrayLike",
    ax: "Axes | None" = None,
    *,
    radius: float | None = None,
    colour: str = VERMILLION,
) -> "Axes":
    """Draw a circle around each peak of an image.

    Parameters
    ----------
    image : (H, W) array_like
    peaks : BraggPeaks or (N, 2) array_like
        (row, col).
    ax : matplotlib.axes.Axes, optional
    radius : float, optional
        Of the circles in pixels.
    colour : str

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import diffraction, plot
    >>> y, x = np.indices((48, 48))
    >>> image = 5 + 400 * np.exp(-((y - 20) ** 2 + (x - 30) ** 2) / 8)
    >>> axes = plot.plot_peaks(image, diffraction.bragg_peaks(image))
    """
    from matplotlib.collections import EllipseCollection

    axes = axes_or_new(ax)
    shown = plain_array(image, np.float64, "image")
    height, width = shown.shape
    drawn = axes.imshow(
        shown, cmap="gray_r", norm=intensity_norm(shown, None)[0], extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="nearest" if max(shown.shape) < 600 else "antialiased",
    )  # fmt: skip
    colour_bar(axes, drawn, "intensity")
    places = plain_array(getattr(peaks, "position", peaks), np.float64, "peaks").reshape(-1, 2)
    size = 2 * (max(shown.shape) / 80 if radius is None else radius)
    axes.add_collection(
        EllipseCollection(
            np.full(len(places), size), np.full(len(places), size), np.zeros(len(places)), units="xy",
            offsets=places[:, ::-1], transOffset=axes.transData, facecolors="none", edgecolors=colour, linewidths=0.9,
        )
    )  # fmt: skip
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_xlabel("column (pixel)")
    axes.set_ylabel("row (pixel)")
    title(axes, "Bragg peaks", f"{len(places)} found")
    return axes


def plot_persistence(pairs: "PersistencePairs", prominence: float | None = None, ax: "Axes | None" = None) -> "Axes":
    """Draw deaths over births; what is far below the diagonal is a peak, what is near it noise.

    Parameters
    ----------
    pairs : PersistencePairs
    prominence : float, optional
        Persistence from which on points are taken for peaks.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> axes = sa.plot.plot_persistence(sa.persistence_pairs(np.random.default_rng(0).random((16, 16))), 0.5)
    """
    axes = axes_or_new(ax)
    if not len(pairs.birth):
        say_in(axes, "no peak")
        return axes
    chosen = pairs.persistence > (0.0 if prominence is None else prominence)
    axes.plot(pairs.birth[~chosen], pairs.death[~chosen], ".", color=GREY, markersize=3, label="below prominence")
    axes.plot(pairs.birth[chosen], pairs.death[chosen], ".", color=BLUE, markersize=6, label="peaks")
    low, high = float(pairs.death.min()), float(pairs.birth.max())
    axes.plot([low, high], [low, high], color=GREY, linewidth=0.8)
    if prominence:
        axes.plot([low + prominence, high], [low, high - prominence], "--", color=VERMILLION, linewidth=0.9)
    if low >= 0 < high:
        axes.set_xscale("symlog", linthresh=high / 1e4)
        axes.set_yscale("symlog", linthresh=high / 1e4)
    axes.set_xlabel("birth (intensity)")
    axes.set_ylabel("death (intensity)")
    axes.legend(fontsize=8)
    title(axes, "Persistence", f"{int(chosen.sum())} of {len(chosen)} maxima are peaks")
    return axes


def plot_zones(
    zones: "BrillouinZones",
    ax: "Axes | None" = None,
    chosen: ArrayLike | None = None,
    *,
    transposed: bool = False,
    **style: Any,
) -> "Axes":
    """Draw zones, by default all that are visible; see `BrillouinZones.render`.

    Parameters
    ----------
    zones : BrillouinZones
    ax : matplotlib.axes.Axes, optional
        Of a new figure by default.
    chosen : array_like, optional
        Indices.
    transposed : bool
        Draw (col, row) where (x, y) should be (row, col).
    **style
        For `matplotlib.collections.PolyCollection`.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from matplotlib.collections import PolyCollection

    axes = axes_or_new(ax)
    indices = zones.visible_zones() if chosen is None else plain_array(chosen, np.int64, "chosen")
    polygons = [zones.vertices[i] if transposed else zones.vertices[i][:, ::-1] for i in indices]
    settings: dict[str, Any] = {"facecolor": "none", "edgecolor": VERMILLION, "linewidth": 0.9, **style}
    axes.add_collection(PolyCollection(polygons, **settings))
    if ax is None:
        top, left, bottom, right = zones.bounds
        axes.set_xlim(left, right)
        axes.set_ylim(bottom, top)
        axes.set_aspect("equal")
        title(axes, "Brillouin zones", f"{len(polygons)} visible")
    return axes
