"""Masked correlation by real transforms in float32 that are just long enough, and kernels before and after them.

What belongs to the reference alone is transformed once, and what belongs to two fixed masks comes back once: then an
image takes two transforms forward and three back, or three and six where its mask is its own. An image is the work of
one thread, and the length of its transforms depends on nothing but the masks: no bit depends on the rest of the stack
or on the number of threads.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from stackalign_kernels.cpu import masked_ncc as kernels

from . import _lags
from ._protocol import FLAT_OVERLAP, REACH, Array, Lags, PeakArrays
from ._threads import run

__all__ = ["masked_ncc", "masked_peaks"]

EXACT = 1 << 20
"""Most pixels whose overlaps transforms in float32 give to the nearest integer, with room to spare."""

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
        return np.asarray(frame, kind), self.masks[k if len(self.masks) > 1 else 0]

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
    """Transforms (D, rows, columns) of an image, its square and its mask."""

    values: NDArray[np.complex64]
    squares: NDArray[np.complex64]
    mask: NDArray[np.complex64]
    exact_mask: NDArray[Any]


class _Fixed(NamedTuple):
    """What two masks and the reference make: overlap, sums and sums of squares of the reference."""

    n: NDArray[np.int32]
    r: NDArray[np.float32]
    rr: NDArray[np.float32]


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
    product = np.multiply(a[0], b[0])
    for k in range(1, len(a)):
        product += a[k] * b[k]
    half = fft.ifft(product, axis=-2, overwrite_x=True)[job.rows]
    return np.asarray(fft.irfft(half, job.lengths[1], axis=-1, overwrite_x=True))


class _Pairs:
    """Images against one reference, or against one each; the arguments of `Backend.masked_ncc`."""

    def __init__(
        self,
        reference: Array,
        reference_mask: Array | None,
        moving: Array,
        moving_mask: Array | None,
        lags: Lags,
        overlap_ratio: float,
    ) -> None:
        self.reference, self.moving = _images(reference, reference_mask), _images(moving, moving_mask)
        self.lags, self.overlap_ratio = lags, overlap_ratio
        self.depth, *shape = reference.shape[1:]
        self.shape, self.small = (shape[0], shape[1]), (moving.shape[2], moving.shape[3])
        self.one_reference = len(reference) == 1 and len(self.reference.masks) == 1
        inside = Lags(0, 0, self.shape[0] - self.small[0], self.shape[1] - self.small[1])
        self.contained = _lags.intersection(lags, inside) == lags
        self.count = self.depth * min(self.shape[0] * self.shape[1], self.small[0] * self.small[1])

    def run(self, margin: int, workers: int, consume: Callable[[int, _Job, _Planes], None]) -> None:
        """Call consume(k, job, planes) for every image; lags up to `margin` beyond the window are computed as well."""
        r_moments, v_moments = self._moments(self.reference, workers), self._moments(self.moving, workers)
        shared = np.count_nonzero(self.moving.masks[0])
        own = (v_moments[:, 0] != shared) | (len(self.moving.masks) > 1)
        for lags, members in self._groups(own).items():
            wide = _lags.intersection(_lags.grown(lags, margin), _lags.possible(self.shape, self.small))
            job = self._job(wide)
            spectra = self._spectra(self.reference, 0, r_moments[0], job, turned=False) if self.one_reference else None
            fixed = None
            if spectra is not None and not own[members].all():
                fixed = self._fixed(spectra, self._mask_spectra(self.moving.masks[0], job), job)

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
                    given = fixed if not own[k] else None
                    consume(k, job, self._planes(k, r, v_moments[k], job, spectra, given))

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
        first = _lags.possible(self.shape, self.small)
        top = lags.low_y - first.low_y
        lengths = _lags.lengths(lags, self.shape, self.small)
        return _Job(lags, slice(top, top + lags.shape[0]), lags.low_x - first.low_x, lengths)

    def _mask_spectra(self, mask: NDArray[Any], job: _Job) -> tuple[NDArray[Any], NDArray[Any]]:
        """Transform a moving mask: in float32, and in the precision that overlaps take."""
        turned = np.zeros((*mask.shape[:-1], job.lengths[1]), np.float32)
        turned[..., : mask.shape[-1]] = mask[:, ::-1, ::-1]
        single = _forward(turned, job.lengths[0])
        if self.count <= EXACT:
            return single, single
        return single, _forward(turned.astype(np.float64), job.lengths[0])

    def _standardised(self, images: _Images, k: int, moments: Moments, job: _Job, turned: bool) -> NDArray[np.float32]:
        """Values and squares, (2, D, rows, padded columns)."""
        frame, mask = images.one(k)
        planes = np.zeros((2, *frame.shape[:-1], job.lengths[1]), np.float32)
        for d in range(self.depth):
            kernels.standardised(frame[d], mask[d], turned, moments[1], moments[2], planes[0, d], planes[1, d])
        return planes

    def _spectra(self, images: _Images, k: int, moments: Moments, job: _Job, *, turned: bool) -> _Spectra:
        values, squares = _forward(self._standardised(images, k, moments, job, turned), job.lengths[0])
        valid = images.valid(k)
        mask, exact_mask = self._mask_spectra(valid if turned else valid[:, ::-1, ::-1], job)
        return _Spectra(values, squares, mask, exact_mask)

    def _fixed(self, r: _Spectra, mask: tuple[NDArray[Any], NDArray[Any]], job: _Job) -> _Fixed:
        n = np.rint(_back(r.exact_mask, mask[1], job)).astype(np.int32)
        return _Fixed(n, _back(r.values, mask[0], job), _back(r.squares, mask[0], job))

    def _planes(
        self, k: int, r_moments: Moments, v_moments: Moments, job: _Job, spectra: _Spectra | None, fixed: _Fixed | None
    ) -> _Planes:
        """Transform an image and correlate it, with what is known already."""
        r = self._spectra(self.reference, k, r_moments, job, turned=False) if spectra is None else spectra
        planes = self._standardised(self.moving, k, v_moments, job, turned=True)
        values, squares = _forward(planes, job.lengths[0])
        if fixed is None:
            fixed = self._fixed(r, self._mask_spectra(self.moving.valid(k), job), job)
        varying = _Varying(_back(values, r.values, job), _back(values, r.mask, job), _back(squares, r.mask, job))
        flat = tuple(np.float32(FLAT_OVERLAP * m[0] * (m[2] > 0.0)) for m in (r_moments, v_moments))
        return _Planes(fixed, varying, (flat[0], flat[1]))

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
    pairs = _Pairs(reference, reference_mask, moving, moving_mask, lags, overlap_ratio)
    out = np.zeros((len(moving), *lags.shape), np.float32)

    def keep(k: int, job: _Job, planes: _Planes) -> None:
        y, x = job.lags.low_y - lags.low_y, job.lags.low_x - lags.low_x
        rows, columns = job.lags.shape
        out[k, y : y + rows, x : x + columns] = _score(planes, job.lags, job, pairs.least(planes, job))

    pairs.run(0, workers, keep)
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
    pairs = _Pairs(reference, reference_mask, moving, moving_mask, lags, overlap_ratio)
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

    pairs.run(REACH, workers, keep)
    return result
