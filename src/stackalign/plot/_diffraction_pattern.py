"""Picture of a diffraction pattern with its mask and its centre."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign._carriers import plain_array

from ._canvas import SKY, axes_or_new, colour_bar, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLOURS", "LARGEST_PICTURE", "intensity_limits", "plot_pattern"]

COLOURS = "inferno"
LARGEST_PICTURE = 1024
"""Longest side that is drawn; larger images are thinned."""


def intensity_limits(values: NDArray[Any], vmin: float | None, vmax: float | None) -> tuple[float, float]:
    """From the lowest to what all but half a percent of the pixels stay below."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [0.5, 99.5]) if finite.size else (0.0, 1.0)
    low, high = float(low if vmin is None else vmin), float(high if vmax is None else vmax)
    return low, high if high > low else low + 1.0


def plot_pattern(
    image: ArrayLike,
    *,
    mask: NDArray[np.bool_] | None = None,
    center: ArrayLike | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    words: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw a diffraction pattern, grey where it is not valid, with its centre.

    Parameters
    ----------
    image : array_like
        (H, W).
    mask : numpy.ndarray, optional
        Boolean, True = valid.
    center : array_like, optional
        (row, col), marked by a cross.
    vmin, vmax : float, optional
        Ends of the scale; by default from the lowest to the highest half percent of the valid pixels.
    words : str
        Heading.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import plot
    >>> axes = plot.plot_pattern(np.eye(8), center=(3.5, 3.5), words="diagonal")
    >>> axes.get_title().splitlines()[0]
    'diagonal'
    """
    from matplotlib import colormaps

    ax = axes_or_new(ax)
    values = plain_array(image, np.float64, "image").copy()
    if mask is not None:
        values[~plain_array(mask, bool, "mask")] = np.nan
    low, high = intensity_limits(values, vmin, vmax)
    step = -(-max(values.shape) // LARGEST_PICTURE)
    height, width = values.shape
    drawn = ax.imshow(
        np.ma.masked_invalid(values[::step, ::step]),
        cmap=colormaps[COLOURS].with_extremes(bad="0.6"),
        vmin=low,
        vmax=high,
        interpolation="nearest",
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )
    if center is not None:
        row, column = plain_array(center, np.float64, "center")
        ax.plot(column, row, "+", color=SKY, markersize=14, markeredgewidth=2)
    colour_bar(ax, drawn, "intensity", "both")
    ax.set_xlabel("column (px)")
    ax.set_ylabel("row (px)")
    title(ax, words or "diffraction pattern")
    return ax
