"""Pictures of a registration: what differs before and after, how sharp the optimum is, how a stack drifted."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from stackalign import transforms
from stackalign._carriers import plain_array
from stackalign._types import FloatArray
from stackalign.io.atomic import atomic_path
from stackalign.ops import prepare_pair, score_affine

from ._canvas import (
    BLUE,
    ORANGE,
    SKY,
    VERMILLION,
    axes_or_new,
    colour_bar,
    extremes,
    mark_rows,
    new_figure,
    save_figure,
    say_in,
    standardised,
    title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from stackalign.registration import RegistrationResult, RegistrationStack

__all__ = [
    "plot_difference",
    "plot_displacements",
    "plot_parameters",
    "plot_score_surface",
    "registration_figure",
    "save_registration_figure",
    "standardised",
]


SURFACE_POINTS = 41
LARGEST_SURFACE = 512
"""Longest side of the reference whose every pixel is scored, where more differs than a shift, which costs 40 times
less; of larger ones every n-th row and column is. A part of the image would have its optimum elsewhere."""


def plot_difference(
    reference: ArrayLike, image: ArrayLike, *, ax: "Axes | None" = None, words: str = "difference"
) -> "Axes":
    """Draw the difference of two images of one shape after bringing both to one scale by least squares.

    Parameters
    ----------
    reference, image : array_like
        (H, W), NaN where invalid.
    ax : matplotlib.axes.Axes, optional
    words : str
        Heading.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import plot
    >>> image = np.random.default_rng(0).random((16, 16))
    >>> axes = plot.plot_difference(image, 2 * image)
    """
    ax = axes_or_new(ax)
    r, v = standardised(reference), standardised(image)
    both = np.isfinite(r) & np.isfinite(v)
    detail = "no common pixels"
    if both.sum() > 2 and v[both].std() > 0:
        slope, offset = np.polyfit(v[both], r[both], 1)
        difference = np.where(both, r - (slope * v + offset), np.nan)
        detail = f"rms {np.sqrt(np.nanmean(difference**2)) / r[both].std():.3f} of the reference's deviation"
        drawn = ax.imshow(
            np.ma.masked_invalid(difference), cmap=_grey_nan("RdBu_r"), vmin=-2, vmax=2, interpolation="nearest"
        )
        colour_bar(ax, drawn, "difference (deviations)", "both")
    else:
        ax.set_xlim(-0.5, r.shape[1] - 0.5)
        ax.set_ylim(r.shape[0] - 0.5, -0.5)
        say_in(ax, "no common pixels")
    title(ax, words, detail)
    return ax


def plot_score_surface(
    result: "RegistrationResult",
    reference: ArrayLike,
    moving: ArrayLike,
    *,
    extent: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the score over shifts around the optimum, with the error ellipse.

    Parameters
    ----------
    result : RegistrationResult
    reference, moving : array_like
        The images that were registered, as they were compared, NaN where invalid.
    extent : float, optional
        Half-width in pixels; 12 standard deviations by default, at least 1.5 and at most a quarter of the image.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes_or_new(ax)
    r, m = plain_array(reference, None, "reference"), plain_array(moving, None, "moving")
    sigma = result.sigma[:2]
    if extent is None:
        width = 12 * float(sigma.max()) if np.isfinite(sigma).all() else np.inf
        extent = float(np.clip(width, 1.5, max(2.0, min(r.shape) / 4)))
    step = 1 if result.model == "shift" else -(-max(r.shape) // LARGEST_SURFACE)
    scores = _scores_around(result, np.asarray(r, np.float64), np.asarray(m, np.float64), extent, step)
    half = extent / (SURFACE_POINTS - 1)
    dy, dx = result.parameters[:2]
    drawn = ax.imshow(
        scores,
        extent=(dx - extent - half, dx + extent + half, dy + extent + half, dy - extent - half),
        cmap="viridis",
        aspect="equal",
        interpolation="nearest",
    )
    colour_bar(ax, drawn, "score")
    ax.plot(dx, dy, "+", color=VERMILLION, markersize=9, markeredgewidth=1.5)
    if np.isfinite(result.covariance).all():
        _ellipse(ax, (dx, dy), result.covariance[:2, :2])
    ax.set_xlabel("dx (px)")
    ax.set_ylabel("dy (px)")
    some = "" if step == 1 else f"; every {step} px"
    title(ax, "score over shifts", f"1 sigma: {sigma[0]:.2g} px in y, {sigma[1]:.2g} px in x{some}")
    return ax


def _ellipse(ax: "Axes", at: tuple[float, float], covariance: FloatArray) -> None:
    """One-sigma ellipse of (dy, dx), enlarged tenfold where it would be a point."""
    from matplotlib.patches import Ellipse

    values, vectors = np.linalg.eigh(covariance[::-1, ::-1])
    angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
    width, height = 2 * np.sqrt(np.clip(values[::-1], 0, None))
    times = 10 if width < 0.02 * abs(np.diff(ax.get_xlim())[0]) else 1
    label = "1 sigma" if times == 1 else "10 sigma"
    ax.add_patch(
        Ellipse(at, times * width, times * height, angle=angle, fill=False, color=VERMILLION, lw=1.2, label=label)
    )
    ax.legend(fontsize=8, loc="upper right")


def plot_parameters(stack: "RegistrationStack", *, ax: "Axes | None" = None) -> "Axes":
    """Draw the shifts of a stack over the frames, with error bars where there is room, and the flagged frames.

    Parameters
    ----------
    stack : RegistrationStack
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import stackalign as sa
    >>> from stackalign.registration import create_test_pair
    >>> pair = create_test_pair((48, 48), parameters=(1.0, -0.5))
    >>> stack = sa.register_stack(pair.reference, [pair.moving, pair.moving])
    >>> axes = sa.plot.plot_parameters(stack)
    """
    ax = axes_or_new(ax)
    shown, sigma = stack.parameters[:, :2], stack.sigma[:, :2]
    for k, (name, colour) in enumerate((("dy", BLUE), ("dx", ORANGE))):
        chosen = extremes(shown[:, k])
        bars = np.where(np.isfinite(sigma[chosen, k]), sigma[chosen, k], 0.0)
        if len(chosen) <= 200:
            ax.errorbar(chosen, shown[chosen, k], bars, color=colour, fmt=".-", lw=0.8, ms=4, capsize=2, label=name)
        else:
            ax.plot(chosen, shown[chosen, k], "-", color=colour, lw=0.8, label=name)
    mark_rows(ax, np.flatnonzero(~stack.ok), "flagged")
    ax.axhline(0, color=SKY, lw=0.6)
    ax.set_xlabel("frame")
    ax.set_ylabel("shift (px)")
    ax.legend(fontsize=8)
    title(ax, "shifts of the content", f"{len(stack)} frames, {int((~stack.ok).sum())} flagged")
    return ax


def plot_displacements(
    displacements: ArrayLike, reference: ArrayLike, *, ax: "Axes | None" = None, significant: float = 3.0
) -> "Axes":
    """Draw by how much each region of the image would have to move on, beyond what the registration found.

    Parameters
    ----------
    displacements : array_like
        (T, 6) rows [y, x, dy, dx, sigma_dy, sigma_dx], as `stackalign.registration.RegistrationResult` has them.
    reference : array_like
        (H, W), NaN where invalid; drawn behind the arrows.
    ax : matplotlib.axes.Axes, optional
    significant : float
        Standard errors from which on an arrow is drawn in colour.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes_or_new(ax)
    image = plain_array(reference, np.float64, "reference")
    rows = plain_array(displacements, np.float64, "displacements").reshape(-1, 6)
    _show(ax, image, "what regions want beyond the result")
    if not len(rows):
        say_in(ax, "no region says anything")
        return ax
    y, x, dy, dx, sy, sx = rows.T
    z = np.hypot(dy / sy, dx / sx)
    length = np.hypot(dy, dx)
    # The longest arrow that says something is as long as tiles are apart.
    longest = float(np.max(length[z > 1], initial=np.finfo(np.float64).tiny))
    times = max(np.ptp(y), np.ptp(x), 1.0) / np.sqrt(len(rows)) / longest
    colours = np.where(z > significant, VERMILLION, "#bbbbbb")
    shown = z > 1
    ax.quiver(
        x[shown], y[shown], dx[shown] * times, dy[shown] * times, color=colours[shown], angles="xy",
        scale_units="xy", scale=1.0, width=0.004,
    )  # fmt: skip
    clearly = z > significant
    detail = f"longest {longest:.2g} px; {int(clearly.sum())} of {len(rows)} regions beyond {significant:g} sigma"
    title(ax, "what regions want beyond the result", detail)
    return ax


def _scores_around(
    result: "RegistrationResult", reference: FloatArray, moving: FloatArray, extent: float, step: int
) -> FloatArray:
    """(SURFACE_POINTS, SURFACE_POINTS) scores at shifts of up to `extent` px, over every `step`-th pixel."""
    steps = np.linspace(-extent, extent, SURFACE_POINTS)
    candidates = np.tile(result.parameters, (SURFACE_POINTS**2, 1))
    candidates[:, 0] += np.repeat(steps, SURFACE_POINTS)
    candidates[:, 1] += np.tile(steps, SURFACE_POINTS)
    matrices = transforms.matrices_from_parameters(candidates, result.model, result.center)
    pair = prepare_pair(reference, moving, smooth=result.smooth)
    if step > 1:
        pair = replace(pair, reference=np.ascontiguousarray(pair.reference[:, ::step, ::step]))
        matrices[..., :2] *= step
    return np.asarray(score_affine(pair, matrices)).reshape(SURFACE_POINTS, SURFACE_POINTS)


def registration_figure(
    result: "RegistrationResult",
    reference: ArrayLike,
    moving: ArrayLike,
    aligned: ArrayLike | None = None,
    *,
    compared: tuple[ArrayLike, ArrayLike] | None = None,
) -> "Figure":
    """Draw both images, their difference before and after over the pixels that both have, and the score surface.

    Parameters
    ----------
    result : RegistrationResult
    reference, moving : array_like
        (H, W) and (Hm, Wm), NaN where invalid.
    aligned : array_like, optional
        The moving image on the reference's pixels; made from the result by default.
    compared : tuple of array_like, optional
        Reference and moving image as they were compared, as without a background, NaN where invalid; differences and
        scores are of these. By default the images themselves.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(15.0, 8.4)
    r, m = plain_array(reference, np.float64, "reference"), plain_array(moving, np.float64, "moving")
    axes = figure.subplots(2, 3)
    _show(axes[0, 0], r, "reference")
    _show(axes[1, 0], m, "moving")
    if compared is None:
        after = np.asarray(result.apply(m, output_shape=r.shape) if aligned is None else aligned, np.float64)
    else:
        r, m = (plain_array(image, np.float64, "image") for image in compared)
        after = np.asarray(result.apply(m, output_shape=r.shape))
    before = np.full(r.shape, np.nan)
    rows, columns = (min(a, b) for a, b in zip(r.shape, m.shape, strict=True))
    before[:rows, :columns] = m[:rows, :columns]
    # Numbers of different pixels could not be compared.
    common = np.isfinite(r) & np.isfinite(before) & np.isfinite(after)
    before, after = (np.where(common, image, np.nan) for image in (before, after))
    plot_difference(r, before, ax=axes[0, 1], words="reference - moving, before")
    plot_difference(r, after, ax=axes[1, 1], words="reference - moving, aligned")
    plot_score_surface(result, r, m, ax=axes[0, 2])
    axes[1, 2].axis("off")
    lines = [
        f"{name:>6} = {value:.5g} +- {sigma:.2g}"
        for name, value, sigma in zip(result.names, result.parameters, result.sigma, strict=True)
    ]
    lines += [
        "",
        f"score {result.score:.5f}, second peak {result.second_score:.3f}",
        f"overlap {result.overlap:.1%}, smoothed by {result.smooth[0]:g} and {result.smooth[1]:g} px",
        f"flags: {', '.join(result.flags) or 'none'}",
    ]
    axes[1, 2].text(
        0.0, 0.9, "\n".join(lines), va="top", family="monospace", fontsize=10, transform=axes[1, 2].transAxes
    )
    return figure


def save_registration_figure(figure: "Figure", path: str | os.PathLike[str], *, dpi: float = 110) -> None:
    """Write a figure; the file appears complete or not at all.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : path-like
        The extension says the format.
    dpi : float
        Resolution of what is drawn as pixels.
    """
    with atomic_path(path) as partial:
        save_figure(figure, partial, dpi)


def _show(ax: "Axes", image: FloatArray, words: str) -> None:
    shown = standardised(image)
    finite = shown[np.isfinite(shown)]
    low, high = np.percentile(finite, [0.5, 99.5]) if finite.size else (0.0, 1.0)
    ax.imshow(np.ma.masked_invalid(shown), cmap=_grey_nan("gray"), vmin=low, vmax=high, interpolation="nearest")
    valid = np.isfinite(image).mean()
    title(ax, words, f"{image.shape[0]} x {image.shape[1]} px, {valid:.1%} valid")


def _grey_nan(name: str) -> Any:
    from matplotlib import colormaps

    return colormaps[name].with_extremes(bad="#7a8a7a")
