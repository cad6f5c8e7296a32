"""Axes, colours and thinning that all pictures share. matplotlib is imported when something is drawn, not before."""

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign._carriers import plain_array
from stackalign.errors import MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BLUE",
    "GREY",
    "MAX_MARKS",
    "ORANGE",
    "SKY",
    "VERMILLION",
    "axes_or_new",
    "block_mean",
    "colour_bar",
    "extremes",
    "intensity_norm",
    "map_aspect",
    "mark_rows",
    "mark_size",
    "new_figure",
    "save_figure",
    "say_in",
    "standardised",
    "title",
]

# Okabe and Ito's colours: told apart with any kind of colour vision, and by lightness in print.
BLUE, SKY, ORANGE, VERMILLION, GREY = "#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#666666"

MAX_MARKS = 1000
"""Marks that are drawn at most; more would only be a blot."""

DECADES = 5.0
"""Range of the logarithmic intensity scale; what lies below is shot noise of a few pixels."""


def new_figure(width: float = 5.0, height: float = 4.2, **padding: Any) -> "Figure":
    """Make a figure that pyplot does not know: nothing is left open, and no display is needed."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        msg = 'pictures need matplotlib: pip install "stackalign[plot]"'
        raise MissingDependencyError(msg) from error
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(**padding), facecolor="white")


def axes_or_new(ax: "Axes | None") -> "Axes":
    """Give back the Axes, or those of a new figure."""
    return new_figure().add_subplot() if ax is None else ax


def title(ax: "Axes", text: str, detail: str = "") -> None:
    """Set a heading, with a line of detail under it."""
    ax.set_title(f"{text}\n{detail}" if detail else text, fontsize=9.5, linespacing=1.4, parse_math=False)
    ax.tick_params(labelsize=8)
    ax.xaxis.label.set_fontsize(9)
    ax.yaxis.label.set_fontsize(9)


def say_in(ax: "Axes", text: str, height: float = 0.5) -> None:
    """Write why there is nothing to draw."""
    ax.text(
        0.5,
        height,
        text,
        transform=ax.transAxes,
        ha="center",
        va="center",
        fontsize=9,
        bbox={"facecolor": "white", "edgecolor": GREY, "boxstyle": "round,pad=0.4"},
        zorder=10,
    )


def colour_bar(ax: "Axes", drawn: Any, label: str, extend: str = "neither") -> Any:
    """Put a colour bar beside the Axes, as high as the picture is after its aspect has been applied."""
    bar = ax.figure.colorbar(drawn, cax=ax.inset_axes((1.03, 0.0, 0.05, 1.0)), extend=extend)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return bar


def intensity_norm(pattern: NDArray[np.float64], window: NDArray[np.float64] | None) -> tuple[Any, str]:
    """Choose one scale for pattern and window: logarithmic where they span a decade or more.

    The beam is sharpest in the mean of the windows, so that its maximum ends the scale: a hot pixel elsewhere in the
    frame does not.

    Returns
    -------
    norm : matplotlib.colors.Normalize
    words : str
        What the scale is, for the label.
    """
    from matplotlib.colors import LogNorm, Normalize

    values = np.concatenate([image[np.isfinite(image)] for image in (pattern, window) if image is not None])
    positive = values[values > 0]
    if positive.size == 0:
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
        return Normalize(low, high if high > low else low + 1), "no positive pixel"
    inside = positive if window is None else window[np.isfinite(window) & (window > 0)]
    high = float(inside.max() if inside.size else positive.max())
    low = min(max(float(np.percentile(positive, 1)), high / 10**DECADES), high)
    if high >= 10 * low > 0:
        return LogNorm(low, high, clip=True), "log scale"
    return Normalize(0.0, high, clip=True), "linear scale"


def map_aspect(rows: int, columns: int) -> Literal["equal", "auto"]:
    """Aspect of a map of the scan: one of a few long lines would be a thread with equal axes."""
    return "equal" if max(rows, columns) <= 3 * min(rows, columns) else "auto"


def extremes(values: NDArray[np.float64], limit: int = 4000) -> NDArray[np.int64]:
    """Choose indices for drawing a long series: the lowest and the highest of each bin, so that no outlier is lost."""
    n = len(values)
    if n <= limit:
        return np.arange(n)
    size = -(-2 * n // limit)
    padded = np.full(-(-n // size) * size, np.nan)
    padded[:n] = values
    rows = padded.reshape(-1, size)
    first = np.arange(len(rows)) * size
    low = first + np.where(np.isfinite(rows), rows, np.inf).argmin(axis=1)
    high = first + np.where(np.isfinite(rows), rows, -np.inf).argmax(axis=1)
    chosen = np.unique(np.concatenate([low, high]))
    return chosen[chosen < n]


def block_mean(grid: NDArray[np.float64], steps: tuple[int, int]) -> NDArray[np.float64]:
    """Mean of the finite values of blocks of ``steps`` (rows, columns), NaN where a block has none."""
    rows, columns = (np.arange(0, length, step) for length, step in zip(grid.shape, steps, strict=True))

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        summed: NDArray[np.float64] = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
        return summed

    finite = np.isfinite(grid)
    count = total(finite.astype(np.float64))
    mean = np.full(count.shape, np.nan)
    np.divide(total(np.where(finite, grid, 0.0)), count, out=mean, where=count > 0)
    return mean


def mark_size(n: int) -> float:
    """Size of a mark in points: many are small."""
    return 6.0 if n <= 50 else 3.5


def mark_rows(ax: "Axes", indices: NDArray[np.int64], label: str) -> None:
    """Mark patterns of a series at the lower edge: their own values would only stretch the scale."""
    if indices.size:
        shown = indices[:: -(-indices.size // MAX_MARKS)]
        ax.plot(
            shown,
            np.full(shown.size, 0.03),
            "x",
            transform=ax.get_xaxis_transform(),
            color=ORANGE,
            markersize=mark_size(shown.size),
            markeredgewidth=1.5,
            label=label,
            rasterized=True,
            clip_on=False,
        )


def standardised(image: ArrayLike) -> NDArray[np.float64]:
    """Image with median 0 and the deviation of its middle 98 % as 1, so that two of other gains can be compared."""
    values = plain_array(image, np.float64, "image")
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return values
    low, middle, high = np.percentile(finite, [1, 50, 99])
    scale = (high - low) / 4 or 1.0
    shifted: NDArray[np.float64] = (values - middle) / scale
    return shifted


def save_figure(figure: "Figure", target: Any, dpi: float) -> None:
    """Write a figure to a path or an open file, without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # The font has no letters for some file names; boxes in a title are no reason to warn.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure.savefig(target, dpi=dpi)
