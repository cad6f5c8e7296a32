"""Where arrays live: the one place where a device is chosen."""

import logging
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import DTypeLike, NDArray

from stackalign._carriers import is_tensor, tensor_to_host, unwrapped
from stackalign.backends import Array, backend_for, load
from stackalign.device import Device, cuda_devices, parse_device
from stackalign.errors import BackendUnavailableError

__all__ = ["asarray", "device_of", "synchronize", "to_numpy", "unwrapped"]

_log = logging.getLogger(__name__)


def _is_cupy(x: object) -> bool:
    return type(x).__module__.partition(".")[0] == "cupy"


def _choose(x: object) -> Device:
    """The device of "auto": where the data already are, else a GPU that can be used, else the CPU."""
    if _is_cupy(x) or (is_tensor(x) and x.is_cuda):  # type: ignore[attr-defined]
        return Device("cuda", int(x.device.id if _is_cupy(x) else x.device.index or 0))  # type: ignore[attr-defined]
    if cuda_devices():
        try:
            load("cuda")
        except BackendUnavailableError as error:
            _log.info("device auto: cpu, because %s", error)
            return Device("cpu")
        _log.info("device auto: cuda:0 (%s)", cuda_devices()[0].name)
        return Device("cuda")
    _log.info("device auto: cpu, because there is no NVIDIA driver")
    return Device("cpu")


def asarray(x: object, device: str | Device = "auto", dtype: DTypeLike | None = None) -> Array:
    """Bring an array to a device.

    Parameters
    ----------
    x : array_like
        NumPy or CuPy array, torch tensor (taken over by DLPack, without a copy where its device is the one asked for),
        or anything that `numpy.asarray` takes.
    device : str
        "cpu", "cuda", "cuda:n" or "auto": where the array already is, else a GPU that can be used, else the CPU. The
        choice is logged at level INFO, and never changed afterwards.
    dtype : dtype, optional
        Type of the result; unchanged by default.

    Returns
    -------
    numpy.ndarray or cupy.ndarray

    Raises
    ------
    BackendUnavailableError
        The device cannot be used here; the text names what to install.
    TypeError
        x carries a mask of its own, such as a ``numpy.ma`` array, or is no array of numbers.

    Examples
    --------
    >>> import stackalign as sa
    >>> frames = sa.asarray([[0, 1], [2, 3]], device="cpu", dtype="float32")
    >>> frames.dtype.name, sa.device_of(frames)
    ('float32', 'cpu')
    """
    x = unwrapped(x)
    target = parse_device(device)
    if target.kind == "auto":
        target = _choose(x)
    numpy_type = None if dtype is None else np.dtype(dtype)
    if target.kind == "cuda":
        backend = load("cuda")
        if is_tensor(x):
            x = sys.modules["cupy"].from_dlpack(x.detach()) if x.is_cuda else tensor_to_host(x)  # type: ignore[attr-defined]
        return backend.asarray(x if _is_cupy(x) else np.asarray(x), numpy_type, target.index)
    if is_tensor(x):
        x = tensor_to_host(x)
    elif _is_cupy(x):
        x = load("cuda").to_numpy(x)
    array = load("cpu").asarray(x, numpy_type, 0)
    if array.dtype == object and not isinstance(x, np.ndarray):
        msg = f"x must be an array of numbers, got {type(x).__module__}.{type(x).__qualname__}"
        raise TypeError(msg)
    return array


def to_numpy(x: object) -> NDArray[Any]:
    """Bring an array to the host as a NumPy array; a NumPy array is returned as it is.

    Parameters
    ----------
    x : array
        NumPy or CuPy array, or torch tensor.

    Returns
    -------
    numpy.ndarray
        A view of memory that is on the host already, else a copy.

    Raises
    ------
    TypeError
        A tensor's type has no counterpart in NumPy (bfloat16), or x is no array.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> image = np.eye(3)
    >>> sa.to_numpy(image) is image  # on the host already
    True
    """
    if is_tensor(x):
        return tensor_to_host(x)
    return backend_for(x).to_numpy(x)


def fetched(arrays: Sequence[Array]) -> list[NDArray[Any]]:
    """Bring arrays of one home to the host by one copy, in their types: each copy from a GPU is waited for.

    Arrays that are on the host already are returned as they are.
    """
    if _on_host(arrays):
        return list(arrays)
    xp = array_namespace(arrays[0])
    flat = to_numpy(xp.concatenate([a.ravel() for a in arrays]))
    ends = np.cumsum([a.size for a in arrays])[:-1]
    # Together they have the type that holds all of theirs.
    parts = zip(np.split(flat, ends), arrays, strict=True)
    return [part.reshape(a.shape).astype(a.dtype, copy=False) for part, a in parts]


def _on_host(arrays: Sequence[Array]) -> bool:
    return all(isinstance(a, np.ndarray) for a in arrays)


def device_of(x: object) -> str:
    """Name the device that an array lives on.

    Parameters
    ----------
    x : array
        NumPy or CuPy array.

    Returns
    -------
    str
        "cpu" or "cuda:n".

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> sa.device_of(np.zeros((4, 4)))
    'cpu'
    """
    return backend_for(x).device_of(x)


def synchronize(x: object) -> None:
    """Wait until the work queued on the array's device is done; needed for timing alone.

    Parameters
    ----------
    x : array
        NumPy or CuPy array; there is nothing to wait for on the host.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> means = sa.bin_mean(np.ones((64, 64)), 2)
    >>> sa.synchronize(means)  # before a clock is read
    """
    backend_for(x).synchronize(x)
