"""Run CUDA C++ kernels on the host: compile the flattened text with `cuda_host.h` and call it through ctypes.

`HostModule` stands where ``cupy.RawModule`` stands on a GPU, and a kernel has the call form of ``cupy.RawKernel``.
It is stricter than CuPy: the number of the arguments, their types and whether an array may be written are checked
against the kernel's signature, because a wrong argument on a GPU is read as garbage without a word.
"""

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conformance.kept import once

__all__ = ["HostModule", "kernel_names", "sanitizer_environment", "unavailable"]

HERE = Path(__file__).parent
HEADERS = sorted(HERE.glob("cuda_host*.h"))
BASE_FLAGS = ("-std=c++17", "-fPIC", "-shared", "-ffp-contract=off", "-fno-gnu-unique", "-U_FORTIFY_SOURCE", "-w")
SANITIZER_FLAGS = {
    None: (),
    "address": (
        "-g",
        "-fno-omit-frame-pointer",
        "-fno-tree-sink",  # else the check moves with the number into the branch that uses it, and is not reached
        "-fsanitize=address,undefined,float-cast-overflow",
        "-fno-sanitize-recover=undefined,float-cast-overflow",
    ),
    "thread": ("-g", "-fsanitize=thread"),
}
LIBRARIES = {"address": "libasan.so", "thread": "libtsan.so"}
# Exit statuses that nothing else uses, so that a report cannot be mistaken for a crash or the other way round.
OPTIONS = {
    "address": {"ASAN_OPTIONS": "detect_leaks=0:exitcode=65", "UBSAN_OPTIONS": "print_stacktrace=1:exitcode=65"},
    "thread": {"TSAN_OPTIONS": "exitcode=66:halt_on_error=1"},
}
ENTRY = re.compile(
    r'extern\s+"C"\s+__global__\s+(?:__launch_bounds__\s*\((?P<before>[^;{]*?)\)\s*)?'
    r"void\s+(?:__launch_bounds__\s*\((?P<after>[^;{]*?)\)\s*)?(?P<name>\w+)\s*\("
)


def unavailable(*sanitizers: str) -> str | None:
    """Say why kernels cannot be built for the host (and run under the sanitizers), or return None."""
    if os.uname().sysname != "Linux" or os.uname().machine != "x86_64":
        return "the CUDA shim needs Linux on x86-64"
    if not shutil.which("g++"):
        return "g++ is not installed"
    missing = [LIBRARIES[s] for s in sanitizers if not Path(_sanitizer_library(s)).is_file()]
    return f"g++ comes without {', '.join(missing)}" if missing else None


@functools.cache
def _sanitizer_library(sanitizer: str) -> str:
    """Return the path of the library, or its bare name where g++ has none."""
    return _gpp([f"-print-file-name={LIBRARIES[sanitizer]}"]).strip()


def sanitizer_environment(sanitizer: str) -> dict[str, str]:
    """Return the environment for a subprocess in which modules built with the sanitizer can be loaded."""
    # Threads of a linear algebra library would only add noise and time.
    single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **OPTIONS[sanitizer], **single, "LD_PRELOAD": _sanitizer_library(sanitizer)}


def kernel_names(source: str, defines: Sequence[str] = ()) -> dict[str, str]:
    """Return each entry ``extern "C" __global__ void name(`` with its greatest number of threads, as C++ text.

    The text is run through the preprocessor first, because entries for several types come out of macros.
    """
    flags = ["-D__CUDA_HOST_SHIM__", *(f"-D{d}" for d in defines)]
    expanded = _gpp(["-E", "-P", "-w", "-x", "c++", *flags, "-"], source)
    return {
        found["name"]: (found["before"] or found["after"] or "1024").split(",")[0].strip()
        for found in ENTRY.finditer(expanded)
    }


class HostModule:
    """The kernels of one flattened CUDA text, built for the host.

    Parameters
    ----------
    source : str
        CUDA C++ without ``#include``.
    defines : sequence of str
        ``NAME`` or ``NAME=VALUE``, as after ``-D``.
    sanitizer : {None, "address", "thread"}
        "address" includes the sanitizer of undefined behaviour. Needs the environment of `sanitizer_environment`.
    optimize : str, optional
        The compiler's optimisation option. -O2 takes the compiler half as long again, and the tests no less.
    """

    def __init__(
        self, source: str, *, defines: Sequence[str] = (), sanitizer: str | None = None, optimize: str = "-O1"
    ) -> None:
        if sanitizer is not None and LIBRARIES[sanitizer] not in os.environ.get("LD_PRELOAD", ""):
            raise RuntimeError(
                f"modules built with sanitizer={sanitizer!r} load only where {LIBRARIES[sanitizer]} is preloaded"
            )
        flags = [*BASE_FLAGS, optimize, *SANITIZER_FLAGS[sanitizer], *(f"-D{d}" for d in defines)]
        self._library = ctypes.CDLL(str(_build(source, defines, flags)))
        self._library.ch_kernels.restype = ctypes.c_char_p
        self.kernels = self._library.ch_kernels().decode().split()
        self._library.ch_message.restype = ctypes.c_char_p
        self._lock = threading.Lock()  # a module has one set of fibres

    def get_function(self, name: str) -> Callable[..., None]:
        """Return the kernel as a callable ``kernel(grid, block, args, shared_mem=0)``."""
        if name not in self.kernels:
            raise KeyError(f"no kernel {name!r}; there are {sorted(self.kernels)}")
        signature = getattr(self._library, f"ch_signature_{name}")
        signature.restype = ctypes.c_char_p
        parameters = signature().decode().split()
        run = getattr(self._library, f"ch_run_{name}")

        def kernel(grid: Sequence[int], block: Sequence[int], args: Sequence[Any], *, shared_mem: int = 0) -> None:
            if len(args) != len(parameters):
                raise TypeError(f"{name}: {len(args)} arguments were given for {len(parameters)} parameters")
            values = [
                _value(arg, p, f"{name}, argument {i}") for i, (arg, p) in enumerate(zip(args, parameters, strict=True))
            ]
            pointers = (ctypes.c_void_p * len(values))(*(v.ctypes.data for v in values))
            dims = (ctypes.c_uint * 6)(*_three(grid), *_three(block))
            with self._lock:
                code = run(dims, ctypes.c_size_t(shared_mem), pointers)
                message = self._library.ch_message().decode()
            if code:
                raise RuntimeError(f"{name}: {message} (code {code})")

        return kernel


def _three(size: Sequence[int]) -> tuple[int, int, int]:
    """Fill up a grid or a block to three dimensions."""
    x, y, z = (*(int(n) for n in size), 1, 1)[:3]
    return x, y, z


def _value(arg: Any, parameter: str, where: str) -> np.ndarray:
    """Check one argument against its parameter and return an array whose first element is what the kernel is given."""
    access, expected = parameter.split(":")
    if arg is None or isinstance(arg, np.ndarray):
        if access == "v":
            raise TypeError(f"{where}: an array (or None) for a parameter that is a number of type {expected}")
        if arg is None:
            return np.zeros(1, np.uintp)
        if not arg.flags.c_contiguous:
            raise TypeError(f"{where}: the array is not C-contiguous")
        if access == "w" and not arg.flags.writeable:
            raise TypeError(f"{where}: a read-only array for a pointer to memory that may be written")
        _check_type(arg.dtype, expected, where)
        return np.array([arg.ctypes.data], np.uintp)
    if not isinstance(arg, np.generic):
        raise TypeError(f"{where}: {type(arg).__name__}; pass numbers with a width, such as np.int32(n)")
    if access != "v":
        raise TypeError(f"{where}: a number for a parameter that is a pointer")
    _check_type(arg.dtype, expected, where)
    return np.array([arg])


def _check_type(dtype: np.dtype[Any], expected: str, where: str) -> None:
    """Compare a dtype with a code such as f8; one-byte integers and booleans are interchangeable, V is any type."""
    given = f"{dtype.kind}{dtype.itemsize}"
    bytes_ = {"b1", "u1", "i1"}
    if not dtype.isnative or (given != expected and not expected.startswith("V") and not {given, expected} <= bytes_):
        raise TypeError(f"{where}: {dtype.str} for a parameter of type {expected}")


def _wrap(source: str, kernels: dict[str, str]) -> str:
    """Make the C++ file. With internal linkage, shared variables of templates can lie in the section of the others."""
    exports = "\n".join(f"CUDA_HOST_EXPORT({name}, ({bound}))" for name, bound in kernels.items())
    exports += f'\nCH_EXPORTED const char* ch_kernels() {{ return "{" ".join(kernels)}"; }}'
    return f'#include "cuda_host.h"\nnamespace {{\n#line 1 "kernels.cu"\n{source}\n}}\n{exports}\n'


def _build(source: str, defines: Sequence[str], flags: Sequence[str]) -> Path:
    """Compile into the cache, whose key is all that goes in, and return the library."""
    digest = hashlib.sha256()
    for part in (_compiler(), *flags, *(f.read_text() for f in (Path(__file__), *HEADERS)), source):
        digest.update(part.encode() + b"\0")

    def make(library: Path) -> None:
        kernels = kernel_names(source, defines)
        if not kernels:
            raise RuntimeError('the source has no entry of the form extern "C" __global__ void name(')
        wrapper = library.with_name("kernels.cpp")
        wrapper.write_text(_wrap(source, kernels))
        _gpp([*flags, f"-I{HERE}", str(wrapper), "-o", str(library)])

    return once(f"{digest.hexdigest()[:32]}.so", make)


@functools.cache
def _compiler() -> str:
    return _gpp(["-v", "-E", "-x", "c++", "/dev/null"], want_stderr=True)


def _gpp(arguments: Sequence[str], text: str | None = None, *, want_stderr: bool = False) -> str:
    """Run g++, outside any sanitizer that this process itself is under."""
    environment = {**os.environ, "LC_ALL": "C"}
    environment.pop("LD_PRELOAD", None)
    done = subprocess.run(["g++", *arguments], input=text, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"g++ failed\n{done.stderr}")
    return done.stderr if want_stderr else done.stdout
