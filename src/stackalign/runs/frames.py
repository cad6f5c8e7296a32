"""Frames of files in chunks: a pure function works on each, and the results are collected, saved and resumed."""

from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import Interrupted, UnfitStateError
from stackalign.io import StackReader

from .chunks import ChunkPlan, Progress, ProgressCallback, halves_of, read_chunks
from .executor import Source, in_order
from .parts import ChunkFunction, Collector, Part
from .run import Run
from .stack_output import StackOutput
from .stop import StopRequest

__all__ = ["FrameJob", "chunk_parts"]


class FrameJob:
    """The frames of one or several files on their way through a chunk function.

    Parameters
    ----------
    run : Run
    progress : callable, optional
    stop : StopRequest, optional
        Checked after each chunk.
    workers : int, optional
        1: no thread reads ahead.
    executor : concurrent.futures.Executor, optional
        Where chunks are worked on, instead of here.
    """

    def __init__(
        self,
        run: Run,
        *,
        progress: ProgressCallback | None = None,
        stop: StopRequest | None = None,
        workers: int | None = None,
        executor: Executor | None = None,
    ) -> None:
        self._run, self._progress, self._workers, self._executor = run, progress, workers, executor
        self._stop = StopRequest() if stop is None else stop  # one that is not set yet is false
        self._unsaved: dict[str, tuple[int, Collector]] = {}

    @property
    def remote(self) -> bool:
        """Whether an executor works on the chunks."""
        return self._executor is not None

    def work(
        self,
        reader: StackReader,
        function: ChunkFunction,
        collector: Collector,
        plan: ChunkPlan,
        *,
        stage: str,
        key: str = "rows",
        output: StackOutput | None = None,
        source: Source | None = None,
    ) -> None:
        """Do what is not done yet of one file.

        Parameters
        ----------
        reader : StackReader
        function : callable
        collector : Collector
        plan : ChunkPlan
        stage : str
            For the progress and the message of an interruption.
        key : str
            Under which what was collected is saved; one for each file.
        output : StackOutput, optional
            Takes the images of the parts.
        source : Source, optional
            How a worker opens the file; needed with an executor.

        Raises
        ------
        Interrupted
            A stop was requested; what was done is saved.
        """
        start = self._restore(key, collector, output)
        if output is not None:
            function, plan = output.placed(function, plan)
        parts = chunk_parts(
            reader, function, plan, start=start, stage=stage, progress=self._progress, ahead=self._workers != 1,
            executor=self._executor, source=source, stop=self._stop,
        )  # fmt: skip
        for _, last, part in parts:
            if output is not None and part.images is not None:
                output.write(part.images)
            if output is not None:
                output.passed(last)
            collector.add(part)
            self._unsaved[key] = (last, collector)
            if self._run.due() or self._stop:
                self._save(output)
            if self._stop and last < plan.n_items:
                msg = f"stopped at frame {last} of {plan.n_items} ({stage})"
                raise Interrupted(msg)

    def forget(self, key: str) -> None:
        """Drop what was collected of a file that failed.

        Parameters
        ----------
        key : str
            Of the file.
        """
        self._unsaved.pop(key, None)

    def _restore(self, key: str, collector: Collector, output: StackOutput | None) -> int:
        journal = self._run.journal
        images = 0 if output is None else output.done  # of some formats whole blocks only
        if not (images or journal.has_arrays(key)):
            return 0
        try:
            arrays = journal.load_arrays(key)
            saved = int(arrays.pop("done"))
            if saved < images:
                msg = f"{journal.folder} has the images of {images} frames, and the rows of {saved}"
                raise UnfitStateError(msg)
        except UnfitStateError as error:
            if output is None:
                self._run.begin_anew(error)
            else:
                output.begin_anew(error)
            return 0
        done = saved if output is None else images
        collector.restore(arrays, done)
        return done

    def _save(self, output: StackOutput | None) -> None:
        with self._run.checkpoint():
            state = None if output is None else output.checkpoint()
            for key, (done, collector) in self._unsaved.items():
                self._run.journal.save_arrays(key, done=np.array(done), **collector.arrays())
            self._unsaved.clear()
            if state is not None:
                self._run.note(state=state)


def chunk_parts(
    reader: StackReader,
    function: ChunkFunction,
    plan: ChunkPlan,
    *,
    start: int = 0,
    stage: str = "work",
    progress: ProgressCallback | None = None,
    ahead: bool = True,
    executor: Executor | None = None,
    source: Source | None = None,
    stop: StopRequest | None = None,
) -> Iterator[tuple[int, int, Part]]:
    """Yield (start, stop, part) of each chunk in order, worked on here or by an executor.

    Where memory does not suffice for a chunk, its halves are worked on instead, and the user is told.

    Parameters
    ----------
    reader : StackReader
    function : callable
        Where it has a method ``restricted(start, stop)``, an executor is sent what that returns: the function with what
        the frames start..stop need of it. Where it has an ``alignment``, halves begin at its multiples; where it is 0,
        chunks are never halved.
    plan : ChunkPlan
    start : int
        First frame.
    stage : str
    progress : callable, optional
    ahead : bool
        Read the next chunk in a thread.
    executor : concurrent.futures.Executor, optional
    source : Source, optional
        How a worker opens the file; needed with an executor.
    stop : StopRequest, optional
        Looked at while there is no worker; otherwise the caller looks at it after each chunk.

    Returns
    -------
    iterator
        (start, stop, part) of each chunk.
    """
    if executor is None or source is None:
        for first, last, block in read_chunks(reader, plan, start=start, stage=stage, progress=progress, ahead=ahead):
            yield from _parts_of(function, block, first, last)
        return
    report = Progress.reporter(progress, stage, plan.n_items - start, reader.info.pattern_bytes)
    for (first, last), part in in_order(executor, source, function, list(plan.ranges(start)), stop):
        yield first, last, part
        report(last - start)


def _parts_of(function: ChunkFunction, block: NDArray[Any], first: int, last: int) -> Iterator[tuple[int, int, Part]]:
    """Work on a chunk, or where memory does not suffice on its halves, one after the other."""
    try:
        part = function(block, first)
    except MemoryError as error:
        halves = halves_of(function, first, last, error)
        if not halves:
            raise
    else:
        yield first, last, part
        return
    for start, stop in halves:
        yield from _parts_of(function, block[start - first : stop - first], start, stop)
