"""Batched eigenvalue problems of the structure matrix, in the namespace of the arrays that they are given."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import is_numpy_namespace
from numpy.typing import NDArray

from stackalign.errors import BackendUnavailableError

from .tridiagonal import SMALLEST, first_row_products, is_available

__all__ = ["Matrices", "amplitudes", "bytes_per_tilt", "decompose"]

Array = Any


@dataclass(frozen=True, eq=False)
class Matrices:
    """What the structure matrices of all tilts share, on the device.

    Parameters
    ----------
    potential : array
        (N, N) with U_g-h off the diagonal and 0 on it; real for a centrosymmetric crystal.
    absorptive : array or None
        (N, N) of the absorptive potential, its mean on the diagonal.
    rows : array
        Indices of the beams whose amplitudes are kept.
    exact : bool
        Whether absorption goes into the matrix, which is then diagonalised in general; otherwise it is a perturbation
        of the eigenvalues.
    """

    potential: Array
    absorptive: Array
    rows: Array
    exact: bool


def bytes_per_tilt(n_beams: int, n_weak: int, itemsize: int, exact: bool) -> int:
    """Memory of the temporary arrays of one tilt, as `decompose` makes them."""
    return (7 if exact else 5) * n_beams**2 * itemsize + n_beams * n_weak * itemsize + 64 * (n_beams + n_weak)


def decompose(
    xp: Any, matrices: Matrices, detuning: Array, folded: Array, scale: Array, normal: Array
) -> tuple[Array, Array]:
    """Diagonalise the structure matrices of a chunk of tilts.

    Parameters
    ----------
    xp : module
        Namespace of the arrays: NumPy or CuPy.
    matrices : Matrices
        What all tilts share.
    detuning : array
        (T, N), 2 K s_g of the beams.
    folded : array or None
        (T, N, N) Bethe potentials, see `Fold`: the amplitudes of weak beams follow those of the strong ones at once.
    scale : array
        (T, N), 1 / sqrt(1 + g_n / K_n): makes the problem Hermitian where beams leave at different angles.
    normal : array
        (T,) component of the wave vector along the foil's normal.

    Returns
    -------
    gamma : array
        (T, N) wave vectors of the Bloch waves less K_n, in 1/angstrom; complex with absorption.
    weight : array
        (T, R, N): the amplitude of the kept beam r at depth t is the sum over j of weight * exp(2 pi i gamma t).
    """
    n = detuning.shape[-1]
    diagonal = xp.arange(n)
    matrix = (matrices.potential if folded is None else matrices.potential - folded) * scale[:, :, None]
    matrix *= scale[:, None, :]
    matrix[:, diagonal, diagonal] += detuning * scale**2
    absorbed: Array = None
    if matrices.absorptive is not None:
        absorbed = matrices.absorptive * scale[:, :, None] * scale[:, None, :]
    if matrices.exact:
        return _general(xp, matrix + 1j * absorbed, matrices.rows, normal)
    if is_numpy_namespace(xp) and absorbed is None and n >= SMALLEST and 4 * len(matrices.rows) <= n and is_available():
        values, weight = first_row_products(matrix, matrices.rows)
        return values / (2 * normal[:, None]), weight
    values, vectors = xp.linalg.eigh(matrix)
    gamma = values / (2 * normal[:, None])
    if absorbed is not None:
        decay = (xp.conj(vectors) * xp.matmul(absorbed, vectors)).sum(1).real
        gamma = gamma + 1j * decay / (2 * normal[:, None])
    # Contiguous, so that products over the waves do not depend on where a chunk begins.
    return gamma, xp.ascontiguousarray(xp.conj(vectors[:, :1, :]) * vectors[:, matrices.rows, :])


def _general(xp: Any, matrix: Array, rows: Array, normal: Array) -> tuple[Array, Array]:
    if not hasattr(xp.linalg, "eig"):
        msg = 'absorption="exact" needs a CuPy with linalg.eig: update CuPy, use "perturbative", or stay on the CPU'
        raise BackendUnavailableError(msg)
    values, vectors = xp.linalg.eig(matrix)
    entrance = xp.zeros((len(matrix), matrix.shape[-1], 1), dtype=matrix.dtype)
    entrance[:, 0] = 1.0
    excitation = xp.linalg.solve(vectors, entrance)[:, :, 0]
    return values / (2 * normal[:, None]), xp.ascontiguousarray(vectors[:, rows, :] * excitation[:, None, :])


def amplitudes(xp: Any, gamma: Array, weight: Array, thicknesses: NDArray[np.float64]) -> Array:
    """Return amplitudes (T, R, n_t) of the kept beams at the thicknesses."""
    phases = _phases(xp, gamma, thicknesses)
    if weight.dtype.kind == "c":
        return xp.matmul(weight, phases)
    # Real weights: the phases as pairs of real numbers halve the work.
    pairs = xp.matmul(weight, phases.view(np.float64))
    return pairs.view(np.complex128)


def _phases(xp: Any, gamma: Array, thicknesses: NDArray[np.float64]) -> Array:
    """exp(2 pi i gamma t), (T, N, n_t). Even steps are multiplied up, doubling: exponentials cost twenty times more."""
    n = len(thicknesses)
    factor = 2j * np.pi * gamma[:, :, None]
    steps = np.diff(thicknesses)
    if n < 4 or np.abs(steps - steps[0]).max() > 1e-12 * np.abs(thicknesses).max():
        return xp.exp(factor * xp.asarray(thicknesses))
    phases = xp.empty((*gamma.shape, n), dtype=np.complex128)
    phases[:, :, :1] = xp.exp(factor * float(thicknesses[0]))
    done = 1
    while done < n:
        count = min(done, n - done)
        jump = xp.exp(factor * float(thicknesses[done] - thicknesses[0]))
        phases[:, :, done : done + count] = phases[:, :, :count] * jump
        done += count
    return phases
