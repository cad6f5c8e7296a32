"""Threads of the linear algebra libraries: one while our own functions run, and what the caller has limited them to.

Many small products gain nothing from more threads, the bits of large ones depend on their number, and ``workers=1``
promises that none is used.
"""

import functools
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["caller_limit", "on_one_thread"]

_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "OMP_NUM_THREADS", "GOTO_NUM_THREADS")
MOST = 64
"""Threads beyond which libraries have limits of their own, whoever asks."""

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Cores at the start: libraries count them when they are loaded, and not again."""

_changing = threading.Lock()
_users = 0
"""Calls that want one thread now, of all threads of the process: the last of them gives back what the first found."""
_found: list[tuple[Any, int]] = []


@functools.lru_cache(maxsize=1)
def _libraries(_n_modules: int) -> tuple[Any, ...]:
    """Linear algebra libraries of the process; looked for again when modules have been imported since."""
    from threadpoolctl import ThreadpoolController

    return tuple(ThreadpoolController().select(user_api="blas").lib_controllers)


def _loaded() -> tuple[Any, ...]:
    return _libraries(sum(name in sys.modules for name in ("numpy.linalg", "scipy.linalg", "torch", "mkl")))


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Hold linear algebra at one thread. Calls may be nested and may overlap in any number of threads."""
    global _users
    with _changing:
        if _users == 0:
            _found[:] = [(library, library.num_threads) for library in _loaded()]
            for library, _ in _found:
                library.set_num_threads(1)
        _users += 1
    try:
        yield
    finally:
        with _changing:
            _users -= 1
            if _users == 0:
                for library, n in _found:
                    library.set_num_threads(n)
                _found.clear()


def caller_limit() -> int | None:
    """Threads that the caller has limited libraries to, as ``threadpoolctl.threadpool_limits`` does; None without.

    A library that starts with fewer than there are cores because a variable of the environment says so tells nothing:
    such variables are read where they are meant for everybody.
    """
    if "threadpoolctl" not in sys.modules:
        return None
    with _changing:
        numbers = _found if _users else [(library, library.num_threads) for library in _loaded()]
    limits = [int(text) for text in (os.environ.get(name, "").split(",")[0] for name in _VARIABLES) if text.isdecimal()]
    usual = min([CORES, MOST, *(n for n in limits if n > 0)])
    # Others than OpenBLAS count cores in their own ways, without hyperthreads for instance.
    limited = [n for library, n in numbers if n and n < usual and (n == 1 or library.internal_api == "openblas")]
    return min(limited, default=None)
