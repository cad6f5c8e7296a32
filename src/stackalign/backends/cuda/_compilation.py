# SPDX-License-Identifier: BSD-3-Clause
"""CUDA sources as CuPy kernels, compiled once per file, element type and architecture.

CuPy's own way to compile a source appends options, among them one that takes subnormal numbers for 0, which the host
does not. The machine code is therefore made here, with exactly the options that the checks without a GPU use, and CuPy
loads it.
"""

import functools
import hashlib
import logging
import os
import uuid
from pathlib import Path
from typing import Any, cast

import numpy as np

from stackalign.errors import BackendUnavailableError

from ._runtime import Kernel, defines

__all__ = ["OPTIONS", "architecture_option", "compile_kernels", "function", "kept_or_compiled"]

_log = logging.getLogger("stackalign.kernels")

OPTIONS = ("--std=c++17", "--fmad=false", "--ftz=false")
"""Without fused multiply-add, and with subnormal numbers: sums and distances must have the same bits as on the host."""


def architecture_option(nvrtc: Any, capability: str) -> str:
    """Option of NVRTC for a GPU: its own code, or, for one newer than NVRTC, what the driver translates."""
    known, asked = nvrtc.getSupportedArchs(), int(capability)
    if asked in known:
        return f"--gpu-architecture=sm_{asked}"
    return f"--gpu-architecture=compute_{max((a for a in known if a < asked), default=min(known))}"


def compile_kernels(nvrtc: Any, source: str, options: tuple[str, ...]) -> bytes:
    """Compile a source with CuPy's binding of NVRTC, to what a GPU or its driver loads.

    Raises
    ------
    BackendUnavailableError
        NVRTC refuses the options or the source; the text is its log.
    """
    program = nvrtc.createProgram(source, "kernels.cu", [], [])
    try:
        nvrtc.compileProgram(program, list(options))
        if any(option.startswith("--gpu-architecture=compute_") for option in options):
            return bytes(nvrtc.getPTX(program)) + b"\0"
        return bytes(nvrtc.getCUBIN(program))
    except nvrtc.NVRTCError as error:
        log = nvrtc.getProgramLog(program)
        msg = f"the CUDA kernels cannot be compiled for this GPU with NVRTC {nvrtc.getVersion()}: {log or error}"
        raise BackendUnavailableError(msg) from error
    finally:
        nvrtc.destroyProgram(program)


def kept_or_compiled(nvrtc: Any, source: str, options: tuple[str, ...], folder: Path | None) -> bytes:
    """Return machine code that a folder holds, or make it, and keep it there for the next process."""
    key = hashlib.sha256("\n".join([source, *options, repr(nvrtc.getVersion())]).encode()).hexdigest()[:32]
    file = None if folder is None else folder / f"{key}.cubin"
    if file is not None and file.is_file():
        return file.read_bytes()
    code = compile_kernels(nvrtc, source, options)
    if file is not None:
        try:
            _publish(file, code)
        except OSError as error:
            _log.warning("%s: compiled CUDA kernels cannot be kept in %s", error.strerror or error, file.parent)
    return code


def _publish(file: Path, code: bytes) -> None:
    """Write under a name of its own, then rename: another process must never load half a file."""
    part = file.with_suffix(f".{uuid.uuid4().hex}")
    try:
        part.write_bytes(code)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


@functools.cache
def _folder() -> Path | None:
    """Return the folder of machine code, beside the compiled CPU kernels; None where none can be used."""
    from stackalign_kernels import cache_folder

    kept = cache_folder()
    if not kept:
        return None
    try:
        folder = Path(kept) / "cuda"
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


@functools.cache
def _module(kernel_file: str, dtype: np.dtype[Any] | None, device: int) -> Any:
    import cupy
    from cupy.cuda import nvrtc

    from stackalign_kernels import cuda_source

    architecture = architecture_option(nvrtc, cupy.cuda.Device(device).compute_capability)
    options = (architecture, *OPTIONS, *(f"-D{d}" for d in defines(dtype)))
    module = cupy.cuda.function.Module()
    module.load(kept_or_compiled(nvrtc, cuda_source(kernel_file), options, _folder()))
    return module


@functools.cache
def _function(kernel_file: str, entry: str, dtype: np.dtype[Any] | None, device: int) -> Kernel:
    return cast("Kernel", _module(kernel_file, dtype, device).get_function(entry))


def function(kernel_file: str, entry: str, dtype: np.dtype[Any] | None) -> Kernel:
    """Return an entry of a kernel file for the current device; no dtype where the file has no element type."""
    import cupy

    element = None if dtype is None else np.dtype(dtype)  # np.dtype(None) is float64
    return _function(kernel_file, entry, element, cupy.cuda.runtime.getDevice())
