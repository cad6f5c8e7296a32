"""The rules on shapes and dtypes that every reader shares."""

import functools
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stackalign.errors import DataError

__all__ = [
    "COPY_AGAIN",
    "Layout",
    "Piece",
    "choose_frames",
    "handed_out_dtype",
    "interpret_shape",
    "require_possible",
    "scan_pieces",
]

COPY_AGAIN = "copy it again, or state the scan shape of the part to read"
"""What to do about a file that ends early."""

# What the crop engine can sum exactly or in float64; longdouble, complex, text and objects are refused at the door.
_KEPT_DTYPES = frozenset({"u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"})


@dataclass(frozen=True)
class Layout:
    """How the axes of an array map to patterns.

    Parameters
    ----------
    shape : tuple of int
        (N, H, W).
    scan_shape : tuple of int
        Shape of the scan, product N.
    channel_axis : bool
        The array is (N, 1, H, W).
    array_scan_shape : tuple of int
        The leading axes as they are in the array: a scan shape that the user states does not change them.
    """

    shape: tuple[int, int, int]
    scan_shape: tuple[int, ...]
    channel_axis: bool
    array_scan_shape: tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """A rectangular part of the array that covers patterns lo..hi of a request."""

    index: tuple[slice | int, ...]
    lo: int
    hi: int


def interpret_shape(
    shape: Sequence[int], name: str, *, scan_shape: Sequence[int] | None = None, single: bool = False
) -> Layout:
    """Decide what the axes of an array of patterns mean.

    Parameters
    ----------
    shape : sequence of int
        Of the array in the file: (N, H, W), (N, 1, H, W) or (Ry, Rx, H, W).
    name : str
        How messages name the array.
    scan_shape : sequence of int, optional
        Stated by the user; its product must be the number of patterns.
    single : bool
        (H, W) is taken as well, as one pattern.

    Returns
    -------
    Layout
    """
    axes = tuple(int(n) for n in shape)
    if single and len(axes) == 2 and min(axes) > 0:
        return Layout((1, *axes), (1,), False, ())
    if len(axes) not in (3, 4):
        hint = " (a single pattern needs a leading axis of length 1)" if len(axes) == 2 else ""
        msg = f"{name} has {len(axes)} axes {axes}; expected (N, H, W), (N, 1, H, W) or (Ry, Rx, H, W){hint}"
        raise DataError(msg)
    if min(axes) < 1:
        msg = f"{name} has the shape {axes} and holds no data; expected at least one pattern of one pixel"
        raise DataError(msg)
    channel_axis = len(axes) == 4 and axes[1] == 1
    array_scan = axes[:-2]
    count = math.prod(array_scan)
    scan = (count,) if len(axes) == 3 or channel_axis else array_scan
    if scan_shape is not None:
        scan = tuple(int(n) for n in scan_shape)
        if not scan or min(scan) < 1 or math.prod(scan) != count:
            msg = f"{name} holds {count} patterns, which do not fill the scan shape {scan}; state one with that product"
            raise DataError(msg)
    return Layout((count, axes[-2], axes[-1]), scan, channel_axis, array_scan)


def handed_out_dtype(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """Return the native dtype in which patterns of a stored dtype are handed out, or refuse it."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if f"{dtype.kind}{dtype.itemsize}" not in _KEPT_DTYPES:
        cure = "save its modulus or one of its parts" if dtype.kind == "c" else "convert it first"
        msg = f"{name} has the dtype {dtype}; expected integers, floats up to 64 bits, or booleans: {cure}"
        raise DataError(msg)
    return dtype.newbyteorder("=")


def require_possible(shape: tuple[int, int, int], dtype: np.dtype[Any], name: str) -> None:
    """Refuse sizes that only a damaged header states, before anything is allocated for them."""
    pattern = shape[1] * shape[2] * dtype.itemsize
    if pattern > _machine_memory():
        msg = (
            f"{name} has patterns of {shape[1]} x {shape[2]} pixels, {pattern / 2**30:.0f} GiB each, more than this "
            "machine can hold; its header is damaged, or the wrong axes are the detector's"
        )
        raise DataError(msg)
    if shape[0] * pattern >= 1 << 63:
        msg = f"{name} has the impossible shape {shape}; its header is damaged: copy it again"
        raise DataError(msg)


@functools.cache
def _machine_memory() -> int:
    try:
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return 1 << 40  # the system does not say it


def scan_pieces(start: int, stop: int, axes: tuple[int, ...]) -> Iterator[Piece]:
    """Cut patterns start..stop of a C-ordered scan into rectangles that one slicing can fetch.

    At most one incomplete row, a block of whole rows and another incomplete row come out (for two axes).
    """
    if not axes:
        yield Piece((), 0, 1)
        return
    if len(axes) == 1:
        yield Piece((slice(start, stop),), 0, stop - start)
        return
    row = axes[1]
    position = start
    while position < stop:
        y, x = divmod(position, row)
        if x == 0 and stop - position >= row:
            rows = (stop - position) // row
            end = position + rows * row
            yield Piece((slice(y, y + rows), slice(0, row)), position - start, end - start)
        else:
            end = min(stop, (y + 1) * row)
            yield Piece((y, slice(x, x + end - position)), position - start, end - start)
        position = end


def choose_frames(
    name: str,
    complete: int,
    rest: int,
    promised: int | None,
    source: str,
    scan_shape: tuple[int, ...] | None,
    remedy: str = COPY_AGAIN,
) -> int:
    """Decide how many frames of a file without a count of its own are to be read.

    A stated scan shape wins, as long as there are enough complete frames: it is how a user takes the good part of an
    interrupted acquisition. Without one, anything odd is an error.

    Parameters
    ----------
    name : str
        Of the file.
    complete, rest : int
        Complete frames in the file, and bytes behind them.
    promised : int, optional
        Frames according to another source.
    source : str
        That source, in words.
    scan_shape : tuple of int, optional
        As stated by the user.
    remedy : str
        What to do about a file that ends early.

    Returns
    -------
    int
    """
    if scan_shape is not None:
        needed = math.prod(scan_shape)
        if not 1 <= needed <= complete:
            msg = f"{name} holds {complete} complete patterns, the scan shape {scan_shape} needs {needed}"
            raise DataError(msg)
        return needed
    if rest or not complete:
        msg = (
            f"{name} ends within pattern {complete}: it holds {complete} complete patterns and {rest} more bytes; "
            f"{remedy}"
        )
        raise DataError(msg).with_hint("scan_shape")
    if promised is not None and promised != complete:
        msg = f"{name} holds {complete} patterns, {source} says {promised}; {remedy}"
        raise DataError(msg).with_hint("scan_shape")
    return complete
