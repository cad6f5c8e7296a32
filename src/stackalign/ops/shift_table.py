"""Scores of sub-pixel shifts in closed form: bilinear weights are the same for all pixels of a shifted image."""

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign.backends import backend_for
from stackalign.backends._protocol import FLAT, SHIFT_TAPS

from . import _check
from .correlate import ImagePair
from .transfer import asarray

__all__ = ["BestShift", "ShiftTable", "shift_table"]

WHOLE = 1e-9
"""Pixels from a whole number within which a shift is taken as whole: rounding of decimal fractions is much smaller."""


class _Case(NamedTuple):
    """Shifts that take the same taps: which they are, and where their sums stand."""

    taps: tuple[tuple[int, int], ...]
    columns: slice


def _cases() -> dict[tuple[bool, bool], _Case]:
    """By whether the shift has a fraction along y and along x."""
    cases, start = {}, 0
    for taps in SHIFT_TAPS:
        t = len(taps)
        stop = start + 3 + 2 * t + t * (t + 1) // 2
        key = any(y for y, _ in taps), any(x for _, x in taps)
        cases[key] = _Case(taps, slice(start, stop))
        start = stop
    return cases


CASES = _cases()


def _weights(taps: tuple[tuple[int, int], ...], fy: NDArray[Any], fx: NDArray[Any]) -> NDArray[np.float64]:
    """Bilinear weights of the taps, (..., T)."""
    return np.stack([(fy if y else 1.0 - fy) * (fx if x else 1.0 - fx) for y, x in taps], axis=-1)


def _products(w: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of the sums of T_i*T_j in the sum of squares, (..., T*(T+1)/2)."""
    pairs = combinations_with_replacement(range(w.shape[-1]), 2)
    return np.stack([w[..., i] * w[..., j] * (1.0 if i == j else 2.0) for i, j in pairs], axis=-1)


def _pearson(n: Any, r: Any, rr: Any, v: Any, rv: Any, vv: Any) -> NDArray[np.float64]:
    """Coefficient of the sums, as `Backend` says under "Score"."""
    count = np.maximum(n, 1.0)
    mean_r = r / count
    var_r = rr - mean_r * r
    var_v = vv - v * v / count
    defined = (n > 0) & (var_r > FLAT * rr) & (var_v > FLAT * vv)
    scale = np.where(defined, var_r * var_v, 1.0)
    score: NDArray[np.float64] = np.where(defined, (rv - mean_r * v) / np.sqrt(scale), 0.0)
    return score.clip(-1.0, 1.0)


class BestShift(NamedTuple):
    """The best shift of a lattice, (2,) or (B, 2), and its score, a number or (B,)."""

    shift: NDArray[np.float64]
    score: Any


@dataclass(frozen=True)
class ShiftTable:
    """Sums from which the score of any shift of a pair follows; made by `shift_table`. NumPy arrays on the host.

    Parameters
    ----------
    sums : numpy.ndarray
        (B, 2 * Ry + 1, 2 * Rx + 1, S), as `Backend.shift_sums` gives them.
    max_shift : tuple of int
        Largest shifts (Ry, Rx), in pixels.
    shape : tuple of int
        (H, W) of the reference.
    single : bool
        The pair was given as two images: results come without the axis B.
    """

    sums: NDArray[np.float64]
    max_shift: tuple[int, int]
    shape: tuple[int, int]
    single: bool

    def _shifts(self, shifts: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Whole part and fraction, (B, K, 2), of where shifts sample."""
        s: NDArray[np.float64] = asarray(shifts, "cpu", np.float64)
        problems = len(self.sums)
        if s.ndim not in (2, 3) or s.shape[-1] != 2 or (s.ndim == 3 and len(s) != problems):
            expected = "(K, 2)" if self.single else f"(K, 2) or ({problems}, K, 2)"
            msg = f"shifts must have the shape {expected}, got {s.shape}"
            raise ValueError(msg)
        limit = np.array(self.max_shift)
        if not (np.abs(s) <= limit + WHOLE).all():  # false for NaN
            msg = f"shifts must be finite and within max_shift, {self.max_shift} pixels; make a larger table"
            raise ValueError(msg)
        nearest = np.rint(s)
        q = -np.where(np.abs(s - nearest) <= WHOLE, nearest, s)
        whole = np.floor(q)
        q, whole = (np.broadcast_to(a, (problems, *s.shape[-2:])) for a in (q, whole))
        return whole, q - whole

    def _by_case(self, shifts: ArrayLike) -> Iterator[tuple[Any, _Case, NDArray[np.float64], NDArray[np.float64]]]:
        """For each set of taps: where its shifts are among all, the case, its sums (n, S), and the fractions (n, 2)."""
        whole, fraction = self._shifts(shifts)
        index = whole.astype(np.int64) + np.array(self.max_shift)
        broken = fraction > 0
        for (along_y, along_x), case in CASES.items():
            at = np.nonzero((broken[..., 0] == along_y) & (broken[..., 1] == along_x))
            if at[0].size:
                y, x = index[at].T
                yield at, case, self.sums[..., case.columns][at[0], y, x], fraction[at]

    def _result(self, shifts: ArrayLike, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values[0] if self.single and np.ndim(shifts) == 2 else values

    def score(self, shifts: ArrayLike) -> NDArray[np.float64]:
        """Score shifts.

        Parameters
        ----------
        shifts : array_like
            (K, 2), or (B, K, 2) with candidates of their own: ``(dy, dx)`` moves the content of the moving image to
            larger indices, the model "shift" of `stackalign.transforms`. Within `max_shift`; within 1e-9 of a whole
            number, a component is taken as whole.

        Returns
        -------
        numpy.ndarray
            (K,) or (B, K) float64: what `score_affine` gives, but in float64 throughout.

        Raises
        ------
        ValueError
            Shifts of another shape, beyond `max_shift` or not finite.
        """
        scores = np.zeros((len(self.sums), np.shape(shifts)[-2] if np.ndim(shifts) > 1 else 0))
        for at, case, sums, fraction in self._by_case(shifts):
            t = len(case.taps)
            w = _weights(case.taps, fraction[:, 0], fraction[:, 1])
            v = np.einsum("kt,kt->k", w, sums[:, 3 : 3 + t])
            rv = np.einsum("kt,kt->k", w, sums[:, 3 + t : 3 + 2 * t])
            vv = np.einsum("kt,kt->k", _products(w), sums[:, 3 + 2 * t :])
            scores[at] = _pearson(sums[:, 0], sums[:, 1], sums[:, 2], v, rv, vv)
        return self._result(shifts, scores)

    def overlap(self, shifts: ArrayLike) -> NDArray[np.float64]:
        """Share of the reference's pixels that each score is made of.

        Parameters
        ----------
        shifts : array_like
            (K, 2) or (B, K, 2), as for `score`.

        Returns
        -------
        numpy.ndarray
            (K,) or (B, K) float64 in [0, 1].
        """
        counts = np.zeros((len(self.sums), np.shape(shifts)[-2] if np.ndim(shifts) > 1 else 0))
        for at, _, sums, _ in self._by_case(shifts):
            counts[at] = sums[:, 0]
        return self._result(shifts, counts / (self.shape[0] * self.shape[1]))

    def _rows(self, problem: int, row: int, parts: int, least: float) -> NDArray[np.float64]:
        """Scores at the positions ``row + j / parts`` along y and all along x, (parts, (2 * Rx + 1) * parts).

        Beyond the last whole position there is nothing: -inf, as where fewer than `least` pixels overlap.
        """
        columns = self.sums.shape[2]
        scored = np.full((parts, columns, parts), -np.inf)
        inner = np.arange(1, parts) / parts
        zero = np.zeros(1)
        for (along_y, along_x), case in CASES.items():
            if (along_y and row == 2 * self.max_shift[0]) or ((along_y or along_x) and parts == 1):
                continue
            fy, fx = inner if along_y else zero, inner if along_x else zero
            t = len(case.taps)
            w = _weights(case.taps, *np.broadcast_arrays(fy[:, None], fx[None, :]))
            sums = self.sums[problem, row, : columns - 1 if along_x else columns, case.columns]
            # One product of matrices for all cells: the weights are the same in each.
            v, rv = (np.einsum("abt,ct->acb", w, sums[:, i : i + t], optimize=True) for i in (3, 3 + t))
            vv = np.einsum("abt,ct->acb", _products(w), sums[:, 3 + 2 * t :], optimize=True)
            n, r, rr = (sums[None, :, i, None] for i in range(3))
            scores = np.where(n >= least, _pearson(n, r, rr, v, rv, vv), -np.inf)
            scored[slice(1, None) if along_y else slice(0, 1), : sums.shape[0], slice(1, None) if along_x else 0] = (
                scores if along_x else scores[..., 0]
            )
        return scored.reshape(parts, columns * parts)

    def surface(self, step: float = 0.1) -> NDArray[np.float64]:
        """Scores of a lattice of shifts.

        Parameters
        ----------
        step : float
            Distance of the lattice in pixels, 1 divided by a whole number.

        Returns
        -------
        numpy.ndarray
            (Ny, Nx) or (B, Ny, Nx) with ``Ny = 2 * Ry / step + 1``: element [i, j] is the score of the shift
            ``(i * step - Ry, j * step - Rx)``.

        Raises
        ------
        ValueError
            The step is not 1 divided by a whole number.
        """
        parts = _parts(step)
        problems, rows = self.sums.shape[:2]
        size = tuple(2 * m * parts + 1 for m in self.max_shift)
        surface = np.empty((problems, rows * parts, size[1]))
        for b in range(problems):
            for row in range(rows):
                surface[b, row * parts : (row + 1) * parts] = self._rows(b, row, parts, 0.0)[:, : size[1]]
        # Sampling positions run against shifts.
        surface = np.ascontiguousarray(surface[:, size[0] - 1 :: -1, ::-1])
        return surface[0] if self.single else surface

    def argmax(self, step: float = 0.01, *, min_overlap: float = 0.0) -> BestShift:
        """Find the best shift of a lattice: all of it is looked at.

        Parameters
        ----------
        step : float
            Distance of the lattice in pixels, 1 divided by a whole number.
        min_overlap : float
            Least share of the reference's pixels that a score has to be made of: scores of a few pixels are high by
            chance.

        Returns
        -------
        BestShift
            The shift (2,) or (B, 2), and its score; the lowest in (dy, dx) of those that are equally good. NaN and 0
            where no shift has the overlap.

        Raises
        ------
        ValueError
            The step is not 1 divided by a whole number, or the overlap is not in [0, 1].
        """
        parts = _parts(step)
        if not 0.0 <= min_overlap <= 1.0:
            msg = f"min_overlap must be in [0, 1], got {min_overlap}"
            raise ValueError(msg)
        least = min_overlap * self.shape[0] * self.shape[1]
        limit = np.array(self.max_shift)
        shifts, scores = np.full((len(self.sums), 2), np.nan), np.zeros(len(self.sums))
        for b in range(len(self.sums)):
            best = -np.inf
            for row in reversed(range(self.sums.shape[1])):  # from the lowest shift on
                block = self._rows(b, row, parts, least)[::-1, ::-1]
                at = np.unravel_index(int(block.argmax()), block.shape)
                if block[at] > best:
                    best = float(block[at])
                    position = row + (parts - 1 - at[0]) / parts, (block.shape[1] - 1 - at[1]) / parts
                    shifts[b], scores[b] = limit - position, best
        shifts += 0.0  # no -0.0
        return BestShift(shifts[0], float(scores[0])) if self.single else BestShift(shifts, scores)


def _parts(step: float) -> int:
    """Check the step of a lattice and return its inverse."""
    parts = round(1.0 / step) if np.isfinite(step) and 0.0 < step <= 1.0 else 0
    if parts < 1 or abs(parts * step - 1.0) > WHOLE:
        msg = f"step must be 1 pixel divided by a whole number (1, 0.5, 0.1, 0.01, ...), got {step}"
        raise ValueError(msg)
    return parts


def shift_table(pair: ImagePair, max_shift: int | tuple[int, int], *, workers: int | None = None) -> ShiftTable:
    """Tabulate what the scores of all shifts of a pair follow from.

    Parameters
    ----------
    pair : ImagePair
        Made by `prepare_pair`: one pair, or B of them.
    max_shift : int or tuple of int
        Largest shift in whole pixels, or (Ry, Rx); less than the sides of both images.
    workers : int, optional
        Number of CPU threads; one per core by default. Results do not depend on it.

    Returns
    -------
    ShiftTable
        Gives the exact score of any ``(dy, dx)``, fractions of a pixel included, in constant time: see
        `ShiftTable.score`, `ShiftTable.surface` and `ShiftTable.argmax`, the certified global optimum of a lattice.

    Raises
    ------
    ValueError
        `max_shift` is negative, no whole number, or not smaller than the images.

    Notes
    -----
    For a shift, the four bilinear weights are the same for every pixel. Each of the six sums of a score is therefore
    linear or quadratic in them, with coefficients that are correlations of fixed planes at whole-pixel lags: 33
    forward and 47 short inverse transforms, however many shifts are asked for. Shifts that are whole along an axis take
    fewer pixels, which makes more samples valid beside holes, and have sums of their own. Worth it beyond one or two
    thousand candidates; `score_affine` is faster below.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> scene = np.random.default_rng(0).normal(size=(40, 40))
    >>> reference, moving = scene[:32, :32], 3 * scene[2:34, 1:33] + 7  # (2, 1) pixels further up and left
    >>> table = sa.shift_table(sa.prepare_pair(reference, moving), 4)
    >>> shift, score = table.argmax(step=0.1)
    >>> shift, round(score, 3)
    (array([2., 1.]), 1.0)
    """
    backend = backend_for(pair.reference, pair.moving)
    limits = tuple(max_shift) if isinstance(max_shift, tuple | list) else (max_shift, max_shift)
    try:
        y, x = map(operator.index, limits)
    except (TypeError, ValueError):
        y = x = -1
    if y < 0 or x < 0:
        msg = f"max_shift must be a whole number of pixels, 0 or more, or two of them, (y, x), got {max_shift}"
        raise ValueError(msg)
    height, width = (min(a, b) for a, b in zip(pair.reference.shape[1:], pair.moving.shape[1:], strict=True))
    if y >= height or x >= width:
        msg = f"max_shift must be smaller than the images, {height} x {width} pixels, got {max_shift}"
        raise ValueError(msg)
    sums = backend.shift_sums(pair.reference, pair.moving, (y, x), _check.n_workers(workers))
    for case in CASES.values():  # transforms leave a rounding error in counts
        sums[..., case.columns.start] = np.rint(sums[..., case.columns.start])
    return ShiftTable(sums, (y, x), tuple(pair.reference.shape[1:]), pair.single)
