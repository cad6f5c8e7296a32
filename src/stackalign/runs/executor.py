"""Chunks on other threads, processes or machines, through the interface of `concurrent.futures.Executor`."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stackalign.device import cuda_devices
from stackalign.errors import BackendUnavailableError, DataError, Interrupted, MissingDependencyError, StackalignError
from stackalign.io import StackReader

from .chunks import halves_of
from .portable import portable
from .stop import StopRequest

if TYPE_CHECKING:
    from .parts import Part

__all__ = ["AHEAD", "ALL_GPUS", "Source", "executor_for", "in_order", "result_of", "width"]

T = TypeVar("T")

ALL_GPUS = "cuda:all"
CONNECT_SECONDS = 20.0
"""How long a scheduler may take to answer."""
POLL_SECONDS = 1.0
ALONE_SECONDS = 300.0
"""How long a run waits for workers to come, or to come back."""
AHEAD = 2
"""Chunks that are handed out for each thread of the workers: one is worked on, the next waits; no more pile up."""


@dataclass(frozen=True)
class Source:
    """How a worker opens an input; picklable.

    Parameters
    ----------
    opener : callable
        Without arguments, such as ``functools.partial(open_stack, path)``; returns a `StackReader`.
    key : str
        Fingerprint of the content: a worker keeps the file open between chunks of one key, and refuses another content.
    """

    opener: Callable[[], StackReader]
    key: str

    @classmethod
    def of(cls, opener: "partial[StackReader]", key: str) -> "Source":
        """Describe what a call such as ``partial(open_stack, path)`` opens, from any working directory.

        Parameters
        ----------
        opener : functools.partial
            Opens the file.
        key : str
            Name of the file among those of the job.

        Returns
        -------
        Source
            Picklable.
        """
        path, *more = opener.args
        return cls(partial(opener.func, Path(path).absolute(), *more, **opener.keywords), key)


_opened = threading.local()


def _reader(source: Source) -> StackReader:
    """The input, opened once for each thread of a worker."""
    if getattr(_opened, "key", None) != source.key:
        earlier = getattr(_opened, "reader", None)
        if earlier is not None:
            earlier.close()
        _opened.key, _opened.reader = None, None
        reader = source.opener()
        if reader.fingerprint() != source.key:
            reader.close()
            msg = f"the input {reader.path} is not the same for a worker as for the client, or has changed"
            raise DataError(msg)
        _opened.key, _opened.reader = source.key, reader
    opened: StackReader = _opened.reader
    return opened


def run_chunk(source: Source, function: "Callable[[NDArray[Any], int], Part]", start: int, stop: int) -> "Part":
    """Read frames start..stop and work on them; runs in a worker, any number of times with the same result."""
    reader = _reader(source)
    block = np.empty((stop - start, *reader.info.shape[1:]), reader.info.dtype)
    reader.read(start, stop, block)
    return function(block, start)


def in_order(
    executor: Executor,
    source: Source,
    function: "Callable[[NDArray[Any], int], Part]",
    ranges: Sequence[tuple[int, int]],
    stop: StopRequest | None = None,
) -> "Iterator[tuple[tuple[int, int], Part]]":
    """Yield the part of each range in order; no more are handed out than workers can hold, so that none piles up.

    Where the memory of a worker does not suffice for a range, its halves are handed out instead.

    Raises
    ------
    DataError
        A worker died, or the scheduler, and the chunk could not be done, or all workers are gone for a while.
    Interrupted
        A stop was requested while there was no worker.
    """
    waiting: deque[tuple[tuple[int, int], Future[Part]]] = deque()
    left = iter(ranges)
    most = AHEAD * width(executor)
    restricted = getattr(function, "restricted", None)

    def handed(chunk: tuple[int, int]) -> "tuple[tuple[int, int], Future[Part]]":
        sent = function if restricted is None else restricted(*chunk)
        return chunk, executor.submit(portable, run_chunk, source, sent, *chunk)

    try:
        while True:
            while len(waiting) < most and (following := next(left, None)) is not None:
                waiting.append(handed(following))
            if not waiting:
                return
            current, future = waiting.popleft()
            try:
                part = result_of(executor, future, stop)
            except MemoryError as error:
                halves = halves_of(function, *current, error)
                if not halves:
                    raise
                waiting.extendleft(reversed([handed(half) for half in halves]))
                continue
            yield current, part
    finally:
        for _, future in waiting:
            future.cancel()


def result_of(executor: Executor, future: "Future[T]", stop: StopRequest | None, *, stopped: str | None = None) -> T:
    """Wait for the result of a task; not for ever where there is nobody to work on it.

    Parameters
    ----------
    executor : concurrent.futures.Executor
    future : concurrent.futures.Future
    stop : StopRequest, optional
        Looked at while there is no worker.
    stopped : str, optional
        Message of the interruption, where the wait is to end as soon as a stop is requested; the task is given up.

    Raises
    ------
    DataError
        The workers that had it are gone, or all workers have been for a while.
    Interrupted
        A stop was requested.
    """
    with _lost_workers():
        return _waited(executor, future, stop, stopped)


def _waited(executor: Executor, future: "Future[T]", stop: StopRequest | None, stopped: str | None) -> T:
    alone_since: float | None = None
    while not wait([future], timeout=POLL_SECONDS).done:
        if stop and stopped is not None:
            future.cancel()
            raise Interrupted(stopped)
        if _threads(executor) != 0:
            alone_since = None
            continue
        if stop:
            stop.check("stopped while there was no worker")
        alone_since = time.monotonic() if alone_since is None else alone_since
        if time.monotonic() - alone_since > ALONE_SECONDS:
            msg = f"the scheduler has had no worker for {ALONE_SECONDS:.0f} s; start workers and resume"
            raise DataError(msg).with_hint("resume")
    return future.result()


def _threads(executor: Executor) -> int | None:
    """How many threads the workers of a dask scheduler have; None of other executors."""
    client = getattr(executor, "_client", None)
    if client is None:
        return None
    threads: dict[str, int] = client.nthreads()
    return sum(threads.values())


def width(executor: Executor) -> int:
    """How many chunks an executor works on at a time."""
    threads = _threads(executor)
    if threads is not None:
        return max(1, threads)
    return int(getattr(executor, "_max_workers", 0) or os.cpu_count() or 1)


@contextmanager
def _lost_workers() -> Iterator[None]:
    """Turn what an executor raises about its workers into one sentence."""
    try:
        yield
    except (StackalignError, ValueError, TypeError, MemoryError):
        raise
    except Exception as error:
        lines = str(error).splitlines() or [""]
        msg = f"a chunk could not be done by the workers ({type(error).__name__}: {lines[0][:200]})"
        raise DataError(msg) from error


@contextmanager
def _gpu_pool() -> Iterator[Executor]:
    """One process for each GPU that this process may use."""
    count = len(cuda_devices())
    if count == 0:
        msg = "cuda:all needs at least one CUDA device, and none was found; use the device cpu"
        raise BackendUnavailableError(msg)
    listed = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = listed.split(",")[:count] if listed else [str(k) for k in range(count)]
    context = get_context("spawn")
    waiting = context.Queue()
    for name in names:
        waiting.put(name)
    with ProcessPoolExecutor(count, mp_context=context, initializer=_take_gpu, initargs=(waiting,)) as pool:
        yield pool


def _take_gpu(waiting: Any) -> None:
    """Let a worker see one GPU alone, before anything asks for devices."""
    os.environ["CUDA_VISIBLE_DEVICES"] = waiting.get()


@contextmanager
def executor_for(scheduler: str | None) -> Iterator[Executor | None]:
    """Give the executor of a dask scheduler or of all GPUs, or None to work in this process.

    Parameters
    ----------
    scheduler : str, optional
        Address such as "tcp://node1:8786"; by default that of the environment variable DASK_SCHEDULER_ADDRESS, if it is
        set. "cuda:all" starts one process for each GPU of this machine, which sees that GPU alone as its "cuda".

    Returns
    -------
    context manager
        Gives a `concurrent.futures.Executor`, or None.

    Raises
    ------
    MissingDependencyError
        dask.distributed is not installed.
    DataError
        The scheduler does not answer, or has no workers.
    BackendUnavailableError
        "cuda:all", and there is no CUDA device.
    """
    if scheduler == ALL_GPUS:
        with _gpu_pool() as pool:
            yield pool
        return
    address = scheduler or os.environ.get("DASK_SCHEDULER_ADDRESS")
    if not address:
        yield None
        return
    try:
        from distributed import Client
    except ImportError as error:
        msg = 'a scheduler needs dask.distributed: pip install "stackalign[dask]"'
        raise MissingDependencyError(msg) from error
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        msg = (
            f"the scheduler {address} does not answer ({type(error).__name__}: {error}); start it, or check the address"
        )
        raise DataError(msg) from error
    with client:
        if not client.nthreads():
            msg = f"the scheduler {address} has no workers; start some with `dask worker {address}`"
            raise DataError(msg)
        yield client.get_executor(pure=False)
