"""The type and the axes of the output."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError
from stackalign.io import StackInfo

from .config import CroppingConfig

__all__ = ["OutputForm", "converted", "output_form"]

_FOR_TORCH = {"uint16": "int32", "uint32": "int64", "uint64": "int64"}
"""torch stores these unsigned types and has no arithmetic for them."""


@dataclass(frozen=True)
class OutputForm:
    """Type and leading axes of an output, as `stackalign.io.create_stack` takes them."""

    dtype: np.dtype[Any]
    scan_shape: tuple[int, ...]
    channel_axis: bool
    notes: tuple[str, ...] = ()


def output_form(config: CroppingConfig, info: StackInfo, output: Path | None = None) -> OutputForm:
    """Settle the form of an output.

    Parameters
    ----------
    config : CroppingConfig
    info : StackInfo
        Of the input.
    output : Path, optional
        File that is written; None for an array in memory.
    """
    dtype = info.dtype
    notes: tuple[str, ...] = ()
    if config.output_dtype is not None:
        dtype = np.dtype(config.output_dtype)
    elif output is not None and output.suffix.lower() in (".pt", ".pth") and dtype.name in _FOR_TORCH:
        dtype = np.dtype(_FOR_TORCH[info.dtype.name])
        notes = (
            f"the output holds {dtype.name}, as torch has no arithmetic for {info.dtype.name}: --output-dtype "
            f"{info.dtype.name} keeps the type, --output-dtype float32 is ready for training",
        )
    if config.layout == "input":
        return OutputForm(dtype, info.scan_shape, info.channel_axis, notes)
    return OutputForm(dtype, (info.shape[0],), config.layout == "NCHW", notes)


def converted(block: NDArray[Any], dtype: np.dtype[Any], first: int, name: str) -> NDArray[Any]:
    """Return patterns in another type, or refuse values that it cannot hold.

    Parameters
    ----------
    block : numpy.ndarray
        (n, h, w).
    dtype : numpy.dtype
    first : int
        Number of the first pattern, for the message.
    name : str
        Of the source, for the message.

    Raises
    ------
    DataError
        Integers would change, a float without a fraction is expected and has one, or a number is beyond the range.
    """
    if block.dtype == dtype:
        return block
    with np.errstate(over="ignore", invalid="ignore"):
        out = block.astype(dtype)
        if block.dtype.kind == "f" and dtype.kind == "f":  # rounded; but not to infinity
            lost = np.isinf(out) & np.isfinite(block)
        elif block.dtype.kind == "f":
            whole = np.rint(block) == block
            low, high = float(np.iinfo(dtype).min), 2.0 ** (np.iinfo(dtype).bits - (dtype.kind == "i"))
            lost = ~(whole & (block >= low) & (block < high))
        elif dtype.kind == "f":
            wide = out.astype(np.float64)
            lost = ~np.isfinite(wide) | (wide.astype(block.dtype) != block)
            lost |= np.abs(wide) >= 2.0**63  # back in integers such a float may come out right by chance
        else:
            lost = (out.astype(block.dtype) != block) | ((out < 0) != (block < 0))
    if lost.any():
        k, y, x = (int(i) for i in np.argwhere(lost)[0])
        msg = (
            f"pattern {first + k} of {name} has the value {block[k, y, x]}, which {dtype.name} cannot hold; "
            "choose a wider output type"
        )
        raise DataError(msg)
    return out
