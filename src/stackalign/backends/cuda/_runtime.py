# SPDX-License-Identifier: BSD-3-Clause
"""Allocation and launch geometry of the CUDA kernels, for CuPy on a GPU and for NumPy where kernels run on the host."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._protocol import Array, StackSums, SummaryArrays, WindowArrays

__all__ = [
    "Kernel",
    "Runtime",
    "crop_windows",
    "defines",
    "mask_args",
    "pattern_summary",
    "radial_cumulative",
    "stack_statistics",
]

Kernel = Callable[..., None]
"""Called as ``kernel((blocks,), (threads,), args)`` with arrays of the home and NumPy scalars."""

STRIP = 16
UNDECIDED = -2
MAX_ROWS = 65535
MAX_PIXELS = 2**31 - 1
MAX_SCRATCH_BYTES = 1 << 28
THREADS = 256

ELEMENTS = {
    "uint8": "u8",
    "uint16": "u16",
    "uint32": "u32",
    "int16": "i16",
    "int32": "i32",
    "float32": "f32",
    "float64": "f64",
}
"""The C names of `KERNEL_DTYPES`, see ``common.cuh``."""


@dataclass(frozen=True)
class Runtime:
    """What a launch needs.

    Parameters
    ----------
    xp : module
        Allocates: ``cupy`` or ``numpy``.
    get_function : callable
        ``(kernel_file, entry, dtype) -> Kernel``; compiles with `defines` of the dtype and without fused multiply-add.
        The dtype is None for a kernel file without element type.
    fft : module
        Transforms: ``cupyx.scipy.fft`` or ``scipy.fft``.
    blocks : int
        Most blocks per launch where a block takes one pattern after the other: enough to fill the device.
    """

    xp: Any
    get_function: Callable[[str, str, np.dtype[Any] | None], Kernel]
    fft: Any
    blocks: int = 1024


def defines(dtype: np.dtype[Any] | None) -> tuple[str, ...]:
    """Return the ``NAME=VALUE`` macros that a kernel file is compiled with for an element type, if it has one."""
    return () if dtype is None else (f"ELEMENT={ELEMENTS[dtype.name]}",)


def _accumulator(dtype: np.dtype[Any]) -> type[np.generic]:
    return np.float64 if dtype.kind == "f" else np.int64


def _prefix(dtype: np.dtype[Any]) -> type[np.generic]:
    """Type of stored column sums, ``Traits::Prefix`` in ``common.cuh``."""
    if dtype.kind == "f":
        return np.float64
    return np.uint32 if dtype.itemsize <= 2 else np.int64


def mask_args(rt: Runtime, mask: Array | None) -> tuple[Array, np.int64]:
    """Mask and its number of frames. CuPy passes no null pointers: without a mask the array is a dummy."""
    if mask is None:
        return rt.xp.empty(1, np.bool_), np.int64(0)
    return mask, np.int64(mask.shape[0])


def _to_host(x: Array) -> NDArray[Any]:
    return np.asarray(x.get() if hasattr(x, "get") else x)


def pattern_summary(
    rt: Runtime,
    patterns: Array,
    mask: Array | None,
    centers: NDArray[np.float64] | None,
    fractions: Sequence[float],
    workers: int,
) -> SummaryArrays:
    """See `Backend.pattern_summary`."""
    xp = rt.xp
    n, height, width = patterns.shape
    dtype = patterns.dtype
    if height > MAX_ROWS or height * width > MAX_PIXELS:
        msg = f"patterns may have at most {MAX_ROWS} rows and {MAX_PIXELS} pixels on a GPU, got {height} x {width}"
        raise ValueError(msg)
    order = np.argsort(np.asarray(fractions, np.float64), kind="stable")
    ascending = np.asarray(fractions, np.float64)[order]
    f = ascending.size
    # One block's column sums; blocks are fewer where they would take much memory.
    scratch_size = ((height + STRIP // 2) // STRIP) * width if f else 0
    affordable = MAX_SCRATCH_BYTES // max(1, scratch_size * np.dtype(_prefix(dtype)).itemsize)
    blocks = max(1, min(n, rt.blocks, affordable))
    result = SummaryArrays(
        total=xp.empty(n, _accumulator(dtype)),
        minimum=xp.empty(n, np.float64),
        maximum=xp.empty(n, np.float64),
        n_valid=xp.empty(n, np.int64),
        centers=xp.empty((n, 2), np.float64) if centers is None else xp.array(centers, np.float64),
        radii=xp.empty((n, f), np.int64),
    )
    mask_array, mask_frames = mask_args(rt, mask)
    kernel = rt.get_function("radial", "pattern_summary", dtype)
    kernel(
        (blocks,),
        (THREADS if width > THREADS // 2 else THREADS // 2,),
        (
            patterns,
            mask_array,
            mask_frames,
            np.int64(n),
            np.int32(height),
            np.int32(width),
            xp.asarray(ascending if f else np.zeros(1)),
            np.int32(f),
            np.int32(centers is not None),
            result.centers,
            xp.empty(max(1, blocks * scratch_size), _prefix(dtype)),
            result.total,
            result.minimum,
            result.maximum,
            result.n_valid,
            result.radii if f else xp.empty(1, np.int64),
        ),
    )
    if f and dtype.kind == "f":
        _settle(rt, patterns, mask, result, ascending)
    if np.any(order != np.arange(f)):
        return result._replace(radii=xp.ascontiguousarray(result.radii[:, xp.asarray(np.argsort(order))]))
    return result


def _settle(
    rt: Runtime, patterns: Array, mask: Array | None, result: SummaryArrays, fractions: NDArray[np.float64]
) -> None:
    """Compute on the host, exactly, the few radii that rounding could decide."""
    undecided = np.flatnonzero(_to_host((result.radii == UNDECIDED).any(axis=1)))
    if undecided.size == 0:
        return
    from stackalign_kernels.cpu.radial import exact_radius

    radii = np.empty(fractions.size, np.int64)
    centers = _to_host(result.centers)
    for n in undecided.tolist():
        p = _to_host(patterns[n])
        valid = np.isfinite(p)
        if mask is not None:
            valid &= _to_host(mask[n if mask.shape[0] > 1 else 0])
        exact_radius(np.where(valid, p, p.dtype.type(0)), centers[n, 0], centers[n, 1], fractions, radii)
        result.radii[n] = rt.xp.asarray(radii)


def radial_cumulative(
    rt: Runtime, patterns: Array, mask: Array | None, centers: NDArray[np.float64], n_radii: int, workers: int
) -> Array:
    """See `Backend.radial_cumulative`."""
    n, height, width = patterns.shape
    out = rt.xp.empty((n, n_radii), np.float64)
    if n_radii == 0:
        return out
    kernel = rt.get_function("radial", "radial_cumulative", patterns.dtype)
    kernel(
        (min(n, rt.blocks),),
        (THREADS,),
        (
            patterns,
            *mask_args(rt, mask),
            np.int64(n),
            np.int32(height),
            np.int32(width),
            rt.xp.array(centers, np.float64),
            np.int32(n_radii),
            out,
        ),
    )
    return out


def crop_windows(
    rt: Runtime,
    patterns: Array,
    mask: Array | None,
    corners: NDArray[np.int64],
    shape: tuple[int, int],
    out: Array | None,
    workers: int,
) -> WindowArrays:
    """See `Backend.crop_windows`."""
    n, height, width = patterns.shape
    windows = rt.xp.empty((n, *shape), patterns.dtype) if out is None else out
    sums = rt.xp.empty(n, _accumulator(patterns.dtype))
    kernel = rt.get_function("crop", "crop_windows", patterns.dtype)
    kernel(
        (min(n, rt.blocks),),
        (THREADS,),
        (
            patterns,
            *mask_args(rt, mask),
            np.int64(n),
            np.int32(height),
            np.int32(width),
            rt.xp.array(corners, np.int64),
            np.int32(shape[0]),
            np.int32(shape[1]),
            windows,
            sums,
        ),
    )
    return WindowArrays(windows, sums)


def stack_statistics(rt: Runtime, stack: Array, mask: Array | None, workers: int) -> StackSums:
    """See `Backend.stack_statistics`."""
    n, height, width = stack.shape
    pixels = height * width
    sums = StackSums(
        count=rt.xp.empty((height, width), np.int64),
        minimum=rt.xp.empty((height, width), np.float64),
        maximum=rt.xp.empty((height, width), np.float64),
        mean=rt.xp.empty((height, width), np.float64),
        m2=rt.xp.empty((height, width), np.float64),
    )
    kernel = rt.get_function("statistics", "stack_statistics", stack.dtype)
    kernel(
        (-(-pixels // THREADS),),
        (THREADS,),
        (stack, *mask_args(rt, mask), np.int64(n), np.int64(pixels), *sums),
    )
    return sums
