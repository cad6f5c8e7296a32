"""Pictures of centres and alignments of diffraction patterns."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign._carriers import plain_array
from stackalign._renamed import renamed

from ._canvas import axes_or_new, title
from ._diffraction_pattern import plot_pattern

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from stackalign.diffraction import Alignment, Center

__all__ = ["plot_alignment", "plot_center"]


@renamed(found="center")
def plot_center(
    image: ArrayLike,
    center: "Center",
    *,
    frame: int = 0,
    mask: NDArray[np.bool_] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw a pattern with the centre that was found, and the runners-up as circles.

    Parameters
    ----------
    image : array_like
        (H, W).
    center : Center
        Of this image, or of a stack.
    frame : int
        Which of a stack.
    mask : numpy.ndarray, optional
        Boolean, True = valid.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> from stackalign import diffraction, plot
    >>> from stackalign.diffraction.synthetic import powder
    >>> pattern = powder(96, (47.0, 45.0))
    >>> center = diffraction.autocenter(pattern.image, mask=pattern.mask)
    >>> axes = plot.plot_center(pattern.image, center, mask=pattern.mask)
    """
    position, others = center.center.reshape(-1, 2)[frame], center.runners_up.reshape(-1, *center.runners_up.shape[-2:])
    confidence = float(np.atleast_1d(center.confidence)[frame])
    words = f"({position[0]:.2f}, {position[1]:.2f}) by {center.kind[frame]}, confidence {confidence:.2f}"
    axes = plot_pattern(image, mask=mask, center=position, words=words, ax=ax)
    rows, columns = others[frame].T
    axes.plot(columns, rows, "o", color="white", markerfacecolor="none", markersize=6, scalex=False, scaley=False)
    return axes


@renamed(found="alignment")
def plot_alignment(
    reference: ArrayLike,
    image: ArrayLike,
    alignment: "Alignment",
    *,
    frame: int = 0,
    axes: "Sequence[Axes] | None" = None,
) -> "list[Axes]":
    """Draw the difference between a reference and an image, before and after it was aligned.

    Parameters
    ----------
    reference, image : array_like
        (H, W).
    alignment : Alignment
        Of this image, or of a stack.
    frame : int
        Which of a stack.
    axes : sequence of matplotlib.axes.Axes, optional
        Two.

    Returns
    -------
    list of matplotlib.axes.Axes
    """
    first = plain_array(reference, np.float64, "reference")
    aligned = np.asarray(alignment.image, np.float64)
    aligned = aligned if aligned.ndim == 2 else aligned[frame]
    shift = alignment.shift.reshape(-1, 2)[frame]
    differences = [first - plain_array(image, np.float64, "image"), first - aligned]
    finite = np.abs(differences[0][np.isfinite(differences[0])])
    limit = float(np.percentile(finite, 99)) if finite.size else 1.0
    drawn: list[Any] = []
    words = ["difference before", f"after moving by ({shift[0]:.2f}, {shift[1]:.2f})"]
    for k, (difference, text) in enumerate(zip(differences, words, strict=True)):
        ax = axes_or_new(None if axes is None else axes[k])
        step = max(1, max(difference.shape) // 1024)
        height, width = difference.shape
        ax.imshow(
            difference[::step, ::step], cmap="RdBu_r", vmin=-limit or -1.0, vmax=limit or 1.0,
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        )  # fmt: skip
        title(ax, text)
        drawn.append(ax)
    return drawn
