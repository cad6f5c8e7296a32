"""Second pass: cut the windows and measure what they keep, in one read."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stackalign import ops
from stackalign.backends._protocol import KERNEL_DTYPES
from stackalign.io import StackReader
from stackalign.runs import ChunkPlan, Part, ProgressCallback, RegionSink, Source, StopRequest, chunk_parts, map_halving

from .background import measured
from .budget import say_split
from .config import CroppingConfig
from .measure import add_finite, prepare, source_name
from .virtual import VirtualDetectors
from .window import Windows

__all__ = ["cut"]


def cut(
    reader: StackReader,
    config: CroppingConfig,
    windows: Windows,
    sink: Callable[[NDArray[Any]], None],
    kept: NDArray[np.float64],
    *,
    mask: NDArray[np.bool_] | None = None,
    totals: NDArray[np.float64] | None = None,
    plan: ChunkPlan,
    start: int = 0,
    mean_sum: NDArray[np.float64] | None = None,
    mean_step: int = 1,
    mean_start: int = 0,
    on_chunk: Callable[[int, Callable[[], None]], None] = lambda done, settle: None,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    executor: Executor | None = None,
    source: Source | None = None,
    regions: RegionSink | None = None,
    detectors: VirtualDetectors | None = None,
    virtual: NDArray[np.float64] | None = None,
) -> None:
    """Cut the windows of all patterns from `start` on, in order.

    Parameters
    ----------
    reader : StackReader
    config : CroppingConfig
    windows : Windows
    sink : callable
        Takes each block of windows, (n, h, w), in a thread of its own unless ``config.workers`` is 1; the array is used
        again afterwards.
    kept : numpy.ndarray
        (N,) float64, filled with the sum of the valid pixels in each window.
    mask : numpy.ndarray, optional
    totals : numpy.ndarray, optional
        (N,) float64 to be filled with each pattern's total, where no analysis has measured it.
    plan : ChunkPlan
    start : int
    mean_sum : numpy.ndarray, optional
        (h, w) float64, to which every `mean_step`-th window from `mean_start` on is added.
    mean_step, mean_start : int
    on_chunk : callable
        Called after each chunk with the number of patterns done and a function that waits until they are written.
    progress : callable, optional
    stop : StopRequest, optional
    executor : concurrent.futures.Executor, optional
        Where chunks are worked on.
    source : Source, optional
        How its workers open the input.
    regions : RegionSink, optional
        Where the workers write the windows themselves; then `sink` is not called.
    detectors : VirtualDetectors, optional
    virtual : numpy.ndarray, optional
        (N, 2) float64 to be filled with what `detectors` collect.
    """
    stopping = StopRequest() if stop is None else stop  # one that is not set yet is false
    threaded = config.workers != 1
    sums = _RequestedSums(totals is not None, mean_sum is not None, mean_step, mean_start, detectors)
    function = _CutChunk(config, windows, mask, source_name(reader), sums, _buffers(reader, config, windows, plan))
    placed = function if regions is None else regions.chunk(function)
    parts = chunk_parts(
        reader, placed, plan, start=start, stage="crop", progress=progress, ahead=threaded, executor=executor,
        source=source, stop=stopping,
    )  # fmt: skip
    with _WriteBehind(sink, threaded) as writing:
        for first, last, part in parts:
            kept[first:last] = part.columns["kept"]
            if totals is not None:
                totals[first:last] = part.columns["totals"]
            if detectors is not None and virtual is not None:
                virtual[first:last] = part.columns["virtual"]
            if mean_sum is not None:
                for window in part.columns["sampled"]:
                    add_finite(mean_sum, window)
            if part.images is not None:
                writing.submit(part.images)
            on_chunk(last, writing.settle)
            if last < plan.n_items and stopping:
                writing.settle()
                stopping.check("stopped while cropping")


def _buffers(
    reader: StackReader, config: CroppingConfig, windows: Windows, plan: ChunkPlan
) -> "Iterator[NDArray[Any]] | None":
    """Two arrays that take turns to be cut into, where kernels write into what they are given."""
    dtype = reader.info.dtype
    if config.device != "cpu" or dtype.name not in KERNEL_DTYPES:
        return None
    return cycle([np.empty((plan.size, *windows.shape), dtype) for _ in range(2)])


@dataclass(frozen=True)
class _RequestedSums:
    """What else the second pass is asked for."""

    totals: bool
    mean: bool
    mean_step: int
    mean_start: int
    detectors: VirtualDetectors | None = None


@dataclass(frozen=True)
class _CutChunk:
    """Cut the windows of a chunk; picklable once `restricted`."""

    config: CroppingConfig
    windows: Windows
    mask: NDArray[np.bool_] | None
    name: str
    sums: _RequestedSums
    buffers: "Iterator[NDArray[Any]] | None" = None
    offset: int = 0
    """Pattern of the first of `windows`, where they are those of some patterns only."""
    alignment: ClassVar[int] = 0
    """Chunks are halved in here, where the halves are parts of one block."""

    def restricted(self, start: int, stop: int) -> "_CutChunk":
        """The same for the patterns start..stop alone."""
        windows = self.windows
        filled = None if windows.filled is None else windows.filled[start:stop]
        part = replace(windows, corners=windows.corners[start:stop], filled=filled)
        return replace(self, windows=part, offset=start, buffers=None)

    def __call__(self, block: NDArray[Any], first: int) -> Part:
        prepare(block, first, self.config, self.name)
        n, dtype = len(block), block.dtype
        out = np.empty((n, *self.windows.shape), dtype) if self.buffers is None else next(self.buffers)[:n]
        columns: dict[str, NDArray[Any]] = {"kept": np.empty(n)}
        if self.sums.totals:
            columns["totals"] = np.empty(n)
        if self.sums.detectors is not None:
            weighed = block if self.config.background is None else measured(block, self.config, self.mask)
            columns["virtual"] = self.sums.detectors.sums(weighed)
        mask = None if self.mask is None else ops.asarray(self.mask, self.config.device)
        map_halving(lambda start, stop: self._cut(block, start, stop, first, mask, out, columns), 0, n, say_split)
        if self.windows.filled is not None:
            position = first - self.offset
            _clear_unfilled(out, self.windows, columns["kept"], position, self.mask)
        if self.sums.mean:
            begin = max(0, self.sums.mean_start - first)
            step = self.sums.mean_step
            columns["sampled"] = out[begin + -(first + begin) % step :: step].copy()
        return Part(columns, out)

    def _cut(
        self,
        block: NDArray[Any],
        start: int,
        stop: int,
        first: int,
        mask: Any,
        out: NDArray[Any],
        columns: dict[str, NDArray[Any]],
    ) -> None:
        """Cut the patterns start..stop of a chunk."""
        config, windows = self.config, self.windows
        part = ops.asarray(block[start:stop], config.device)
        if self.sums.totals:
            weighed = ops.asarray(measured(block[start:stop], config, self.mask), config.device)
            summary = ops.pattern_summary(weighed, mask=mask, workers=config.workers)
            columns["totals"][start:stop] = ops.to_numpy(summary.total)
        position = first - self.offset
        direct = config.device == "cpu" and out.dtype.name in KERNEL_DTYPES
        cropped, sums = ops.crop_windows(
            part,
            windows.corners[position + start : position + stop],
            windows.shape,
            mask=mask,
            out=out[start:stop] if direct else None,
            workers=config.workers,
        )
        if not direct:
            out[start:stop] = ops.to_numpy(cropped).astype(out.dtype, copy=False)
        if config.background is not None:
            weighed = ops.asarray(measured(block[start:stop], config, self.mask), config.device)
            corners = windows.corners[position + start : position + stop]
            sums = ops.crop_windows(weighed, corners, windows.shape, mask=mask, workers=config.workers)[1]
        columns["kept"][start:stop] = ops.to_numpy(sums)


class _WriteBehind:
    """Hand blocks to a sink in a thread, one at a time: the next chunk is cut while this one is written.

    With two buffers that take turns, a buffer is used again only after the block before the last was written.
    """

    def __init__(self, sink: Callable[[NDArray[Any]], None], threaded: bool) -> None:
        self._sink = sink
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="stackalign-write") if threaded else None
        self._pending: Future[None] | None = None

    def submit(self, block: NDArray[Any]) -> None:
        """Wait for the block before, then hand this one over."""
        self.settle()
        if self._pool is None:
            self._sink(block)
        else:
            self._pending = self._pool.submit(self._sink, block)

    def settle(self) -> None:
        """Wait until everything is written; raises what the sink raised."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def __enter__(self) -> "_WriteBehind":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.settle()
        finally:
            if self._pool is not None:
                self._pool.shutdown(wait=True)


def _clear_unfilled(
    cropped: NDArray[Any],
    windows: Windows,
    kept: NDArray[np.float64],
    position: int,
    mask: NDArray[np.bool_] | None,
) -> None:
    """Zero the last row or column where truncation makes the legacy window shorter, and sum what is left.

    ``position`` is where the windows of this chunk begin in `windows`.
    """
    assert windows.filled is not None
    height, width = windows.shape
    for k in range(len(cropped)):
        rows, columns = windows.filled[position + k]
        if rows < height or columns < width:
            cropped[k, max(0, rows) :] = 0
            cropped[k, :, max(0, columns) :] = 0
            valid = None
            if mask is not None:
                corner = windows.corners[position + k]
                valid = ops.crop_windows(mask.view(np.uint8), corner, windows.shape, workers=1)[0].astype(np.bool_)
            kept[k] = ops.to_numpy(ops.pattern_summary(cropped[k], mask=valid, workers=1).total)[0]
