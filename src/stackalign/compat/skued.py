"""scikit-ued's functions for diffraction images, by `stackalign.diffraction`.

``from stackalign.compat.skued import autocenter, align, nfold`` in place of ``from skued import ...``. Names,
arguments, their order and their conventions are those of scikit-ued 2.2, also where they contradict each other:

- masks are True = valid, but what `mask_from_collection` gives and `baseline_dwt` takes is True = invalid;
- `autocenter` and `bragg_peaks` speak of (row, col); `nfold`, `reflection`, `azimuthal_average`, `brillouin_zones` and
  what `bragg_peaks_persistence` gives are (col, row);
- frames are stacked on the last axis; angle zero of `azimuthal_average` is on -x;
- shifts of `align` are whole pixels.

What is different, because it was wrong there:

- `autocenter` was half a pixel too far on each axis, and jumped to other centres of inversion of a lattice;
- `nfold` and `reflection` let values leak from under the mask, and averaged corners with zeros; every fold works;
- NaN is a pixel without a value everywhere, and poisons nothing;
- `azimuthal_average` wraps bounds such as (340, 20), keeps the last ring with ``trim=False``, and genuine zeros;
- `mask_from_collection` looks at the final standard deviation, not at each one on the way;
- `bragg_peaks` needs no centre of inversion; `bragg_peaks_persistence` does not see what is masked, and gives births,
  deaths and persistences of the very peaks that it returns;
- `diffread` reads read-only and non-square files right.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign import diffraction
from stackalign._carriers import plain_array
from stackalign._types import FloatArray
from stackalign.errors import MissingDependencyError
from stackalign.io.stacks import picture_extensions
from stackalign.ops import asarray

from ._skued_images import (
    auto_masking,
    dmread,
    imibread,
    isnr,
    mask_image,
    mibheader,
    mibread,
    snr_from_collection,
    triml,
    trimr,
)

__all__ = [
    "align",
    "auto_masking",
    "autocenter",
    "azimuthal_average",
    "baseline_dwt",
    "bragg_peaks",
    "bragg_peaks_persistence",
    "brillouin_zones",
    "brilluoin_zones",
    "combine_masks",
    "diffread",
    "dmread",
    "ialign",
    "imibread",
    "isnr",
    "itrack_peak",
    "mask_from_collection",
    "mask_image",
    "mibheader",
    "mibread",
    "nfold",
    "reflection",
    "snr_from_collection",
    "triml",
    "trimr",
]

EDGE = 1e-9
LEAST_SNR = 5.0


def _mask(mask: Any) -> Any:
    return None if mask is None else asarray(mask, "cpu").astype(bool)


def _plain(image: Any) -> NDArray[Any]:
    """Pixels of an image; one that carries a mask of its own is refused."""
    return np.asarray(asarray(image, "cpu"))


def _swapped(center: Any) -> Any:
    """From (col, row) to (row, col)."""
    return None if center is None else asarray(center, "cpu", np.float64)[::-1]


def diffread(fname: Any) -> NDArray[Any]:
    """Read an image; frames of a file with several are on the last axis. See `stackalign.diffraction.diffread`."""
    if Path(fname).suffix.lower() in picture_extensions():
        try:
            from skimage.io import imread
        except ImportError as error:
            msg = f'{fname} needs scikit-image to be read: pip install "stackalign[image]"'
            raise MissingDependencyError(msg) from error
        return np.asarray(imread(fname, as_gray=True))  # colours become shares of white, as there
    images = diffraction.diffread(fname).images
    return np.moveaxis(images, 0, -1) if images.ndim == 3 else images


def autocenter(im: ArrayLike, mask: Any = None, normalize_bg: bool = True) -> FloatArray:
    """Centre (row, col) of a pattern. See `stackalign.diffraction.autocenter`; `normalize_bg` changes nothing."""
    center: FloatArray = diffraction.autocenter(_plain(im), mask=_mask(mask)).center
    return center


def _aligned(alignment: diffraction.Alignment, like: NDArray[Any]) -> NDArray[Any]:
    """The image in its own type; whole-pixel shifts leave integers what they are."""
    image = np.asarray(alignment.image)
    if like.dtype.kind in "iu":
        limits = np.iinfo(like.dtype)
        image = np.clip(np.rint(image), limits.min, limits.max)
    return image.astype(like.dtype)


def align(image: ArrayLike, reference: ArrayLike, mask: Any = None, fill_value: float = 0.0) -> NDArray[Any]:
    """Image moved onto a reference by whole pixels. See `stackalign.diffraction.align`."""
    moving = _plain(image)
    alignment = diffraction.align(
        moving, _plain(reference), mask=_mask(mask), subpixel=False, fill_value=fill_value, fill_masked=False
    )
    return _aligned(alignment, moving)


def ialign(
    images: Iterable[ArrayLike], reference: ArrayLike | None = None, mask: Any = None, fill_value: float = 0.0
) -> Iterator[NDArray[Any]]:
    """Yield images moved onto a reference, by default the first of them. See `stackalign.diffraction.ialign`."""
    taken: deque[NDArray[Any]] = deque()

    def stream() -> Iterator[NDArray[Any]]:
        for image in images:
            taken.append(_plain(image))
            yield taken[-1]

    fixed = None if reference is None else _plain(reference)
    aligned = diffraction.ialign(
        stream(), fixed, mask=_mask(mask), subpixel=False, fill_value=fill_value, fill_masked=False
    )
    for alignment in aligned:  # in batches, which share the work on reference and mask
        yield _aligned(alignment, taken.popleft())


def itrack_peak(
    images: Iterable[ArrayLike],
    row_slice: slice | None = None,
    col_slice: slice | None = None,
    precision: float = 1 / 10,
) -> Iterator[FloatArray]:
    """Yield how far (row, col) a peak moved from where it was in the first image. `precision` changes nothing."""
    first: NDArray[Any] | None = None
    for image in images:
        pixels = _plain(image)
        first = pixels if first is None else first
        yield diffraction.track_peak(pixels[None], row_slice, col_slice, reference=first)[0]


def nfold(
    im: ArrayLike, mod: int, center: ArrayLike | None = None, mask: Any = None, fill_value: float = 0.0
) -> FloatArray:
    """Average of `mod` rotations about (col, row). See `stackalign.diffraction.nfold`."""
    if mask is not None and not np.any(mask):
        return np.full(np.shape(im), float(fill_value))
    average = diffraction.nfold(_plain(im), mod, center=_swapped(center), mask=_mask(mask))
    return _filled(average, fill_value)


def reflection(
    im: ArrayLike, angle: float, center: ArrayLike | None = None, mask: Any = None, fill_value: float = 0.0
) -> FloatArray:
    """Average of an image and its mirror image about a line through (col, row).

    See `stackalign.diffraction.reflection`.
    """
    if mask is not None and not np.any(mask):
        return np.full(np.shape(im), float(fill_value))
    average = diffraction.reflection(_plain(im), angle, center=_swapped(center), mask=_mask(mask))
    return _filled(average, fill_value)


def _filled(average: Any, fill_value: float) -> FloatArray:
    image = np.asarray(getattr(average, "image", average), np.float64)
    return np.where(np.isfinite(image), image, fill_value)


def mask_from_collection(
    images: Iterable[ArrayLike], px_thresh: float | tuple[float, float] = (0, 3e4), std_thresh: float | None = None
) -> NDArray[np.bool_]:
    """Mask of bad pixels, True = **invalid**. See `stackalign.diffraction.mask_from_collection`."""
    stream = images if isinstance(images, np.ndarray) else (_plain(image) for image in images)
    low, high = np.sort(np.r_[-np.inf, px_thresh] if np.ndim(px_thresh) == 0 else np.asarray(px_thresh))
    limits = (float(low), float(high))
    valid: NDArray[np.bool_] = diffraction.mask_from_collection(stream, limits=limits, max_std=std_thresh).mask
    return ~valid


def combine_masks(*masks: ArrayLike) -> NDArray[np.bool_]:
    """Mask that is True where all masks are. See `stackalign.diffraction.combine_masks`."""
    return diffraction.combine_masks(*(asarray(mask, "cpu").astype(bool) for mask in masks))


def bragg_peaks(
    im: ArrayLike, mask: Any = None, center: ArrayLike | None = None, min_dist: float | None = None
) -> list[FloatArray]:
    """List of (row, col), the nearest to the centre first, which is one of them. See `diffraction.bragg_peaks`."""
    peaks = diffraction.bragg_peaks(_plain(im), mask=_mask(mask), min_snr=LEAST_SNR, min_distance=min_dist)
    middle = asarray(autocenter(im, mask) if center is None else center, "cpu", np.float64)
    places = list(peaks.sorted_by_distance(middle).position)
    # The direct beam is a spot of the lattice also where it is hidden; the correlation of an image with itself, by
    # which scikit-ued finds peaks, always has one there.
    near = bool(places) and np.hypot(*(places[0] - middle)) < (min_dist or 3 * peaks.width)
    return places if near else [middle, *places]


def bragg_peaks_persistence(
    im: ArrayLike,
    mask: Any = None,
    center: ArrayLike | None = None,
    min_dist: float | None = None,
    bd_threshold: float = 0.0,
    prominence: float = 0.0,
) -> tuple[FloatArray, FloatArray, NDArray[np.int64], FloatArray]:
    """Peaks by persistence, the nearest to the centre first. See `stackalign.diffraction.bragg_peaks_persistence`.

    Returns
    -------
    peaks : numpy.ndarray
        (N, 2) **(col, row)**, whole pixels.
    birth_death : numpy.ndarray
        (N, 2): values at which each peak is born and dies.
    indices : numpy.ndarray
        (N, 2, 2): (row, col) of both; (-1, -1) where a peak never dies.
    persistencies : numpy.ndarray
        (N,) above `prominence` and `bd_threshold`.
    """
    from stackalign.ops import persistence_pairs

    pairs = persistence_pairs(_plain(im), mask=_mask(mask))
    keep = pairs.persistence > max(float(prominence), float(bd_threshold))
    chosen = np.flatnonzero(keep)
    if min_dist is not None:
        apart = diffraction.bragg_peaks_persistence(
            _plain(im), mask=_mask(mask), prominence=max(float(prominence), float(bd_threshold)),
            min_distance=min_dist, subpixel=False,
        )  # fmt: skip
        kept = {tuple(place) for place in apart.position.astype(int).tolist()}
        chosen = np.array([k for k in chosen if tuple(pairs.birth_index[k].tolist()) in kept], np.intp)
    middle = (np.array(np.shape(im)) - 1) / 2 if center is None else asarray(center, "cpu", np.float64)
    chosen = chosen[np.argsort(np.hypot(*(pairs.birth_index[chosen] - middle).T), kind="stable")]
    return (
        pairs.birth_index[chosen, ::-1].astype(np.float64),
        np.stack([pairs.birth, pairs.death], axis=1)[chosen],
        np.stack([pairs.birth_index, pairs.death_index], axis=1)[chosen],
        pairs.persistence[chosen],
    )


class brillouin_zones:  # noqa: N801 -- the original's name
    """Zones of peaks (col, row). See `stackalign.diffraction.brillouin_zones`, whose result is `zones`.

    Parameters
    ----------
    image, mask : (H, W) array_like
        Where the mask is False there is nothing to see: zones that touch it are not visible.
    peaks : (N, 2) array_like
        (col, row).
    center : array_like, optional
        (col, row).
    optimization_radius : float, optional
        Move each peak to the centre of mass of the pixels within this distance.
    """

    def __init__(
        self,
        image: ArrayLike,
        mask: Any,
        peaks: ArrayLike,
        center: ArrayLike | None = None,
        optimization_radius: float | None = None,
    ) -> None:
        self.image = _plain(image).astype(np.float64)
        self.mask = np.ones(self.image.shape, bool) if mask is None else _mask(mask)
        places = plain_array(peaks, np.float64, "peaks").reshape(-1, 2)[:, ::-1]
        if optimization_radius is not None:
            places = np.array([self._centre_of_mass(place, float(optimization_radius)) for place in places])
        self.zones = diffraction.brillouin_zones(places, self.image.shape, center=_swapped(center))
        self.visible: NDArray[np.int64] = self._seen(None, None)

    def _centre_of_mass(self, place: FloatArray, radius: float) -> FloatArray:
        grid = np.indices(self.image.shape)
        rows, columns = grid[0], grid[1]
        near = (np.hypot(rows - place[0], columns - place[1]) <= radius) & self.mask & np.isfinite(self.image)
        weight = self.image[near] - (self.image[near].min() if near.any() else 0.0)
        if not weight.sum() > 0:
            return place
        return np.array([np.average(rows[near], weights=weight), np.average(columns[near], weights=weight)])

    def _seen(self, symmetry: int | None, bbox: Sequence[float] | None) -> NDArray[np.int64]:
        box = None if bbox is None else (bbox[0], bbox[1], bbox[2], bbox[3])
        chosen = self.zones.visible_zones(symmetry, box)
        last = np.array(self.image.shape) - 1
        keep = []
        for corners in (self.zones.vertices[int(i)] for i in chosen):
            rows, columns = np.clip(np.rint(corners), 0, last).astype(np.int64).T
            keep.append(bool(self.mask[rows, columns].all()))
        seen: NDArray[np.int64] = chosen[np.array(keep, bool)]
        return seen

    def getVisibleBZs(  # noqa: N802
        self, symmetry: int | None = None, bbox: Sequence[float] | None = None
    ) -> list[FloatArray]:
        """Choose the zones with a number of sides, within (top, left, bottom, right); gives corners as (col, row)."""
        self.visible = self._seen(symmetry, bbox)
        return [self.zones.vertices[i][:, ::-1] for i in self.visible]

    def renderVisibleBZs(self, axis: Any, **style: Any) -> None:  # noqa: N802
        """Draw the chosen zones."""
        self.zones.render(axis, self.visible, **style)

    def determineConsistency(self) -> float:  # noqa: N802
        """Tell how alike the chosen zones are: 1 minus the deviation of their areas. See `zones.consistency`."""
        return 1.0 - self.zones.consistency(self.visible).area_deviation

    def getEquivalentScatteringVectors(self, Q: ArrayLike) -> FloatArray:  # noqa: N802, N803
        """Points (col, row) in the chosen zones that are equivalent to a point (col, row)."""
        return self.zones.equivalent_scattering_vectors(_swapped(Q), self.visible)[:, ::-1]


brilluoin_zones = brillouin_zones
"""As the tutorial spells it."""


def azimuthal_average(
    image: ArrayLike,
    center: ArrayLike,
    mask: Any = None,
    angular_bounds: tuple[float, float] | None = None,
    trim: bool = True,
) -> tuple[FloatArray, FloatArray]:
    """Radius and mean intensity about (col, row). See `stackalign.diffraction.azimuthal_average`.

    Parameters
    ----------
    image, center, mask
        Image, (col, row), True = valid.
    angular_bounds : (float, float), optional
        Degrees from -x on, towards smaller rows; they may wrap.
    trim : bool
        Leave out rings without pixels before the first and after the last that has some.
    """
    bounds = None
    if angular_bounds is not None and abs(angular_bounds[1] - angular_bounds[0]) < 360:
        # Pixels exactly on a bound are left out there.
        bounds = (180.0 - angular_bounds[1] + EDGE, 180.0 - angular_bounds[0] - EDGE)
    profile = diffraction.azimuthal_average(
        _plain(image), _swapped(center), mask=_mask(mask), angular_bounds=bounds
    )  # fmt: skip
    known = np.isfinite(profile.intensity)
    radius, intensity = profile.radius, np.where(known, profile.intensity, 0.0)
    if trim and known.any():
        first, last = np.flatnonzero(known)[[0, -1]]
        radius, intensity = radius[first : last + 1], intensity[first : last + 1]
    return radius, intensity


def baseline_dwt(
    array: ArrayLike,
    max_iter: int,
    level: int | None = None,
    wavelet: str = "sym6",
    background_regions: Sequence[Any] | None = None,
    mask: Any = None,
    mode: str = "constant",
    axis: int | Sequence[int] = -1,
) -> FloatArray:
    """Baseline of curves or images; the mask is True = **invalid**. See `stackalign.diffraction.baseline_dwt`."""
    invalid = _mask(mask)
    fit = diffraction.baseline_dwt(
        array, axis=axis, wavelet=wavelet, level=level, mode=mode, max_iter=max_iter, tolerance=0.0, lower=0.0,
        background_regions=background_regions or (), mask=None if invalid is None else ~invalid,
    )  # fmt: skip
    baseline = np.array(fit.baseline, np.float64)
    return baseline if invalid is None else np.where(invalid, 0.0, baseline)
