"""Bragg peaks, by a matched filter with its signal-to-noise ratio."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign._carriers import plain_array
from stackalign._results import Tabular
from stackalign._types import FloatArray
from stackalign.backends._threads import governed
from stackalign.errors import DataError
from stackalign.io.provenance import provenance, to_jsonable

from ._inputs import one_image
from ._peak_filters import (
    Filtered,
    Ground,
    MatchedFilter,
    Plane,
    calibrated,
    counted,
    find_ground,
    ground_beside,
    is_spot,
    quiet_electron,
)
from ._peak_noise import WHITE, Noise, electron_of, is_tailed, measured_noise
from ._peak_pixels import blurred_electron, electron_of_events, hot_pixels, is_cluster
from ._peak_places import check_distance, fitted, maxima

__all__ = ["BraggPeaks", "bragg_peaks"]


WIDTHS = tuple(0.8 * 1.5**k for k in range(7))
"""Standard deviations of spots in pixels that are tried, 0.8 to 9."""


PLAINLY = 4.0
"""Ratios of so many times the least one are no chance, however few the electrons of a background that is seen."""
SAMPLED = 1 << 16
START, ROUNDS, ALIKE = 0.4, 4, 0.2
"""Share of the height of maxima with which the electron of a blurred image begins, how often the background is found,
and the relative change of the electron at which that ends."""
MOSTLY, HIGHEST = 0.5, 0.95
"""Share of the pixels that nothing stands out of, as a rule, and what it should be where single electrons do."""
SPARSE, CANDIDATE, NARROWER = 0.5, 4.0, (0.75, 0.87, 1.0)
"""Electrons per pixel below which the background is found again beside candidates, the ratio from which they are such,
and the shares of the width at which they are looked for again: a background that has their electrons in it favours wide
ones."""
FEW = 0.2
"""Electrons per pixel below which an electron here and there makes narrow peaks stand out."""
MOST_LEVELS = 4096
"""Different values up to which an image may be of counts."""
WHOLE = 0.02
"""Share of a count by which all steps between values may be off whole numbers of them."""
LARGEST_COUNT = 1 << 22
"""Floats are multiples of their own smallest difference."""
SHARED = 4.0
"""Counts that one electron makes at most."""
WEAKER = 4.5
"""Deviations by which a hot pixel is above its neighbours, where a peak is one."""


@dataclass(frozen=True)
class BraggPeaks(Tabular):
    """Peaks of one image, the most significant first.

    Parameters
    ----------
    position : numpy.ndarray
        (N, 2) float64 (row, col) in pixel indices.
    intensity : numpy.ndarray
        (N,) integrated counts above the background; for peaks by persistence their height above the saddle.
    snr : numpy.ndarray
        (N,) signal-to-noise ratio of the matched filter; for peaks by persistence the persistence as a share of the
        image's range.
    width : float
        Standard deviation in pixels of the spots that were looked for; NaN for peaks by persistence.
    provenance : dict
        Versions and settings.
    """

    position: FloatArray
    intensity: FloatArray
    snr: FloatArray
    width: float
    provenance: dict[str, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.position)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return a table by columns, one row a peak."""
        rows, columns = self.position.reshape(-1, 2).T
        return {"row": rows, "col": columns, "intensity": self.intensity, "snr": self.snr}

    def column_units(self) -> dict[str, str]:
        """Units of the columns that have one."""
        return {"row": "pix", "col": "pix"}

    def sorted_by_distance(self, center: ArrayLike) -> "BraggPeaks":
        """The same peaks, the nearest to a point (row, col) first.

        Parameters
        ----------
        center : array_like
            (row, col).

        Returns
        -------
        BraggPeaks
            The same peaks in another order.
        """
        order = np.argsort(np.hypot(*(self.position - plain_array(center, np.float64, "center")).T), kind="stable")
        return self._of(order)

    def _of(self, chosen: NDArray[Any]) -> "BraggPeaks":
        return BraggPeaks(
            self.position[chosen], self.intensity[chosen], self.snr[chosen], self.width, dict(self.provenance)
        )

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON knows them."""
        names = ("position", "intensity", "snr", "width", "provenance")
        plain: dict[str, Any] = to_jsonable({name: getattr(self, name) for name in names})
        return plain


@governed
def bragg_peaks(
    image: Any,
    *,
    mask: Any = None,
    min_snr: float = 6.0,
    width: float | None = None,
    min_distance: float | None = None,
) -> BraggPeaks:
    """Find the spots of a crystal's diffraction pattern, without a centre or a template.

    Parameters
    ----------
    image : (H, W) array
        Counts or anything proportional to them; NaN is invalid. An image on a GPU is brought to the host.
    mask : (H, W) array, optional
        Boolean, True = valid.
    min_snr : float
        Smallest signal-to-noise ratio. With 6, noise alone makes a peak in one of a thousand images, however few the
        electrons are.
    width : float, optional
        Standard deviation of the spots in pixels; by default the one that makes the brightest peaks stand out most.
    min_distance : float, optional
        Of two peaks nearer than this, in pixels, the more significant one is kept; three widths by default.

    Returns
    -------
    BraggPeaks

    Raises
    ------
    DataError
        The shapes do not fit, the image is smaller than 8 x 8, or no pixel is valid.
    ValueError
        A setting makes no sense.

    Notes
    -----
    The background is a Gaussian mean over the valid pixels from which what stands out is clipped, the noise their
    scatter about it, so neither gain nor offset of the detector matters. A spot's signal is the correlation with a
    Gaussian of its width over the valid pixels (North 1963, Proc. IEEE 51, 1016), its noise the same sum of the noise.
    Where electrons are few, the chance of a sum is that of Poisson counts. Single hot pixels are left out, and so are
    maxima on streaks and arcs, which do not fall off to all sides.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import diffraction
    >>> made = diffraction.create_test_pattern("lattice", center=(262.3, 249.8))
    >>> peaks = diffraction.bragg_peaks(made.image, mask=made.mask)
    >>> far = np.linalg.norm(made.spots[:, None] - peaks.position, axis=-1).min(axis=0)  # from the true spots
    >>> len(peaks) > 200, bool(np.median(far) < 0.2)
    (True, True)
    """
    pixels, valid = one_image(image, mask)
    _check_settings(pixels.shape, min_snr, width)
    check_distance(min_distance)
    widths = tuple(w for w in WIDTHS if w <= min(pixels.shape) / 16) or WIDTHS[:1]
    quantum = _quantum(pixels[valid])
    event = electron_of_events(pixels, valid, quantum > 0)
    if not max(event, quantum) > 0:
        event = blurred_electron(pixels, valid)
    # Whole numbers are counts, of which an electron adds a few to neighbouring pixels where its charge is shared.
    quantum = float(np.clip(event, quantum, SHARED * quantum)) if quantum > 0 else event
    seen = valid.copy()
    seen[tuple(hot_pixels(pixels, valid, quantum).T)] = False
    # In units of the image's own scatter about its mean, gain and offset of the detector are gone.
    spread = float(pixels[seen].std()) or 1.0
    standard = np.where(seen, (pixels - pixels[seen].mean()) / spread, 0.0).astype(np.float32)
    ground, noise, electron = _ground(standard, seen, quantum / spread, event / spread)
    typical = float(np.median(ground.variance[seen])) * noise.area
    matched = MatchedFilter(ground, max(widths) if width is None else width, noise)
    best = matched(width) if width is not None else _widest(matched, widths, min_snr, typical, electron)
    plane = calibrated(best.snr, best.width)
    if noise.correlation is None and 0 < typical < SPARSE * electron**2:
        places = _candidates(plane, ground, best.width, electron)
        if len(places):
            ground = ground_beside(standard, ground, places, best.width, electron)
            matched = MatchedFilter(ground, best.width, noise)
            some = (width,) if width is not None else tuple(share * best.width for share in NARROWER)
            typical = float(np.median(ground.variance[seen]))
            best = _widest(matched, some, min_snr, typical, electron)
            plane = calibrated(best.snr, best.width)
    places, snr = maxima(plane, min_snr, 3.0 * best.width if min_distance is None else float(min_distance))
    # Against correlated noise a filter narrower than the spots is the best.
    spot = best.width if width is not None else noise.width(best.width)
    told = is_spot(plane, places, spot)
    weaker = hot_pixels(pixels, seen, quantum, places, WEAKER)
    told &= ~(places[:, None] == weaker[None]).all(axis=-1).any(axis=1)
    told &= ~is_cluster(ground.rest, ground.variance, places, best.width, electron)
    variance = ground.variance[tuple(places.T)].astype(np.float64) * noise.area
    told &= counted(snr, variance, electron, noise.width(best.width), pixels.size) >= min_snr
    places, snr = places[told], snr[told]
    position, intensity = fitted(ground, places, best.width)
    inside = _middle_seen(position, valid)
    position, intensity, snr = position[inside], intensity[inside] * spread, snr[inside]
    made = provenance({"min_snr": min_snr, "width": width, "min_distance": min_distance}, [], device="cpu")
    return BraggPeaks(position, intensity, snr, best.width, made)


def _middle_seen(position: FloatArray, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which spots have their middle on a valid pixel: others are known by their flank alone."""
    whole = np.rint(position).astype(np.int64)
    rows, columns = np.clip(whole, 0, np.array(valid.shape) - 1).T
    return np.asarray(((whole >= 0) & (whole < valid.shape)).all(axis=1) & valid[rows, columns])


def _check_settings(shape: tuple[int, ...], min_snr: float, width: float | None) -> None:
    if min(shape) < 8:
        msg = f"an image of at least 8 x 8 pixels is needed to tell spots from background, got {shape}"
        raise DataError(msg)
    if not (np.isfinite(min_snr) and min_snr > 0):
        msg = f"min_snr must be above 0, got {min_snr}"
        raise ValueError(msg)
    if width is not None and not 0.3 <= width <= min(shape) / 8:
        msg = f"width must be between 0.3 and an eighth of the image, in pixels, got {width}"
        raise ValueError(msg)


def _candidates(plane: Plane, ground: Ground, width: float, electron: float) -> NDArray[np.int64]:
    """Places (N, 2) of maxima that may be spots."""
    places, snr = maxima(plane, CANDIDATE, 2.0 * width)
    variance = ground.variance[tuple(places.T)].astype(np.float64)
    return places[counted(snr, variance, electron, width) > CANDIDATE]


def _quantum(values: FloatArray) -> float:
    """What one count adds to a pixel: the least difference of two values; 0 where they are too many to be counts."""
    different = np.unique(values[:: max(1, len(values) // SAMPLED)])
    if not 1 < len(different) <= MOST_LEVELS:
        return 0.0
    least = float(np.diff(different).min())
    steps = np.diff(different) / least
    whole = steps.sum() <= LARGEST_COUNT and np.abs(steps - np.rint(steps)).max() <= WHOLE
    return least if whole else 0.0


def _ground(standard: Plane, seen: NDArray[np.bool_], quantum: float, event: float) -> tuple[Ground, Noise, float]:
    """Background, the noise's correlation, and what an electron adds: a `quantum`, or what single maxima have."""
    ground = find_ground(standard, seen, quantum)
    noise, electron = _noise(standard, ground, seen, quantum)
    if not max(event, quantum) > 0 and np.count_nonzero(ground.quiet) < MOSTLY * np.count_nonzero(seen):
        # Blurred electrons without noise stand out of the darkness between them, all of them.
        event = quiet_electron(ground.rest, seen, HIGHEST)
        ground = find_ground(standard, seen, event)
        noise, electron = _noise(standard, ground, seen, event)
    if noise.correlation is None and not event > SHARED * quantum > 0:
        return ground, noise, electron
    # Maxima of a blurred image may be several electrons, and spots be taken for these: it begins below.
    blurred = ground, noise, START * max(event, quantum) or electron
    for _ in range(ROUNDS):
        before = blurred[2]
        again = find_ground(standard, seen, before)
        blurred = again, *_noise(standard, again, seen, before)
        if abs(blurred[2] - before) < ALIKE * blurred[2]:
            break
    return (ground, noise, electron) if blurred[1].correlation is None else blurred


def _noise(standard: Plane, ground: Ground, seen: NDArray[np.bool_], quantum: float) -> tuple[Noise, float]:
    rest = ground.rest[seen]
    noise = measured_noise(ground.rest, ground.quiet) if quantum > 0 or is_tailed(rest) else WHITE
    mean = float((standard[seen] - rest).mean(dtype=np.float64)) - float(standard[seen].min())
    variance = float(ground.variance[seen].mean(dtype=np.float64))
    return noise, electron_of(rest, mean, variance, quantum, noise)


def _widest(
    matched: MatchedFilter, widths: tuple[float, ...], least: float, variance: float, electron: float
) -> Filtered:
    """The filter of the width at which the brightest peaks stand out most, between the widths that are tried too."""
    sparse = electron > 0 and (variance < FEW * electron**2 or matched.noise.correlation is not None)

    def judged(filtered: Filtered) -> Filtered:
        peaks = filtered.peaks.astype(np.float64)
        chance = peaks.copy()
        asked = np.full(len(peaks), True) if sparse else peaks < PLAINLY * least
        spread = matched.noise.width(filtered.width)
        chance[asked] = counted(peaks[asked], np.full(int(asked.sum()), variance), electron, spread)
        if not sparse:
            # Of what chance does not explain, the plain ratios say which width fits: spots have noise of their own.
            chance = np.where(chance >= least, peaks, chance)
        return filtered._replace(peaks=chance.astype(np.float32))

    by_width = [judged(matched(w)) for w in widths]
    # The same number of peaks for all: of a few wide ones, which have swallowed others, the median is a brighter one.
    count = max(1, *(int(np.count_nonzero(f.peaks >= least)) for f in by_width))

    def strength(filtered: Filtered) -> float:
        peaks = np.zeros(count)
        peaks[: len(filtered.peaks)] = filtered.peaks[:count]
        return float(np.median(peaks))

    strengths = [strength(f) for f in by_width]
    k = int(np.argmax(strengths))
    if not 0 < k < len(by_width) - 1:
        return by_width[k]
    below, here, above = strengths[k - 1 : k + 2]
    bend = below - 2 * here + above
    finer = widths[k] * (widths[k + 1] / widths[k]) ** (0.5 * (below - above) / bend if bend else 0)
    between = judged(matched(finer))
    return max(by_width[k], between, key=strength)
