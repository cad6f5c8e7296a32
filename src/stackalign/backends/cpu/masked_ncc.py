"""Masked correlation by real transforms in float32 that are just long enough, and kernels before and after them.

What belongs to the reference alone is transformed once, and what belongs to two fixed masks comes back once: then an
image takes two transforms forward and three back, or three and six where its mask is its own. An image is the work of
one thread, and the length of its transforms depends on nothing but the masks: no bit depends on the rest of the stack
or on the number of threads.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from stackalign.backends import _lags
from stackalign.backends._protocol import FLAT_INSIDE, FLAT_OVERLAP, REACH, Array, Lags, PeakArrays
from stackalign.backends._threads import run
from stackalign.backends.cpu._arguments import read_only
from stackalign_kernels.cpu import masked_ncc as kernels

__all__ = ["first_calls", "masked_ncc", "masked_peaks"]

EXACT = 1 << 19
"""Most pixels whose overlaps transforms in float32 give to the nearest integer: twice as many miss by up to 0.25."""

SINGLE = ("uint8", "uint16", "int16", "float32")
"""Types that float32 holds exactly."""

Moments = NDArray[np.float64]
"""Number of valid pixels, their mean and their deviation."""


class _Images(NamedTuple):
    """Frames (N, D, H, W) with their masks (1 or N, D, H, W), in a type that kernels are compiled for."""

    frames: Array
    masks: NDArray[np.bool_]

    def one(self, k: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Frame and mask number k, or the only one."""
        frame = self.frames[k if len(self.frames) > 1 else 0]
        kind = np.float32 if frame.dtype.name in SINGLE else np.float64
        return read_only(np.asarray(frame, kind)), read_only(self.masks[k if len(self.masks) > 1 else 0])

    def valid(self, k: int) -> NDArray[np.bool_]:
        """What is valid of frame number k."""
        frame, mask = self.one(k)
        valid: NDArray[np.bool_] = mask & np.isfinite(frame)
        return valid


class _Job(NamedTuple):
    """Geometry that images share: lags to compute, the rows and first column where they lie, length of transforms."""

    lags: Lags
    rows: slice
    column: int
    lengths: tuple[int, int]


class _Spectra(NamedTuple):
    """Transforms (D, rows, columns) of the reference, its square and its mask.

    The last three make what is fixed, some of them in float64.
    """

    values: NDArray[np.complex64]
    mask: NDArray[np.complex64]
    fixed_mask: NDArray[Any]
    fixed_values: NDArray[Any]
    fixed_squares: NDArray[Any]


class _Fixed(NamedTuple):
    """What two masks and the reference make: overlap, and the reference's mean and squared deviations in it."""

    n: NDArray[np.int32]
    mean: NDArray[np.float32]
    variance: NDArray[np.float32]


class _Varying(NamedTuple):
    """Products, sums and sums of squares of the moving image; the sums may be one row that stands for all."""

    rv: NDArray[np.float32]
    v: NDArray[np.float32]
    vv: NDArray[np.float32]


class _Planes(NamedTuple):
    """All that the scores of an image are made of, over the lags of a job."""

    fixed: _Fixed
    varying: _Varying
    flat: tuple[np.float32, np.float32]


def _images(frames: Array, mask: Array | None) -> _Images:
    return _Images(frames, np.ones((1, *frames.shape[1:]), np.bool_) if mask is None else mask)


def _forward(planes: NDArray[Any], rows: int) -> NDArray[Any]:
    """Transform planes that are padded along x already."""
    half = fft.rfft(planes, axis=-1)
    full = np.zeros((*half.shape[:-2], rows, half.shape[-1]), half.dtype)
    full[..., : half.shape[-2], :] = half
    return np.asarray(fft.fft(full, axis=-2, overwrite_x=True))


def _back(a: NDArray[Any], b: NDArray[Any], job: _Job) -> NDArray[Any]:
    """Multiply spectra, add the planes up, and go back to the rows of the job."""
    product = np.empty_like(a[0])
    kernels.multiplied(a, b, product)
    half = fft.ifft(product, axis=-2, overwrite_x=True)[job.rows]
    return np.asarray(fft.irfft(half, job.lengths[1], axis=-1, overwrite_x=True))


class _Pairs:
    """Images against one reference, or against one each.

    The arguments are those of `Backend.masked_ncc`; lags up to `margin` beyond the window are computed as well.
    """

    def __init__(
        self,
        reference: Array,
        reference_mask: Array | None,
        moving: Array,
        moving_mask: Array | None,
        lags: Lags,
        overlap_ratio: float,
        margin: int,
    ) -> None:
        self.reference, self.moving = _images(reference, reference_mask), _images(moving, moving_mask)
        self.lags, self.overlap_ratio = lags, overlap_ratio
        self.depth, *shape = reference.shape[1:]
        self.shape, self.small = (shape[0], shape[1]), (moving.shape[2], moving.shape[3])
        self.one_reference = len(reference) == 1 and len(self.reference.masks) == 1
        self.margin = margin
        self.possible = _lags.possible(self.shape, self.small)
        self.contained = _lags.contained(self._wide(lags), self.shape, self.small)
        self.count = self.depth * min(self.shape[0] * self.shape[1], self.small[0] * self.small[1])

    def _wide(self, lags: Lags) -> Lags:
        return _lags.widened(lags, self.margin, self.shape, self.small)

    def run(self, workers: int, consume: Callable[[int, _Job, _Planes], None]) -> None:
        """Call consume(k, job, planes) for every image."""
        r_moments, v_moments = self._moments(self.reference, workers), self._moments(self.moving, workers)
        shared = np.count_nonzero(self.moving.masks[0])
        own = (v_moments[:, 0] != shared) | (len(self.moving.masks) > 1)
        for lags, members in self._groups(own).items():
            job = self._job(self._wide(lags))
            spectra = self._spectra(0, r_moments[0], job) if self.one_reference else None
            fixed = None
            if spectra is not None and not own[members].all():
                fixed = self._fixed(spectra, self.moving.masks[0], job)

            def task(
                start: int,
                stop: int,
                members: NDArray[np.int64] = members,
                job: _Job = job,
                spectra: _Spectra | None = spectra,
                fixed: _Fixed | None = fixed,
            ) -> None:
                for k in members[start:stop].tolist():
                    r = r_moments[k if len(r_moments) > 1 else 0]
                    shared_sums = fixed if not own[k] else None
                    consume(k, job, self._planes(k, r, v_moments[k], job, spectra, shared_sums))

            run(task, len(members), workers)

    def _moments(self, images: _Images, workers: int) -> Moments:
        n = max(len(images.frames), len(images.masks))
        out = np.empty((n, 3))

        def task(start: int, stop: int) -> None:
            for k in range(start, stop):
                out[k] = kernels.moments(*images.one(k))

        run(task, n, workers)
        return out

    def _groups(self, own: NDArray[np.bool_]) -> dict[Lags, NDArray[np.int64]]:
        """Images by the lags that can have enough overlap."""
        groups: dict[Lags, list[int]] = {}
        lag = _lags.anchor(self.lags)
        reference = self.reference.valid(0) if self.one_reference else None
        common: Lags | None = None
        for k in range(len(own)):
            lags = common
            if lags is None or own[k]:
                r = self.reference.valid(k) if reference is None else reference
                v = self.moving.valid(k) if own[k] else self.moving.masks[0]
                least = self.overlap_ratio * int(_lags.overlap_at(np, r[None], v[None], lag)[0])
                lags = _lags.supported(self.lags, self.shape, self.small, self.depth, least)
                if reference is not None and not own[k]:
                    common = lags
            groups.setdefault(lags, []).append(k)
        return {lags: np.array(members) for lags, members in groups.items()}

    def _job(self, lags: Lags) -> _Job:
        top = lags.low_y - self.possible.low_y
        lengths = _lags.lengths(lags, self.shape, self.small)
        return _Job(lags, slice(top, top + lags.shape[0]), lags.low_x - self.possible.low_x, lengths)

    def _mask_spectra(self, mask: NDArray[Any], job: _Job) -> tuple[NDArray[Any], NDArray[Any]]:
        """Transform a mask as it is: in float32, and in the precision that overlaps take."""
        padded = np.zeros((*mask.shape[:-1], job.lengths[1]), np.float32)
        padded[..., : mask.shape[-1]] = mask
        single = _forward(padded, job.lengths[0])
        if self.count <= EXACT and not self.contained:
            return single, single
        return single, _forward(padded.astype(np.float64), job.lengths[0])

    def _standardised(
        self, images: _Images, k: int, moments: Moments, job: _Job, turned: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Values and squares, (2, D, rows, padded columns), and their sums."""
        frame, mask = images.one(k)
        planes = np.zeros((2, *frame.shape[:-1], job.lengths[1]), np.float32)
        sums = np.zeros(2)
        for d in range(self.depth):
            sums += kernels.standardised(frame[d], mask[d], turned, moments[1], moments[2], planes[0, d], planes[1, d])
        return planes, sums

    def _spectra(self, k: int, moments: Moments, job: _Job) -> _Spectra:
        """Transform a reference."""
        planes, _ = self._standardised(self.reference, k, moments, job, turned=False)
        masks = self._mask_spectra(self.reference.valid(k), job)
        values, squares = _forward(planes, job.lengths[0])
        if not self.contained:
            return _Spectra(values, *masks, values, squares)
        return _Spectra(values, *masks, *_forward(planes.astype(np.float64), job.lengths[0]))

    def _fixed(self, r: _Spectra, valid: NDArray[np.bool_], job: _Job) -> _Fixed:
        single, double = self._mask_spectra(valid[:, ::-1, ::-1], job)
        mask = double if self.contained else single
        overlap = _back(r.fixed_mask, double, job)
        # Of one type, so that kernels are compiled for two cases and not for three.
        sums, squares = (
            _back(a, mask, job).astype(overlap.dtype, copy=False) for a in (r.fixed_values, r.fixed_squares)
        )
        shape = overlap.shape
        fixed = _Fixed(np.empty(shape, np.int32), np.empty(shape, np.float32), np.empty(shape, np.float32))
        kernels.overlap_moments(overlap, sums, squares, *fixed)
        return fixed

    def _planes(
        self, k: int, r_moments: Moments, v_moments: Moments, job: _Job, spectra: _Spectra | None, fixed: _Fixed | None
    ) -> _Planes:
        """Transform an image and correlate it, with what is known already."""
        r = self._spectra(k, r_moments, job) if spectra is None else spectra
        planes, sums = self._standardised(self.moving, k, v_moments, job, turned=True)
        if fixed is None:
            fixed = self._fixed(r, self.moving.valid(k), job)
        fewer = min(r_moments[0], v_moments[0])
        flat = np.float32((FLAT_INSIDE if self.contained else FLAT_OVERLAP) * fewer), np.float32(FLAT_OVERLAP * fewer)
        # Sums over small images that lie within a large one without a mask are the same everywhere.
        if self.contained and r_moments[0] == self.depth * self.shape[0] * self.shape[1]:
            values = _forward(planes[0], job.lengths[0])
            v, vv = (np.full((1, job.lengths[1]), x, np.float32) for x in sums)
            return _Planes(fixed, _Varying(_back(values, r.values, job), v, vv), flat)
        values, squares = _forward(planes, job.lengths[0])
        varying = _Varying(_back(values, r.values, job), _back(values, r.mask, job), _back(squares, r.mask, job))
        return _Planes(fixed, varying, flat)

    def least(self, planes: _Planes, job: _Job) -> np.int32:
        """Overlap from which a lag of the window counts: always some."""
        within = _lags.intersection(job.lags, self.lags)
        n = planes.fixed.n[_within(within, job)]
        return np.int32(max(1, int(np.ceil(self.overlap_ratio * int(n.max())))))


def _within(lags: Lags, job: _Job) -> tuple[slice, slice]:
    """Where lags lie in the planes of a job."""
    y, x = lags.low_y - job.lags.low_y, job.column + lags.low_x - job.lags.low_x
    return slice(y, y + lags.shape[0]), slice(x, x + lags.shape[1])


def _score(planes: _Planes, lags: Lags, job: _Job, least: np.int32) -> NDArray[np.float32]:
    """Scores of some lags of a job."""
    rows, columns = _within(lags, job)
    out = np.empty(lags.shape, np.float32)
    fixed = tuple(a[rows] for a in planes.fixed)
    varying = tuple(a[rows] if len(a) > 1 else a for a in planes.varying)
    kernels.maps(fixed, varying, columns.start, least, planes.flat, out)
    return out


def masked_ncc(
    reference: Array,
    reference_mask: Array | None,
    moving: Array,
    moving_mask: Array | None,
    lags: Lags,
    overlap_ratio: float,
    workers: int,
) -> Array:
    """See `Backend.masked_ncc`."""
    pairs = _Pairs(reference, reference_mask, moving, moving_mask, lags, overlap_ratio, 0)
    out = np.zeros((len(moving), *lags.shape), np.float32)

    def keep(k: int, job: _Job, planes: _Planes) -> None:
        y, x = job.lags.low_y - lags.low_y, job.lags.low_x - lags.low_x
        rows, columns = job.lags.shape
        out[k, y : y + rows, x : x + columns] = _score(planes, job.lags, job, pairs.least(planes, job))

    pairs.run(workers, keep)
    return out


def masked_peaks(
    reference: Array,
    reference_mask: Array | None,
    moving: Array,
    moving_mask: Array | None,
    lags: Lags,
    overlap_ratio: float,
    workers: int,
) -> PeakArrays:
    """See `Backend.masked_peaks`."""
    pairs = _Pairs(reference, reference_mask, moving, moving_mask, lags, overlap_ratio, REACH)
    n, side = len(moving), 2 * REACH + 1
    result = PeakArrays(
        np.empty((n, 2), np.int64),
        np.zeros(n, np.float32),
        np.zeros(n, np.int64),
        np.full((n, side, side), np.nan, np.float32),
        np.full((n, max(lags.shape)), -2.0, np.float32),
    )

    def keep(k: int, job: _Job, planes: _Planes) -> None:
        inner = _lags.intersection(job.lags, lags)
        scores = _score(planes, inner, job, pairs.least(planes, job))
        row, column = kernels.highest(scores)
        result.peaks[k] = scores[row, column]
        if not result.peaks[k] > 0.0:
            result.lags[k], result.peaks[k] = _lags.anchor(lags), 0.0
            return
        peak = Lags(row + inner.low_y, column + inner.low_x, row + inner.low_y, column + inner.low_x)
        rows, columns = _within(peak, job)
        result.lags[k] = peak[:2]
        result.overlap[k] = planes.fixed.n[rows.start, columns.start]
        around = _lags.intersection(_lags.grown(peak, REACH), job.lags)
        y, x = around.low_y - peak.low_y + REACH, around.low_x - peak.low_x + REACH
        near = _score(planes, around, job, np.int32(1))
        result.neighbours[k, y : y + near.shape[0], x : x + near.shape[1]] = near
        kernels.ring_maxima(scores, row, column, result.rings[k])
        _lags.add_unsupported_rings(result.rings[k], peak, inner, lags)

    pairs.run(workers, keep)
    return result


def first_calls(dtype: np.dtype[Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls, without `workers`, for which all kernels of this file are compiled for a type of pixels."""
    image = (np.arange(64) % 7).astype(dtype).reshape(1, 1, 8, 8)
    small = image[:, :, 2:6, 2:6].copy()
    yield "masked_peaks", (image, None, image, None, Lags(-1, -1, 1, 1), 0.3)
    yield "masked_ncc", (image, None, small, None, Lags(0, 0, 2, 2), 0.3)  # contained: sums in float64
