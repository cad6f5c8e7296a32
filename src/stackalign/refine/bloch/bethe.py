"""Bethe potentials of many tilts: what weak beams, which are folded in, add to the potentials of the strong ones.

They are of second order. Third order, the overlap matrix and the boundary terms of the weak beams were tried against
the full matrix in Si, GaAs, Al, Au and SrTiO3: none of them is closer at all thicknesses. At 0 mrad and 800 angstrom
the largest error of an intensity in Si is 0.049 in second order, 0.080 with the overlap, 0.016 in third order and
0.040 with both; in SrTiO3 0.18, 0.06, 0.18 and 0.04; in Au 0.42, 0.41, 0.27 and 0.40. With the boundary terms alone,
weak intensities are within 2 % of kinematic ones at 2 angstrom (6 % in Au), and further off from 50 to 200 angstrom
than without. More beams in the matrix, which halve the error with each halving of `strong`, are the cheaper way.

The reason lies in the partition, not in the order: the eigenvalues of the strong beams span as much as the weak beams
are off the Ewald sphere, so that no effective matrix that does not depend on energy can be exact. With the inverse of
the whole matrix of weak beams and the overlap, which is all orders of that, Al is still 0.05 off at 400 angstrom and
0.14 at 800.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign._types import FloatArray

from ._threads import run
from .geometry import Geometry
from .selection import BeamList

__all__ = ["Fold", "make_fold"]

Array = Any
TOLERANCE = 1e-9
"""Error of an element of the matrix, in 1/angstrom^2, that the interpolation of one weak beam may make."""
DEGREES = (2, 4, 6, 8)
"""Degrees of polynomials among which the cheapest is taken."""
WORTH = 2e9
"""Multiplications of sums at each tilt below which polynomials are not looked for."""
BLOCK = 8
"""Tilts in one product. Always as many, so that rounding does not depend on how tilts are cut into chunks."""


@dataclass(frozen=True, eq=False)
class Fold:
    """Sum over the weak beams w of U_gw U_wh / (2 K s_w), which is smooth in the tilt but for a few of them.

    Parameters
    ----------
    potential : array
        (N, D) potentials of the weak beams that are summed at each tilt.
    direct : numpy.ndarray
        (D, 3) these beams.
    terms : array or None
        (P, M) one matrix for each polynomial in the tilt, all other weak beams in them; M counts real numbers.
    degree : int
        Highest degree of the polynomials.
    center, width : numpy.ndarray
        (2,) middle and half-width of the region of tilts.
    """

    potential: Array
    direct: NDArray[np.int64]
    terms: Array
    degree: int
    center: FloatArray
    width: FloatArray

    def matrices(self, xp: Any, geometry: Geometry, tilts: FloatArray) -> Array:
        """Return (T, N, N) to be subtracted from the potentials."""
        n = self.potential.shape[0]
        result = xp.empty((len(tilts), n, n), dtype=self.potential.dtype)
        if self.terms is not None:
            basis = np.zeros((-(-len(tilts) // BLOCK) * BLOCK, self.terms.shape[0]))
            basis[: len(tilts)] = _polynomials((tilts - self.center) / self.width, self.degree)
            flat = result.view(np.float64).reshape(len(tilts), -1)
            for start in range(0, len(tilts), BLOCK):
                part = xp.matmul(xp.asarray(basis[start : start + BLOCK]), self.terms)
                flat[start : start + BLOCK] = part[: len(tilts) - start]
        if self.potential.shape[1] or self.terms is None:
            detuning = xp.asarray(geometry.detuning(tilts, self.direct))
            other = xp.matmul(self.potential / detuning[:, None, :], xp.conj(self.potential.T))
            result = other if self.terms is None else result + other
        return result


def make_fold(xp: Any, geometry: Geometry, beams: BeamList, tilts: FloatArray, real: bool, workers: int) -> Fold | None:
    """Prepare the sum for tilts of a region; None without weak beams."""
    weak, n, n_tilts = beams.weak, len(beams), len(tilts)
    if not len(weak):
        return None
    potential = geometry.couplings(beams.strong, weak)
    potential = np.ascontiguousarray(potential.real) if real else potential
    low, high = tilts.min(0), tilts.max(0)
    center, width = (low + high) / 2, np.maximum((high - low) / 2, 1e-6)
    strength = np.square(np.abs(potential)).max(0)
    chosen, degree, terms = np.zeros(len(weak), dtype=bool), 0, None
    if n_tilts * len(weak) * n**2 * (1 if real else 4) > WORTH:
        degree, chosen, table = _cheapest(geometry, weak, strength, n_tilts, center, width)
    if degree:
        rows = np.ascontiguousarray(potential[:, chosen])
        across = np.ascontiguousarray(rows.conj().T)
        made = np.empty((len(table), n, n), dtype=potential.dtype)

        def task(start: int, stop: int) -> None:
            for i in range(start, stop):
                made[i] = (rows * table[i, chosen]) @ across

        run(task, len(made), workers, 1)
        terms = xp.asarray(made.view(np.float64).reshape(len(made), -1))
    rest = xp.asarray(np.ascontiguousarray(potential[:, ~chosen]))
    return Fold(rest, weak[~chosen], terms, degree, center, width)


def _cheapest(
    geometry: Geometry,
    weak: NDArray[np.int64],
    strength: FloatArray,
    n_tilts: int,
    center: FloatArray,
    width: FloatArray,
) -> tuple[int, NDArray[np.bool_], FloatArray]:
    """Degree, beams that it describes, and coefficients; degree 0 where sums at each tilt are cheaper."""
    best = 0.8 * len(weak), 0, np.zeros(len(weak), dtype=bool), np.zeros((0, len(weak)))
    for degree in DEGREES:
        coefficients, error = _fit(geometry, weak, center, width, degree)
        smooth = strength * error < TOLERANCE
        # In units of N^2 multiplications per tilt; the matrices of the polynomials are made once.
        cost = len(coefficients) * (1 + smooth.sum() / n_tilts) + (~smooth).sum()
        if cost < best[0]:
            best = float(cost), degree, smooth, coefficients
    return best[1:]


def _polynomials(points: FloatArray, degree: int) -> FloatArray:
    """Products of Chebyshev polynomials of y and x up to a total degree: (T, P)."""
    y, x = (np.polynomial.chebyshev.chebvander(points[:, axis], degree) for axis in (1, 0))
    return np.stack([y[:, i] * x[:, j] for i in range(degree + 1) for j in range(degree + 1 - i)], 1)


def _fit(
    geometry: Geometry, weak: NDArray[np.int64], center: FloatArray, width: FloatArray, degree: int
) -> tuple[FloatArray, FloatArray]:
    """Coefficients (P, W) of 1 / (2 K s_w), and the largest error of each beam (W,) over the region."""

    def grid(axis: FloatArray) -> FloatArray:
        return np.stack([values.ravel() for values in np.meshgrid(axis, axis)], 1)

    nodes = grid(np.cos(np.pi * (np.arange(degree + 3) + 0.5) / (degree + 3)))
    tests = grid(np.linspace(-1, 1, 2 * degree + 7))
    with np.errstate(divide="ignore", invalid="ignore"):
        values, expected = (1 / geometry.detuning(center + width * points, weak) for points in (nodes, tests))
        coefficients = np.linalg.pinv(_polynomials(nodes, degree)) @ np.nan_to_num(values)
        error = np.abs(_polynomials(tests, degree) @ coefficients - expected).max(0)
    return np.asarray(coefficients), np.where(np.isfinite(error), error, np.inf)
