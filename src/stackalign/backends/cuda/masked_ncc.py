# SPDX-License-Identifier: BSD-3-Clause
"""Masked correlation on a GPU: batched transforms, and kernels after them; on NumPy where kernels run on the host."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stackalign.backends import _lags
from stackalign.backends._protocol import FLAT_INSIDE, FLAT_OVERLAP, REACH, Array, Lags, PeakArrays

from ._running_sums import covered_sums
from ._runtime import MAX_GRID_Y, Runtime
from ._standardised import Stack, standardised

__all__ = ["masked_ncc", "masked_peaks"]

KERNELS = "masked_ncc"
THREADS = 256
RING_THREADS = 64
STRIP = 4096
"""Scores that a block looks through for the highest, at least."""
MAX_STRIPS = 64
EXACT = 1 << 19
"""Most pixels whose overlaps transforms in float32 give to the nearest integer, with room to spare."""
MAX_BYTES = 1 << 30
"""Transforms and planes of the images that are worked on together."""


class _Whole(NamedTuple):
    """Which frames of a group have no invalid pixel, all of them or none."""

    reference: bool
    moving: bool


class _Spectra(NamedTuple):
    """Transforms (N, D, rows, columns) of references, and of their masks where they have one.

    `fixed` are mask, values and squares once more, some of them in float64, for what is fixed; only where the moving
    images have masks.
    """

    values: Array
    mask: Array | None
    fixed: tuple[Array, Array, Array] | None


class _Geometry(NamedTuple):
    """What a group of images has in common: the lags that are computed, the length of transforms, and what is whole."""

    lags: Lags
    lengths: tuple[int, int]
    whole: _Whole


class _Known(NamedTuple):
    """What images of one geometry share: the reference's transforms, and what it makes with a mask for all of them."""

    reference: _Spectra
    fixed: tuple[Array, Array, Array]


class _Batch(NamedTuple):
    """Images of one geometry: their numbers, the lags that are computed, and where those lie in the planes."""

    members: NDArray[np.int64]
    lags: Lags
    row: int
    column: int
    planes: tuple[Any, ...]
    """The first eleven arguments of the kernels."""


def _forward(rt: Runtime, planes: Array, lengths: tuple[int, int], turned: bool) -> Array:
    step = -1 if turned else 1
    return rt.fft.rfft2(planes[..., ::step, ::step], lengths)


class _Pairs:
    """Images against one reference, or against one each; the arguments of `Backend.masked_ncc`."""

    def __init__(
        self,
        rt: Runtime,
        reference: Array,
        reference_mask: Array | None,
        moving: Array,
        moving_mask: Array | None,
        lags: Lags,
        overlap_ratio: float,
        margin: int,
    ) -> None:
        self.rt = rt
        self.reference, self.reference_mask = reference, reference_mask
        self.moving, self.moving_mask = moving, moving_mask
        self.lags, self.overlap_ratio, self.margin = lags, overlap_ratio, margin
        self.depth = int(reference.shape[1])
        self.shape = int(reference.shape[2]), int(reference.shape[3])
        self.small = int(moving.shape[2]), int(moving.shape[3])
        self.possible = _lags.possible(self.shape, self.small)
        self.contained = _lags.contained(self._wide(lags), self.shape, self.small)
        self.pixels = self.depth * self.shape[0] * self.shape[1], self.depth * self.small[0] * self.small[1]
        self.exact = self.contained or min(self.pixels) > EXACT
        self.one_reference = len(reference) == 1 and (reference_mask is None or len(reference_mask) == 1)

    def _wide(self, lags: Lags) -> Lags:
        return _lags.widened(lags, self.margin, self.shape, self.small)

    def batches(self) -> Iterator[_Batch]:
        """Yield images in batches that fit the memory, with their planes."""
        n = len(self.moving)
        whole = _lags.lengths(self.lags, self.shape, self.small)
        per_image = whole[0] * whole[1] * 4 * (6 * self.depth + 16)
        chunk = max(1, min(MAX_BYTES // per_image, MAX_GRID_Y))  # images are the second axis of grids
        common = standardised(self.rt, self.reference, self.reference_mask) if self.one_reference else None
        known: dict[tuple[Lags, _Whole], _Known] = {}
        for first in range(0, n, chunk):
            here = slice(first, min(first + chunk, n))
            moving = standardised(self.rt, self.moving[here], _part(self.moving_mask, here))
            reference = common or standardised(self.rt, _part(self.reference, here), _part(self.reference_mask, here))
            yield from self._grouped(first, reference, moving, known)

    def _grouped(
        self, first: int, reference: Stack, moving: Stack, known: dict[tuple[Lags, _Whole], _Known]
    ) -> Iterator[_Batch]:
        """Yield the images of a chunk by the lags that can have enough overlap, and by the masks that they have."""
        shared = self._shared_mask()
        at_anchor, counts, references, common = self._counts(reference, moving, shared)
        alike = self.one_reference and shared is not None
        groups: dict[tuple[Lags, _Whole, bool], list[int]] = {}
        for k, (n, count) in enumerate(zip(at_anchor, counts, strict=True)):
            lags = _lags.supported(self.lags, self.shape, self.small, self.depth, self.overlap_ratio * n)
            own = references[k if len(references) > 1 else 0]
            whole = _Whole(own == self.pixels[0], count == self.pixels[1])
            groups.setdefault((lags, whole, alike and count == common), []).append(k)
        for (lags, whole, same_mask), members in groups.items():
            wide = self._wide(lags)
            geometry = _Geometry(wide, _lags.lengths(wide, self.shape, self.small), whole)
            chosen = _selection(self.rt, np.array(members))
            r_stack = reference if self.one_reference else Stack(*(a[chosen] for a in reference))
            v_stack = Stack(*(a[chosen] for a in moving))
            fixed = None
            if same_mask:
                if (lags, whole) not in known:
                    spectra = self._spectra(r_stack, geometry)
                    known[lags, whole] = _Known(spectra, self._fixed(r_stack, spectra, shared, geometry))
                r, fixed = known[lags, whole]
            else:
                r = known[lags, whole].reference if (lags, whole) in known else self._spectra(r_stack, geometry)
            yield self._batch(np.array(members) + first, geometry, (r_stack, r, fixed), v_stack)

    def _counts(
        self, reference: Stack, moving: Stack, shared: Array | None
    ) -> tuple[list[int], list[int], list[int], int]:
        """Overlaps at the anchor, valid pixels of each image and reference, and of the mask that images share.

        They come by one copy.
        """
        overlaps = _lags.overlap_at(self.rt.xp, reference.valid, moving.valid, _lags.anchor(self.lags))
        parts = [overlaps, moving.count, reference.count] + ([] if shared is None else [shared.sum().reshape(1)])
        numbers = self.rt.to_numpy(self.rt.xp.concatenate(parts)).tolist()
        n, m = len(moving.count), len(reference.count)
        return numbers[:n], numbers[n : 2 * n], numbers[2 * n : 2 * n + m], -1 if shared is None else numbers[-1]

    def _shared_mask(self) -> Array | None:
        """Return the mask (1, D, h, w) of all moving images that have no invalid pixels of their own."""
        if self.moving_mask is None:
            return self.rt.xp.ones((1, self.depth, *self.small), np.bool_)
        return self.moving_mask if len(self.moving_mask) == 1 else None

    def _mask_spectra(self, valid: Array, lengths: tuple[int, int], turned: bool) -> tuple[Array, Array]:
        """Transform masks: in float32, and in the precision that overlaps take."""
        mask = _forward(self.rt, valid.astype(np.float32), lengths, turned)
        return mask, _forward(self.rt, valid.astype(np.float64), lengths, turned) if self.exact else mask

    def _spectra(self, stack: Stack, geometry: _Geometry) -> _Spectra:
        lengths, whole = geometry.lengths, geometry.whole
        values = _forward(self.rt, stack.values, lengths, False)
        if whole.reference and whole.moving:
            return _Spectra(values, None, None)
        mask, exact_mask = self._mask_spectra(stack.valid, lengths, False)
        if whole.moving:
            return _Spectra(values, mask, None)
        kind = np.float64 if self.contained else np.float32
        again = _forward(self.rt, stack.values.astype(kind), lengths, False) if self.contained else values
        squares = _forward(self.rt, (stack.values * stack.values).astype(kind), lengths, False)
        return _Spectra(values, mask, (exact_mask, again, squares))

    def _covered(self, planes: Sequence[Array], geometry: _Geometry, turned: bool) -> Array:
        """Sums over what the other frame covers, one (N, rows, columns) for each of planes; see `covered_sums`."""
        out = self.rt.xp.zeros((len(planes), len(planes[0]), *geometry.lengths))
        lags = geometry.lags
        y, x = lags.low_y - self.possible.low_y, lags.low_x - self.possible.low_x
        window = out[:, :, y : y + lags.shape[0], x : x + lags.shape[1]]
        after = np.subtract(self.shape, self.small).tolist() if turned else (0, 0)
        covered_sums(self.rt.xp, [p[..., ::-1, ::-1] if turned else p for p in planes], lags, self.small, after, window)
        return out

    def _back(self, a: Array, b: Array, lengths: tuple[int, int]) -> Array:
        """Multiply spectra, add the planes up, and go back."""
        product = a[:, 0] * b[:, 0]
        for d in range(1, self.depth):
            product += a[:, d] * b[:, d]
        return self.rt.xp.ascontiguousarray(self.rt.fft.irfft2(product, lengths))

    def _fixed(self, r_stack: Stack, r: _Spectra, valid: Array, geometry: _Geometry) -> tuple[Array, Array, Array]:
        """Overlap, and the reference's mean and squared deviations in it."""
        xp, lengths = self.rt.xp, geometry.lengths
        if r.fixed is None:
            planes = r_stack.valid, r_stack.values, r_stack.values * r_stack.values
            n, sums, squares = self._covered(planes, geometry, False)
        else:
            single, double = self._mask_spectra(valid, lengths, True)
            n = xp.rint(self._back(r.fixed[0], double, lengths))
            mask = double if self.contained else single
            sums, squares = (self._back(a, mask, lengths).astype(np.float64) for a in r.fixed[1:])
        mean = sums / xp.maximum(n, 1)
        variance = squares - mean * sums
        return n.astype(np.int32), mean.astype(np.float32), variance.astype(np.float32)

    def _varying(self, r: _Spectra, moving: Stack, geometry: _Geometry) -> tuple[Array, ...]:
        """Products, sums and sums of squares of the moving images."""
        xp, lengths = self.rt.xp, geometry.lengths
        squares = moving.values * moving.values
        values = _forward(self.rt, moving.values, lengths, True)
        products = self._back(r.values, values, lengths)
        if self.contained and geometry.whole.reference:
            sums = (a.sum(axis=(1, 2, 3), dtype=np.float64) for a in (moving.values, squares))
            return products, *(xp.zeros_like(products) + a[:, None, None].astype(np.float32) for a in sums)
        if geometry.whole.reference:
            return products, *self._covered((moving.values, squares), geometry, True).astype(np.float32)
        squares = _forward(self.rt, squares, lengths, True)
        return products, self._back(r.mask, values, lengths), self._back(r.mask, squares, lengths)

    def _batch(
        self,
        members: NDArray[np.int64],
        geometry: _Geometry,
        reference: tuple[Stack, _Spectra, tuple[Array, Array, Array] | None],
        moving: Stack,
    ) -> _Batch:
        """Correlate images with the reference, with what is known already."""
        xp, lags, lengths = self.rt.xp, geometry.lags, geometry.lengths
        r_stack, r, fixed = reference
        size = lengths[0] * lengths[1]
        if fixed is None:
            fixed = self._fixed(r_stack, r, moving.valid, geometry)
        fixed_step = size if len(fixed[0]) > 1 else 0  # one for all, where no mask is their own
        varying = self._varying(r, moving, geometry)
        row, column = lags.low_y - self.possible.low_y, lags.low_x - self.possible.low_x
        within = _lags.intersection(lags, self.lags)
        y, x = row + within.low_y - lags.low_y, column + within.low_x - lags.low_x
        most = fixed[0][:, y : y + within.shape[0], x : x + within.shape[1]].max(axis=(1, 2))
        least = xp.maximum(xp.ceil(self.overlap_ratio * most), 1).astype(np.int32)
        fewer = xp.minimum(r_stack.count, moving.count)
        limits = FLAT_INSIDE if self.contained else FLAT_OVERLAP, FLAT_OVERLAP
        flat = xp.stack([(limit * fewer).astype(np.float32) for limit in limits], axis=1)
        steps = np.int64(fixed_step), np.int64(size), np.int32(lengths[1])
        planes = (*fixed, *varying, *steps, xp.ascontiguousarray(xp.broadcast_to(least, fewer.shape)), flat)
        return _Batch(members, lags, row, column, planes)


def _selection(rt: Runtime, members: NDArray[np.int64]) -> Any:
    """Index of some images: those that follow each other need nothing on the device."""
    first, last = int(members[0]), int(members[-1]) + 1
    return slice(first, last) if last - first == len(members) else rt.xp.asarray(members)


def _part(x: Array | None, chosen: slice) -> Array | None:
    return x if x is None or len(x) == 1 else x[chosen]


def _score(rt: Runtime, batch: _Batch, lags: Lags, out: Array, first: int, step: int, pitch: int) -> None:
    """Write the scores of some lags of a batch."""
    row, column = batch.row + lags.low_y - batch.lags.low_y, batch.column + lags.low_x - batch.lags.low_x
    height, width = lags.shape
    kernel = rt.get_function(KERNELS, "masked_ncc_scores", None)
    kernel(
        (-(-height * width // THREADS), len(batch.members)),
        (THREADS,),
        (
            *batch.planes,
            *map(np.int32, (row, column, height, width)),
            out,
            np.int64(first),
            np.int64(step),
            np.int32(pitch),
        ),
    )


def masked_ncc(
    rt: Runtime,
    reference: Array,
    reference_mask: Array | None,
    moving: Array,
    moving_mask: Array | None,
    lags: Lags,
    overlap_ratio: float,
    workers: int,
) -> Array:
    """See `Backend.masked_ncc`."""
    pairs = _Pairs(rt, reference, reference_mask, moving, moving_mask, lags, overlap_ratio, 0)
    out = rt.xp.zeros((len(moving), *lags.shape), np.float32)
    height, width = lags.shape
    for batch in pairs.batches():
        maps = rt.xp.zeros((len(batch.members), height, width), np.float32)
        first = (batch.lags.low_y - lags.low_y) * width + batch.lags.low_x - lags.low_x
        _score(rt, batch, batch.lags, maps, first, height * width, width)
        out[_selection(rt, batch.members)] = maps
    return out


def masked_peaks(
    rt: Runtime,
    reference: Array,
    reference_mask: Array | None,
    moving: Array,
    moving_mask: Array | None,
    lags: Lags,
    overlap_ratio: float,
    workers: int,
) -> PeakArrays:
    """See `Backend.masked_peaks`."""
    xp = rt.xp
    pairs = _Pairs(rt, reference, reference_mask, moving, moving_mask, lags, overlap_ratio, REACH)

    def arrays(n: int) -> PeakArrays:
        return PeakArrays(
            xp.empty((n, 2), np.int64),
            xp.empty(n, np.float32),
            xp.empty(n, np.int64),
            xp.empty((n, 2 * REACH + 1, 2 * REACH + 1), np.float32),
            xp.empty((n, max(lags.shape)), np.float32),
        )

    result = arrays(len(moving))
    for batch in pairs.batches():
        peaks = arrays(len(batch.members))
        _find(rt, batch, lags, peaks)
        chosen = _selection(rt, batch.members)
        for whole, part in zip(result, peaks, strict=True):
            whole[chosen] = part
    return result


def _find(rt: Runtime, batch: _Batch, lags: Lags, peaks: PeakArrays) -> None:
    """Find the peaks of a batch."""
    n = len(batch.members)
    inner = _lags.intersection(batch.lags, lags)
    height, width = inner.shape
    scores = rt.xp.empty((n, height, width), np.float32)
    _score(rt, batch, inner, scores, 0, height * width, width)
    n_strips = min(MAX_STRIPS, -(-height * width // STRIP))
    best, place = rt.xp.empty((n, n_strips), np.float32), rt.xp.empty((n, n_strips), np.int32)
    strips = rt.get_function(KERNELS, "masked_ncc_strips", None)
    strips((n_strips, n), (THREADS,), (scores, np.int32(height * width), best, place))
    rings = rt.get_function(KERNELS, "masked_ncc_rings", None)
    numbers = (n_strips, height, width, inner.low_y, inner.low_x, *lags, *_lags.anchor(lags))
    rings(
        (max(lags.shape), n),
        (RING_THREADS,),
        (scores, best, place, *map(np.int32, numbers), peaks.lags, peaks.peaks, peaks.rings),
    )
    neighbours = rt.get_function(KERNELS, "masked_ncc_neighbours", None)
    neighbours(
        (n,),
        (RING_THREADS,),
        (
            *batch.planes,
            *map(np.int32, (batch.row, batch.column, *batch.lags)),
            peaks.lags,
            peaks.peaks,
            np.int32(REACH),
            peaks.overlap,
            peaks.neighbours,
        ),
    )
