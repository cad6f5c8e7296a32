# SPDX-License-Identifier: BSD-3-Clause
"""The only place where Numba's flags are chosen.

`exact` keeps every floating-point operation as written: the same bits on every machine. `fast` lets the compiler
reorder sums, which is what makes reductions vectorise; it keeps NaN and infinity (never ``fastmath=True``: that deletes
NaN tests). `inlined` is `exact` for what is called per row with arrays, each of which costs as many arguments as it has
fields. None uses Numba's own threads: ``cache=True`` together with ``parallel=True`` crashes (numba issues 4807
and 10128), and our threads come from the backend. A kernel and the helpers that it calls live in one file, because
Numba's cache does not notice that a helper in another file has changed.
"""

import logging
import os
import shutil

from stackalign_kernels import cache_folder

_log = logging.getLogger(__name__)

ROOM = 64 * 2**20
"""Free space in bytes that the cache wants; all kernels together take a tenth of it."""


def _has_room(folder: str) -> bool:
    """Tell whether compiled kernels can be kept: Numba would fail in the middle of a run where they cannot."""
    try:
        os.makedirs(folder, exist_ok=True)
        room = os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > ROOM
    except OSError:
        room = False
    if not room:
        _log.warning("%s cannot hold compiled kernels: they are compiled in every process; set NUMBA_CACHE_DIR", folder)
    return room


# Numba reads this variable when it is first imported; a value set by the user wins.
os.environ["NUMBA_CACHE_DIR"] = cache_folder()

import numba  # noqa: E402 -- after the cache folder is known

CACHED = _has_room(os.environ["NUMBA_CACHE_DIR"])

exact = numba.njit(cache=CACHED, nogil=True, parallel=False, error_model="numpy")
inlined = numba.njit(cache=CACHED, nogil=True, parallel=False, error_model="numpy", forceinline=True)
fast = numba.njit(
    cache=CACHED, nogil=True, parallel=False, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"}
)
