"""Statistics over the frames of a stack."""

from dataclasses import dataclass

import numpy as np

from stackalign.backends import Array, backend_for

from . import _check

__all__ = ["StackStatistics", "stack_statistics"]


@dataclass(frozen=True)
class StackStatistics:
    """Statistics of each pixel over frames, (H, W) arrays of the stack's home.

    Parameters
    ----------
    count : array
        int64 number of valid samples.
    minimum, maximum : array
        float64, NaN where there is no sample.
    mean : array
        float64, 0 where there is no sample.
    m2 : array
        float64 sum of squared deviations from the mean.
    """

    count: Array
    minimum: Array
    maximum: Array
    mean: Array
    m2: Array

    def variance(self, ddof: int = 0) -> Array:
        """Variance of each pixel over the frames.

        Parameters
        ----------
        ddof : int
            Delta degrees of freedom: the divisor is ``count - ddof``.

        Returns
        -------
        array
            (H, W) float64, NaN where the divisor is not positive.
        """
        n = (self.count - ddof).astype(np.float64)
        n[n <= 0] = np.nan
        return self.m2 / n

    def merge(self, other: "StackStatistics") -> "StackStatistics":
        """Combine with the statistics of other frames.

        Parameters
        ----------
        other : StackStatistics
            Of frames of the same shape, in the same home.

        Returns
        -------
        StackStatistics
            Of all frames.

        Notes
        -----
        Chan, Golub, LeVeque (1983), The American Statistician 37, 242: the mean moves by delta * n_b / n and m2 gains
        delta**2 * n_a * n_b / n.
        """
        backend_for(self.count, other.count)
        count = self.count + other.count
        share = other.count / (count + (count == 0))
        delta = other.mean - self.mean
        return StackStatistics(
            count,
            np.fmin(self.minimum, other.minimum),  # NaN, no sample, loses; NumPy hands CuPy arrays over to CuPy
            np.fmax(self.maximum, other.maximum),
            self.mean + delta * share,
            self.m2 + other.m2 + delta * delta * (self.count * share),
        )


def stack_statistics(stack: Array, *, mask: Array | None = None, workers: int | None = None) -> StackStatistics:
    """Count, extrema, mean and M2 of each pixel over the frames of a stack.

    Parameters
    ----------
    stack : array
        (N, H, W) or (H, W), integers of up to 32 bits or floats; NaN and infinite samples are left out.
    mask : array, optional
        Boolean (H, W) or (N, H, W), True = valid.
    workers : int, optional
        Number of CPU threads; one per core by default.

    Returns
    -------
    StackStatistics
        Of these frames; `StackStatistics.merge` combines the chunks of a longer stack.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> frames = np.array([[[1.0, np.nan]], [[3.0, 5.0]], [[8.0, 7.0]]])
    >>> statistics = sa.stack_statistics(frames[:2]).merge(sa.stack_statistics(frames[2:]))
    >>> statistics.count, statistics.mean, statistics.variance(ddof=1)
    (array([[3, 2]]), array([[4., 6.]]), array([[13.,  2.]]))
    """
    backend, frames, _ = _check.stack(stack, "stack", mask)
    valid = _check.mask_array(mask, frames)
    return StackStatistics(*backend.stack_statistics(frames, valid, _check.n_workers(workers)))
