"""Pictures of a search: the candidates, the scores around the optimum, the frames of a synthetic raster's columns."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from stackalign._carriers import plain_array
from stackalign._types import FloatArray
from stackalign.ops import masked_ncc

from ._canvas import BLUE, GREY, ORANGE, VERMILLION, axes_or_new, colour_bar, say_in, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["correlation_with_iteration", "plot_column_times", "plot_history_scatter", "plot_shift_map"]


NAMES = ("iteration", "dx", "dy", "squeeze_x", "squeeze_y", "corr")


def plot_history_scatter(
    history: ArrayLike, x: str = "dx", y: str = "dy", ax: "Axes | None" = None, *, final: bool = False
) -> "Axes":
    """Draw every candidate that was scored, coloured by its correlation; the best one is marked.

    Parameters
    ----------
    history : array_like
        (N, 6) rows [iteration, dx, dy, squeeze_x, squeeze_y, corr].
    x, y : str
        Columns along the axes.
    ax : matplotlib.axes.Axes, optional
    final : bool
        Mark the last candidate: where images of several resolutions were scored, the highest score is not the best.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import solar
    >>> history = np.array([[0, 0.0, 0.0, 1.0, 1.0, 0.2], [1, 2.0, -1.0, 1.0, 1.0, 0.9]])
    >>> solar.plot_history_scatter(history).get_xlabel() != ""
    True
    """
    axes = axes_or_new(ax)
    rows = _history(history)
    if not len(rows):
        say_in(axes, "no candidate was scored")
        return axes
    i, j = (NAMES.index(_known(name)) for name in (x, y))
    order = np.argsort(rows[:, 5], kind="stable")
    drawn = axes.scatter(
        rows[order, i], rows[order, j], c=rows[order, 5], s=14, cmap="viridis", linewidths=0, rasterized=True
    )
    axes.plot(rows[:, i], rows[:, j], color=GREY, linewidth=0.4, alpha=0.5, zorder=0)
    best, word = (rows[-1], "last") if final else (rows[order[-1]], "best")
    axes.plot(best[i], best[j], "o", markersize=11, markerfacecolor="none", markeredgecolor=VERMILLION, label=word)
    axes.legend(fontsize=8)
    axes.set_xlabel(f"{x} (pixel)" if x in ("dx", "dy") else x)
    axes.set_ylabel(f"{y} (pixel)" if y in ("dx", "dy") else y)
    colour_bar(axes, drawn, "correlation")
    title(axes, "Candidates", f"{word}: {x} {best[i]:.4g}, {y} {best[j]:.4g}, correlation {best[5]:.5f}")
    return axes


def correlation_with_iteration(history: ArrayLike, ax: "Axes | None" = None, *, final: bool = False) -> "Axes":
    """Draw the correlation of each candidate by iteration, and the best so far unless `final`, see above.

    Parameters
    ----------
    history : array_like
        (N, 6) rows [iteration, dx, dy, squeeze_x, squeeze_y, corr].
    ax : matplotlib.axes.Axes, optional
        Where to draw.
    final : bool
        Several resolutions were scored: join the candidates by a line, without the best so far.

    Returns
    -------
    matplotlib.axes.Axes
        The axes that were drawn on.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import solar
    >>> history = np.array([[0, 0.0, 0.0, 1.0, 1.0, 0.2], [1, 2.0, -1.0, 1.0, 1.0, 0.9]])
    >>> len(solar.correlation_with_iteration(history).lines) > 0
    True
    """
    axes = axes_or_new(ax)
    rows = _history(history)
    if not len(rows):
        say_in(axes, "no candidate was scored")
        return axes
    axes.plot(rows[:, 0], rows[:, 5], ".", color=BLUE, markersize=5, label="candidates")
    if final:
        axes.plot(rows[:, 0], rows[:, 5], color=GREY, linewidth=0.5)
    else:
        axes.plot(rows[:, 0], np.maximum.accumulate(rows[:, 5]), color=ORANGE, linewidth=1.5, label="best so far")
    axes.set_xlabel("iteration")
    axes.set_ylabel("correlation")
    axes.legend(fontsize=8, loc="lower right")
    last = rows[-1, 5] if final else rows[:, 5].max()
    title(axes, "Correlation", f"from {rows[0, 5]:.4f} to {last:.4f}")
    return axes


def _history(history: ArrayLike) -> FloatArray:
    rows = plain_array(history, np.float64, "history")
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
    """Draw how long before or after each column the frames that serve it were taken.

    Parameters
    ----------
    plan : RasterPlan
    ax : matplotlib.axes.Axes, optional
        Of a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
    """
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


def plot_shift_map(
    target: ArrayLike,
    reference: ArrayLike,
    ax: "Axes | None" = None,
    *,
    pixels: tuple[int, int] = (1, 1),
    sky: tuple[float, float] = (1.0, 1.0),
) -> "Axes":
    """Draw the correlation of two images of one grid at every shift of whole pixels: the peak and its rivals.

    Parameters
    ----------
    target, reference : array_like
        (ny, nx), NaN where invalid.
    ax : matplotlib.axes.Axes, optional
    pixels : (int, int)
        Pixels (y, x) of the target in one of these; the axes count the target's.
    sky : (float, float)
        Lengths (x, y) of a pixel of the target on the sky, for the shape of the picture.

    Returns
    -------
    matplotlib.axes.Axes
    """
    axes = axes_or_new(ax)
    a, b = plain_array(target, np.float64, "target"), plain_array(reference, np.float64, "reference")
    if (np.isfinite(a) & np.isfinite(b)).sum() < 3:
        say_in(axes, "nothing in common")
        axes.set_axis_off()
        return axes
    correlation = masked_ncc(b, a, max_shift=tuple(max(1, n // 2) for n in a.shape))
    scores = np.asarray(correlation.scores, np.float64)
    (y, x), (ky, kx) = correlation.origin, pixels
    ny, nx = scores.shape
    extent = ((-x - 0.5) * kx, (nx - x - 0.5) * kx, (-y - 0.5) * ky, (ny - y - 0.5) * ky)
    drawn = axes.imshow(
        scores, origin="lower", extent=extent, cmap="viridis", aspect=sky[1] / sky[0], interpolation="nearest"
    )
    best = np.unravel_index(int(scores.argmax()), scores.shape)
    at = ((best[1] - x) * kx, (best[0] - y) * ky)
    axes.plot(*at, "o", markersize=11, markerfacecolor="none", markeredgecolor=VERMILLION)
    axes.set_xlabel("shift of the map along x (pixel)")
    axes.set_ylabel("along y (pixel)")
    colour_bar(axes, drawn, "correlation")
    title(axes, "Correlation at every shift", f"highest {scores.max():.4f} at ({at[0]:g}, {at[1]:g})")
    return axes
