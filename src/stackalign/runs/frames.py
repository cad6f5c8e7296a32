"""Frames of files in chunks: a pure function works on each, and the results are collected, saved and resumed."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stackalign import __version__
from stackalign.errors import Interrupted, UnfitStateError
from stackalign.io import StackReader, StackWriter, create_stack
from stackalign.io.images import write_images
from stackalign.io.stacks import writable_extensions

from .chunks import ChunkPlan, Progress, ProgressCallback, halves_of, read_chunks
from .executor import Source, in_order
from .regions import RegionSink, takes_regions
from .run import Run
from .stop import StopRequest

__all__ = ["Collector", "Columns", "FrameJob", "Part", "StackOutput", "chunk_parts"]


@dataclass(frozen=True)
class Part:
    """What a chunk function makes of its frames.

    Parameters
    ----------
    columns : mapping of str to numpy.ndarray
        Numbers for the collector: rows, or sums over the chunk.
    images : numpy.ndarray, optional
        (n, h, w), one image for each frame, for the output.
    """

    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    images: NDArray[Any] | None = None


ChunkFunction = Callable[[NDArray[Any], int], Part]
"""Takes the frames (n, H, W) of a chunk and the number of the first; pure, and picklable to be run elsewhere."""


class Collector(Protocol):
    """Puts the parts together, in the order of the frames."""

    def add(self, part: Part) -> None:
        """Take the next part."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything so far as arrays, to be saved."""
        ...

    def restore(self, arrays: Mapping[str, NDArray[Any]], done: int) -> None:
        """Take over what was saved, of the first `done` frames."""
        ...


class Columns:
    """Collector of rows, one per frame, or any number per frame with a column "frame" that says whose they are."""

    def __init__(self) -> None:
        self._parts: list[Mapping[str, NDArray[Any]]] = []

    def add(self, part: Part) -> None:
        """Append the rows of a part.

        Parameters
        ----------
        part : Part
            What a chunk function returned.
        """
        self._parts.append(part.columns)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All rows, one array per column."""
        if len(self._parts) > 1:
            self._parts = [{name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]}]
        return dict(self._parts[0]) if self._parts else {}

    def restore(self, arrays: Mapping[str, NDArray[Any]], done: int) -> None:
        """Take over saved rows; those with a column "frame" belong to the frames that it names.

        Parameters
        ----------
        arrays : mapping
            Saved columns by name.
        done : int
            Number of frames that they belong to.
        """
        keep = arrays["frame"] < done if "frame" in arrays else slice(done)
        self._parts = [{name: values[keep] for name, values in arrays.items()}] if arrays else []


class StackOutput:
    """The images that a run writes, one for each frame: streamed in the final format, or converted to it at the end.

    Parameters
    ----------
    run : Run
    shape : tuple of int
        (N, h, w).
    dtype : numpy.dtype
    scan_shape : tuple of int
    single : bool
        One image, which is written without the axis of frames.
    header : str, optional
        Cards for FITS.
    remote : bool
        Chunks are worked on by an executor, whose workers write the images where the format allows it.
    """

    def __init__(
        self,
        run: Run,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        *,
        scan_shape: tuple[int, ...],
        single: bool = False,
        header: str | None = None,
        remote: bool = False,
    ) -> None:
        self._run, self._single, self._header = run, single, header
        self._streamed = run.output.suffix.lower() in writable_extensions() and not single
        self._path = run.data if self._streamed else run.data.with_name("stream.npy")
        scan = scan_shape if self._streamed else shape[:1]
        final = run.output if self._streamed else self._path
        by_workers = remote and takes_regions(final, shape, dtype, scan_shape=scan)
        self._create = partial(
            RegionSink if by_workers else create_stack, self._path, shape, dtype, scan_shape=scan, final_path=final
        )
        try:
            self._open(run.last_note().get("state"))
        except UnfitStateError as error:
            run.begin_anew(error)
            self._open(None)

    def _open(self, state: Mapping[str, Any] | None) -> None:
        self._writer: StackWriter | RegionSink = self._create(resume=state)
        if isinstance(self._writer, RegionSink):
            self.done = self._writer.done
        else:
            self.done = 0 if state is None else int(state["patterns"])

    def begin_anew(self, reason: UnfitStateError) -> None:
        """Drop the images of an interrupted run, whose rows are lost.

        Parameters
        ----------
        reason : UnfitStateError
            What is lost.
        """
        self._writer.close()
        self._run.begin_anew(reason)
        self._open(None)

    def placed(self, function: "ChunkFunction", plan: ChunkPlan) -> "tuple[ChunkFunction, ChunkPlan]":
        """Return the function and the chunks to work with: where workers write regions, both are adapted to that.

        Parameters
        ----------
        function : callable
            Works on the frames of a chunk.
        plan : ChunkPlan
            The chunks.

        Returns
        -------
        function, plan
            What to work with.
        """
        if isinstance(self._writer, RegionSink):
            return self._writer.chunk(function), self._writer.plan(plan)
        return function, plan

    def passed(self, done: int) -> None:
        """Take note of how many frames are done.

        Parameters
        ----------
        done : int
            Number of frames.
        """
        if isinstance(self._writer, RegionSink):
            self._writer.done = done

    def write(self, images: NDArray[Any]) -> None:
        """Append images.

        Parameters
        ----------
        images : numpy.ndarray
            (n, h, w), the next frames.
        """
        self._writer.write(images)

    def checkpoint(self) -> dict[str, Any]:
        """Make them durable; the state that a resumed run goes on from."""
        return self._writer.checkpoint()

    def finish(self) -> None:
        """Complete the file in the final format."""
        self._writer.finish({"software": f"stackalign {__version__}"})
        if not self._streamed:
            images = np.load(self._path, mmap_mode="r")
            write_images(
                self._run.data, images[0] if self._single else images, fits_header=self._header, overwrite=True
            )

    def close(self) -> None:
        """Release the file."""
        self._writer.close()


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
