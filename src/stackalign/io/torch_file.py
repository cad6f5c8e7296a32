"""Tensors saved by `torch.save` (.pt, .pth)."""

import importlib
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError, MissingDependencyError
from stackalign.io._flat import FlatReader, pread_exact
from stackalign.io._protocol import StackReader
from stackalign.io._reader import OpenOptions, damage_as_data_error, make_info
from stackalign.io._shapes import interpret_shape
from stackalign.io._torch_zip import create_writer
from stackalign.io._zip import stored_position
from stackalign.io.memory import ArrayReader, open_array

__all__ = ["create_writer", "open_reader"]

_ITEM = "the tensor"
_PROBE_BYTES = 4096


def open_reader(path: Path, options: OpenOptions) -> StackReader:
    """Open a saved tensor without loading it, where its archive allows that."""
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        msg = f'{path} needs PyTorch to be read: pip install "stackalign[torch]"'
        raise MissingDependencyError(msg) from error
    mapped = _can_be_mapped(path, options.memory_limit)
    saved = _load(torch, path, mapped)
    tensor = _pick(torch, saved, path, options.dataset)
    layout = interpret_shape(tuple(tensor.shape), str(path), scan_shape=options.scan_shape)
    bfloat16 = tensor.dtype == torch.bfloat16
    info = open_array(tensor, scan_shape=options.scan_shape).info
    if mapped:
        with damage_as_data_error(str(path), _ITEM):
            position = _position_in_file(torch, path, tensor)
        if position is not None:
            offset, stride = position
            stored = np.dtype(np.uint16) if bfloat16 else make_info(layout, info.dtype, str(path)).dtype
            del tensor, saved
            return FlatReader(
                path,
                info,
                stored,
                offset,
                stride,
                decode=_widen if bfloat16 else None,
                frame_bytes=info.shape[1] * info.shape[2] * stored.itemsize,
            )
    return ArrayReader(tensor, layout, info, path=path)


def _can_be_mapped(path: Path, memory_limit: int) -> bool:
    """Tell an uncompressed archive from older or compressed files, which can only be loaded whole."""
    with damage_as_data_error(str(path), "the archive"):
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
        if is_zip:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
            if all(entry.compress_type == zipfile.ZIP_STORED for entry in entries):
                return True
            size, why = sum(entry.file_size for entry in entries), "compressed"
        else:
            size, why = path.stat().st_size, "in the format of PyTorch before 1.6"
    if size > memory_limit:
        msg = (
            f"{path} is {why} and must be loaded whole; its {size} bytes are above the memory limit of {memory_limit}: "
            "raise the limit or save the tensor again with torch.save"
        )
        raise DataError(msg)
    return False


def _load(torch: Any, path: Path, mapped: bool) -> Any:
    pickle_error = importlib.import_module("pickle").UnpicklingError
    try:
        with damage_as_data_error(str(path), _ITEM), warnings.catch_warnings():
            # It warns of unusual pickles, which then either load or end in an error here.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)
    except pickle_error as error:
        msg = (
            f"{path} holds Python objects other than tensors, or is damaged; nothing of it was executed: "
            "save the tensor alone with torch.save(tensor, file)"
        )
        raise DataError(msg) from error


def _pick(torch: Any, saved: Any, path: Path, dataset: str | None) -> Any:
    """Return the one tensor that can be a stack."""
    if isinstance(saved, torch.Tensor):
        tensor = saved
    elif isinstance(saved, dict):
        stacks = {str(key): value for key, value in saved.items() if _may_be_stack(torch, value)}
        if dataset is not None and dataset not in stacks:
            msg = f"{path} has no tensor {dataset!r} of 3 or 4 axes; it has {sorted(stacks) or 'none'}"
            raise DataError(msg)
        if dataset is None and len(stacks) != 1:
            what = f"several tensors of patterns, {sorted(stacks)}; name one" if stacks else "no tensor of 3 or 4 axes"
            msg = f"{path} holds a dictionary with {what}"
            raise DataError(msg)
        tensor = stacks[dataset] if dataset is not None else next(iter(stacks.values()))
    else:
        msg = f"{path} holds a {type(saved).__name__}; expected a tensor, or a dictionary with one tensor of patterns"
        raise DataError(msg)
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        msg = f"{path} holds a sparse, quantised or empty (meta) tensor; save a dense one"
        raise DataError(msg)
    return tensor.detach()


def _may_be_stack(torch: Any, value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim in (3, 4)


def _position_in_file(torch: Any, path: Path, tensor: Any) -> tuple[int, int] | None:
    """Return offset and stride in bytes of the patterns in the file, None where they cannot be read by position.

    The mapping itself would do, but pages of a mapped file count as resident memory and cannot be bounded.
    """
    height, width = tensor.shape[-2:]
    if tensor.is_conj() or tensor.is_neg() or tensor.stride()[-2:] not in ((width, 1),):
        return None
    try:
        flat = tensor.view(-1, height, width)
    except RuntimeError:
        return None  # the scan axes cannot be joined without a copy, for example a transposed scan
    size = tensor.element_size()
    stride = flat.stride()[0] if flat.shape[0] > 1 else height * width
    storage = tensor.untyped_storage()
    record = _record_offset(path, storage.nbytes())
    if record is None or stride < height * width:
        return None
    offset = record + tensor.storage_offset() * size
    # The size of the record is a guess at which one it is; the bytes decide.
    for k in (0, flat.shape[0] // 2, flat.shape[0] - 1):
        expected = flat[k].reshape(-1).view(torch.uint8)[:_PROBE_BYTES].numpy().tobytes()
        with path.open("rb") as file:
            stored = bytearray(len(expected))
            pread_exact(file.fileno(), memoryview(stored), offset + k * stride * size)
        if bytes(stored) != expected:
            return None
    return offset, stride * size


def _record_offset(path: Path, nbytes: int) -> int | None:
    """Return where the numbers of the only storage of this size begin, None where there is more than one such."""
    with zipfile.ZipFile(path) as archive:
        fitting = [e for e in archive.infolist() if "/data/" in e.filename and e.file_size == nbytes]
    if len(fitting) != 1:
        return None
    return stored_position(path, fitting[0])


def _widen(raw: NDArray[np.uint8], out: NDArray[Any]) -> None:
    """Widen bfloat16 to float32: its 16 bits are the upper half."""
    words = out.view(np.uint32)
    words[...] = raw.view(np.uint16).reshape(out.shape)
    words <<= 16
