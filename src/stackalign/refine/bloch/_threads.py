"""Chunks of tilts on threads, each with a single-threaded LAPACK: many small matrices gain nothing from more."""

from collections.abc import Callable

from stackalign import _blas
from stackalign.backends import _threads

__all__ = ["run"]


def run(task: Callable[[int, int], None], n_items: int, workers: int, band: int) -> None:
    """Call task(start, stop) over 0..n_items; LAPACK takes one thread meanwhile: bits must not depend on cores."""
    with _blas.on_one_thread():
        _threads.run(task, n_items, workers, band)
