"""Second pass: cut the windows and measure what they keep, in one read."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import ops
from stackalign.backends._protocol import KERNEL_DTYPES
from stackalign.io import StackReader
from stackalign.runs import ChunkPlan, ProgressCallback, StopRequest, map_halving, read_chunks

from .analysis import add_finite, prepare, say_split, source_name
from .config import CroppingConfig
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
) -> None:
    """Cut the windows of all patterns from `start` on, in order.

    Parameters
    ----------
    reader : StackReader
    config : CroppingConfig
    windows : Windows
    sink : callable
        Takes each block of windows, (n, h, w), in a thread of its own; the array is used again afterwards.
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
    """
    stopping = StopRequest() if stop is None else stop  # one that is not set yet is false
    device_mask = None if mask is None else ops.asarray(mask, config.device)
    dtype = reader.info.dtype
    reuse = config.device == "cpu" and dtype.name in KERNEL_DTYPES
    buffers = [np.empty((plan.size, *windows.shape), dtype) for _ in range(2)] if reuse else []
    with _WriteBehind(sink) as writing:
        chunks = read_chunks(reader, plan, start=start, stage="crop", progress=progress)
        for index, (first, last, block) in enumerate(chunks):
            prepare(block, first, config, source_name(reader))

            def work(
                begin: int, end: int, block: NDArray[Any] = block, first: int = first, index: int = index
            ) -> NDArray[Any]:
                part = ops.asarray(block[begin - first : end - first], config.device)
                if totals is not None:
                    summary = ops.pattern_summary(part, mask=device_mask, workers=config.workers)
                    totals[begin:end] = ops.to_numpy(summary.total)
                cropped, sums = ops.crop_windows(
                    part,
                    windows.corners[begin:end],
                    windows.shape,
                    mask=device_mask,
                    out=buffers[index % 2][begin - first : end - first] if reuse else None,
                    workers=config.workers,
                )
                kept[begin:end] = ops.to_numpy(sums)
                return ops.to_numpy(cropped)

            position = first
            for result in map_halving(work, first, last, say_split):
                cropped = result.astype(dtype, copy=False)
                if windows.filled is not None:
                    _clear_unfilled(cropped, windows, kept, position, mask)
                if mean_sum is not None:
                    begin = max(0, mean_start - position)
                    for window in cropped[begin + -(position + begin) % mean_step :: mean_step]:
                        add_finite(mean_sum, window)
                position += len(cropped)
                writing.submit(cropped)
            on_chunk(last, writing.settle)
            if last < plan.n_items and stopping:
                writing.settle()
                stopping.check("stopped while cropping")


class _WriteBehind:
    """Hand blocks to a sink in a thread, one at a time: the next chunk is cut while this one is written.

    With two buffers that take turns, a buffer is used again only after the block before the last was written.
    """

    def __init__(self, sink: Callable[[NDArray[Any]], None]) -> None:
        self._sink = sink
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="stackalign-write")
        self._pending: Future[None] | None = None

    def submit(self, block: NDArray[Any]) -> None:
        """Wait for the block before, then hand this one over."""
        self.settle()
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
            self._pool.shutdown(wait=True)


def _clear_unfilled(
    cropped: NDArray[Any],
    windows: Windows,
    kept: NDArray[np.float64],
    position: int,
    mask: NDArray[np.bool_] | None,
) -> None:
    """Zero the last row or column where truncation makes the legacy window shorter, and sum what is left."""
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
            kept[position + k] = ops.to_numpy(ops.pattern_summary(cropped[k], mask=valid, workers=1).total)[0]
