"""Chunks from a byte budget, read ahead of the work, with progress."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stackalign.device import format_bytes
from stackalign.errors import DataError
from stackalign.io import StackReader

__all__ = ["ChunkPlan", "Progress", "ProgressCallback", "halves_of", "map_halving", "read_chunks", "require_fit"]

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChunkPlan:
    """Division of ``n_items`` into chunks of ``size`` items (the last one may be smaller)."""

    n_items: int
    size: int

    @classmethod
    def from_budget(cls, n_items: int, item_bytes: int, budget: int, largest: int | None = None) -> "ChunkPlan":
        """Take as many items as the budget in bytes holds, at least one and at most `largest`.

        Parameters
        ----------
        n_items : int
            Number of items.
        item_bytes : int
            Bytes of each.
        budget : int
            Bytes for a chunk.
        largest : int, optional
            Most items in a chunk.

        Returns
        -------
        ChunkPlan
            Chunks of one size, the last one shorter.
        """
        size = max(1, budget // max(1, item_bytes))
        return cls(n_items, max(1, min(size, n_items, largest or n_items)))

    def __len__(self) -> int:
        return -(-self.n_items // self.size)

    def ranges(self, start: int = 0) -> Iterator[tuple[int, int]]:
        """Yield (start, stop) of each chunk from item `start` on.

        Parameters
        ----------
        start : int
            First item, where an earlier run stopped.

        Returns
        -------
        iterator of (int, int)
            (start, stop) of each chunk.
        """
        for first in range(start, self.n_items, self.size):
            yield first, min(first + self.size, self.n_items)


@dataclass(frozen=True)
class Progress:
    """State of a long run, as given to a progress callback."""

    stage: str
    done: int
    total: int
    bytes_done: int
    seconds: float

    @property
    def rate(self) -> float:
        """Items per second of this stage."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def remaining(self) -> float:
        """Seconds that this stage will still take."""
        return (self.total - self.done) / self.rate if self.rate > 0 else float("inf")

    @staticmethod
    def reporter(callback: "ProgressCallback | None", stage: str, total: int, item_bytes: int) -> Callable[[int], None]:
        """Return a function that is told how many items are done, and reports that with the time since this call.

        Parameters
        ----------
        callback : callable, optional
            Called with a `Progress`.
        stage : str
            Name of the pass.
        total : int
            Number of items.
        item_bytes : int
            Bytes of each.

        Returns
        -------
        callable
            To be called with the number of items that are done.
        """
        began = time.perf_counter()

        def report(done: int) -> None:
            if callback is not None:
                callback(Progress(stage, done, total, done * item_bytes, time.perf_counter() - began))

        return report


ProgressCallback = Callable[[Progress], None]


def require_fit(reader: StackReader, available: int | None = None) -> None:
    """Raise where the stored chunks do not fit into memory, so that each would be decoded again for every block.

    Parameters
    ----------
    reader : StackReader
    available : int, optional
        Bytes that are left for the decoded chunks of the reader; by default the limit that it was opened with.

    Raises
    ------
    DataError
        The text names the chunks and the memory that they need.
    """
    chunk = reader.info.chunk
    if chunk is None or (chunk.fits if available is None else chunk.nbytes <= max(available, 0) and chunk.fits):
        return
    msg = (
        f"the chunks {chunk.shape} of {reader.path} hold {chunk.patterns} patterns that are decoded together: reading "
        f"them once takes {format_bytes(chunk.nbytes)}, more than the memory limit leaves; raise the limit, or store "
        "the data in smaller chunks"
    )
    raise DataError(msg).with_hint("memory_limit")


def read_chunks(
    reader: StackReader,
    plan: ChunkPlan,
    *,
    start: int = 0,
    stage: str = "read",
    progress: ProgressCallback | None = None,
    ahead: bool = True,
) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Yield (start, stop, patterns) with the next chunk being read while the caller works on this one.

    Two buffers of ``plan.size`` patterns are allocated once; the array that is yielded is valid until the next step.

    Parameters
    ----------
    reader : StackReader
    plan : ChunkPlan
    start : int
        First item, a multiple of ``plan.size`` where bytes are to be the same as those of an uninterrupted run.
    stage : str
        Name of the pass, for the progress callback.
    progress : callable, optional
        Called with a `Progress` after the caller has finished each chunk.
    ahead : bool
        Read in a thread of its own; otherwise no thread is started, and one buffer is enough.

    Returns
    -------
    iterator
        (start, stop, patterns) of each chunk.
    """
    ranges = list(plan.ranges(start))
    if not ranges:
        return
    if reader.info.chunk is None or plan.size % reader.info.chunk.patterns:
        require_fit(reader)
    frame = reader.info.shape[1:]
    buffers = [np.empty((plan.size, *frame), reader.info.dtype) for _ in range(min(1 + ahead, len(ranges)))]
    report = Progress.reporter(progress, stage, plan.n_items - start, reader.info.pattern_bytes)

    def fetch(index: int) -> NDArray[Any]:
        first, last = ranges[index]
        out = buffers[index % len(buffers)][: last - first]
        reader.read(first, last, out)
        return out

    if not ahead:
        for index, (first, last) in enumerate(ranges):
            yield first, last, fetch(index)
            report(last - start)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="stackalign-read") as pool:
        pending = pool.submit(fetch, 0)
        for index, (first, last) in enumerate(ranges):
            block = pending.result()
            if index + 1 < len(ranges):
                pending = pool.submit(fetch, index + 1)
            yield first, last, block
            report(last - start)


def map_halving(
    task: Callable[[int, int], T], start: int, stop: int, on_split: Callable[[int, MemoryError], None]
) -> Sequence[T]:
    """Call task(start, stop); where memory does not suffice, do the halves one after the other, down to single items.

    Parameters
    ----------
    task : callable
        Works on items start..stop; may raise MemoryError (CuPy's out-of-memory error is one).
    start, stop : int
    on_split : callable
        Told the size of the halves and the error, so that the user hears of it.

    Returns
    -------
    sequence
        The results in order, one where nothing had to be split.
    """
    try:
        return [task(start, stop)]
    except MemoryError as error:
        if stop - start <= 1:
            raise
        middle = (start + stop) // 2
        on_split(middle - start, error)
    return [*map_halving(task, start, middle, on_split), *map_halving(task, middle, stop, on_split)]


def halves_of(function: object, start: int, stop: int, error: MemoryError) -> list[tuple[int, int]]:
    """Halves of a chunk for which memory did not suffice, and tell the user; none where it cannot be smaller.

    Parameters
    ----------
    function : object
        Worked on it; its ``alignment``, 1 by default, divides the length of the first half. 0: it is not to be halved.
    start, stop : int
    error : MemoryError
    """
    step: int = getattr(function, "alignment", 1)
    half = 0 if step == 0 else (stop - start) // 2 // step * step
    if half == 0:
        return []
    _log.warning("the device ran out of memory (%s); going on with %d at a time", error, half)
    return [(start, start + half), (start + half, stop)]
