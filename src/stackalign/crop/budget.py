"""How many patterns of a crop are in memory at a time."""

import logging

import numpy as np

from stackalign.device import format_bytes
from stackalign.errors import DataError
from stackalign.io import StackInfo, StackReader
from stackalign.runs import ChunkPlan, require_fit

from .config import CroppingConfig

__all__ = ["buffers", "chunk_plan", "say_split"]

_log = logging.getLogger(__name__)

CACHE_BYTES = 16 * 2**20
"""A chunk of this size is still in the last-level cache when the kernels read what the reader has just written."""

ROW_BYTES = 160
"""Memory that a pattern takes besides its pixels: measurements, corners, retention, and copies of them."""


def chunk_plan(reader: StackReader, config: CroppingConfig, memory_limit: int) -> ChunkPlan:
    """Divide the stack so that all buffers stay within the limit.

    What the reader holds itself, two buffers that are read into, two for the windows (never larger than the frame),
    and one for a widened copy of types that the kernels do not take as they are.
    """
    info = reader.info
    rows = ROW_BYTES * info.shape[0]
    each = buffers(info, config) * info.pattern_bytes
    require_fit(reader, memory_limit - rows - each)
    if rows + each > memory_limit:
        msg = (
            f"the memory limit of {format_bytes(memory_limit)} is too small for {info.shape[0]} patterns: their rows "
            f"take {format_bytes(rows)}, and the buffers at least {format_bytes(each)}; raise it"
        )
        raise DataError(msg)
    memory_limit -= rows + (0 if info.chunk is None else info.chunk.nbytes)
    plan = ChunkPlan.from_budget(info.shape[0], each, min(memory_limit, 5 * CACHE_BYTES), config.chunk_size)
    if plan.size < min(config.chunk_size, info.shape[0]):
        _log.info("chunks of %d patterns (chunk_size %d does not fit)", plan.size, config.chunk_size)
    return plan


def buffers(info: StackInfo, config: CroppingConfig) -> int:
    """Memory that a pattern takes during a pass, in sizes of the pattern: see `chunk_plan`.

    A background takes another copy, in floats, and an output of another type one in that type.
    """
    size = info.dtype.itemsize
    more = 0 if config.background is None else -(-(8 if size > 2 else 4) // size)
    if config.output_dtype is not None:
        more += -(-np.dtype(config.output_dtype).itemsize // size)
    return 5 + more


def say_split(size: int, error: MemoryError) -> None:
    """Tell the user that chunks got smaller."""
    _log.warning("the device ran out of memory (%s); going on with %d patterns at a time", error, size)
