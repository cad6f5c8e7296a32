"""What carries an array without being one: tensors, arrays with units, masked arrays, NDData, lists.

Every public function takes its arrays through here, by `stackalign.asarray` where a device is chosen and by
`plain_array` where only the host comes into question, so that a mask is never lost.
"""

import sys
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["is_tensor", "plain_array", "refuse_hidden", "tensor_to_host", "unwrapped"]


def refuse_hidden(x: object, name: str = "") -> None:
    """Refuse what carries a mask of its own, which `numpy.asarray` would drop.

    Raises
    ------
    TypeError
        ``numpy.ma`` arrays, also within lists and behind dask arrays; objects with ``data`` and a ``mask`` that hides
        something, such as astropy's NDData and sunpy's maps.
    """
    if type(x) is np.ndarray:
        return
    if isinstance(x, np.ma.MaskedArray) or isinstance(getattr(x, "_meta", None), np.ma.MaskedArray):
        msg = f"{name or 'x'} must be a plain array: pass x.data and mask=~numpy.ma.getmaskarray(x), True = valid"
        raise TypeError(msg)
    if isinstance(x, list | tuple):
        for item in x:
            if not isinstance(item, int | float | complex):
                refuse_hidden(item, name)
        return
    mask = getattr(x, "mask", None)
    if mask is not None and not callable(mask) and hasattr(x, "data") and np.any(np.asarray(mask)):
        msg = (
            f"{name or 'x'}, a {type(x).__name__}, carries a mask, which is not passed on: "
            "pass x.data and mask=~x.mask, True = valid"
        )
        raise TypeError(msg)


def unwrapped(x: Any, name: str = "") -> Any:
    """Return the data of an object that wraps an array without being one, such as astropy's NDData and sunpy's maps.

    Everything else comes back as it is, but for what carries a mask, which is refused with a TypeError.
    """
    refuse_hidden(x, name)
    if isinstance(x, np.ndarray):  # whose data is a buffer, which dates do not have
        return x
    data = getattr(x, "data", None)
    wraps = isinstance(data, np.ndarray) and not hasattr(x, "__array__")
    return data if wraps else x


def is_tensor(x: object) -> bool:
    """Whether this is a tensor of torch, which is not imported for the question."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def tensor_to_host(x: Any) -> NDArray[Any]:
    """Take a tensor over, without a copy where it is on the CPU."""
    try:
        return np.asarray(np.from_dlpack(x.detach().cpu()))
    except (RuntimeError, BufferError) as error:
        msg = f"a tensor of {x.dtype} cannot become a NumPy array ({error}); convert it first, as with x.float()"
        raise TypeError(msg) from error


def plain_array(x: Any, dtype: DTypeLike | None = None, name: str = "x") -> NDArray[Any]:
    """Return numbers as a NumPy array, whatever carries them; an array of the type that is asked for is not copied.

    Parameters
    ----------
    x : array_like
        Numbers, lists of them, NumPy and CuPy arrays, torch tensors, NDData, Quantities and what has ``__array__``.
    dtype : dtype, optional
        Type of the result; that of x by default.
    name : str
        Of the argument, for messages.

    Returns
    -------
    numpy.ndarray
        On the host.

    Raises
    ------
    TypeError
        x carries a mask of its own, or holds no numbers.
    ValueError
        Lists of different lengths.
    """
    if type(x) is np.ndarray:
        return np.asarray(x, dtype)
    x = unwrapped(x, name)
    if is_tensor(x):
        x = tensor_to_host(x)
    elif type(x).__module__.partition(".")[0] == "cupy":
        x = x.get()
    array = np.asarray(x)
    if array.dtype.kind not in "buifc":
        kind = f"{type(x).__module__}.{type(x).__qualname__}"
        msg = f"{name} must be an array of numbers, got {kind} of the type {array.dtype}"
        raise TypeError(msg)
    return np.asarray(array, dtype)
