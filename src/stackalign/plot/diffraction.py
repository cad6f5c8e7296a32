"""Pictures of diffraction patterns: patterns with masks and centres, profiles, polar images, masks, hot pixels."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign._carriers import plain_array
from stackalign._renamed import renamed

from ._canvas import BLUE, ORANGE, SKY, VERMILLION, axes_or_new, colour_bar, title
from ._diffraction_center import plot_alignment, plot_center
from ._diffraction_pattern import COLOURS, intensity_limits, plot_pattern
from ._diffraction_peaks import plot_peaks, plot_persistence, plot_zones

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from stackalign.diffraction import AzimuthalProfile, Baseline, HotSpots, PixelMask

__all__ = [
    "plot_alignment",
    "plot_baseline",
    "plot_center",
    "plot_hot_spots",
    "plot_mask",
    "plot_pattern",
    "plot_peaks",
    "plot_persistence",
    "plot_polar",
    "plot_profile",
    "plot_zones",
]


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

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import diffraction, plot
    >>> profile = diffraction.azimuthal_average(np.ones((16, 16)), (7.5, 7.5))
    >>> axes = plot.plot_profile(profile)
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

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import diffraction, plot
    >>> polar = diffraction.azimuthal_average(np.ones((16, 16)), (7.5, 7.5), n_angles=8)
    >>> axes = plot.plot_polar(polar)
    """
    from matplotlib import colormaps

    if profile.angle is None:
        msg = "a profile without sectors is drawn by plot_profile"
        raise ValueError(msg)
    ax = axes_or_new(ax)
    image = profile.intensity if profile.intensity.ndim == 2 else profile.intensity[frame]
    low, high = intensity_limits(image, None, None)
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

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import plot
    >>> axes = plot.plot_mask(np.eye(8) == 0)
    """
    from matplotlib.colors import ListedColormap

    ax = axes_or_new(ax)
    valid = plain_array(getattr(mask, "mask", mask) if hasattr(mask, "n_images") else mask, bool, "mask")
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


@renamed(found="hot_spots")
def plot_hot_spots(image: ArrayLike, hot_spots: "HotSpots", *, ax: "Axes | None" = None) -> "Axes":
    """Draw an image without its hot pixels, and circles where they were.

    Parameters
    ----------
    image : array_like
        (H, W) as it was.
    hot_spots : HotSpots
        Of this image.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import diffraction, plot
    >>> image = np.random.default_rng(0).poisson(20, (32, 32)).astype(float)
    >>> image[9, 14] = 5000
    >>> axes = plot.plot_hot_spots(image, diffraction.remove_hot_spots(image))
    """
    low, high = intensity_limits(np.asarray(hot_spots.images, np.float64), None, None)
    ax = plot_pattern(hot_spots.images, vmin=low, vmax=high, ax=ax)
    rows, columns = np.nonzero(hot_spots.hot)
    ax.scatter(columns, rows, s=18, facecolors="none", edgecolors=SKY, linewidths=0.5)
    most = float(np.nanmax(plain_array(image, np.float64, "image")))
    title(ax, f"{rows.size:,} hot pixels replaced", f"highest before {most:.4g}, now {np.nanmax(hot_spots.images):.4g}")
    return ax


@renamed(found="baseline")
def plot_baseline(
    data: ArrayLike, baseline: "Baseline", *, x: ArrayLike | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Draw a curve and its baseline.

    Parameters
    ----------
    data : array_like
        (L,) the curve.
    baseline : Baseline
        Of this curve.
    x : array_like, optional
        Positions of its points.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes_or_new(ax)
    values = plain_array(data, np.float64, "data")
    at = np.arange(values.size) if x is None else plain_array(x, None, "x")
    ax.plot(at, values, color=BLUE, lw=1, label="data")
    ax.plot(at, baseline.baseline, color=ORANGE, lw=1.5, label="baseline")
    ax.legend(fontsize=8)
    state = "converged" if baseline.converged else "not converged"
    title(ax, "baseline by wavelets", f"{state} after {baseline.n_iterations} steps")
    return ax
