"""Merlin detectors (.mib): every pattern behind an ASCII header of its own."""

import contextlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stackalign.errors import DataError
from stackalign.io._flat import FlatReader
from stackalign.io._gate import Confinement
from stackalign.io._protocol import StackReader
from stackalign.io._reader import OpenOptions, make_info
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
    """Open a Merlin file; rows come in the order of the file."""
    with path.open("rb") as file:
        header = _read_header(file, path, 0, 0)
        if header.dtype not in _DTYPES:
            msg = (
                f"{path} holds raw counter data ({header.dtype}), whose pixel order depends on chip and counter depth; "
                "export it as U08, U16 or U32 with the detector's software"
            )
            raise DataError(msg)
        dtype = np.dtype(_DTYPES[header.dtype])
        frame = header.width * header.height * dtype.itemsize
        stride = header.size + frame
        acquired = _acquisition(file)
        size = path.stat().st_size
        complete, rest = divmod(size, stride)
        beside = path.with_suffix(".hdr")
        fields = {}
        if beside.exists():
            Confinement(path, options.allow_external).resolve(beside.name)
            fields = _read_hdr(beside)
        promised = _promised(fields)
        source = f"its header {beside.name}"
        count = choose_frames(str(path), complete, rest, promised, source, options.scan_shape, options.copy_again())
        last = _read_header(file, path, (count - 1) * stride, count - 1)
    if last != header:
        msg = f"frame {count - 1} of {path} has another header ({last}) than the first; copy the file again"
        raise DataError(msg)
    scan_shape = options.scan_shape or _scan_shape(fields, count)
    layout = interpret_shape((count, header.height, header.width), str(path), scan_shape=scan_shape)
    metadata: dict[str, Any] = {"detector": "Merlin", "chips": header.chips, **acquired}
    if complete > count:
        metadata["ignored_frames"] = complete - count
    info = make_info(layout, dtype, str(path), metadata=metadata)
    return FlatReader(path, info, dtype, header.size, stride, also=[beside] if fields else [])


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


def _read_hdr(path: Path) -> dict[str, str]:
    """Read the text file that the detector's software writes beside the data."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        text = file.read(65536).decode("latin-1")
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            # "Frames per Trigger (Number):" and "Frames per Trigger:" both occur.
            fields[re.sub(r"\s*\(.*", "", key).strip()] = value.strip()
    return fields


def _number(fields: dict[str, str], key: str) -> int | None:
    text = fields.get(key, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 and int(text) > 0 else None


def _promised(fields: dict[str, str]) -> int | None:
    rows, columns = _number(fields, "ScanY"), _number(fields, "ScanX")
    if rows is not None and columns is not None:
        return rows * columns
    return _number(fields, "Frames in Acquisition")


def _scan_shape(fields: dict[str, str], count: int) -> tuple[int, int] | None:
    rows, columns = _number(fields, "ScanY"), _number(fields, "ScanX")
    if rows is not None and columns is not None and math.prod((rows, columns)) == count:
        return rows, columns
    row = _number(fields, "Frames per Trigger")
    # One trigger per scan row is how scans are usually driven.
    if row is not None and 1 < row < count and count % row == 0:
        return count // row, row
    return None
