"""Second moments of patterns: widths of beams, and how elliptical they are."""

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import ArrayLike

from stackalign.backends import Array

from . import _check

__all__ = ["SecondMoments", "second_moments"]


@dataclass(frozen=True)
class SecondMoments:
    """Second moments about a centre, one per pattern, float64 arrays of the patterns' home.

    Parameters
    ----------
    total : array
        (N,) sum of the valid pixels.
    centers : array
        (N, 2) centres (y, x) in pixel indices.
    yy, yx, xx : array
        (N,) intensity-weighted means of dy*dy, dy*dx and dx*dx, in square pixels; NaN where the total is not positive.
    """

    total: Array
    centers: Array
    yy: Array
    yx: Array
    xx: Array

    @property
    def width(self) -> Array:
        """(N,) root-mean-square distance from the centre in pixels, ``sqrt(yy + xx)``."""
        return _root(self.yy + self.xx)

    @property
    def axes(self) -> Array:
        """(N, 2) root-mean-square widths along the long and the short principal axis, in pixels."""
        xp = array_namespace(self.yy)
        long = (self.yy + self.xx) / 2 + xp.sqrt(((self.yy - self.xx) / 2) ** 2 + self.yx**2)
        # Their product is the determinant: a difference would lose the short one where a pattern is nearly a line.
        determinant = self.yy * self.xx - self.yx**2
        rounding = 4 * np.finfo(np.float64).eps * xp.abs(self.yy * self.xx)
        determinant = xp.where(xp.abs(determinant) <= rounding, 0.0, determinant)
        short = xp.where(long > 0, determinant / xp.where(long > 0, long, 1.0), long)
        return xp.stack([_root(long), _root(short)], axis=1)

    @property
    def angle(self) -> Array:
        """(N,) direction of the long axis in degrees, in (-90, 90]: 0 is along y, and positive ones turn to +x."""
        xp = array_namespace(self.yy)
        angle = xp.arctan2(2 * self.yx, self.yy - self.xx) * (90 / np.pi)
        return xp.where(angle <= -90, angle + 180, angle)

    @property
    def ellipticity(self) -> Array:
        """(N,) one minus the ratio of the short axis to the long one: 0 for what is round, and for a point."""
        xp = array_namespace(self.yy)
        long, short = self.axes[:, 0], self.axes[:, 1]
        return xp.where(long > 0, 1.0 - short / xp.where(long > 0, long, 1.0), 0.0 * long)


def _root(x: Array) -> Array:
    """Square root, NaN of what is negative."""
    xp = array_namespace(x)
    return xp.sqrt(xp.where(x < 0, np.nan, x))


def second_moments(
    patterns: Array,
    centers: ArrayLike | None = None,
    *,
    mask: Array | None = None,
    workers: int | None = None,
) -> SecondMoments:
    """Second moments of each pattern about its centre: the width of a beam, its axes and their direction.

    Parameters
    ----------
    patterns : array
        (N, H, W) or (H, W), integers of up to 32 bits or floats; NaN and infinite pixels are invalid.
    centers : array_like, optional
        (y, x) for all patterns, or (N, 2), in pixel indices; by default each pattern's centroid, see `centroid`.
    mask : array, optional
        Boolean (H, W) or (N, H, W), True = valid.
    workers : int, optional
        Number of CPU threads; one per core by default. Results do not depend on it.

    Returns
    -------
    SecondMoments
        With rows even for a single pattern.

    Raises
    ------
    ValueError
        A centre is not finite, or a shape does not fit.

    Notes
    -----
    ``yy = sum(p * dy**2) / sum(p)`` over the valid pixels, and so on. A constant background adds the moments of the
    frame, so take it away first. For a Gaussian beam, the axes are its standard deviations; four times these are the
    beam widths of ISO 11146 [1]_. With negative pixels a moment can be negative, and the width along it is then NaN.

    References
    ----------
    .. [1] ISO 11146-1:2021, Lasers and laser-related equipment: test methods for laser beam widths.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> y, x = np.mgrid[:61, :61] - 30.0
    >>> beam = np.exp(-((y / 6) ** 2 + (x / 3) ** 2) / 2)
    >>> moments = sa.second_moments(beam)
    >>> moments.axes.round(3).tolist(), float(moments.ellipticity[0].round(3))
    ([[6.0, 3.0]], 0.5)
    """
    backend, stack, _ = _check.stack(patterns, "patterns", mask)
    valid = _check.mask_array(mask, stack)
    threads = _check.n_workers(workers)
    if centers is None:
        middle = backend.to_numpy(backend.pattern_summary(stack, valid, None, (), threads).centers)
    else:
        middle = _check.points(centers, len(stack), "centers")
    sums = backend.second_moments(stack, valid, middle, threads)
    xp = array_namespace(sums)
    total = sums[:, 0]
    means = sums[:, 1:] / xp.where(total > 0, total, np.nan)[:, None]
    at_home = xp.asarray(middle)
    return SecondMoments(total, at_home, means[:, 0], means[:, 1], means[:, 2])
