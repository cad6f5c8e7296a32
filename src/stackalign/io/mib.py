"""Merlin detectors (.mib): every pattern behind an ASCII header of its own."""

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stackalign.errors import DataError
from stackalign.io._flat import FlatReader
from stackalign.io._gate import Confinement, require_file
from stackalign.io._merlin_raw import RawLayout
from stackalign.io._merlin_scan import (
    promised,
    read_hdr,
    scan_of_header,
    scan_of_times,
    series_from,
    series_start,
    stated_scan,
    too_many_frames,
)
from stackalign.io._protocol import StackInfo, StackReader
from stackalign.io._reader import OpenOptions, damage_as_data_error, make_info
from stackalign.io._selected import ChainedReader
from stackalign.io._shapes import choose_frames, interpret_shape

__all__ = ["open_reader", "read_header", "series_from"]

_DTYPES = {"U08": "u1", "U16": ">u2", "U32": ">u4", "U64": ">u8"}
_LONGEST = 16384


@dataclass(frozen=True)
class _Header:
    """Fields of a frame's header; `raw` is the layout of raw counters."""

    size: int
    chips: int
    width: int
    height: int
    code: str
    raw: RawLayout | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels in the file, or as raw counters are handed out."""
        return np.dtype(_DTYPES[self.code]) if self.raw is None else self.raw.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the image."""
        return (self.height, self.width) if self.raw is None else self.raw.shape

    @property
    def stride(self) -> int:
        """Bytes from one frame to the next."""
        frame = self.width * self.height * self.dtype.itemsize if self.raw is None else self.raw.frame_bytes
        return self.size + frame

    def reader(self, path: Path, info: StackInfo, also: list[Path] | None = None) -> FlatReader:
        """Open the frames of a file."""
        if self.raw is None:
            return FlatReader(path, info, self.dtype, self.size, self.stride, also=also)
        frame = self.raw.frame_bytes
        return FlatReader(
            path, info, self.dtype, self.size, self.stride, decode=self.raw.decode, frame_bytes=frame, also=also
        )


def open_reader(path: Path, options: OpenOptions) -> StackReader:
    """Open a Merlin file, or the series of files that it begins; rows come in the order of the file."""
    start = series_start(path)
    if start != path:
        msg = f"{path} continues {start.name}: open that file, the first of the series, which is read as one scan"
        raise DataError(msg)
    beside = path.with_suffix(".hdr")
    bounds = Confinement(path, options.allow_external)
    fields = read_hdr(bounds.resolve(beside.name)) if beside.exists() else {}
    with path.open("rb") as file:
        header = _read_header(file, path, 0, 0)
        acquired = _acquisition(file)
    if header.raw is None and header.code not in _DTYPES:
        msg = (
            f"{path} holds raw counter data ({header.code}) of chips or of a counter depth whose pixel order is not "
            "known; export it as U08, U16 or U32 with the detector's software"
        )
        raise DataError(msg)
    parts = series_from(path)
    for part in parts[1:]:
        bounds.resolve(part.name)
    counts, rest = _frames(parts, header)
    metadata: dict[str, Any] = {"detector": "Merlin", "chips": header.chips, **acquired}
    name = str(path)
    if len(parts) > 1:
        metadata["files"] = len(parts)
        name = f"the series of {len(parts)} files from {path}"
    count, scan_shape = _scan(name, counts, rest, fields, beside.name, options, metadata)
    _check_last(parts, counts, count)
    if scan_shape is None and sum(counts) == count:
        scan_shape = scan_of_times(parts, counts)
    layout = interpret_shape((count, *header.shape), name, scan_shape=scan_shape)
    if sum(counts) > count:
        metadata["ignored_frames"] = sum(counts) - count
    if header.raw is not None:
        metadata["counter_bits"] = header.raw.depth
    info = make_info(layout, header.dtype, name, metadata=metadata)
    also = [beside] if fields else []
    if len(parts) == 1:
        return header.reader(path, info, also)
    return ChainedReader(parts, counts, _open_part, info, also)


def _frames(parts: list[Path], header: _Header) -> tuple[list[int], int]:
    """Complete frames in each file, and bytes behind those of the last one."""
    counts: list[int] = []
    rest = 0
    for part in parts:
        if rest:
            before = parts[len(counts) - 1]
            msg = f"{before} ends within pattern {counts[-1]} and other files of its series follow; copy it again"
            raise DataError(msg)
        complete, rest = divmod(part.stat().st_size, header.stride)
        counts.append(complete)
        if part != parts[0]:
            with part.open("rb") as file:
                other = _read_header(file, part, 0, 0)
            if other != header:
                msg = f"{part} has another header ({other}) than {parts[0].name}, the first of its series"
                raise DataError(msg)
    return counts, rest


def _scan(
    name: str,
    counts: list[int],
    rest: int,
    fields: dict[str, str],
    beside: str,
    options: OpenOptions,
    metadata: dict[str, Any],
) -> tuple[int, tuple[int, ...] | None]:
    """How many frames are read, and the scan shape that is stated for them."""
    complete = sum(counts)
    stated = stated_scan(fields)
    if options.skip_frames or options.skip_per_row:
        if stated is not None:
            metadata["stated_scan"] = stated
        return choose_frames(name, complete, rest if not complete else 0, None, "", None), None
    if options.scan_shape is None and not rest and stated is not None and complete > math.prod(stated):
        raise DataError(too_many_frames(name, complete, stated, beside))
    source = f"its header {beside}"
    count = choose_frames(name, complete, rest, promised(fields), source, options.scan_shape)
    return count, options.scan_shape or scan_of_header(fields, count)


def _check_last(parts: list[Path], counts: list[int], count: int) -> None:
    """Look at the last frame that is read: what lies behind it may be damaged, as in an interrupted acquisition."""
    before = 0
    for part, number in zip(parts, counts, strict=True):
        if number:
            _check_header(part, min(number, max(1, count - before)) - 1)
        before += number
        if before >= count:
            return


def _open_part(path: Path) -> StackReader:
    """All complete frames of a file."""
    with path.open("rb") as file:
        header = _read_header(file, path, 0, 0)
    count = path.stat().st_size // header.stride
    return header.reader(path, make_info(interpret_shape((count, *header.shape), str(path)), header.dtype, str(path)))


def _check_header(path: Path, frame: int) -> None:
    """Refuse a file one of whose frames has another header than the first."""
    with path.open("rb") as file:
        header = _read_header(file, path, 0, 0)
        ending = _read_header(file, path, frame * header.stride, frame)
    if ending != header:
        msg = f"frame {frame} of {path} has another header ({ending}) than the first; copy the file again"
        raise DataError(msg)


def read_header(path: Path, position: int = 0) -> tuple[_Header, str]:
    """Fields of the header at a byte of a file, and its text.

    Raises
    ------
    DataError
        There is no header.
    """
    require_file(path)
    with damage_as_data_error(str(path), "the header"), path.open("rb") as file:
        header = _read_header(file, path, position, 0)
        file.seek(position)
        return header, file.read(header.size).decode("latin-1").rstrip("\0 \n\r")


def _read_header(file: BinaryIO, path: Path, position: int, frame: int) -> _Header:
    file.seek(position)
    fields = file.read(256).decode("latin-1").split(",")
    if fields[0] != "MQ1" or len(fields) < 7:
        msg = f"frame {frame} of {path} does not begin with the header of a Merlin frame (MQ1): the file is damaged"
        raise DataError(msg)
    try:
        size, chips, width, height = (int(text) for text in fields[2:6])
    except ValueError as error:
        msg = f"the header of frame {frame} of {path} is damaged ({','.join(fields[:7])!r}); copy the file again"
        raise DataError(msg) from error
    if not 0 < size <= _LONGEST or width < 1 or height < 1:
        msg = f"the header of frame {frame} of {path} is damaged: {size} bytes, {width} x {height} pixels"
        raise DataError(msg)
    code = fields[6].strip()
    raw = None
    if code.startswith("R"):
        file.seek(position)
        raw = _raw_layout(file.read(size).decode("latin-1"), chips, width, height)
    return _Header(size, chips, width, height, code, raw)


def _raw_layout(header: str, chips: int, width: int, height: int) -> RawLayout | None:
    """Layout of raw counters: their depth is the last field of the header, before its padding."""
    fields = [field.strip() for field in header.rstrip("\0 \n\r").split(",")]
    depth = fields[-1]
    return RawLayout.of_header(int(depth), width, height, chips, fields[7]) if depth.isdigit() else None


def _acquisition(file: BinaryIO) -> dict[str, Any]:
    """When and for how long the first frame was taken, where its header says so."""
    file.seek(0)
    fields = [text.strip() for text in file.read(384).decode("latin-1").split(",")]
    facts: dict[str, Any] = {}
    if len(fields) > 10 and fields[9]:
        facts["time"] = fields[9]
        with contextlib.suppress(ValueError):
            seconds = float(fields[10])
            if math.isfinite(seconds) and seconds > 0:
                facts["exposure_s"] = seconds
    return facts
