# SPDX-License-Identifier: BSD-3-Clause
"""The only place where Numba's flags are chosen.

`exact` keeps every floating-point operation as written: the same bits on every machine. `fast` lets the compiler
reorder sums, which is what makes reductions vectorise; it keeps NaN and infinity (never ``fastmath=True``: that deletes
NaN tests). Both count who uses an array, in a way that is safe between threads: each slice, each tuple of arrays takes
as long as a dozen pixels. `borrowing` is `exact` without that, for loops over rows: such a function makes no array, and
those that it is given live longer than it does. `inlined` is `borrowing` for what is called per row with arrays, each
of which costs as many arguments as it has fields. None uses Numba's own threads: a cache together with
``parallel=True`` crashes (numba issues 4807 and 10128), and our threads come from the backend. Compiled kernels are
kept by `_once` in the folder that `_store` names.
"""

import logging

import numba

from . import _store

__all__ = ["STORE", "borrowing", "exact", "fast", "inlined"]

_log = logging.getLogger("stackalign.kernels")

STORE = _store.open_store(_store.sources_key())
if STORE.folder is None:
    _log.warning("%s: they are compiled in every process; set NUMBA_CACHE_DIR", STORE.reason)
elif STORE.reason:
    _log.warning("%s: they are kept in %s; set NUMBA_CACHE_DIR", STORE.reason, STORE.folder.parent)


def _keeper():
    if STORE.folder is None:
        return lambda dispatcher: dispatcher
    try:
        from ._once import keep
    except ImportError as error:  # it stands on parts of Numba that no promise covers
        _log.warning("this Numba cannot keep kernels (%s): they are compiled in every process", error)
        return lambda dispatcher: dispatcher
    return keep(STORE.folder)


_keep = _keeper()


def _decorator(**flags):
    jit = numba.njit(nogil=True, parallel=False, error_model="numpy", **flags)
    return lambda function: _keep(jit(function))


exact = _decorator()
borrowing = _decorator(_nrt=False)
inlined = _decorator(_nrt=False, forceinline=True)
fast = _decorator(fastmath={"reassoc", "contract", "nsz", "arcp"})
