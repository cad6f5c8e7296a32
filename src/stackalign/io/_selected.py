"""Some of the frames of a file as a scan, and several files as one."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError
from stackalign.io._protocol import StackInfo, StackReader
from stackalign.io._reader import BaseReader

__all__ = ["ChainedReader", "select_frames"]

_MOST_OPEN = 16


def select_frames(
    base: StackReader, name: str, scan_shape: tuple[int, ...] | None, skip_frames: int, skip_per_row: int
) -> StackReader:
    """Leave out frames before the scan, and at the end of each of its rows.

    Parameters
    ----------
    base : StackReader
        All frames of the file. ``metadata["stated_scan"]`` is a scan shape that the file states.
    name : str
        Of the file, for messages.
    scan_shape : tuple of int, optional
        (rows, columns) of what remains.
    skip_frames : int
        Frames before the first of the scan.
    skip_per_row : int
        Frames behind each row, as they are taken while the beam flies back; they may be missing behind the last row.

    Returns
    -------
    StackReader
    """
    total = base.info.shape[0]
    available = total - skip_frames
    if min(skip_frames, skip_per_row) < 0 or available < 1:
        msg = f"{name} has {total} frames, of which {skip_frames} cannot be skipped; give fewer, from 0"
        raise DataError(msg)
    scan = scan_shape or base.info.metadata.get("stated_scan") or _within(base.info.scan_shape, skip_per_row)
    if skip_per_row and (scan is None or len(scan) != 2):
        msg = (
            f"{name} does not say how many patterns a row of its scan has, so that {skip_per_row} frames behind each "
            "cannot be left out: state the scan shape, rows and columns, as well"
        )
        raise DataError(msg).with_hint("scan_shape")
    if scan is None or (scan_shape is None and not skip_per_row and math.prod(scan) != available):
        scan = (available,)
    rows, columns = math.prod(scan[:-1]), int(scan[-1])
    period = columns + skip_per_row
    needed = (rows - 1) * period + columns
    if needed > available:
        msg = (
            f"{name} holds {available} frames behind the {skip_frames} that are skipped; the scan "
            f"{' x '.join(map(str, scan))} with {skip_per_row} frames left out for each row needs {needed}: state a "
            "scan that fits"
        )
        raise DataError(msg)
    ignored = available - needed
    metadata = {key: value for key, value in base.info.metadata.items() if key not in ("ignored_frames", "stated_scan")}
    metadata |= {"skipped_frames": skip_frames, "skipped_per_row": skip_per_row}
    if ignored not in (0, skip_per_row):
        metadata["ignored_frames"] = ignored
    height, width = base.info.shape[1:]
    info = StackInfo(
        (rows * columns, height, width), base.info.dtype, tuple(int(n) for n in scan),
        calibration=base.info.calibration, mask=base.info.mask, metadata=metadata,
    )  # fmt: skip
    return _SelectedReader(base, info, skip_frames, columns, period)


def _within(scan_shape: tuple[int, ...], skip_per_row: int) -> tuple[int, ...] | None:
    """Scan without its flyback, where the file's own rows have the length of both."""
    if len(scan_shape) != 2 or scan_shape[1] <= skip_per_row:
        return None
    return scan_shape[0], scan_shape[1] - skip_per_row


class _SelectedReader(BaseReader):
    """Rows of `columns` patterns, of which one begins every `period` frames from `first` on."""

    def __init__(self, base: StackReader, info: StackInfo, first: int, columns: int, period: int) -> None:
        super().__init__(base.path, info)
        self._base = base
        self._first = first
        self._columns = columns
        self._period = period

    def _read(self, start: int, stop: int, out: NDArray[Any]) -> None:
        if self._columns == self._period:
            self._base.read(self._first + start, self._first + stop, out)
            return
        k = start
        while k < stop:
            row, column = divmod(k, self._columns)
            count = min(stop - k, self._columns - column)
            frame = self._first + row * self._period + column
            self._base.read(frame, frame + count, out[k - start : k - start + count])
            k += count

    def fingerprint(self) -> str:
        """Identify the content: that of the file."""
        return self._base.fingerprint()

    def close(self) -> None:
        """Release the file."""
        self._base.close()
        super().close()


class ChainedReader(BaseReader):
    """Files whose patterns follow one another; a few of them are open at a time.

    Parameters
    ----------
    paths : list of Path
        Files of one frame and dtype.
    counts : list of int
        Patterns in each.
    opener : callable
        Opens one of them.
    info : StackInfo
        Of all.
    also : list of Path
        Further files that belong to the content.
    """

    def __init__(
        self,
        paths: list[Path],
        counts: list[int],
        opener: Callable[[Path], StackReader],
        info: StackInfo,
        also: list[Path],
    ) -> None:
        super().__init__(paths[0], info)
        self._paths = paths
        self._counts = counts
        self._ends = np.cumsum(counts)
        self._opener = opener
        self._open: dict[int, StackReader] = {}
        self._also = also

    def _part(self, number: int) -> StackReader:
        if number not in self._open:
            if len(self._open) >= _MOST_OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[number] = self._opener(self._paths[number])
        return self._open[number]

    def _read(self, start: int, stop: int, out: NDArray[Any]) -> None:
        k = start
        while k < stop:
            number = int(np.searchsorted(self._ends, k, side="right"))
            first = k - (int(self._ends[number]) - self._counts[number])
            count = min(stop - k, self._counts[number] - first)
            self._part(number).read(first, first + count, out[k - start : k - start + count])
            k += count

    def _files(self) -> list[Path]:
        return [*self._paths, *self._also]

    def close(self) -> None:
        """Release the files."""
        for part in self._open.values():
            part.close()
        self._open = {}
        super().close()
