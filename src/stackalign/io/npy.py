"""NumPy files (.npy)."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError
from stackalign.io._flat import FlatReader
from stackalign.io._protocol import StackReader
from stackalign.io._reader import OpenOptions, damage_as_data_error, make_info
from stackalign.io._shapes import interpret_shape
from stackalign.io._writer import FlatWriter, WriteSpec
from stackalign.io.memory import ArrayReader

__all__ = ["create_writer", "open_numbers", "open_reader", "read_header", "write_images"]


def open_reader(path: Path, options: OpenOptions) -> StackReader:
    """Open a .npy file by its header; the data stay on disk."""
    with damage_as_data_error(str(path), "the NumPy header"), path.open("rb") as file:
        shape, fortran, dtype = read_header(file, str(path))
        offset = file.tell()
    return open_numbers(path, shape, fortran, dtype, offset, options)


def open_numbers(
    path: Path, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any], offset: int, options: OpenOptions
) -> StackReader:
    """Read what a NumPy header describes, and what follows it at an offset."""
    layout = interpret_shape(shape, str(path), scan_shape=options.scan_shape, single=True)
    info = make_info(layout, dtype, str(path), metadata={"single": True} if len(shape) == 2 else None)
    in_order = sum(n > 1 for n in shape) <= 1
    if not fortran or in_order or math.prod(shape[1:]) == 1:
        return FlatReader(path, info, dtype, offset)
    # In Fortran order each pattern is scattered over the whole file: each block would read all of it.
    if info.nbytes > options.memory_limit:
        msg = (
            f"{path} is stored in Fortran order and its {info.nbytes} bytes are above the memory limit of "
            f"{options.memory_limit}; save it again with numpy.ascontiguousarray"
        )
        raise DataError(msg)
    with damage_as_data_error(str(path), "the data"), FlatReader(path, info, dtype, offset) as flat:
        numbers = np.empty(info.shape, info.dtype)
        flat.read(0, info.shape[0], numbers)
    array = np.ascontiguousarray(numbers.reshape(shape[::-1]).T)
    return ArrayReader(array, layout, info, path=path)


def read_header(file: Any, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether in Fortran order, and dtype of the array that begins here."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    # Version 3 exists for field names outside latin-1, that is for records, which are no patterns.
    msg = f"{name} is a NumPy file of version {version[0]}.{version[1]}, that is of records; expected plain numbers"
    raise DataError(msg)


def create_writer(path: Path, spec: WriteSpec, resume: dict[str, Any] | None) -> FlatWriter:
    """Create or reopen a .npy file of known shape."""
    header = io.BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(spec.dtype), "fortran_order": False, "shape": spec.array_shape}
    np.lib.format.write_array_header_1_0(header, fields)
    prologue = header.getvalue()
    return FlatWriter(path, spec, "npy", len(prologue), prologue=prologue, resume=resume)


def write_images(path: Path, images: NDArray[Any], header: str | None = None) -> None:
    """Write a whole array; a .npy file has no place for a header."""
    with path.open("wb") as file:
        np.save(file, images)
