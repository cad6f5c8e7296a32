"""The reader of files whose patterns lie plainly one behind the other."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError
from stackalign.io._gate import require_file, require_written
from stackalign.io._portable import CLOEXEC, preadv
from stackalign.io._protocol import StackInfo
from stackalign.io._reader import BaseReader

__all__ = ["FlatReader", "pread_exact"]

_SCRATCH_BYTES = 4 << 20
_LONGEST_GAP = 65536
# Linux takes at most 1024 buffers a call: one for the frame and one for the gap behind it.
_FRAMES_PER_CALL = 512

Decoder = Callable[[NDArray[np.uint8], NDArray[Any]], None]


def pread_exact(fd: int, buffer: memoryview, position: int) -> int:
    """Fill a byte buffer from a position in the file and return how many bytes there were."""
    done = 0
    while done < len(buffer):
        count = preadv(fd, [buffer[done:]], position + done)
        if count == 0:
            break
        done += count
    return done


class FlatReader(BaseReader):
    """Patterns that lie at ``offset + k * stride`` in one uncompressed file.

    Reads go straight from the page cache into the caller's array (`os.preadv`), so that memory stays as flat as the
    caller's blocks, whatever the size of the file. A mapped file would count as resident memory instead.

    Parameters
    ----------
    path : Path
    info : StackInfo
    stored : numpy.dtype
        Dtype in the file; it may differ from ``info.dtype`` in byte order.
    offset : int
        Position of the first pattern in the file.
    stride : int, optional
        Bytes from one pattern to the next, default without gaps.
    decode : callable, optional
        ``decode(raw, out)`` with raw (n, frame_bytes) uint8 and out (n, H, W), for data that are not plain numbers.
    frame_bytes : int, optional
        Stored size of a pattern, where `decode` is given.
    also : list of Path, optional
        Further files that belong to the content (headers beside the data).
    """

    def __init__(
        self,
        path: Path,
        info: StackInfo,
        stored: np.dtype[Any],
        offset: int,
        stride: int | None = None,
        *,
        decode: Decoder | None = None,
        frame_bytes: int | None = None,
        also: list[Path] | None = None,
    ) -> None:
        super().__init__(path, info)
        self._frame = frame_bytes or info.shape[1] * info.shape[2] * stored.itemsize
        self._stored = stored
        self._offset = offset
        self._stride = self._frame if stride is None else stride
        self._swap = not stored.isnative
        self._decode = decode
        self._also = also or []
        require_file(path, str(path))
        self._fd = os.open(path, os.O_RDONLY | CLOEXEC)
        try:
            self._check_size()
            require_written(self._fd, offset, self._name)
            if hasattr(os, "posix_fadvise"):
                # The two passes run through the file from front to back; what was read stays cached for the second.
                os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        except BaseException:
            os.close(self._fd)
            raise

    def recipe(self) -> dict[str, Any] | None:
        """Arguments of the same reader in another process, None where it decodes."""
        if self._decode is not None:
            return None
        return {
            "path": self._path,
            "info": self._info,
            "stored": self._stored,
            "offset": self._offset,
            "stride": self._stride,
            "frame_bytes": self._frame,
            "also": self._also,
        }

    def _check_size(self) -> None:
        count = self._info.shape[0]
        size = os.fstat(self._fd).st_size
        if size < self._offset + (count - 1) * self._stride + self._frame:
            complete = max(0, (size - self._offset - self._frame) // self._stride + 1) if size > self._offset else 0
            msg = (
                f"{self._name} is truncated: its header promises {count} patterns, the file holds {complete} complete "
                "ones; copy it again"
            )
            raise DataError(msg)

    def _read(self, start: int, stop: int, out: NDArray[Any]) -> None:
        if self._decode is not None:
            step = max(1, _SCRATCH_BYTES // self._frame)
            scratch = np.empty((min(step, stop - start), self._frame), np.uint8)
            for lo in range(start, stop, step):
                hi = min(stop, lo + step)
                raw = scratch[: hi - lo]
                self._fill(lo, hi, raw)
                self._decode(raw, out[lo - start : hi - start])
            return
        self._fill(start, stop, out.reshape(stop - start, -1).view(np.uint8))
        if self._swap:
            out.byteswap(inplace=True)

    def _fill(self, start: int, stop: int, raw: NDArray[np.uint8]) -> None:
        """Copy the stored bytes of patterns start..stop into the rows of raw."""
        gap = self._stride - self._frame
        view = raw.reshape(-1).data
        if gap == 0:
            done = pread_exact(self._fd, view, self._offset + start * self._stride)
            if done < len(view):
                self._ends_early(start + done // self._frame, start, stop)
        elif 0 < gap <= _LONGEST_GAP:
            self._fill_with_gaps(start, stop, view, memoryview(bytearray(gap)))
        else:
            for k in range(start, stop):
                self._fill_one(k, start, stop, view)

    def _fill_with_gaps(self, start: int, stop: int, view: memoryview, junk: memoryview) -> None:
        for lo in range(start, stop, _FRAMES_PER_CALL):
            hi = min(stop, lo + _FRAMES_PER_CALL)
            buffers: list[memoryview] = []
            for k in range(lo - start, hi - start):
                buffers += [view[k * self._frame : (k + 1) * self._frame], junk]
            buffers.pop()
            needed = (hi - lo) * self._frame + (hi - lo - 1) * len(junk)
            if preadv(self._fd, buffers, self._offset + lo * self._stride) < needed:
                # A short answer is legal (a signal, the 2 GiB limit): take these patterns one by one.
                for k in range(lo, hi):
                    self._fill_one(k, start, stop, view)

    def _fill_one(self, k: int, start: int, stop: int, view: memoryview) -> None:
        row = view[(k - start) * self._frame : (k - start + 1) * self._frame]
        if pread_exact(self._fd, row, self._offset + k * self._stride) < self._frame:
            self._ends_early(k, start, stop)

    def _ends_early(self, pattern: int, start: int, stop: int) -> None:
        msg = (
            f"{self._name} ends in pattern {pattern} while patterns {start}..{stop - 1} are read: "
            "it was truncated after it was opened; copy it again"
        )
        raise DataError(msg)

    def _files(self) -> list[Path]:
        return [*super()._files(), *self._also]

    def close(self) -> None:
        """Release the file."""
        if not self._closed:
            os.close(self._fd)
        super().close()
