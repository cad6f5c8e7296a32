"""A few rows of the eigenvectors of many Hermitian matrices, without the other rows.

A matrix is made tridiagonal, its eigenvectors are found in that basis, and only the wanted rows are carried back.
Against `numpy.linalg.eigh` this saves 5 % of the time for 100 beams and 18 % for 250 where matrices are real, 24 % and
40 % where they are complex. The steps are LAPACK's own, by the addresses that SciPy publishes for Cython; calls through
ctypes let other threads run.
"""

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cython_lapack

__all__ = ["SMALLEST", "first_row_products", "is_available"]

SMALLEST = 64
"""Size of the matrices from which on it is faster."""
BLOCK = 64
"""Columns in one block of LAPACK, for its working memory."""
ROUTINES = {"dsytrd": 10, "zhetrd": 10, "dstedc": 11, "dormtr": 13, "zunmtr": 13}
"""What is called, and how many arguments it has."""


@functools.cache
def _routine(name: str) -> Callable[..., None]:
    """Return a routine of LAPACK; all arguments are addresses."""
    capsule = cython_lapack.__pyx_capi__[name]
    get_name, get = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    signature = get_name(capsule)
    if signature.count(b",") + 1 != ROUTINES[name] or b"(char *, int *" not in signature.replace(
        b"char *, char *, ", b""
    ):
        raise KeyError(name)  # integers of another width: not ours to call
    address: Any = get(capsule, signature)
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * ROUTINES[name])(address)


@functools.cache
def is_available() -> bool:
    """Whether this SciPy publishes the routines as they are expected."""
    try:
        for name in ROUTINES:
            _routine(name)
    except (KeyError, AttributeError):
        return False
    return True


def first_row_products(matrices: NDArray[Any], rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Return eigenvalues (T, N), increasing, and conj(C[0]) * C[rows] (T, R, N) of the eigenvectors C.

    Parameters
    ----------
    matrices : numpy.ndarray
        (T, N, N) Hermitian or symmetric, C-contiguous; overwritten.
    rows : numpy.ndarray
        (R,) indices.
    """
    n, dtype = matrices.shape[-1], matrices.dtype
    kind = dtype.kind == "c"
    reduce, turn = (_routine(name) for name in (("zhetrd", "zunmtr") if kind else ("dsytrd", "dormtr")))
    solve = _routine("dstedc")
    values = np.empty((len(matrices), n))
    products = np.empty((len(matrices), len(rows), n), dtype=dtype)
    between, tau = np.empty(n), np.empty(n, dtype=dtype)
    vectors, picked = np.empty((n, n)), np.empty((n, len(rows)), dtype=dtype)
    work = np.empty(BLOCK * max(n, len(rows)) + 65 * BLOCK, dtype=dtype)
    real_work, whole_work = np.empty(1 + 4 * n + n * n), np.empty(3 + 5 * n, dtype=np.intc)
    size, count, info = ctypes.c_int(n), ctypes.c_int(len(rows)), ctypes.c_int()
    lengths = [ctypes.c_int(len(array)) for array in (work, real_work, whole_work)]
    n_, count_, info_, length, real_length, whole_length = map(ctypes.addressof, (size, count, info, *lengths))
    lower, right, plain, all_ = (ctypes.create_string_buffer(letter) for letter in (b"L", b"R", b"N", b"I"))
    letters = [ctypes.addressof(buffer) for buffer in (lower, right, plain, all_)]
    work_, real_, whole_ = (array.ctypes.data for array in (work, real_work, whole_work))
    between_, tau_, vectors_, picked_ = (array.ctypes.data for array in (between, tau, vectors, picked))
    for i, matrix in enumerate(matrices):
        diagonal_, matrix_ = values[i].ctypes.data, matrix.ctypes.data
        # LAPACK reads columns where we wrote rows: it sees the conjugate, and finds conjugate vectors.
        reduce(letters[0], n_, matrix_, n_, diagonal_, between_, tau_, work_, length, info_)
        solve(
            letters[3], n_, diagonal_, between_, vectors_, n_, real_, real_length, whole_, whole_length, info_
        )  # fmt: skip
        if info.value:
            msg = f"the eigenvalues of a structure matrix did not converge (LAPACK's dstedc says {info.value})"
            raise np.linalg.LinAlgError(msg)
        picked[:] = 0
        picked[rows, np.arange(len(rows))] = 1
        turn(
            letters[1], letters[0], letters[2], count_, n_, matrix_, n_, tau_, picked_, count_, work_, length, info_
        )  # fmt: skip
        # Reflections of the reduction leave the first beam alone: its row of the eigenvectors is that of `vectors`.
        amplitudes = (vectors @ picked.view(np.float64)).view(dtype) if kind else vectors @ picked
        products[i] = (vectors[:, :1] * amplitudes.conj()).T
    return values, products
