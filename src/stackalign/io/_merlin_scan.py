"""How many frames a Merlin acquisition has, in which files, and what scan they are."""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stackalign.io._portable import CLOEXEC, pread

__all__ = [
    "promised",
    "read_hdr",
    "scan_of_header",
    "scan_of_times",
    "series_from",
    "series_start",
    "stated_scan",
    "too_many_frames",
]

_HEAD_BYTES = 256
_MOST_TIMES = 1 << 18
_LEAST_GAP_NS = 2000
_NUMBERED = re.compile(r"(.*?)(\d+)\.mib", re.IGNORECASE)
_TIME = re.compile(r"(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?")
_DAY_NS = 86_400 * 10**9


def read_hdr(path: Path) -> dict[str, str]:
    """Read the text file that the detector's software writes beside the data."""
    fields: dict[str, str] = {}
    for line in path.read_bytes()[:65536].decode("latin-1").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            # "Frames per Trigger (Number):" and "Frames per Trigger:" both occur.
            fields[re.sub(r"\s*\(.*", "", key).strip()] = value.strip()
    return fields


def _number(fields: dict[str, str], key: str) -> int | None:
    text = fields.get(key, "")
    return int(text) if text.isdigit() and int(text) > 0 else None


def stated_scan(fields: dict[str, str]) -> tuple[int, int] | None:
    """Scan shape as the header states it, whatever the number of frames is."""
    rows, columns = _number(fields, "ScanY"), _number(fields, "ScanX")
    return None if rows is None or columns is None else (rows, columns)


def promised(fields: dict[str, str]) -> int | None:
    """Number of frames according to the header."""
    stated = stated_scan(fields)
    return math.prod(stated) if stated is not None else _number(fields, "Frames in Acquisition")


def too_many_frames(name: str, complete: int, stated: tuple[int, int], beside: str) -> str:
    """Say what to do about frames that the scan of the header does not need."""
    rows, columns = stated
    extra = complete - rows * columns
    begin = f"{name} holds {complete} frames, its header {beside} says a scan of {rows} x {columns}: "
    for intervals in (rows, rows - 1):
        if intervals and extra % intervals == 0:
            each = extra // intervals
            return (
                f"{begin}{each} more behind each row, as the flyback of the beam leaves them; leave them out "
                f"(skip_per_row={each}, --skip-per-row {each})"
            )
    return (
        f"{begin}{extra} too many; leave out those that come before the scan (skip_frames={extra}, --skip-frames "
        f"{extra}), or state the scan shape to read the first {rows * columns} (--scan-shape {rows},{columns})"
    )


def scan_of_header(fields: dict[str, str], count: int) -> tuple[int, int] | None:
    """Scan shape of the header, if it has that many frames; else what its triggers say."""
    stated = stated_scan(fields)
    if stated is not None and math.prod(stated) == count:
        return stated
    row = _number(fields, "Frames per Trigger")
    # One trigger per scan row is how scans are usually driven.
    if row is not None and 1 < row < count and count % row == 0:
        return count // row, row
    return None


def scan_of_times(paths: Sequence[Path], counts: Sequence[int]) -> tuple[int, int] | None:
    """Scan shape by the pauses between rows, where the frames' time stamps have such at regular distances."""
    count = sum(counts)
    if not 4 <= count <= _MOST_TIMES:
        return None
    times = np.concatenate([_times(path, number) for path, number in zip(paths, counts, strict=True) if number])
    if (times < 0).any():
        return None
    steps = np.diff(times) % _DAY_NS
    excess = steps - np.median(steps)
    jitter = float(np.median(np.abs(excess)))
    begins = 1 + np.flatnonzero(excess > max(_LEAST_GAP_NS, 8 * jitter))
    if not begins.size:
        return None
    row = int(begins[0])
    regular = row > 1 and count % row == 0 and np.array_equal(begins, np.arange(row, count, row))
    return (count // row, row) if regular else None


def _times(path: Path, count: int) -> NDArray[np.int64]:
    """Time of day of each frame in nanoseconds, -1 where its header has none."""
    stride = path.stat().st_size // count
    times = np.full(count, -1, np.int64)
    fd = os.open(path, os.O_RDONLY | CLOEXEC)
    try:
        for k in range(count):
            clock = _TIME.search(pread(fd, _HEAD_BYTES, k * stride).decode("latin-1"))
            if clock is None:
                break
            hours, minutes, seconds, fraction = clock.groups()
            whole = (int(hours) * 60 + int(minutes)) * 60 + int(seconds)
            times[k] = whole * 10**9 + int((fraction or "0").ljust(9, "0"))
    finally:
        os.close(fd)
    return times


def series_start(path: Path) -> Path:
    """First file of the acquisition that a file belongs to: itself, unless files of lower numbers go on in it."""
    numbered = _NUMBERED.fullmatch(path.name)
    if numbered is None:
        return path
    first = number = int(numbered[2])
    while first > 0 and _numbered(path, first - 1).is_file():
        first -= 1
    while first < number:
        parts = series_from(_numbered(path, first))
        if first + len(parts) > number:
            return parts[0]
        first += len(parts)
    return path


def series_from(path: Path) -> list[Path]:
    """Files of the acquisition that a file begins: ``name_0000.mib``, ``name_0001.mib`` and so on.

    Numbered files are one acquisition if the numbers of their frames go on from one to the next, or if the header of
    the first promises as many frames as all of them have and the others have no header of their own.
    """
    numbered = _NUMBERED.fullmatch(path.name)
    if numbered is None:
        return [path]
    number = int(numbered[2])
    parts = [path]
    while (following := _numbered(path, number + len(parts))).is_file():
        parts.append(following)
    continuing = [path]
    for part in parts[1:]:
        if not _goes_on(continuing[-1], part):
            break
        continuing.append(part)
    beside = path.with_suffix(".hdr")
    if len(parts) > 1 and len(continuing) == 1 and beside.exists():
        frames = promised(read_hdr(beside))
        own_headers = any(part.with_suffix(".hdr").exists() for part in parts[1:])
        counts = [layout[1] for layout in map(_layout, parts) if layout is not None]
        if not own_headers and len(counts) == len(parts) and sum(counts) == frames:
            return parts
    return continuing


def _numbered(path: Path, k: int) -> Path:
    """File of another number in the same series."""
    numbered = _NUMBERED.fullmatch(path.name)
    assert numbered is not None
    return path.with_name(f"{numbered[1]}{k:0{len(numbered[2])}d}{path.suffix}")


def _layout(path: Path) -> tuple[int, int] | None:
    """Bytes of a frame with its header, and the number of frames; None where the file is no Merlin file."""
    with path.open("rb") as file:
        fields = file.read(_HEAD_BYTES).decode("latin-1").split(",")
    try:
        size, width, height = int(fields[2]), int(fields[4]), int(fields[5])
        pixel = {"U08": 1, "U16": 2, "U32": 4, "U64": 8}[fields[6].strip()]
    except (IndexError, ValueError, KeyError):
        return None
    stride = size + width * height * pixel
    return (stride, path.stat().st_size // stride) if stride > 0 else None


def _goes_on(path: Path, following: Path) -> bool:
    """Tell whether the frame numbers of a file go on in another."""
    layout = _layout(path)
    other = _layout(following)
    if layout is None or other is None or layout[0] != other[0] or not layout[1]:
        return False
    stride, count = layout
    last, first = _frame_number(path, (count - 1) * stride), _frame_number(following, 0)
    cut_off = path.stat().st_size % stride != 0  # then the frame that was lost had a number too
    return last is not None and first in ((last + 1, last + 2) if cut_off else (last + 1,))


def _frame_number(path: Path, position: int) -> int | None:
    with path.open("rb") as file:
        file.seek(position)
        fields = file.read(16).decode("latin-1").split(",")
    return int(fields[1]) if fields[0] == "MQ1" and len(fields) > 1 and fields[1].strip().isdigit() else None
