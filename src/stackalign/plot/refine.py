"""Pictures of a refinement: disks measured, simulated and their difference, where the score is high, what depends."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from stackalign._carriers import plain_array
from stackalign._types import FloatArray

from ._canvas import BLUE, GREY, ORANGE, VERMILLION, axes_or_new, colour_bar, new_figure, say_in, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from stackalign.refine import RefinementResult

__all__ = ["disks_figure", "plot_correlations", "plot_position_map", "plot_scores", "refinement_figure"]

UNITS = {"tilt_x": "1/Å", "tilt_y": "1/Å", "thickness": "Å", "gl": "px", "rotation": "degrees", "kv": "kV"}
UNITS |= {"blur": "px", "a": "Å", "b": "Å", "c": "Å", "alpha": "degrees", "beta": "degrees", "gamma": "degrees"}
MAX_DISKS = 8
"""Disks in one row."""
WORDS = {"polish": "polish, on the grid", "simplex": "simplex, on the grid", "fine": "fine, at the pixels"}
"""Scores at nodes, which are means of pixels, are higher than those at pixels; the result's score is the latter."""
STAGES = {"scan": GREY, "polish": ORANGE, "simplex": ORANGE, "fine": BLUE}


def disks_figure(
    measured: ArrayLike, simulated: ArrayLike, names: Sequence[str], scores: Sequence[float] | None = None
) -> "Figure":
    """Draw measured and simulated disks side by side, and their difference.

    Parameters
    ----------
    measured, simulated : array_like
        (D, h, w) on one grid and one scale, NaN where invalid, as `stackalign.refine.CoarseRefine.disks` returns them.
    names : sequence of str
        What each disk is.
    scores : sequence of float, optional
        Correlation of each.

    Returns
    -------
    matplotlib.figure.Figure
    """
    m, s = plain_array(measured, np.float64, "measured"), plain_array(simulated, np.float64, "simulated")
    if m.ndim != 3 or m.shape != s.shape or len(names) != len(m):
        msg = f"measured and simulated disks must be (D, h, w) with D names, got {m.shape}, {s.shape}, {len(names)}"
        raise ValueError(msg)
    bands = -(-len(m) // MAX_DISKS)
    columns = min(len(m), MAX_DISKS)
    height, width = m.shape[1:]
    figure = new_figure(1.2 + 1.75 * columns, bands * (0.75 + 3 * 1.75 * height / width))
    axes = figure.subplots(3 * bands, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    for d in range(bands * columns):
        band, column = divmod(d, columns)
        group = axes[3 * band : 3 * band + 3, column]
        if d >= len(m):
            for ax in group:
                ax.axis("off")
            continue
        both = np.concatenate([m[d][np.isfinite(m[d])], s[d][np.isfinite(s[d])]])
        low, high = np.percentile(both, [0.5, 99.5]) if both.size else (0.0, 1.0)
        drawn: tuple[tuple[FloatArray, str, Any], ...] = (
            (m[d], "viridis", (low, high)),
            (s[d], "viridis", (low, high)),
            (m[d] - s[d], "RdBu_r", (-(high - low) / 2, (high - low) / 2)),
        )
        for ax, (image, cmap, limits) in zip(group, drawn, strict=True):
            ax.imshow(_masked(image), cmap=_grey_nan(cmap), vmin=limits[0], vmax=limits[1], interpolation="nearest")
        title(group[0], names[d], "" if scores is None else f"r = {scores[d]:.3f}")
        if column == 0:
            for ax, words in zip(group, ("measured", "simulated", "difference"), strict=True):
                ax.set_ylabel(words, fontsize=9)
    return figure


def plot_position_map(result: "RefinementResult", *, ax: "Axes | None" = None) -> "Axes":
    """Draw the score of the global search over tilts, at the best candidate.

    Parameters
    ----------
    result : RefinementResult
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes_or_new(ax)
    values = np.asarray(result.position_map, np.float64)
    (left, top), (right, bottom) = np.asarray(result.map_tilts, np.float64)
    half = (right - left) / max(values.shape[1] - 1, 1) / 2 or 0.5
    drawn = ax.imshow(
        values,
        extent=(left - half, right + half, bottom - half, top + half),
        cmap="viridis",
        aspect="equal",
        interpolation="nearest",
    )
    colour_bar(ax, drawn, "score")
    x, y = result.tilt
    ax.plot(x, y, "+", color=VERMILLION, markersize=11, markeredgewidth=1.8)
    ax.set_xlabel("tilt along gx (1/Å)")
    ax.set_ylabel("tilt across (1/Å)")
    title(ax, "score over tilts, global scan", f"+ is the result, ({x:.4f}, {y:.4f}) 1/Å")
    return ax


def plot_scores(result: "RefinementResult", name: str, *, ax: "Axes | None" = None) -> "Axes":
    """Draw the score of all evaluations against one parameter.

    Parameters
    ----------
    result : RefinementResult
    name : str
        A fitted parameter.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes_or_new(ax)
    rows = [row for row in result.history if name in row]
    stages = list(dict.fromkeys(str(row["stage"]) for row in rows))
    for stage in stages:
        x, y = np.array([(row[name], row["score"]) for row in rows if row["stage"] == stage], np.float64).T
        if stage == "scan":  # the best of all combinations at each value: the envelope is what was searched
            values, index = np.unique(x, return_inverse=True)
            best = np.full(len(values), -np.inf)
            np.maximum.at(best, index, y)
            ax.plot(values, best, ".-", color=STAGES["scan"], lw=0.8, ms=3, label="scan on a grid, best at each value")
        else:
            ax.plot(x, y, ".", color=STAGES.get(stage, BLUE), ms=5, label=WORDS.get(stage, stage))
    if not rows:
        say_in(ax, "not varied")
    value, sigma = result.values[name], result.sigma.get(name, np.nan)
    ax.axvline(value, color=VERMILLION, lw=0.9)
    unit = UNITS.get(name, "Å²" if name.startswith("b_iso") else "")
    ax.set_xlabel(f"{name} ({unit})" if unit else name)
    ax.set_ylabel("score")
    if rows:
        ax.legend(fontsize=7.5)
    title(ax, f"score against {name}", f"{value:.6g} ± {sigma:.2g} {unit}")
    return ax


def plot_correlations(result: "RefinementResult", *, ax: "Axes | None" = None) -> "Axes":
    """Draw the correlation matrix of the fitted parameters.

    Parameters
    ----------
    result : RefinementResult
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes_or_new(ax)
    matrix, names = np.asarray(result.correlation, np.float64), list(result.names)
    drawn = ax.imshow(np.ma.masked_invalid(matrix), cmap=_grey_nan("RdBu_r"), vmin=-1, vmax=1)
    colour_bar(ax, drawn, "correlation")
    for (i, j), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            ink = "white" if abs(value) > 0.6 else "black"
            ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7.5, color=ink)
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), names)
    title(ax, "correlation of the parameters", "±1: only a combination is determined")
    return ax


def refinement_figure(result: "RefinementResult") -> "Figure":
    """Draw the map of the global search, the score against each parameter, and the correlation matrix.

    Parameters
    ----------
    result : RefinementResult

    Returns
    -------
    matplotlib.figure.Figure
    """
    varied = [n for n in result.names if n not in ("tilt_x", "tilt_y") and any(n in row for row in result.history)]
    n = 2 + len(varied)
    columns = min(n, 3)
    rows = -(-n // columns)
    figure = new_figure(5.2 * columns, 4.3 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    plot_position_map(result, ax=axes[0])
    plot_correlations(result, ax=axes[1])
    for ax, name in zip(axes[2:], varied, strict=False):
        plot_scores(result, name, ax=ax)
    for ax in axes[n:]:
        ax.axis("off")
    return figure


def _masked(image: FloatArray) -> Any:
    return np.ma.masked_invalid(image)


def _grey_nan(name: str) -> Any:
    from matplotlib import colormaps

    return colormaps[name].with_extremes(bad="#b8b8b8")
