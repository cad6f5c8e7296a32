"""Collections of images in chunks: arrays, readers and streams."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import ops
from stackalign.backends import Array
from stackalign.errors import DataError
from stackalign.io import StackReader

__all__ = ["chunks", "length"]


CHUNK_BYTES = 1 << 27
LEAST_FRAMES = 16
"""Frames that are read before statistics are merged: at least so many, and more where they are small."""


def length(images: Any) -> int | None:
    if _is_reader(images):
        return int(images.info.shape[0])
    return len(images) if hasattr(images, "__len__") else None


def _is_reader(images: Any) -> bool:
    return hasattr(images, "info") and hasattr(images, "read")


def _frames_per_chunk(nbytes: int) -> int:
    return max(LEAST_FRAMES, CHUNK_BYTES // max(1, nbytes))


def chunks(images: Any) -> Iterator[Array]:
    """Stacks (n, H, W) of one type; those of an iterable share a buffer, which holds until the next is asked for."""
    if _is_reader(images):
        yield from _of_reader(images)
    elif hasattr(images, "ndim") and hasattr(images, "dtype"):
        if images.ndim not in (2, 3) or 0 in images.shape:
            msg = f"images must have the shape (N, H, W), or be an iterable of (H, W) images, got {tuple(images.shape)}"
            raise DataError(msg)
        _real(images.dtype)
        stack = images[None] if images.ndim == 2 else images
        size = _frames_per_chunk(stack.nbytes // len(stack))
        for first in range(0, len(stack), size):
            yield stack[first : first + size]
    elif isinstance(images, Iterable):
        yield from _of_iterable(images)
    else:
        msg = f"images must be an array (N, H, W), a reader, or an iterable of images, got {type(images).__name__}"
        raise TypeError(msg)


def _of_reader(reader: StackReader) -> Iterator[Array]:
    n, height, width = reader.info.shape
    size = min(n, _frames_per_chunk(reader.info.pattern_bytes))
    buffer = np.empty((size, height, width), reader.info.dtype)
    for first in range(0, n, size):
        stop = min(n, first + size)
        reader.read(first, stop, buffer[: stop - first])
        yield buffer[: stop - first]


def _of_iterable(images: Iterable[Any]) -> Iterator[Array]:
    buffer: NDArray[Any] | None = None
    filled = 0
    shape: tuple[int, ...] | None = None
    for number, item in enumerate(images):
        image = ops.asarray(item, "cpu")
        if image.ndim != 2 or 0 in image.shape or (shape is not None and image.shape != shape):
            expected = "(H, W)" if shape is None else f"{shape} like the first"
            msg = f"image {number} of the collection must have the shape {expected}, got {image.shape}"
            raise DataError(msg)
        _real(image.dtype)
        shape = image.shape
        if buffer is not None and (filled == len(buffer) or buffer.dtype != image.dtype):
            yield buffer[:filled]
            filled = 0
            if buffer.dtype != image.dtype:
                buffer = None
        if buffer is None:
            buffer = np.empty((_frames_per_chunk(image.nbytes), *shape), image.dtype)
        buffer[filled] = image
        filled += 1
    if buffer is not None and filled:
        yield buffer[:filled]


def _real(dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "buif":
        msg = f"images must hold real numbers, got {dtype}; take abs() or the real part of complex images first"
        raise TypeError(msg)
