"""How the noise of neighbouring pixels is correlated, and what one electron adds to an image."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

__all__ = ["WHITE", "Noise", "electron_of", "is_tailed", "measured_noise"]


REACH = 5
"""Pixels over which a detector's point spread correlates the noise."""
LEAST_CORRELATED = 0.15
"""Correlation of next neighbours below which pixels are independent: a point spread of 0.45 px makes 0.2."""
SAMPLED = 1 << 16
TAILED = 1.3
"""Length of the upper tail over the lower one from which noise without whole numbers is that of few electrons."""
FAINTEST = 0.02
"""Correlation below which lags are left out: their errors would add up."""


class Noise(NamedTuple):
    """Correlation of the noise by lag (2 REACH + 1, 2 REACH + 1), None where pixels are independent."""

    correlation: NDArray[np.float64] | None

    @property
    def area(self) -> float:
        """Sum of the correlation over all lags in pixels: 4 pi times the square of a Gaussian point spread's sigma."""
        return 1.0 if self.correlation is None else max(1.0, float(self.correlation.sum()))

    @property
    def white(self) -> float:
        """Share of the variance that is readout noise: of a Gaussian point spread r(1)**2 = r(2**0.5)."""
        if self.correlation is None:
            return 0.0
        beside, across = self._next()
        share = 1.0 - beside**2 / max(across, FAINTEST)
        return float(np.clip(share, 0.0, MOST_WHITE)) if share > LEAST_WHITE else 0.0

    @property
    def spread_area(self) -> float:
        """Sum of the correlation of what the point spread makes of the variance."""
        return 1.0 + (self.area - 1.0) / (1.0 - self.white)

    def _next(self) -> tuple[float, float]:
        """Correlation of neighbours along the axes, and along the diagonals."""
        assert self.correlation is not None
        k = self.correlation[REACH - 1 : REACH + 2, REACH - 1 : REACH + 2]
        return float(k[0, 1] + k[1, 0]) / 2, float(k[0, 0] + k[0, 2]) / 2

    def scatter(self, width: float) -> float:
        """Scatter of a sum with Gaussian weights of a width, over that of independent pixels of the same variance."""
        if self.correlation is None:
            return 1.0
        lags = np.arange(-REACH, REACH + 1) ** 2
        overlap = np.exp(-np.add.outer(lags, lags) / (4.0 * width**2))
        return float(np.sqrt(max(1.0, float((self.correlation * overlap).sum()))))

    def width(self, width: float) -> float:
        """Width of what a single electron adds to sums with Gaussian weights of a width."""
        return float(np.sqrt(width**2 + (self.area - 1.0) / (4.0 * np.pi)))


WHITE = Noise(None)
LEAST_WHITE, MOST_WHITE = 0.15, 0.95
"""Share of the variance from which there is readout noise, and the most."""
LOWEST = 4.0
"""Deviations by which the darkest of some ten thousand pixels is below their mean."""


def measured_noise(rest: Plane, quiet: NDArray[np.bool_]) -> Noise:
    """Measure the correlation of what is left above the background on the pixels that nothing stands out of."""
    rest = np.where(quiet, rest, np.float32(0))

    def product(dy: int, dx: int) -> float:
        rows, columns = rest.shape
        first = (slice(0, rows - dy), slice(max(0, -dx), columns - max(0, dx)))
        second = (slice(dy, rows), slice(max(0, dx), columns - max(0, -dx)))
        pairs = int(np.count_nonzero(quiet[first] & quiet[second]))
        return float(np.vdot(rest[first], rest[second])) / max(1, pairs)

    own = product(0, 0)
    # Structure that is left of a pattern is alike over many pixels: what reaches farther than a point spread is not it.
    far = [product(0, REACH), product(REACH, 0), product(REACH, REACH), product(REACH, -REACH)]
    floor = max(0.0, float(np.median(far)))
    own -= floor
    if not own > 0 or min(product(0, 1), product(1, 0)) - floor < LEAST_CORRELATED * own:
        return WHITE
    correlation = np.zeros((2 * REACH + 1, 2 * REACH + 1))
    for dy in range(REACH + 1):
        for dx in range(-REACH, REACH + 1):
            value = (product(dy, dx) - floor) / own
            if value > FAINTEST or (dy, dx) == (0, 0):
                correlation[REACH + dy, REACH + dx] = correlation[REACH - dy, REACH - dx] = value
    correlation[REACH, REACH] = 1.0
    return Noise(correlation)


def is_tailed(rest: Plane) -> bool:
    """Tell whether what is above the background reaches farther than what is below, as few electrons do."""
    low, high = np.quantile(rest[:: max(1, rest.size // SAMPLED)], (0.02, 0.98))
    return bool(high > -TAILED * low)


def electron_of(rest: Plane, mean: float, variance: float, quantum: float, noise: Noise) -> float:
    """What one electron adds to an image, as the noise above the darkest pixel says: variance over mean.

    A point spread divides the electron, and so the variance of a pixel; the sum of the correlation makes up for it.
    """
    if (not quantum > 0 or noise.correlation is not None) and not is_tailed(rest):
        return quantum
    readout = noise.white
    mean -= LOWEST * float(np.sqrt(readout * variance))
    electron = (1.0 - readout) * variance * noise.spread_area / mean if mean > 0 else 0.0
    # Where electrons overlap, maxima are no single ones.
    return electron if noise.correlation is not None and electron > 0 else max(quantum, electron)
