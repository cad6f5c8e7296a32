"""Pictures of the drift of a series: shifts over the frames, and the average before and after."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from stackalign._carriers import plain_array

from ._canvas import BLUE, ORANGE, SKY, axes_or_new, colour_bar, extremes, mark_rows, new_figure, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from stackalign.drift import DriftResult

__all__ = ["drift_figure", "plot_drift"]

FEW = 200
"""Frames up to which error bars are drawn."""


def plot_drift(result: "DriftResult", *, ax: "Axes | None" = None) -> "Axes":
    """Draw by how much the content of each frame has to be moved, with error bars where there is room.

    Parameters
    ----------
    result : DriftResult
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import stackalign as sa
    >>> from stackalign.drift import create_test_series, estimate_drift
    >>> result = estimate_drift(create_test_series(6, (48, 48), counts=100).images)
    >>> axes = sa.plot.drift.plot_drift(result)
    """
    ax = axes_or_new(ax)
    sigma = np.where(np.isfinite(result.sigma), result.sigma, 0.0)
    for k, (name, colour) in enumerate((("dy", BLUE), ("dx", ORANGE))):
        chosen = extremes(result.shifts[:, k])
        if len(chosen) <= FEW:
            ax.errorbar(
                chosen,
                result.shifts[chosen, k],
                sigma[chosen, k],
                color=colour,
                fmt=".-",
                lw=0.8,
                capsize=2,
                label=name,
            )
        else:
            ax.plot(chosen, result.shifts[chosen, k], "-", color=colour, lw=0.8, label=name)
    mark_rows(ax, np.flatnonzero(~result.ok), "flagged")
    ax.axhline(0, color=SKY, lw=0.6)
    ax.set_xlabel("frame")
    ax.set_ylabel("shift (px)")
    ax.legend(fontsize=8)
    title(ax, "shifts of the content", f"{len(result)} frames, {int((~result.ok).sum())} flagged")
    return ax


def drift_figure(result: "DriftResult", before: ArrayLike, after: ArrayLike) -> "Figure":
    """Draw the shifts over the average of the frames as they are and as they were aligned.

    Parameters
    ----------
    result : DriftResult
    before, after : array_like
        (H, W) averages; NaN where nothing is known.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(10, 7.6, rect=(0, 0, 0.95, 1), wspace=0.12)
    grid = figure.add_gridspec(2, 2, height_ratios=(1, 1.6))
    plot_drift(result, ax=figure.add_subplot(grid[0, :]))
    aligned = plain_array(after, np.float64, "after")
    seen = aligned[np.isfinite(aligned)]
    low, high = np.percentile(seen, (1, 99)) if len(seen) else (0.0, 1.0)
    for k, (image, words) in enumerate(((before, "average as it is"), (aligned, "average of aligned frames"))):
        ax = figure.add_subplot(grid[1, k])
        drawn = ax.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        title(ax, words)
        colour_bar(ax, drawn, "intensity", extend="both")
    return figure
