"""The contract of a backend: one method per operation, and the one answer that all backends give.

The public functions in :mod:`stackalign.ops` validate and normalise, so a backend may rely on this:

- ``patterns`` is a C-contiguous array of shape ``(N, H, W)`` in native byte order, of one of `KERNEL_DTYPES`, at home
  in the backend; ``N``, ``H`` and ``W`` are at least 1.
- ``mask`` is ``None`` or a C-contiguous boolean array of the same home, shape ``(1, H, W)`` (shared) or ``(N, H, W)``,
  True = valid. NaN and infinite pixels are invalid whatever the mask says. An invalid pixel contributes nothing.
- ``centers`` (N, 2), ``corners`` (N, 2) and ``fractions`` are on the host: they are a few numbers per pattern.

and owes what the docstrings of the methods say, so that every backend gives the same answer. Several of them speak of:

Distance of a pixel
    ``d2 = fl(fl(dy*dy) + fl(dx*dx))`` in float64, no fused multiply-add, and a pixel belongs to radius i when
    ``d2 <= i*i``.
Affine samples
    For the reference pixel (y, x) the moving image is sampled at ``qy = fl(fl(fl(m00*y) + m02) + fl(m01*x))`` and
    ``qx = fl(fl(fl(m10*y) + m12) + fl(m11*x))`` in float64, no fused multiply-add. For a diagonal matrix the terms of
    the other axis are exactly zero. A sample is valid when ``0 <= qy <= Hm - 1`` and ``0 <= qx <= Wm - 1`` and every
    tap of non-zero weight is valid; the weights are the fractions rounded to float32, and interpolation is float32,
    ``a + w*(b - a)``, first along x, then along y.
Affine samples of planes
    As above, for the float32 planes of `standardise`, with matrices that are first rounded to a grid (`_grid.on_grid`):
    multiples of ``2**-bits`` pixels, of which there are 40 for images of up to 2048 pixels along an axis, one less each
    time that they are twice as long. Positions are then such multiples too, exact in float64 as in 64-bit integers, in
    any order of the operations, and so is what is valid. The fraction may be cut to 32 bits before it is rounded.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ._results import (
    KERNEL_DTYPES,
    Array,
    BinArrays,
    BinSums,
    Lags,
    PeakArrays,
    ScoreArrays,
    StackSums,
    SummaryArrays,
    WindowArrays,
    real_kind,
    sum_kind,
)

if TYPE_CHECKING:
    from ._bins import BinTable

__all__ = [
    "FAR",
    "FLAT",
    "FLAT_INSIDE",
    "FLAT_OVERLAP",
    "GROUP",
    "HOUSEKEEPING",
    "KERNEL_DTYPES",
    "LANES",
    "LEAST_WEIGHT",
    "LINEAR_SUMS",
    "REACH",
    "SHIFT_TAPS",
    "SUBJECTS",
    "Array",
    "Backend",
    "BinArrays",
    "BinSums",
    "Lags",
    "PeakArrays",
    "ScoreArrays",
    "StackSums",
    "SummaryArrays",
    "WindowArrays",
    "real_kind",
    "sum_kind",
]

LANES = 256
LEAST_WEIGHT = 2.0**-8
GROUP = 8
SHIFT_TAPS = (((0, 0), (0, 1), (1, 0), (1, 1)), ((0, 0), (1, 0)), ((0, 0), (0, 1)), ((0, 0),))
"""Pixels (y, x) that a bilinear sample takes: between four of them, and at positions whole along x, y, and both."""
FAR = 1e6
FLAT = 1e-5
FLAT_OVERLAP = 1e-4
FLAT_INSIDE = 1e-8
REACH = 4
LINEAR_SUMS = 42


HOUSEKEEPING = ("unavailable", "owns", "asarray", "to_numpy", "synchronize", "device_of")
"""Methods of `Backend` that are no operations."""

SUBJECTS = {
    "pattern_summary": "radial",
    "radial_cumulative": "radial",
    "second_moments": "moments",
    "crop_windows": "crop",
    "stack_statistics": "statistics",
    "standardise": "standardise",
    "score_affine": "affine_ncc",
    "linearize_affine": "affine_linearize",
    "masked_ncc": "masked_ncc",
    "masked_peaks": "masked_ncc",
    "resample_affine": "affine_resample",
    "bin_mean": "binning",
    "affine_average": "affine_average",
    "bin_sums": "bins",
    "shift_sums": "shift_sums",
}
"""Operation to its subject: the name of the file that holds it, in each backend's folder and among the kernels."""


class Backend(Protocol):
    """What a backend provides: `HOUSEKEEPING`, and the operations, each described here in full."""

    NAME: str

    def unavailable(self) -> str | None:
        """Say in one sentence why the backend cannot be used here, or return None."""
        ...

    def owns(self, x: object, /) -> bool:
        """Tell whether x is an array of this backend's home."""
        ...

    def asarray(self, x: Array, dtype: np.dtype[Any] | None, index: int, /) -> Array:
        """Bring a host array (or an array of the same home) to device number index."""
        ...

    def to_numpy(self, x: Array, /) -> NDArray[Any]:
        """Copy (or view) x as a NumPy array on the host."""
        ...

    def synchronize(self, x: Array, /) -> None:
        """Wait until the work queued on x's device is done."""
        ...

    def device_of(self, x: Array, /) -> str:
        """Name the device of x: "cpu" or "cuda:n"."""
        ...

    def pattern_summary(
        self,
        patterns: Array,
        mask: Array | None,
        centers: NDArray[np.float64] | None,
        fractions: Sequence[float],
        workers: int,
        /,
    ) -> SummaryArrays:
        """Sum, extrema, centre and retention radii of each pattern in one read; `fractions` may be empty.

        Summation order of floating-point moments: Column sums run over y in groups of `GROUP` rows, the last group
        being shorter. Inside a group, from its last row to its first: ``c += p; s += c`` for all rows but the first,
        then ``c += p_first``; then ``S0[x] += c`` and ``S1[x] += y0 * c + s`` with ``y0`` the group's first row (S1 is
        the column sum of y*p). Every operation is float64, separately rounded (no fused multiply-add). Columns are then
        added to `LANES` lane sums, lane ``x % LANES``, in increasing x: ``T += S0[x]; My += S1[x]; Mx += x * S0[x]``,
        and the lanes by halving: ``a[i] += a[i + n/2]``.

        Integers: the total is an exact int64; ``S0`` and ``S1`` are exact int64 per column, converted to float64 and
        added to the lanes of My and Mx as above.

        Radius of a fraction: The smallest integer i with ``C(i) >= fl(fraction * T)``, where C(i) is the sum over the
        pixels of radius i and T the total, both as if summed exactly and then rounded once to float64. If there is
        none, the largest index, ``ceil(largest distance of a pixel)``. A backend may sum in any order where an error
        bound decides the comparison, and settles the undecided patterns exactly (`exact_radius` of the CPU kernels). -1
        where the centre lies farther than `FAR` pixels from the origin.
        """
        ...

    def radial_cumulative(
        self, patterns: Array, mask: Array | None, centers: NDArray[np.float64], n_radii: int, workers: int, /
    ) -> Array:
        """C(i) for i = 0 .. n_radii - 1, (N, n_radii) float64."""
        ...

    def second_moments(
        self, patterns: Array, mask: Array | None, centers: NDArray[np.float64], workers: int, /
    ) -> Array:
        """Sums of p, p*dy*dy, p*dy*dx and p*dx*dx over each pattern, (N, 4) float64.

        dy and dx are the distances of a pixel from the pattern's centre. All is float64, in an order that depends on
        nothing but the shape of a pattern.
        """
        ...

    def crop_windows(
        self,
        patterns: Array,
        mask: Array | None,
        corners: NDArray[np.int64],
        shape: tuple[int, int],
        out: Array | None,
        workers: int,
        /,
    ) -> WindowArrays:
        """Copy the window whose first pixel is corners[n] from each pattern, zeros outside the frame."""
        ...

    def stack_statistics(self, stack: Array, mask: Array | None, workers: int, /) -> StackSums:
        """Per-pixel count, minimum, maximum, mean and M2 over the first axis."""
        ...

    def standardise(self, images: Array, mask: Array | None, smooth: float, workers: int, /) -> Array:
        """Return images (B, H, W) as float32 planes with NaN as the mask, centred and scaled by mean and deviation.

        Both are taken over the valid pixels in float64; an image without variance becomes 0. With `smooth`, the sigma
        of a Gaussian in pixels, each valid pixel is first replaced by the value there of the plane that fits the valid
        pixels around it best, weighted by the Gaussian; an invalid pixel stays invalid.
        """
        ...

    def score_affine(
        self, reference: Array, moving: Array, matrices: NDArray[np.float64], workers: int, /
    ) -> ScoreArrays:
        """Score candidates: planes (B, H, W) and (B, Hm, Wm) of `standardise`, pull matrices (B, K, 2, 3), K >= 1.

        Samples are those of "Affine samples of planes".

        Score: n, r, v, rr, vv and rv are summed over the pixels that are valid in both, in float32 over at most one
        row, about numbers near them where they are far from 0, and in float64 beyond, in an order that depends on
        nothing but the two images and the candidate itself. The score is Pearson's coefficient from these sums, clipped
        to [-1, 1]; 0.0 where n is 0, or where the variance of r or v is not above `FLAT` times its mean square (what
        rounding to float32 leaves of a constant overlap).
        """
        ...

    def masked_ncc(
        self,
        reference: Array,
        reference_mask: Array | None,
        moving: Array,
        moving_mask: Array | None,
        lags: Lags,
        overlap_ratio: float,
        workers: int,
        /,
    ) -> Array:
        """Score every lag of a window, (N, rows, columns) float32.

        `reference` is (1 or N, D, H, W) and `moving` (N, D, h, w), of types of `KERNEL_DTYPES`; a mask has the shape
        of its images, or 1 in place of N. The lags are possible ones, and `overlap_ratio` is in [0, 1].

        Masked correlation: Images are centred and scaled by the mean and deviation of their valid pixels (over all D
        planes together), zero elsewhere. At each lag of a window n, r, v, rr, vv and rv are the sums over the pixels
        that are valid in both, over all planes; n is exact. The score is Pearson's coefficient from these sums,
        float32, clipped to [-1, 1]; 0.0 where n is below ``overlap_ratio`` times its largest value in the window or is
        0, and where the variance of the overlap of either image (its sum of squared deviations from the mean of the
        overlap) is not above `FLAT_OVERLAP` times the number of valid pixels of the image that has fewer. Transforms in
        float32 leave errors of some 1e-7 of that number: below the limit they would show in the third decimal of a
        score, and noise could outdo a match. For the reference the limit is `FLAT_INSIDE` where the moving frame lies
        within its frame at all lags that are computed: its sums are then taken in float64, because parts of a large
        image may vary far less than the whole.
        """
        ...

    def masked_peaks(
        self,
        reference: Array,
        reference_mask: Array | None,
        moving: Array,
        moving_mask: Array | None,
        lags: Lags,
        overlap_ratio: float,
        workers: int,
        /,
    ) -> PeakArrays:
        """Find the highest score of each map of `masked_ncc`; the maps are not kept.

        Highest score: The first of equal ones, by rows. Its neighbours are the scores at the lags around it whatever
        their overlap is, NaN beyond the possible lags. Ring k holds the highest score at the lags of the window whose
        larger distance to it is k, -2 where there is none. Where no score is above 0: the lag nearest to 0, peak and
        overlap 0, NaN, and -2.
        """
        ...

    def resample_affine(
        self,
        images: Array,
        mask: Array | None,
        matrices: NDArray[np.float64],
        shape: tuple[int, int],
        order: int,
        workers: int,
        /,
    ) -> Array:
        """Sample images (1 or M, H, W) through pull matrices (M, 2, 3) as (M, *shape), NaN where not valid.

        Resampled values: `real_kind` of the images is float64 for float64 and float32 for all other types: what comes
        out, and what integers become first. Validity and coordinates are those of "Affine samples"; weights and
        interpolation are of that type. Order 1 is as above. Order 0 takes the pixel ``floor(q + 0.5)``, which is its
        only tap. Order 3 is the cubic B-spline: coefficients in float64 along x, then y, with mirrored borders (the
        mirror passes through the outermost pixels), rounded to the type; the taps ``k-1 .. k+2`` of ``k = floor(q)``
        are mirrored likewise, and are no taps where their weight is zero. For the coefficients alone, invalid pixels
        are interpolated linearly along their row between the nearest valid ones, constant beyond the last; then, in
        rows without any, likewise along the column; and are 0 in an image without any. A result beyond the range of the
        type is NaN.
        """
        ...

    def bin_mean(self, images: Array, mask: Array | None, factors: tuple[int, int], workers: int, /) -> BinArrays:
        """Average the valid pixels of blocks of factors (fy, fx) pixels; what does not fill a block is left out.

        Means of bins: Sums are float64, over y first and then over x, divided by the count and rounded to `real_kind`.
        """

    def affine_average(
        self, images: Array, mask: Array | None, matrices: NDArray[np.float64], workers: int, /
    ) -> Array:
        """Average images (N, H, W) over pull matrices (1 or N, T, 2, 3), as (N, H, W) of `real_kind`.

        Means over transforms: Each of T pull matrices gives a pixel an affine sample, positions as under "Affine
        samples"; one that lies outside has no tap. Taps that are valid count with their bilinear weights, of
        `real_kind`, all others with none. The mean is the weighted sum of all taps of all T samples over the sum of
        their weights, NaN where that is below `LEAST_WEIGHT`.
        """
        ...

    def bin_sums(self, images: Array, mask: Array | None, table: "BinTable", workers: int, /) -> BinSums:
        """Weight, mean and squared deviations of the valid pixels of each bin of images (N, H, W); H*W is P.

        Sums over bins: A table gives each pixel of an image K entries, a bin and a weight w, a multiple of 2**-24 in
        [0, 1]; an invalid pixel has none. Of the entries of each bin, ``bin_weight`` is the sum of w, exact,
        ``bin_mean`` that of w*v divided by it, NaN where it is 0, and ``bin_m2`` that of w*(v - mean)**2, all in
        float64, in an order that depends on nothing but the table.
        """
        ...

    def linearize_affine(
        self,
        reference: Array,
        moving: Array,
        slopes: Array | None,
        matrices: NDArray[np.float64],
        tile: int,
        diagonal: bool,
        workers: int,
        /,
    ) -> Array:
        """Return the sums of a linearization, (B, T, LINEAR_SUMS) float64, for one pull matrix (B, 2, 3) per problem.

        Samples are those of "Affine samples of planes".

        They are taken over tiles of `tile` x `tile` pixels, which run along x, then down, the last ones being smaller;
        0 stands for one tile, the whole image.

        With `slopes`, (B, 2, H, W) float32, gy and gx of a reference pixel are taken from there, and a pixel where one
        is NaN is not valid.

        With `diagonal` the matrices are, and sums that hold a derivative with respect to M01 or M10, and no others, are
        0: what is left of the last 18 are gy*gy times (y*y, y, 1), gy*gx times (y*x, y, x, 1) and gx*gx times
        (x*x, x, 1).

        Slopes: The derivatives (gy, gx) of an affine sample along the axes of the moving image, in float32. Along x,
        the slope of a row is the difference of its two taps; where the weight is zero, and the surface has an edge, it
        is the mean of the differences to the next and from the previous pixel, over those of the two that are inside
        and valid, 0 if neither is. gx is made of the slopes of two rows as the sample is made of their values, and gy
        is the difference of the two rows' values; where the weight along y is zero, gx is the slope of the one row, and
        gy the mean of the differences to the rows next and previous, each interpolated along x, as above.

        Sums of a linearization: Over the pixels that are valid in both, with y and x counted from the middle of the
        reference, ``(H - 1) / 2`` and ``(W - 1) / 2``, and ``J = (gy*y, gy*x, gy, gx*y, gx*x, gx)``, the derivatives of
        v with respect to the numbers of a pull matrix of such coordinates, `LINEAR_SUMS` numbers: n, r, v, rr, vv, rv;
        J; r*J; v*J; and gy*gy, gy*gx and gx*gx, each times (y*y, y*x, y, x*x, x, 1). They are float32 over at most one
        row and float64 beyond; their order depends on nothing but the two images, the matrix and the tile.
        """
        ...

    def shift_sums(
        self, reference: Array, moving: Array, reach: tuple[int, int], workers: int, /
    ) -> NDArray[np.float64]:
        """Sum planes (B, H, W) and (B, Hm, Wm) of `standardise` at the lags -reach .. reach.

        Returns (B, 2 * reach[0] + 1, 2 * reach[1] + 1, S) on the host, the sums of all sets of taps side by side.

        Sums at whole-pixel lags: For each set of taps in `SHIFT_TAPS`, a pixel of the moving image is valid when all
        pixels at these offsets from it are inside and valid; T_i are their values. At lag k, a pair of a valid
        reference pixel p and a valid moving pixel p + k counts; its sums are, in this order: 1, r, r*r, then T_i for
        each tap, r*T_i for each tap, and T_i*T_j for i <= j, j running fastest. Float64 throughout.
        """
        ...
