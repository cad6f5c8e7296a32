"""Merlin detectors (.mib): every pattern behind an ASCII header of its own."""

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stackalign.errors import DataError
from stackalign.io._flat import FlatReader
from stackalign.io._merlin_scan import (
    promised,
    read_hdr,
    scan_of_header,
    scan_of_times,
    series_from,
    stated_scan,
    too_many_frames,
)
from stackalign.io._protocol import StackReader
from stackalign.io._reader import OpenOptions, make_info
from stackalign.io._selected import ChainedReader
from stackalign.io._shapes import choose_frames, interpret_shape

__all__ = ["open_reader"]

_DTYPES = {"U08": "u1", "U16": ">u2", "U32": ">u4", "U64": ">u8"}
_LONGEST = 16384


@dataclass(frozen=True)
class _Header:
    size: int
    chips: int
    width: int
    height: int
    dtype: str


def open_reader(path: Path, options: OpenOptions) -> StackReader:
    """Open a Merlin file, or the series of files that it begins; rows come in the order of the file."""
    beside = path.with_suffix(".hdr")
    fields = read_hdr(beside) if beside.exists() else {}
    parts = series_from(path, promised(fields))
    readers: list[StackReader] = []
    try:
        for k, part in enumerate(parts):
            readers.append(_open_part(part, [beside] if fields and k == 0 else [], last=k == len(parts) - 1))
        return _as_scan(readers, path, fields, beside.name, options)
    except BaseException:
        for reader in readers:
            reader.close()
        raise


def _as_scan(
    readers: list[StackReader], path: Path, fields: dict[str, str], beside: str, options: OpenOptions
) -> StackReader:
    """All frames as the scan that the caller, the header or the times of the frames state."""
    complete = sum(reader.info.shape[0] for reader in readers)
    metadata = dict(readers[0].info.metadata)
    rest = int(readers[-1].info.metadata.get("rest", 0))
    metadata.pop("rest", None)
    name = str(path) if len(readers) == 1 else f"the series of {len(readers)} files from {path}"
    if len(readers) > 1:
        metadata["files"] = len(readers)
    stated = stated_scan(fields)
    skipping = options.skip_frames > 0 or options.skip_per_row > 0
    if skipping:
        count, scan_shape = complete, None
        if stated is not None:
            metadata["stated_scan"] = stated
    else:
        if options.scan_shape is None and not rest and stated is not None and complete > math.prod(stated):
            raise DataError(too_many_frames(name, complete, stated, beside))
        source = f"its header {beside}"
        remedy = options.copy_again()
        count = choose_frames(name, complete, rest, promised(fields), source, options.scan_shape, remedy)
        scan_shape = options.scan_shape or scan_of_header(fields, count)
    before = 0
    for reader in readers:  # what lies behind the scan may be damaged, as in an interrupted acquisition
        number = reader.info.shape[0]
        if before < count <= before + number:
            _check_header(reader.path or path, count - 1 - before)
        before += number
    if scan_shape is None and complete == count:
        scan_shape = scan_of_times([reader.path or path for reader in readers], readers, count)
    height, width = readers[0].info.shape[1:]
    layout = interpret_shape((count, height, width), name, scan_shape=scan_shape)
    if complete > count:
        metadata["ignored_frames"] = complete - count
    info = make_info(layout, readers[0].info.dtype, name, metadata=metadata)
    return ChainedReader(readers, info)


def _open_part(path: Path, also: list[Path], *, last: bool) -> StackReader:
    """All complete frames of a file; ``metadata["rest"]`` has the number of bytes behind them."""
    with path.open("rb") as file:
        header = _read_header(file, path, 0, 0)
        if header.dtype not in _DTYPES:
            msg = (
                f"{path} holds raw counter data ({header.dtype}), whose pixel order depends on chip and counter depth; "
                "export it as U08, U16 or U32 with the detector's software"
            )
            raise DataError(msg)
        dtype = np.dtype(_DTYPES[header.dtype])
        stride = header.size + header.width * header.height * dtype.itemsize
        acquired = _acquisition(file)
        complete, rest = divmod(path.stat().st_size, stride)
        if rest and not last:
            msg = f"{path} ends within pattern {complete} and is followed by other files of its series; copy it again"
            raise DataError(msg)
    if not complete:
        choose_frames(str(path), complete, rest, None, "", None, "copy it again")
    if not last:
        _check_header(path, complete - 1)
    layout = interpret_shape((complete, header.height, header.width), str(path))
    metadata: dict[str, Any] = {"detector": "Merlin", "chips": header.chips, **acquired}
    if rest:
        metadata["rest"] = rest
    info = make_info(layout, dtype, str(path), metadata=metadata)
    return FlatReader(path, info, dtype, header.size, stride, also=also)


def _check_header(path: Path, frame: int) -> None:
    """Refuse a file one of whose frames has another header than the first."""
    with path.open("rb") as file:
        header = _read_header(file, path, 0, 0)
        stride = header.size + header.width * header.height * np.dtype(_DTYPES[header.dtype]).itemsize
        ending = _read_header(file, path, frame * stride, frame)
    if ending != header:
        msg = f"frame {frame} of {path} has another header ({ending}) than the first; copy the file again"
        raise DataError(msg)


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
    return _Header(size, chips, width, height, fields[6].strip())


def _acquisition(file: BinaryIO) -> dict[str, Any]:
    """When and for how long the first frame was taken, where its header says so."""
    file.seek(0)
    fields = [text.strip() for text in file.read(384).decode("latin-1").split(",")]
    found: dict[str, Any] = {}
    if len(fields) > 10 and fields[9]:
        found["time"] = fields[9]
        with contextlib.suppress(ValueError):
            seconds = float(fields[10])
            if math.isfinite(seconds) and seconds > 0:
                found["exposure_s"] = seconds
    return found
