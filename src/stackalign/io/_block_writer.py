"""The part that writers of formats with blocks share: patterns are collected until a block can be stored as a whole."""

import os
import zlib
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import UnfitStateError
from stackalign.io._portable import CLOEXEC
from stackalign.io._writer import BaseWriter, WriteSpec, fsync_path, pwrite_all

__all__ = ["BlockWriter"]


class BlockWriter(BaseWriter):
    """Collects the patterns of a block and stores it when it is complete.

    A block is stored in one go, so that its bytes do not depend on the sizes of the parts that come in. A checkpoint
    keeps the patterns of the incomplete block as they are in a file beside the output, ``<name>.waiting``, which is
    deleted at the end. A format adds `_block_length`, `_store_block`, `_load_block`, `_sync_blocks` and
    `_complete_blocks`.

    Parameters
    ----------
    path : Path
    spec : WriteSpec
    kind : str
    """

    def __init__(self, path: Path, spec: WriteSpec, kind: str) -> None:
        super().__init__(path, spec, kind)
        self._stored = 0  # patterns in complete blocks
        self._filled = 0  # patterns that wait in the buffer
        self._buffer = np.empty((0, *spec.shape[1:]), spec.dtype)
        self._waiting = path.with_name(path.name + ".waiting")
        self._saved = 0  # how many of those in the buffer the file of waiting patterns holds

    @abstractmethod
    def _block_length(self, first: int) -> int:
        """Return how many patterns the block takes that begins with pattern `first`."""

    @abstractmethod
    def _store_block(self, first: int, block: NDArray[Any]) -> None:
        """Write a complete block."""

    @abstractmethod
    def _load_block(self, first: int, count: int) -> NDArray[Any]:
        """Read the patterns of a block back that was stored after the checkpoint."""

    @abstractmethod
    def _sync_blocks(self) -> None:
        """Make the complete blocks durable."""

    @abstractmethod
    def _complete_blocks(self, metadata: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None) -> None:
        """Write what comes last and make the file durable."""

    def _append(self, block: NDArray[Any]) -> None:
        done = 0
        while done < len(block):
            length = self._block_length(self._stored)
            if self._filled == 0 and len(block) - done >= length:
                self._store_block(self._stored, block[done : done + length])
                self._stored += length
                self._saved = 0
                done += length
                continue
            if self._filled == 0 and len(self._buffer) != length:
                self._buffer = np.empty((length, *self._spec.shape[1:]), self._spec.dtype)
            count = min(len(block) - done, length - self._filled)
            self._buffer[self._filled : self._filled + count] = block[done : done + count]
            self._filled += count
            done += count
            if self._filled == length:
                self._store_block(self._stored, self._buffer)
                self._stored += length
                self._filled = self._saved = 0

    def _sync(self) -> dict[str, Any]:
        self._sync_blocks()
        waiting = self._buffer[: self._filled]
        if self._filled > self._saved:
            self._save_waiting(waiting)
        return {"patterns": self._written, "stored": self._stored, "waiting_crc32": zlib.crc32(_raw(waiting))}

    def _save_waiting(self, waiting: NDArray[Any]) -> None:
        """Add the patterns that came since the last checkpoint; those of an earlier block are overwritten."""
        flags = os.O_WRONLY | os.O_CREAT | CLOEXEC | (0 if self._saved else os.O_TRUNC)
        new = not self._waiting.exists()
        fd = os.open(self._waiting, flags, 0o666)
        try:
            pwrite_all(fd, _raw(waiting[self._saved :]), self._saved * self._spec.pattern_bytes)
            os.fsync(fd)
        finally:
            os.close(fd)
        if new:
            fsync_path(self._waiting.parent)
        self._saved = self._filled

    def _resume_blocks(self, state: Mapping[str, Any]) -> None:
        """Take up the counts of a checkpoint; the format checks its blocks and calls `_refill` then."""
        self._written = self._resume_at(state)
        stored, crc = state.get("stored"), state.get("waiting_crc32")
        if not isinstance(stored, int) or not 0 <= stored <= self._written or not isinstance(crc, int):
            raise self._unfit(state)
        while self._stored < stored:
            self._stored += self._block_length(self._stored)
        waiting = self._written - stored
        if self._stored != stored or (waiting and waiting >= self._block_length(stored)):
            raise self._unfit(state)

    def _refill(self, state: Mapping[str, Any]) -> None:
        """Bring the patterns of the incomplete block back into the buffer."""
        self._filled = self._written - self._stored
        if not self._filled:
            self._waiting.unlink(missing_ok=True)
            return
        shape = (self._filled, *self._spec.shape[1:])
        self._buffer = np.empty((self._block_length(self._stored), *self._spec.shape[1:]), self._spec.dtype)
        size = self._filled * self._spec.pattern_bytes
        raw = b""
        if self._waiting.exists():
            with self._waiting.open("rb") as stream:
                raw = stream.read(size)
        if len(raw) == size and zlib.crc32(raw) == state["waiting_crc32"]:
            self._buffer[: self._filled] = np.frombuffer(raw, self._spec.dtype).reshape(shape)
            self._saved = self._filled
            return
        # The run went on after the checkpoint, so that the block was stored before it stopped.
        patterns = np.ascontiguousarray(self._load_block(self._stored, self._filled))
        if zlib.crc32(_raw(patterns)) != state["waiting_crc32"]:
            msg = f"the partial output {self._path} was changed since its state was saved"
            raise UnfitStateError(msg)
        self._buffer[: self._filled] = patterns
        self._waiting.unlink(missing_ok=True)

    def _complete(self, metadata: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None) -> None:
        self._complete_blocks(metadata, arrays)
        self._waiting.unlink(missing_ok=True)


def _raw(patterns: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(patterns).reshape(-1).view(np.uint8).data
