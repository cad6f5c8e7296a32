"""Pictures of diffraction patterns: patterns with masks and centres, profiles, polar images, masks, hot pixels."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._canvas import BLUE, ORANGE, SKY, VERMILLION, axes_or_new, colour_bar, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from stackalign.diffraction import AzimuthalProfile, Baseline, HotSpots, PixelMask

__all__ = ["plot_baseline", "plot_hot_spots", "plot_mask", "plot_pattern", "plot_polar", "plot_profile"]

COLOURS = "inferno"
LARGEST_PICTURE = 1024
"""Longest side that is drawn; larger images are thinned."""


def _limits(values: NDArray[Any], vmin: float | None, vmax: float | None) -> tuple[float, float]:
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
    """
    from matplotlib import colormaps

    ax = axes_or_new(ax)
    values = np.array(image, np.float64)
    if mask is not None:
        values[~np.asarray(mask)] = np.nan
    low, high = _limits(values, vmin, vmax)
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
        row, column = np.asarray(center, np.float64)
        ax.plot(column, row, "+", color=SKY, markersize=14, markeredgewidth=2)
    colour_bar(ax, drawn, "intensity", "both")
    ax.set_xlabel("column (px)")
    ax.set_ylabel("row (px)")
    title(ax, words or "diffraction pattern")
    return ax


def plot_profile(
    profile: "AzimuthalProfile", *, frame: int | None = None, label: str = "", ax: "Axes | None" = None
) -> "Axes":
    """Draw a radial profile with its standard error; of a stack one frame, or the mean of all.

    Parameters
    ----------
    profile : AzimuthalProfile
        Without sectors.
    frame : int, optional
        Which one of a stack; by default the mean over all, in the foreground of up to 50 of them.
    label : str
        For a legend.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    if profile.angle is not None:
        msg = "a polar image is drawn by plot_polar"
        raise ValueError(msg)
    ax = axes_or_new(ax)
    intensity, error = profile.intensity, profile.standard_error
    words = "radial profile"
    if intensity.ndim == 2 and frame is None:
        n = len(intensity)
        for one in intensity[:: -(-n // 50)]:
            ax.plot(profile.radius, one, color=SKY, lw=0.4, alpha=0.5)
        known = np.isfinite(intensity)
        count = known.sum(axis=0)
        total = np.where(known, intensity, 0.0).sum(axis=0)
        intensity = np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
        error = np.zeros(intensity.shape)
        words = f"radial profile, mean of {n}"
    elif intensity.ndim == 2:
        intensity, error = intensity[frame], error[frame]
        words = f"radial profile, frame {frame}"
    ax.fill_between(profile.radius, intensity - error, intensity + error, color=BLUE, alpha=0.25, lw=0)
    ax.plot(profile.radius, intensity, color=BLUE, lw=1.2, label=label or None)
    ax.set_xlabel("radius (px)")
    ax.set_ylabel("mean intensity")
    ax.set_xlim(0, float(profile.radius[-1]))
    if label:
        ax.legend(fontsize=8)
    title(ax, words)
    return ax


def plot_polar(profile: "AzimuthalProfile", *, frame: int = 0, ax: "Axes | None" = None) -> "Axes":
    """Draw a polar image: intensity over radius and angle.

    Parameters
    ----------
    profile : AzimuthalProfile
        With sectors.
    frame : int
        Which one of a stack.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    from matplotlib import colormaps

    if profile.angle is None:
        msg = "a profile without sectors is drawn by plot_profile"
        raise ValueError(msg)
    ax = axes_or_new(ax)
    image = profile.intensity if profile.intensity.ndim == 2 else profile.intensity[frame]
    low, high = _limits(image, None, None)
    width = 360.0 / len(profile.angle) if len(profile.angle) == 1 else (profile.angle[1] - profile.angle[0]) % 360.0
    first = profile.angle[0] - width / 2
    drawn = ax.imshow(
        np.ma.masked_invalid(image),
        cmap=colormaps[COLOURS].with_extremes(bad="0.6"),
        vmin=low,
        vmax=high,
        interpolation="nearest",
        aspect="auto",
        origin="lower",
        extent=(float(profile.radius[0]), float(profile.radius[-1]), first, first + width * len(profile.angle)),
    )
    colour_bar(ax, drawn, "mean intensity", "both")
    ax.set_xlabel("radius (px)")
    ax.set_ylabel("angle (degrees)")
    title(ax, "polar image")
    return ax


def plot_mask(mask: "PixelMask | NDArray[np.bool_]", *, ax: "Axes | None" = None) -> "Axes":
    """Draw the pixels that a mask refuses, enlarged where the image is: a single pixel would not be seen.

    Parameters
    ----------
    mask : PixelMask or numpy.ndarray
        True = valid.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    from matplotlib.colors import ListedColormap

    ax = axes_or_new(ax)
    valid = np.asarray(getattr(mask, "mask", mask), bool)
    height, width = valid.shape
    step = -(-max(valid.shape) // 512)
    rows, columns = np.arange(0, height, step), np.arange(0, width, step)
    whole = np.logical_and.reduceat(np.logical_and.reduceat(valid, rows, axis=0), columns, axis=1)
    ax.imshow(
        whole, cmap=ListedColormap([VERMILLION, "0.93"]), vmin=0, vmax=1, interpolation="nearest",
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )  # fmt: skip
    ax.set_xlabel("column (px)")
    ax.set_ylabel("row (px)")
    refused = valid.size - int(valid.sum())
    counts = getattr(mask, "counts", {})
    detail = ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in counts.items() if count)
    title(ax, f"{refused:,} of {valid.size:,} pixels refused", detail)
    return ax


def plot_hot_spots(image: ArrayLike, found: "HotSpots", *, ax: "Axes | None" = None) -> "Axes":
    """Draw an image without its hot pixels, and circles where they were.

    Parameters
    ----------
    image : array_like
        (H, W) as it was.
    found : HotSpots
        Of this image.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    low, high = _limits(np.asarray(found.images, np.float64), None, None)
    ax = plot_pattern(found.images, vmin=low, vmax=high, ax=ax)
    rows, columns = np.nonzero(found.hot)
    ax.scatter(columns, rows, s=18, facecolors="none", edgecolors=SKY, linewidths=0.5)
    most = float(np.nanmax(np.asarray(image, np.float64)))
    title(ax, f"{rows.size:,} hot pixels replaced", f"highest before {most:.4g}, now {np.nanmax(found.images):.4g}")
    return ax


def plot_baseline(
    data: ArrayLike, found: "Baseline", *, x: ArrayLike | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Draw a curve and its baseline.

    Parameters
    ----------
    data : array_like
        (L,) the curve.
    found : Baseline
        Of this curve.
    x : array_like, optional
        Positions of its points.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes_or_new(ax)
    values = np.asarray(data, np.float64)
    at = np.arange(values.size) if x is None else np.asarray(x)
    ax.plot(at, values, color=BLUE, lw=1, label="data")
    ax.plot(at, found.baseline, color=ORANGE, lw=1.5, label="baseline")
    ax.legend(fontsize=8)
    state = "converged" if found.converged else "not converged"
    title(ax, "baseline by wavelets", f"{state} after {found.n_iterations} steps")
    return ax
