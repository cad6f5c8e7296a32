"""Masked correlation by real transforms in float32 that are just long enough, and kernels before and after them.

What belongs to the reference alone is transformed once, and what belongs to two fixed masks comes back once: then an
image takes two transforms forward and three back, or three and six where its mask is its own. Sums over what a frame
without a mask covers need no transform (`covered_sums`): without any mask, one goes forward and one back. An image is
the work of one thread, and the length of its transforms depends on nothing but the masks: no bit depends on the rest of
the stack or on the number of threads.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stackalign.backends import _lags
from stackalign.backends._protocol import FLAT_INSIDE, FLAT_OVERLAP, REACH, Array, Lags, PeakArrays
from stackalign.backends._threads import run
from stackalign.backends.cpu._arguments import read_only
from stackalign.backends.cpu._correlation import Fixed, Job, Planes, Varying, back, forward, moments_of
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


class _Spectra(NamedTuple):
    """A reference: what is valid, values and squares (2, D, H, padded columns), and transforms (D, rows, columns).

    `values` are those of its values, and `mask` those of its mask, unless no frame has one. `fixed` are those of mask,
    values and squares that make what is fixed, some of them in float64, for moving images with a mask.
    """

    valid: NDArray[np.bool_]
    planes: NDArray[np.float32]
    values: NDArray[np.complex64]
    mask: NDArray[np.complex64] | None
    fixed: tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None


def _images(frames: Array, mask: Array | None) -> _Images:
    return _Images(frames, np.ones((1, *frames.shape[1:]), np.bool_) if mask is None else mask)


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
        self.pixels = self.depth * self.shape[0] * self.shape[1], self.depth * self.small[0] * self.small[1]

    def _wide(self, lags: Lags) -> Lags:
        return _lags.widened(lags, self.margin, self.shape, self.small)

    def run(self, workers: int, consume: Callable[[int, Job, Planes], None]) -> None:
        """Call consume(k, job, planes) for every image."""
        r_moments, v_moments = self._moments(self.reference, workers), self._moments(self.moving, workers)
        shared = np.count_nonzero(self.moving.masks[0])
        own = (v_moments[:, 0] != shared) | (len(self.moving.masks) > 1)
        for lags, members in self._groups(own).items():
            job = self._job(self._wide(lags))
            spectra, fixed = None, None
            if self.one_reference:
                masked = bool((v_moments[members, 0] < self.pixels[1]).any())
                spectra = self._spectra(0, r_moments[0], job, masked)
                if not own[members].all():
                    fixed = self._fixed(spectra, self.moving.masks[0], job)

            def task(
                start: int,
                stop: int,
                members: NDArray[np.int64] = members,
                job: Job = job,
                spectra: _Spectra | None = spectra,
                fixed: Fixed | None = fixed,
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

    def _job(self, lags: Lags) -> Job:
        top = lags.low_y - self.possible.low_y
        lengths = _lags.lengths(lags, self.shape, self.small)
        return Job(lags, slice(top, top + lags.shape[0]), lags.low_x - self.possible.low_x, lengths)

    def _mask_spectra(self, mask: NDArray[Any], job: Job) -> tuple[NDArray[Any], NDArray[Any]]:
        """Transform a mask as it is: in float32, and in the precision that overlaps take."""
        padded = np.zeros((*mask.shape[:-1], job.lengths[1]), np.float32)
        padded[..., : mask.shape[-1]] = mask
        single = forward(padded, job.lengths[0])
        if min(self.pixels) <= EXACT and not self.contained:
            return single, single
        return single, forward(padded.astype(np.float64), job.lengths[0])

    def _standardised(
        self, images: _Images, k: int, moments: Moments, job: Job, turned: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Values and squares, (2, D, rows, padded columns), and their sums."""
        frame, mask = images.one(k)
        planes = np.zeros((2, *frame.shape[:-1], job.lengths[1]), np.float32)
        sums = np.zeros(2)
        for d in range(self.depth):
            sums += kernels.standardised(frame[d], mask[d], turned, moments[1], moments[2], planes[0, d], planes[1, d])
        return planes, sums

    def _spectra(self, k: int, moments: Moments, job: Job, masked: bool) -> _Spectra:
        """Transform a reference, for moving images of which some are `masked` or none is."""
        planes, _ = self._standardised(self.reference, k, moments, job, turned=False)
        valid = self.reference.valid(k)
        if not masked:
            mask = None if valid.all() else self._mask_spectra(valid, job)[0]
            return _Spectra(valid, planes, forward(planes[0], job.lengths[0]), mask, None)
        single, double = self._mask_spectra(valid, job)
        values, squares = forward(planes, job.lengths[0])
        if not self.contained:
            return _Spectra(valid, planes, values, single, (double, values, squares))
        return _Spectra(valid, planes, values, single, (double, *forward(planes.astype(np.float64), job.lengths[0])))

    def _covered(self, planes: NDArray[Any], turned: bool, job: Job) -> NDArray[np.float64]:
        """Sums of planes of the reference, or of the moving image `turned`, over all that the other frame covers."""
        frame, missing = self.small if turned else self.shape, np.subtract(self.shape, self.small)
        after = (int(missing[0]), int(missing[1])) if turned else (0, 0)
        out = np.zeros((job.lags.shape[0], job.lengths[1]))
        window = out[:, job.column : job.column + job.lags.shape[1]]
        kernels.covered_sums(planes, frame[1], job.lags[:2], self.small, after, window)
        return out

    def _counts(self, valid: NDArray[np.bool_], job: Job) -> NDArray[np.float64]:
        """Pixels of the reference that a moving image without a mask covers."""
        if not valid.all():
            return self._covered(valid.astype(np.float32), False, job)
        rows, columns = (
            np.minimum(self.shape[i], lags + self.small[i]) - np.maximum(0, lags)
            for i, lags in enumerate(np.arange(job.lags[i], job.lags[i + 2] + 1) for i in (0, 1))
        )
        out = np.zeros((len(rows), job.lengths[1]))
        out[:, job.column : job.column + len(columns)] = np.outer(self.depth * rows, columns)
        return out

    def _fixed(self, r: _Spectra, valid: NDArray[np.bool_], job: Job) -> Fixed:
        """Sums of the reference over the `valid` pixels of a moving image."""
        if valid.all():  # not: if no other image of the stack has a mask
            sums, squares = (self._covered(p, False, job) for p in r.planes)
            return moments_of(self._counts(r.valid, job), sums, squares)
        assert r.fixed is not None
        single, double = self._mask_spectra(valid[:, ::-1, ::-1], job)
        mask = double if self.contained else single
        overlap = back(r.fixed[0], double, job)
        # Of one type, so that kernels are compiled for two cases and not for three.
        sums, squares = (back(a, mask, job).astype(overlap.dtype, copy=False) for a in r.fixed[1:])
        return moments_of(overlap, sums, squares)

    def _planes(
        self, k: int, r_moments: Moments, v_moments: Moments, job: Job, spectra: _Spectra | None, fixed: Fixed | None
    ) -> Planes:
        """Transform an image and correlate it, with what is known already."""
        r = self._spectra(k, r_moments, job, v_moments[0] < self.pixels[1]) if spectra is None else spectra
        planes, sums = self._standardised(self.moving, k, v_moments, job, turned=True)
        if fixed is None:
            fixed = self._fixed(r, self.moving.valid(k), job)
        fewer = min(r_moments[0], v_moments[0])
        flat = np.float32((FLAT_INSIDE if self.contained else FLAT_OVERLAP) * fewer), np.float32(FLAT_OVERLAP * fewer)
        if r_moments[0] == self.pixels[0]:
            rv = back(forward(planes[0], job.lengths[0]), r.values, job)
            if self.contained:  # all of the image, at every lag
                v, vv = (np.full((1, job.lengths[1]), x, np.float32) for x in sums)
            else:
                v, vv = (self._covered(p, True, job).astype(np.float32) for p in planes)
            return Planes(fixed, Varying(rv, v, vv), flat)
        assert r.mask is not None
        values, squares = forward(planes, job.lengths[0])
        varying = Varying(back(values, r.values, job), back(values, r.mask, job), back(squares, r.mask, job))
        return Planes(fixed, varying, flat)

    def least(self, planes: Planes, job: Job) -> np.int32:
        """Overlap from which a lag of the window counts: always some."""
        within = _lags.intersection(job.lags, self.lags)
        n = planes.fixed.n[_within(within, job)]
        return np.int32(max(1, int(np.ceil(self.overlap_ratio * int(n.max())))))


def _within(lags: Lags, job: Job) -> tuple[slice, slice]:
    """Where lags lie in the planes of a job."""
    y, x = lags.low_y - job.lags.low_y, job.column + lags.low_x - job.lags.low_x
    return slice(y, y + lags.shape[0]), slice(x, x + lags.shape[1])


def _score(planes: Planes, lags: Lags, job: Job, least: np.int32) -> NDArray[np.float32]:
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

    def keep(k: int, job: Job, planes: Planes) -> None:
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

    def keep(k: int, job: Job, planes: Planes) -> None:
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
    hole = np.arange(64).reshape(1, 1, 8, 8) > 0
    yield "masked_peaks", (image, None, image, None, Lags(-1, -1, 1, 1), 0.3)
    yield "masked_peaks", (image, hole, image, hole, Lags(-1, -1, 1, 1), 0.3)
    yield "masked_ncc", (image, None, small, None, Lags(0, 0, 2, 2), 0.3)  # contained: sums in float64
