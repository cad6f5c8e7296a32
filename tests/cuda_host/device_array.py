"""The array of the stand-in of CuPy: NumPy's inside, strict where CuPy's is, and counting what costs time on a GPU."""

import functools
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

__all__ = [
    "COUNTS",
    "NAMES",
    "Counts",
    "Device",
    "call",
    "counted",
    "from_host",
    "inside",
    "ndarray",
    "outside",
    "refuse_host",
]

NAMES = json.loads(Path(__file__).with_name("cupy_names.json").read_text(encoding="utf-8"))


class Counts:
    """Launches, copies to and from the device, and their bytes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.trace: Callable[[str], None] | None = None
        """Called with each kind, to see where it comes from."""
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.number: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def add(self, kind: str, n_bytes: int = 0) -> None:
        """Count one of a kind: "launch", "upload" or "download"."""
        with self._lock:
            self.number[kind] += 1
            self.bytes[kind] += n_bytes
        if self.trace is not None:
            self.trace(kind)


COUNTS = Counts()


@contextmanager
def counted() -> Iterator[Counts]:
    """Count what is done within."""
    COUNTS.clear()
    yield COUNTS


class Device:
    """The only device."""

    attributes: ClassVar = {"MultiProcessorCount": 2}
    compute_capability = "90"

    def __init__(self, index: Any = None) -> None:
        self.id = int(index or 0)
        if self.id != 0:
            raise RuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    def __int__(self) -> int:
        return self.id

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device)

    def __hash__(self) -> int:
        return 0

    def synchronize(self) -> None:
        """There is nothing to wait for."""


def refuse_host(x: Any, where: str) -> None:
    if isinstance(x, np.ndarray):
        raise TypeError(f"{where}: Unsupported type <class 'numpy.ndarray'>")
    if isinstance(x, list | tuple):
        for item in x:
            refuse_host(item, where)


def inside(x: Any) -> Any:
    """Replace arrays of the device by what they hold."""
    if isinstance(x, ndarray):
        return x._host
    if isinstance(x, list | tuple):
        items = [inside(item) for item in x]
        return type(x)(*items) if hasattr(x, "_fields") else type(x)(items)
    return x


def outside(x: Any) -> Any:
    """Make arrays of the device of what NumPy returns."""
    if isinstance(x, np.ndarray | np.generic):
        return ndarray(np.asarray(x))
    if isinstance(x, tuple):
        items = [outside(item) for item in x]
        return type(x)(*items) if hasattr(x, "_fields") else tuple(items)
    return [outside(item) for item in x] if isinstance(x, list) else x


def _launched(result: Any, arguments: Any) -> Any:
    """Count a launch unless the result is a view of an argument."""
    held = [x._host for x in arguments if isinstance(x, ndarray)]
    first = result[0] if isinstance(result, list | tuple) and result else result
    if (
        isinstance(first, np.ndarray | np.generic)
        and first.size
        and not any(np.may_share_memory(first, x) for x in held)
    ):
        COUNTS.add("launch")
    return outside(result)


def from_host(x: Any, **options: Any) -> np.ndarray:
    """Copy to the device: numbers alone, in the processor's byte order."""
    host = np.array(inside(x), **options)
    if host.dtype.kind not in "biufc" or not host.dtype.isnative:
        raise TypeError(f"Unsupported dtype {host.dtype}")
    if not isinstance(x, ndarray):
        COUNTS.add("upload", host.nbytes)
    elif host is not x._host:
        COUNTS.add("launch")
    return host


class ndarray:
    """An array of the device."""

    __array_priority__ = 100
    __hash__ = None

    def __init__(self, host: np.ndarray) -> None:
        object.__setattr__(self, "_host", host)

    # --- what brings something to the host ---

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> np.ndarray:
        """Copy to the host."""
        COUNTS.add("download", self._host.nbytes)
        return np.array(self._host, order=order)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        COUNTS.add("download", self._host.nbytes)
        return bool(self._host)

    def __complex__(self) -> complex:
        return complex(self.item())

    def item(self) -> Any:
        """The number that an array of one element holds."""
        COUNTS.add("download", self._host.nbytes)
        return self._host.item()

    def tolist(self) -> Any:
        """All numbers."""
        return self.get().tolist()

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    # --- NumPy's own functions ---

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        name = ufunc.__name__
        if method != "__call__" or name not in NAMES["modules"]["cupy"]:
            return NotImplemented
        return getattr(sys.modules["cupy"], name)(*inputs, **options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        module = functools.reduce(getattr, function.__module__.split(".")[1:], sys.modules["cupy"])
        return getattr(module, function.__name__)(*args, **options)

    # --- parts and attributes ---

    def __getitem__(self, key: Any) -> "ndarray":
        _count_indices(key)
        return _launched(np.asarray(self._host[inside(key)]), [self])

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, np.ndarray) and value.ndim:
            raise ValueError("Non-scalar `numpy.ndarray` cannot be used for fill")
        _count_indices(key)
        COUNTS.add("launch")
        self._host[inside(key)] = inside(value)

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Iterator["ndarray"]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<{self._host.shape} {self._host.dtype} on the device>"

    @property
    def device(self) -> Device:
        return Device()

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self._host.ctypes.data)

    @property
    def flags(self) -> Any:
        flags = self._host.flags
        return SimpleNamespace(c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=flags.owndata)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "shape":
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r} that can be set")
        self._host.shape = value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in NAMES["ndarray"]:
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")
        member = getattr(self._host, name)
        if not callable(member):
            return outside(member)
        return functools.partial(call, member, f"ndarray.{name}", (self,))


def _count_indices(key: Any) -> None:
    """An index that is an array of the host is brought to the device without a word."""
    for index in key if isinstance(key, tuple) else (key,):
        if isinstance(index, np.ndarray | list):
            COUNTS.add("upload", np.asarray(index).nbytes)


def call(function: Callable[..., Any], where: str, owners: tuple[Any, ...], /, *args: Any, **options: Any) -> Any:
    """Call a function of NumPy on what arrays of the device hold."""
    for value in (*args, *options.values()):
        refuse_host(value, where)
    result = function(*inside(args), **{name: inside(value) for name, value in options.items()})
    return _launched(result, [*owners, *args])


def _add_operators() -> None:
    binary = [
        "add",
        "sub",
        "mul",
        "truediv",
        "floordiv",
        "mod",
        "pow",
        "matmul",
        "and",
        "or",
        "xor",
        "lshift",
        "rshift",
    ]
    names = [f"__{side}{name}__" for name in binary for side in ("", "r", "i")]
    names += [f"__{name}__" for name in ("lt", "le", "eq", "ne", "gt", "ge", "neg", "pos", "abs", "invert")]

    def operator(name: str) -> Callable[..., Any]:
        def apply(self: ndarray, *other: Any) -> Any:
            if not all(isinstance(x, ndarray | np.generic | bool | int | float | complex) for x in other):
                if any(isinstance(x, np.ndarray) for x in other):
                    raise TypeError(f"{name}: Unsupported type <class 'numpy.ndarray'>")
                return NotImplemented
            COUNTS.add("launch")
            result = getattr(self._host, name)(*inside(other))
            return self if result is self._host else outside(result)

        return apply

    for name in names:
        if name in NAMES["ndarray"]:
            setattr(ndarray, name, operator(name))


_add_operators()
ndarray.__module__ = "cupy"
