"""Archives of NumPy arrays (.npz)."""

import math
import zipfile
from pathlib import Path

import numpy as np

from stackalign.errors import DataError
from stackalign.io._protocol import StackReader
from stackalign.io._reader import OpenOptions, damage_as_data_error, make_info
from stackalign.io._shapes import interpret_shape
from stackalign.io._zip import stored_position
from stackalign.io.memory import ArrayReader
from stackalign.io.npy import open_numbers, read_header

__all__ = ["open_reader"]


def open_reader(path: Path, options: OpenOptions) -> StackReader:
    """Open the one array of an archive: by position where it is stored plainly, else loaded whole."""
    with damage_as_data_error(str(path), "the archive"), zipfile.ZipFile(path) as archive:
        entry = _choose(archive, path, options.dataset)
        label = f"{path}:{entry.filename.removesuffix('.npy')}"
        with archive.open(entry) as member:
            shape, fortran, dtype = read_header(member, label)
            header = member.tell()
            needed = math.prod(shape) * dtype.itemsize
            if entry.file_size - header < needed:
                msg = f"{label} is truncated: {needed} bytes are promised, {entry.file_size - header} are there"
                raise DataError(msg)
            if entry.compress_type == zipfile.ZIP_STORED:
                offset = stored_position(path, entry) + header
                return open_numbers(path, shape, fortran, dtype, offset, options)
            layout = interpret_shape(shape, label, scan_shape=options.scan_shape, single=True)
            info = make_info(layout, dtype, label, metadata={"single": True} if len(shape) == 2 else None)
            if needed > options.memory_limit:
                msg = (
                    f"{label} is compressed and must be loaded whole; its {needed} bytes are above the memory limit of "
                    f"{options.memory_limit}: raise the limit, or save the array as .npy"
                )
                raise DataError(msg)
            array = np.frombuffer(member.read(needed), dtype).reshape(shape, order="F" if fortran else "C")
    return ArrayReader(np.ascontiguousarray(array), layout, info, path=path)


def _choose(archive: zipfile.ZipFile, path: Path, dataset: str | None) -> zipfile.ZipInfo:
    arrays = {e.filename.removesuffix(".npy"): e for e in archive.infolist() if e.filename.endswith(".npy")}
    if dataset is not None:
        if dataset not in arrays:
            msg = f"{path} has no array {dataset!r}; it has {sorted(arrays) or 'none'}"
            raise DataError(msg)
        return arrays[dataset]
    if len(arrays) != 1:
        what = f"several arrays, {sorted(arrays)}; name one with dataset" if arrays else "no arrays"
        msg = f"{path} holds {what}"
        raise DataError(msg)
    return next(iter(arrays.values()))
