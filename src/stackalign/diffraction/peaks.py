"""Bragg peaks: by a matched filter with its signal-to-noise ratio, and by topological persistence."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign._results import Tabular
from stackalign._types import FloatArray
from stackalign.backends._threads import governed
from stackalign.errors import DataError
from stackalign.io.provenance import provenance, to_jsonable
from stackalign.ops import persistence_pairs, to_numpy
from stackalign.ops._peaks import offsets

from ._inputs import checked_images
from ._peak_filters import Filtered, Ground, MatchedFilter, Plane, calibrated, counted, find_ground, is_spot
from ._peak_pixels import blurred_electron, electron_of_events, hot_pixels, is_cluster

__all__ = ["BraggPeaks", "bragg_peaks", "bragg_peaks_persistence"]


WIDTHS = tuple(0.8 * 1.5**k for k in range(7))
"""Standard deviations of spots in pixels that are tried, 0.8 to 9."""

STEPS = 6

PLAINLY = 4.0
"""Ratios of so many times the least one are no chance, however few the electrons of a background that is seen."""
SAMPLED = 1 << 16
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
TAILED = 1.3
"""Length of the upper tail over the lower one from which noise without whole numbers is that of few electrons."""


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
        order = np.argsort(np.hypot(*(self.position - np.asarray(center, np.float64)).T), kind="stable")
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
    pixels, valid = _one_image(image, mask)
    if min(pixels.shape) < 8:
        msg = f"an image of at least 8 x 8 pixels is needed to tell spots from background, got {pixels.shape}"
        raise DataError(msg)
    if not (np.isfinite(min_snr) and min_snr > 0):
        msg = f"min_snr must be above 0, got {min_snr}"
        raise ValueError(msg)
    if width is not None and not 0.3 <= width <= min(pixels.shape) / 8:
        msg = f"width must be between 0.3 and an eighth of the image, in pixels, got {width}"
        raise ValueError(msg)
    _check_distance(min_distance)
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
    ground = find_ground(standard, seen, quantum / spread)
    electron = _electron(standard, ground, seen, quantum / spread)
    typical = float(np.median(ground.variance[seen]))
    matched = MatchedFilter(ground, max(widths) if width is None else width)
    best = matched(width) if width is not None else _widest(matched, widths, min_snr, typical, electron)
    plane = calibrated(best.snr, best.width)
    places, snr = _maxima(plane, min_snr, 3.0 * best.width if min_distance is None else float(min_distance))
    told = is_spot(plane, places, best.width)
    weaker = hot_pixels(pixels, seen, quantum, places, WEAKER)
    told &= ~(places[:, None] == weaker[None]).all(axis=-1).any(axis=1)
    told &= ~is_cluster(ground.rest, ground.variance, places, best.width, electron)
    told &= counted(snr, ground.variance[tuple(places.T)].astype(np.float64), electron, best.width) >= min_snr
    places, snr = places[told], snr[told]
    position, intensity = _fitted(ground, places, best.width)
    # A spot whose middle is not seen is known by its flank alone.
    whole = np.rint(position).astype(np.int64)
    rows, columns = np.clip(whole, 0, np.array(pixels.shape) - 1).T
    inside = ((whole >= 0) & (whole < pixels.shape)).all(axis=1) & valid[rows, columns]
    position, intensity, snr = position[inside], intensity[inside] * spread, snr[inside]
    settings = {"min_snr": min_snr, "width": width, "min_distance": min_distance}
    return BraggPeaks(position, intensity, snr, best.width, provenance(settings, [], device="cpu"))


def _one_image(image: Any, mask: Any) -> tuple[FloatArray, NDArray[np.bool_]]:
    checked = checked_images(image, mask, "cpu" if isinstance(image, np.ndarray) else "auto", "image")
    if not checked.single:
        msg = f"image must have the shape (H, W), got {tuple(checked.values.shape)}; loop over the images of a stack"
        raise DataError(msg)
    pixels = to_numpy(checked.values)[0].astype(np.float64)
    valid = np.isfinite(pixels)
    if checked.mask is not None:
        valid &= to_numpy(checked.mask)[0]
    if not valid.any():
        msg = "no pixel of the image is valid; NaN pixels are not, and True means valid in a mask"
        raise DataError(msg)
    return np.where(valid, pixels, 0.0), valid


def _quantum(values: FloatArray) -> float:
    """What one count adds to a pixel: the least difference of two values; 0 where they are too many to be counts."""
    different = np.unique(values[:: max(1, len(values) // SAMPLED)])
    if not 1 < len(different) <= MOST_LEVELS:
        return 0.0
    least = float(np.diff(different).min())
    steps = np.diff(different) / least
    whole = steps.sum() <= LARGEST_COUNT and np.abs(steps - np.rint(steps)).max() <= WHOLE
    return least if whole else 0.0


def _electron(standard: Plane, ground: Ground, seen: NDArray[np.bool_], quantum: float) -> float:
    """What one electron adds to a pixel, as the noise above the darkest pixel says: variance over mean."""
    if not quantum > 0:
        low, high = np.quantile(ground.rest[seen][:: max(1, seen.size // SAMPLED)], (0.02, 0.98))
        if not high > -TAILED * low:
            return 0.0
    mean = float((standard - ground.rest)[seen].mean(dtype=np.float64)) - float(standard[seen].min())
    variance = float(ground.variance[seen].mean(dtype=np.float64))
    return max(quantum, variance / mean) if mean > 0 else quantum


def _widest(
    matched: MatchedFilter, widths: tuple[float, ...], least: float, variance: float, electron: float
) -> Filtered:
    """The filter of the width at which the brightest peaks stand out most, between the widths that are tried too."""
    sparse = electron > 0 and variance < FEW * electron**2

    def judged(filtered: Filtered) -> Filtered:
        peaks = filtered.peaks.astype(np.float64)
        chance = peaks.copy()
        asked = np.full(len(peaks), True) if sparse else peaks < PLAINLY * least
        chance[asked] = counted(peaks[asked], np.full(int(asked.sum()), variance), electron, filtered.width)
        if not sparse:
            # Of what chance does not explain, the plain ratios say which width fits: spots have noise of their own.
            chance = np.where(chance >= least, peaks, chance)
        return filtered._replace(peaks=chance.astype(np.float32))

    found = [judged(matched(w)) for w in widths]
    # The same number of peaks for all: of a few wide ones, which have swallowed others, the median is a brighter one.
    count = max(1, *(int(np.count_nonzero(f.peaks >= least)) for f in found))

    def strength(filtered: Filtered) -> float:
        peaks = np.zeros(count)
        peaks[: len(filtered.peaks)] = filtered.peaks[:count]
        return float(np.median(peaks))

    strengths = [strength(f) for f in found]
    k = int(np.argmax(strengths))
    if not 0 < k < len(found) - 1:
        return found[k]
    below, here, above = strengths[k - 1 : k + 2]
    bend = below - 2 * here + above
    finer = widths[k] * (widths[k + 1] / widths[k]) ** (0.5 * (below - above) / bend if bend else 0)
    between = judged(matched(finer))
    return max(found[k], between, key=strength)


def _fitted(ground: Ground, places: NDArray[np.int64], width: float) -> tuple[FloatArray, FloatArray]:
    """Positions (N, 2) and integrated intensities of Gaussians of a width, by least squares over valid pixels."""
    position = places.astype(np.float64)
    if not len(places):
        return position.reshape(0, 2), np.zeros(0)
    reach = max(2, int(np.ceil(2.0 * width)))
    data, weight = (_neighbourhoods(a, places, reach).astype(np.float64) for a in (ground.rest, ground.weight))
    weight = np.nan_to_num(weight)
    data = np.where(weight > 0, data, 0.0)
    grid = np.arange(-reach, reach + 1, dtype=np.float64)
    offset = np.zeros((len(places), 2))
    for _ in range(STEPS):
        y, x = grid[:, None] - offset[:, 0, None, None], grid - offset[:, 1, None, None]
        shape = np.exp(-(y * y + x * x) / (2 * width**2)) * weight
        height = (shape * data).sum((1, 2)) / np.maximum((shape * shape).sum((1, 2)), 1e-30)
        slopes = np.stack([shape, shape * y / width**2, shape * x / width**2], axis=-1)
        slopes[..., 1:] *= height[:, None, None, None]
        left = data - height[:, None, None] * shape
        normal = np.einsum("nijk,nijl->nkl", slopes, slopes) + 1e-12 * np.eye(3)
        step = np.linalg.solve(normal, np.einsum("nijk,nij->nk", slopes, left)[..., None])[..., 0]
        offset = np.clip(offset + np.clip(step[:, 1:], -0.5, 0.5), -1.5, 1.5)
    return position + offset, 2.0 * np.pi * width**2 * height


def _maxima(snr: Plane, least: float, distance: float) -> tuple[NDArray[np.int64], FloatArray]:
    """Local maxima (N, 2) above a level, the highest first, none nearer to a higher one than a distance."""
    places = np.argwhere(snr >= least)
    values = snr[places[:, 0], places[:, 1]]
    framed = np.pad(snr, 1, constant_values=-np.inf)
    tops = np.ones(len(places), bool)
    for y in range(3):
        for x in range(3):
            tops &= values >= framed[places[:, 0] + y, places[:, 1] + x]
    places = places[tops]
    heights = values[tops].astype(np.float64)
    order = np.argsort(-heights, kind="stable")
    keep = _kept(places[order], distance)
    return places[order][keep], heights[order][keep]


def _check_distance(distance: float | None) -> None:
    if distance is not None and not (np.isfinite(distance) and distance >= 0):
        msg = f"min_distance must be a number of pixels, 0 or more, got {distance}"
        raise ValueError(msg)


def _kept(places: NDArray[Any], distance: float) -> NDArray[np.bool_]:
    """Which places, in their order of precedence, have no kept one before them within a distance."""
    from scipy.spatial import cKDTree

    keep = np.ones(len(places), bool)
    if len(places) < 2 or distance <= 0:
        return keep
    near = cKDTree(places).query_ball_point(places, distance)
    for k, others in enumerate(near):
        if keep[k]:
            for other in others:
                if other > k:
                    keep[other] = False
    return keep


def _neighbourhoods(image: NDArray[Any], places: NDArray[Any], reach: int) -> NDArray[Any]:
    """(N, 2r+1, 2r+1) pixels around places; NaN beyond the image."""
    framed = np.pad(image, reach, constant_values=np.nan)
    window = np.arange(2 * reach + 1)
    cut: NDArray[Any] = framed[places[:, 0, None, None] + window[:, None], places[:, 1, None, None] + window]
    return cut


@governed
def bragg_peaks_persistence(
    image: Any,
    *,
    mask: Any = None,
    prominence: float = 0.0,
    relative: bool = False,
    min_distance: float | None = None,
    subpixel: bool = True,
) -> BraggPeaks:
    """Find peaks by how far each stands above the saddle to a higher one.

    Suits spots of any size and shape without noise: each maximum of noise is a peak too, of low prominence.

    Parameters
    ----------
    image : (H, W) array
        Real; NaN is invalid. An image on a GPU is brought to the host.
    mask : (H, W) array, optional
        Boolean, True = valid; what is not valid takes no part, and peaks do not meet through it.
    prominence : float
        Peaks are kept whose persistence is above this, in the image's units.
    relative : bool
        The prominence is a share of the range between the lowest and the highest valid pixel.
    min_distance : float, optional
        Of two peaks nearer than this, in pixels, the more persistent one is kept.
    subpixel : bool
        Refine positions by a paraboloid through the neighbours.

    Returns
    -------
    BraggPeaks

    Raises
    ------
    DataError
        The shapes do not fit, or no pixel is valid.
    ValueError
        A setting makes no sense.

    See Also
    --------
    stackalign.persistence_pairs : births and deaths, and the reference.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import diffraction
    >>> image = np.zeros((20, 30))
    >>> image[5, 8], image[12, 20] = 3.0, 7.0
    >>> diffraction.bragg_peaks_persistence(image, subpixel=False).position.tolist()
    [[12.0, 20.0], [5.0, 8.0]]
    """
    if not (np.isfinite(prominence) and prominence >= 0):
        msg = f"prominence must not be negative, got {prominence}"
        raise ValueError(msg)
    _check_distance(min_distance)
    pixels, valid = _one_image(image, mask)
    pairs = persistence_pairs(pixels, mask=valid)
    span = float(np.ptp(pixels[valid]))
    height = pairs.persistence
    keep = height > (prominence * span if relative else prominence)
    places, height = pairs.birth_index[keep], height[keep]
    if min_distance is not None:
        apart = _kept(places, float(min_distance))
        places, height = places[apart], height[apart]
    position = places.astype(np.float64)
    if subpixel and len(places):
        position = places + offsets(_neighbourhoods(np.where(valid, pixels, np.nan), places, 2))
    settings = {"prominence": prominence, "relative": relative, "min_distance": min_distance, "subpixel": subpixel}
    share = height / span if span > 0 else np.zeros_like(height)
    return BraggPeaks(position, height, share, float("nan"), provenance(settings, [], device="cpu"))
