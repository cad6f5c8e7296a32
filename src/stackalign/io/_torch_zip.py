"""The zip archive that `torch.save` writes, for one tensor of known shape, without holding it in memory.

The archive is an uncompressed zip with a pickle that names the tensor's shape and dtype, the raw numbers, and a few
words on versions. All is known before the first pattern but the checksum of the numbers: it is patched in at the end.
Nothing here imports torch: the names in the pickle are part of the file format.
"""

import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stackalign.errors import DataError
from stackalign.io._portable import pwrite
from stackalign.io._writer import FlatWriter, WriteSpec

__all__ = ["TensorArchive", "create_writer", "tensor_pickle"]

_STORAGE = {
    "u1": "ByteStorage",
    "i1": "CharStorage",
    "i2": "ShortStorage",
    "i4": "IntStorage",
    "i8": "LongStorage",
    "f2": "HalfStorage",
    "f4": "FloatStorage",
    "f8": "DoubleStorage",
}
# These dtypes came late and have no storage class: torch saves them as bytes plus the name of the dtype.
_UNTYPED = {"u2": "uint16", "u4": "uint32", "u8": "uint64"}
_ALIGNMENT = 64
_DOS_DATE = 0x21  # 1980-01-01, the zero of zip, as torch writes it: the bytes must not depend on the clock
_ZIP64_FROM = 0xFFFFFFFF


def tensor_pickle(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Pickle a contiguous tensor whose numbers lie in the record ``data/0``, as `torch.save` does."""
    code = f"{dtype.kind}{dtype.itemsize}"
    count = math.prod(shape)
    if code in _STORAGE:
        function, storage, size, tail = "_rebuild_tensor_v2", f"ctorch\n{_STORAGE[code]}\n", count, b""
    elif code in _UNTYPED:
        function, storage, size = "_rebuild_tensor_v3", "ctorch.storage\nUntypedStorage\n", count * dtype.itemsize
        tail = f"ctorch\n{_UNTYPED[code]}\n".encode()
    else:
        msg = f"a .pt file cannot hold the dtype {dtype}; choose an integer or float dtype"
        raise DataError(msg)
    strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    parts = [
        b"\x80\x02",  # protocol 2
        f"ctorch._utils\n{function}\n".encode(),
        b"((",
        _text("storage"),
        storage.encode(),
        _text("0"),
        _text("cpu"),
        _integer(size),
        b"tQ",  # the tuple is a persistent id: the reader fetches record data/0
        _integer(0),
        _tuple(shape),
        _tuple(strides),
        b"\x89",  # requires_grad=False
        b"ccollections\nOrderedDict\n)R",  # no hooks
        tail,
        b"tR.",
    ]
    return b"".join(parts)


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _integer(value: int) -> bytes:
    if value < 256:
        return b"K" + bytes([value])
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def _tuple(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(_integer(value) for value in values) + b"t"


@dataclass(frozen=True)
class _Record:
    name: bytes
    size: int
    crc: int
    position: int


class TensorArchive:
    """Layout of the archive: a prologue up to the numbers, and the directory behind them.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._nbytes = math.prod(shape) * dtype.itemsize
        self._records: list[_Record] = []
        parts: list[bytes] = []
        position = 0
        for name, content in (
            ("data.pkl", tensor_pickle(shape, dtype)),
            (".format_version", b"1"),
            (".storage_alignment", str(_ALIGNMENT).encode()),
            ("byteorder", b"little"),
            ("version", b"3\n"),
        ):
            record = _Record(f"archive/{name}".encode(), len(content), zlib.crc32(content), position)
            part = _local_header(record) + content
            self._records.append(record)
            parts.append(part)
            position += len(part)
        self._data = _Record(b"archive/data/0", self._nbytes, 0, position)
        parts.append(_local_header(self._data))
        self.prologue = b"".join(parts)

    @property
    def offset(self) -> int:
        """Position of the numbers."""
        return len(self.prologue)

    def complete(self, fd: int, crc: int) -> None:
        """Write the directory behind the numbers and their checksum into both headers."""
        records = [*self._records, _Record(self._data.name, self._data.size, crc, self._data.position)]
        directory = b"".join(_central_header(record) for record in records)
        start = self.offset + self._nbytes
        tail = directory + _end_of_directory(len(records), len(directory), start)
        os.ftruncate(fd, start)
        done = 0
        while done < len(tail):
            done += pwrite(fd, tail[done:], start + done)
        pwrite(fd, struct.pack("<I", crc), self._data.position + 14)


def _local_header(record: _Record) -> bytes:
    """Header before a record, padded so that its content starts on a multiple of the alignment."""
    large = record.size >= _ZIP64_FROM
    extra = struct.pack("<HHQQ", 1, 16, record.size, record.size) if large else b""
    end = record.position + 30 + len(record.name) + len(extra)
    padding = -(end + 4) % _ALIGNMENT
    extra += struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    size = _ZIP64_FROM if large else record.size
    version = 45 if large else 20
    fixed = struct.pack(
        "<4sHHHHHIIIHH",
        b"PK\x03\x04",
        version,
        0,
        0,
        0,
        _DOS_DATE,
        record.crc,
        size,
        size,
        len(record.name),
        len(extra),
    )
    return fixed + record.name + extra


def _central_header(record: _Record) -> bytes:
    large = [value for value in (record.size, record.size, record.position) if value >= _ZIP64_FROM]
    extra = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) if large else b""
    size = min(record.size, _ZIP64_FROM)
    version = 45 if large else 20
    fixed = struct.pack(
        "<4sHHHHHHIIIHHHHHII",
        b"PK\x01\x02",
        version,
        version,
        0,
        0,
        0,
        _DOS_DATE,
        record.crc,
        size,
        size,
        len(record.name),
        len(extra),
        0,
        0,
        0,
        0,
        min(record.position, _ZIP64_FROM),
    )
    return fixed + record.name + extra


def _end_of_directory(count: int, size: int, start: int) -> bytes:
    end = b""
    if start >= _ZIP64_FROM:
        end += struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start)
        end += struct.pack("<4sIQI", b"PK\x06\x07", 0, start + size, 1)
    return end + struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, size, min(start, _ZIP64_FROM), 0)


def create_writer(path: Path, spec: WriteSpec, resume: dict[str, Any] | None) -> FlatWriter:
    """Create or reopen a .pt file that holds one tensor."""
    archive = TensorArchive(spec.array_shape, spec.dtype)
    return FlatWriter(
        path,
        spec,
        "pt",
        archive.offset,
        prologue=archive.prologue,
        epilogue=archive.complete,
        with_crc=True,
        resume=resume,
    )
