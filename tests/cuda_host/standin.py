"""A stand-in of CuPy without a device: strict where CuPy is, and counting what costs time on a GPU.

Arrays are NumPy's inside, kernels run through `host`. As in CuPy nothing becomes a NumPy array by itself, NumPy arrays
do not mix with those of the device, reductions give arrays and not numbers, and only the names and parameters exist
that CuPy has (``cupy_names.json``). `installed` puts it where ``import cupy`` finds it.
"""

import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import scipy.fft
import scipy.ndimage

from cuda_host.device_array import (
    COUNTS,
    NAMES,
    Device,
    call,
    counted,
    from_host,
    inside,
    ndarray,
    outside,
    refuse_host,
)
from cuda_host.host import HostModule

__all__ = ["COUNTS", "counted", "installed", "ndarray"]

UFUNC = ("out", "dtype", "casting")
AS_ARRAYS = ("array_equal", "allclose")
"""Functions whose answer is a number in NumPy and an array in CuPy."""


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

    def checked(*args: Any, **options: Any) -> Any:
        _check_parameters(where, parameters, args, options)
        result = call(function, where, (), *args, **options)
        return outside(np.asarray(result)) if name in AS_ARRAYS else result

    checked.__name__ = checked.__qualname__ = name
    return checked


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
    return ndarray(from_host(a, dtype=dtype, copy=True, order=order))


def _asarray(a: Any, dtype: Any = None, order: str | None = None, **options: Any) -> ndarray:
    if isinstance(a, ndarray) and dtype in (None, a._host.dtype) and order is None:
        return a
    return ndarray(from_host(a, dtype=dtype, order=order or "K"))


def _ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    if isinstance(a, ndarray) and dtype in (None, a._host.dtype) and a._host.flags.c_contiguous:
        return a
    return ndarray(from_host(a, dtype=dtype, order="C"))


def _asnumpy(a: Any, *args: Any, **options: Any) -> np.ndarray:
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def _creation(name: str) -> Callable[..., ndarray]:
    """Functions that fill new memory, or leave it as it is: here with a value that results would show."""

    def make(shape: Any, *args: Any, **options: Any) -> ndarray:
        _check_parameters(f"cupy.{name}", NAMES["modules"]["cupy"][name], (shape, *args), options)
        refuse_host(shape, f"cupy.{name}")
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
            refuse_host(list(args), name)
            COUNTS.add("launch")
            kernel(grid, block, inside(tuple(args)), shared_mem=shared_mem)

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
    function.__dict__["Module"], device.__dict__["Device"] = _Loaded, Device
    stream = type("Stream", (), {"__module__": "cupy.cuda"})
    parts = {"runtime": runtime, "nvrtc": nvrtc, "function": function, "device": device}
    cuda = _Module("cupy.cuda", Device=Device, Stream=stream, Module=_Loaded, **parts)
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
