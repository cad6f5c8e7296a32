"""A stand-in of CuPy without a device: strict where CuPy is, and counting what costs time on a GPU.

Arrays are NumPy's inside, kernels run through `host`. As in CuPy nothing becomes a NumPy array by itself, NumPy arrays
do not mix with those of the device, reductions give arrays and not numbers, and only the names and parameters exist
that CuPy has (``cupy_names.json``). `installed` puts it where ``import cupy`` finds it.
"""

import functools
import inspect
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import scipy.fft
import scipy.ndimage

from cuda_host.host import HostModule

__all__ = ["COUNTS", "Counts", "counted", "installed", "ndarray"]

NAMES = json.loads(Path(__file__).with_name("cupy_names.json").read_text(encoding="utf-8"))
UFUNC = ("out", "dtype", "casting")
FROM_HOST = ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray")
"""Functions that take NumPy arrays, and bring them to the device."""
AS_ARRAYS = ("array_equal", "allclose")
"""Functions whose answer is a number in NumPy and an array in CuPy."""


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


class _Device:
    """The only device."""

    attributes: ClassVar = {"MultiProcessorCount": 2}
    compute_capability = "90"

    def __init__(self, index: Any = None) -> None:
        self.id = int(index or 0)
        if self.id != 0:
            raise RuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    def __int__(self) -> int:
        return self.id

    def __enter__(self) -> "_Device":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Device)

    def __hash__(self) -> int:
        return 0

    def synchronize(self) -> None:
        """There is nothing to wait for."""


def _refuse_host(x: Any, where: str) -> None:
    if isinstance(x, np.ndarray):
        raise TypeError(f"{where}: Unsupported type <class 'numpy.ndarray'>")
    if isinstance(x, list | tuple):
        for item in x:
            _refuse_host(item, where)


def _inside(x: Any) -> Any:
    """Replace arrays of the device by what they hold."""
    if isinstance(x, ndarray):
        return x._host
    if isinstance(x, list | tuple):
        items = [_inside(item) for item in x]
        return type(x)(*items) if hasattr(x, "_fields") else type(x)(items)
    return x


def _outside(x: Any) -> Any:
    """Make arrays of the device of what NumPy returns."""
    if isinstance(x, np.ndarray | np.generic):
        return ndarray(np.asarray(x))
    if isinstance(x, tuple):
        items = [_outside(item) for item in x]
        return type(x)(*items) if hasattr(x, "_fields") else tuple(items)
    return [_outside(item) for item in x] if isinstance(x, list) else x


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
    return _outside(result)


def _from_host(x: Any, **options: Any) -> np.ndarray:
    """Copy to the device: numbers alone, in the processor's byte order."""
    host = np.array(_inside(x), **options)
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
        return _launched(np.asarray(self._host[_inside(key)]), [self])

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, np.ndarray) and value.ndim:
            raise ValueError("Non-scalar `numpy.ndarray` cannot be used for fill")
        _count_indices(key)
        COUNTS.add("launch")
        self._host[_inside(key)] = _inside(value)

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Iterator["ndarray"]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<{self._host.shape} {self._host.dtype} on the device>"

    @property
    def device(self) -> _Device:
        return _Device()

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
            return _outside(member)
        return functools.partial(_call, member, f"ndarray.{name}", (self,))


def _count_indices(key: Any) -> None:
    """An index that is an array of the host is brought to the device without a word."""
    for index in key if isinstance(key, tuple) else (key,):
        if isinstance(index, np.ndarray | list):
            COUNTS.add("upload", np.asarray(index).nbytes)


def _call(function: Callable[..., Any], where: str, owners: tuple[Any, ...], /, *args: Any, **options: Any) -> Any:
    """Call a function of NumPy on what arrays of the device hold."""
    for value in (*args, *options.values()):
        _refuse_host(value, where)
    result = function(*_inside(args), **{name: _inside(value) for name, value in options.items()})
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
            result = getattr(self._host, name)(*_inside(other))
            return self if result is self._host else _outside(result)

        return apply

    for name in names:
        if name in NAMES["ndarray"]:
            setattr(ndarray, name, operator(name))


_add_operators()
ndarray.__module__ = "cupy"


def _check_parameters(where: str, parameters: str, args: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Refuse what CuPy's function does not take."""
    if not parameters:
        return
    if parameters == "ufunc":
        known, at_most = set(UFUNC), 4
    else:
        words = parameters.split(" ")
        known = {word.lstrip("*") for word in words}
        at_most = 99 if any(word[0] == "*" and word[1] != "*" for word in words) else len(words)
        if any(word.startswith("**") for word in words):
            known |= set(options)
    surplus = set(options) - known
    if surplus or len(args) > at_most:
        raise TypeError(f"{where}() takes {parameters}, got {len(args)} arguments and {sorted(options)}")


def _function(module: str, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of CuPy that does what NumPy's or SciPy's does."""
    where = f"{module}.{name}"
    parameters = NAMES["modules"][module][name]

    def call(*args: Any, **options: Any) -> Any:
        _check_parameters(where, parameters, args, options)
        result = _call(function, where, (), *args, **options)
        return _outside(np.asarray(result)) if name in AS_ARRAYS else result

    call.__name__ = call.__qualname__ = name
    return call


class LackingError(AttributeError, NotImplementedError):
    """CuPy has it, the stand-in does not: an AttributeError for those who ask with `hasattr`."""


class _Module(ModuleType):
    """A module of CuPy: its own members, and NumPy's or SciPy's under the names that CuPy has."""

    def __init__(self, name: str, twin: Any = None, **members: Any) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self._twin = twin
        self._names = NAMES["modules"].get(name, {})
        self.__dict__.update(members)
        self.__all__ = sorted(n for n in self._names if hasattr(twin, n) or n in members)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._names:
            raise AttributeError(f"module '{self.__name__}' has no attribute {name!r}")
        member = getattr(self._twin, name, inspect.Parameter.empty)
        if member is inspect.Parameter.empty:
            raise LackingError(f"{self.__name__}.{name} exists in CuPy; the stand-in lacks it")
        if callable(member) and not inspect.isclass(member):
            member = _function(self.__name__, name, member)
        self.__dict__[name] = member
        return member


def _array(a: Any, dtype: Any = None, copy: Any = True, order: str = "K", **options: Any) -> ndarray:
    return ndarray(_from_host(a, dtype=dtype, copy=True, order=order))


def _asarray(a: Any, dtype: Any = None, order: str | None = None, **options: Any) -> ndarray:
    if isinstance(a, ndarray) and dtype in (None, a._host.dtype) and order is None:
        return a
    return ndarray(_from_host(a, dtype=dtype, order=order or "K"))


def _ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    if isinstance(a, ndarray) and dtype in (None, a._host.dtype) and a._host.flags.c_contiguous:
        return a
    return ndarray(_from_host(a, dtype=dtype, order="C"))


def _asnumpy(a: Any, *args: Any, **options: Any) -> np.ndarray:
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def _creation(name: str) -> Callable[..., ndarray]:
    """Functions that fill new memory, or leave it as it is: here with a value that results would show."""

    def make(shape: Any, *args: Any, **options: Any) -> ndarray:
        _check_parameters(f"cupy.{name}", NAMES["modules"]["cupy"][name], (shape, *args), options)
        _refuse_host(shape, f"cupy.{name}")
        host = getattr(np, name)(shape, *args, **options)
        if name == "empty":
            host.view(np.uint8).fill(0xA5) if host.size and host.dtype.kind != "b" else host.fill(True)
        else:
            COUNTS.add("launch")
        return ndarray(host)

    return make


# --- compilation and launches ----------------------------------------------------------------------------------------


class _NVRTCError(RuntimeError):
    """As of CuPy's binding."""


class _Program:
    """A source, and the options that it was compiled with."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.options: list[str] = []


def _compile(program: _Program, options: list[str]) -> None:
    program.options = list(options)


def _cubin(program: _Program) -> bytes:
    defines = [o.removeprefix("-D") for o in program.options if o.startswith("-D")]
    return json.dumps({"source": program.source, "defines": defines}).encode()


class _Loaded:
    """Stands for ``cupy.cuda.function.Module``: what it loads is a source, which the host's compiler takes."""

    def load(self, cubin: bytes) -> None:
        text = json.loads(cubin)
        self._module = _host_module(text["source"], tuple(text["defines"]))

    def get_function(self, name: str) -> Callable[..., None]:
        kernel = self._module.get_function(name)

        def launch(grid: Any, block: Any, args: Any, *, shared_mem: int = 0) -> None:
            _refuse_host(list(args), name)
            COUNTS.add("launch")
            kernel(grid, block, _inside(tuple(args)), shared_mem=shared_mem)

        return launch


@functools.cache
def _host_module(source: str, defines: tuple[str, ...]) -> HostModule:
    return HostModule(source, defines=defines)


def _modules() -> dict[str, ModuleType]:
    """Everything that can be imported."""
    nvrtc = ModuleType("cupy.cuda.nvrtc")
    nvrtc.__dict__.update(
        NVRTCError=_NVRTCError,
        getVersion=lambda: ("stand-in", 1),
        getSupportedArchs=lambda: [90],
        createProgram=lambda source, name, *_: _Program(source),
        compileProgram=_compile,
        getCUBIN=_cubin,
        getPTX=_cubin,
        getProgramLog=lambda program: "",
        destroyProgram=lambda program: None,
    )
    runtime = _Module("cupy.cuda.runtime", getDevice=lambda: 0, getDeviceCount=lambda: 1)
    function, device = ModuleType("cupy.cuda.function"), ModuleType("cupy.cuda.device")
    function.__dict__["Module"], device.__dict__["Device"] = _Loaded, _Device
    stream = type("Stream", (), {"__module__": "cupy.cuda"})
    parts = {"runtime": runtime, "nvrtc": nvrtc, "function": function, "device": device}
    cuda = _Module("cupy.cuda", Device=_Device, Stream=stream, Module=_Loaded, **parts)
    fft, linalg = _Module("cupy.fft", np.fft), _Module("cupy.linalg", np.linalg)
    own = {name: _creation(name) for name in ("empty", "zeros", "ones", "full")}
    own |= {"array": _array, "asarray": _asarray, "asanyarray": _asarray, "asnumpy": _asnumpy}
    own |= {"ascontiguousarray": _ascontiguousarray, "ndarray": ndarray, "is_available": lambda: True}
    cupy = _Module("cupy", np, __version__=NAMES["version"], cuda=cuda, fft=fft, linalg=linalg, **own)
    scipy_fft, ndimage = _Module("cupyx.scipy.fft", scipy.fft), _Module("cupyx.scipy.ndimage", scipy.ndimage)
    cupyx_scipy = _Module("cupyx.scipy", fft=scipy_fft, ndimage=ndimage)
    cupyx = _Module("cupyx", scipy=cupyx_scipy)
    every = (cupy, cuda, *parts.values(), fft, linalg, cupyx, cupyx_scipy, scipy_fft, ndimage)
    return {module.__name__: module for module in every}


def _forget() -> None:
    """Forget the backends that were found, with CuPy or without."""
    from stackalign import backends
    from stackalign.backends.cuda import _compilation, _cupy

    for cached in (backends.load, backends._home_of, _cupy._runtime, _compilation._module, _compilation._function):
        cached.cache_clear()


@contextmanager
def installed() -> Iterator[None]:
    """Let ``import cupy`` find the stand-in."""
    ours = ("cupy", "cupyx", "array_api_compat.cupy")
    before = {n: m for n, m in sys.modules.items() if any(n == o or n.startswith(f"{o}.") for o in ours)}
    for name in before:
        del sys.modules[name]
    sys.modules.update(_modules())
    _forget()
    try:
        yield
    finally:
        for name in [n for n in sys.modules if any(n == o or n.startswith(f"{o}.") for o in ours)]:
            del sys.modules[name]
        sys.modules.update(before)
        _forget()
