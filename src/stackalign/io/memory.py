"""Arrays that are already there: NumPy, torch, CuPy, and anything that can be sliced."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign._carriers import plain_array, unwrapped
from stackalign.errors import DataError
from stackalign.io._protocol import StackInfo
from stackalign.io._reader import BaseReader, damage_as_data_error, make_info
from stackalign.io._shapes import Layout, interpret_shape, scan_pieces

__all__ = ["ArrayReader", "fingerprint_of_samples", "open_array"]

_SAMPLED_PATTERNS = 16


def open_array(array: Any, *, scan_shape: tuple[int, ...] | None = None) -> "ArrayReader":
    """Read an array through the same protocol as a file.

    Parameters
    ----------
    array : array-like
        (N, H, W), (N, 1, H, W) or (Ry, Rx, H, W): a NumPy array, a torch tensor, a CuPy array, or anything with
        `shape`, `dtype` and slicing (an h5py dataset, a zarr or dask array). It stays where it is; `read` copies the
        slice that it is asked for to the host.
    scan_shape : tuple of int, optional
        Where the array is flat; its product must be the number of patterns.

    Returns
    -------
    StackReader

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign.io import open_array
    >>> open_array(np.zeros((2, 3, 8, 9))).info.scan_shape
    (2, 3)
    """
    name = f"the {type(array).__module__.partition('.')[0]} {type(array).__name__}"
    if isinstance(array, np.ma.MaskedArray):
        msg = f"{name} carries its own mask, which would be lost; fill it and pass the mask separately"
        raise DataError(msg)
    array = unwrapped(array, "array")
    if not all(hasattr(array, attribute) for attribute in ("shape", "dtype", "__getitem__")):
        array = plain_array(array, None, "array")
    layout = interpret_shape(tuple(array.shape), name, scan_shape=scan_shape)
    info = make_info(layout, _numpy_dtype(array, name), name)
    return ArrayReader(array, layout, info, name=name)


def _numpy_dtype(array: Any, name: str) -> np.dtype[Any]:
    text = str(array.dtype)
    if text.startswith("torch."):
        text = text.removeprefix("torch.")
        # NumPy has no bfloat16; float32 holds each of its values.
        text = "float32" if text == "bfloat16" else text
        try:
            return np.dtype(text)
        except TypeError as error:
            msg = f"{name} has the dtype {array.dtype}; expected integers or floats: convert it first"
            raise DataError(msg) from error
    dtype: np.dtype[Any] = np.dtype(array.dtype)
    return dtype


class ArrayReader(BaseReader):
    """A reader over something that can be sliced.

    Parameters
    ----------
    array : array-like
    layout : Layout
    info : StackInfo
    path : Path, optional
        The file behind the array, which then is what `fingerprint` looks at.
    name : str, optional
        How messages name the array.
    """

    def __init__(
        self, array: Any, layout: Layout, info: StackInfo, *, path: Path | None = None, name: str | None = None
    ) -> None:
        super().__init__(path, info, name)
        self._array = array
        self._layout = layout

    def _read(self, start: int, stop: int, out: NDArray[Any]) -> None:
        if self._layout.channel_axis:
            _copy(self._array[start:stop, 0], out)
            return
        for piece in scan_pieces(start, stop, self._layout.array_scan_shape):
            block = self._array[piece.index]
            _copy(block, out[piece.lo : piece.hi].reshape(tuple(block.shape)))

    def fingerprint(self) -> str:
        """Identify the content: shape, dtype and sampled patterns."""
        if self._path is not None:
            return super().fingerprint()
        return fingerprint_of_samples(self)

    def close(self) -> None:
        """Forget the array."""
        self._array = None
        super().close()


def fingerprint_of_samples(reader: BaseReader) -> str:
    """Identify content that is no file of its own: shape, dtype and sampled patterns."""
    info = reader.info
    count, height, width = info.shape
    digest = hashlib.blake2b(f"{info.shape}|{info.dtype.str}|".encode(), digest_size=20)
    with damage_as_data_error(str(reader.path or "the array"), "a pattern"):
        pattern = np.empty((1, height, width), info.dtype)
    for k in sorted({round(i * (count - 1) / (_SAMPLED_PATTERNS - 1)) for i in range(_SAMPLED_PATTERNS)}):
        reader.read(k, k + 1, pattern)
        digest.update(pattern.tobytes())
    return digest.hexdigest()


def _copy(block: Any, out: NDArray[Any]) -> None:
    """Bring a slice to the host, into out."""
    package = type(block).__module__.partition(".")[0]
    if package == "torch":
        block = block.detach().cpu()
        block = (block.float() if str(block.dtype) == "torch.bfloat16" else block).numpy()
    elif package == "cupy":
        block = block.get()
    np.copyto(out, np.asarray(block), casting="same_kind")
