"""What the machine itself can do: reading and copying memory, multiplying and adding, moving data to a device."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from threadpoolctl import threadpool_limits

from stackalign import ops

from .timing import take_turns

__all__ = ["Ceilings", "measure_ceilings"]

Ceilings = dict[str, float]
"""Bytes per second of ``read``, ``copy`` and ``link``, operations per second of ``arithmetic``."""


def measure_ceilings(device: str, workers: int, *, megabytes: int = 256, side: int = 1024) -> Ceilings:
    """Measure them, with arrays that do not fit into caches.

    Parameters
    ----------
    device : str
    workers : int
        Threads of the CPU.
    megabytes : int
        Size of the array that is read and copied.
    side : int
        Of the matrices whose product counts operations, two for each multiplication with its addition.
    """
    n = megabytes * 2**20 // 4
    host = np.ones(n, np.float32)
    source = ops.asarray(host, device)
    matrix = ops.asarray(np.ones((side, side), np.float32), device)
    xp = array_namespace(source)
    on_host = device == "cpu"
    runs: dict[str, Callable[[], Any]] = {}
    with ThreadPoolExecutor(workers) as pool, threadpool_limits(workers):
        if on_host:
            target = np.empty_like(host)
            parts = [slice(n * k // workers, n * (k + 1) // workers) for k in range(workers)]
            runs["read"] = lambda: list(pool.map(lambda p: np.dot(source[p], source[p]), parts))
            runs["copy"] = lambda: list(pool.map(lambda p: np.copyto(target[p], source[p]), parts))
        else:
            runs["read"] = lambda: xp.sum(source)
            runs["copy"] = lambda: xp.asarray(source, copy=True)
            runs["link"] = lambda: ops.asarray(host, device)
        runs["arithmetic"] = lambda: xp.matmul(matrix, matrix)
        times = take_turns(runs, rounds=7, seconds=1.0, synchronize=lambda: ops.synchronize(source))
    best = {name: min(timing.wall) for name, timing in times.items()}
    sizes = {"read": 4.0 * n, "copy": 8.0 * n, "link": 4.0 * n, "arithmetic": 2.0 * side**3}
    return {name: sizes[name] / seconds for name, seconds in best.items()}
