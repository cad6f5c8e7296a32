"""Hardware: which devices there are, how many cores and how much memory may be used. Moves nothing."""

import ctypes
import functools
import operator
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import _blas
from .errors import StackalignWarning

__all__ = [
    "CudaDevice",
    "Device",
    "available_memory",
    "cuda_devices",
    "default_memory_limit",
    "default_workers",
    "format_bytes",
    "parse_bytes",
    "parse_device",
    "within_limit",
    "working",
]

_UNITS = {"": 1, "B": 1}
for _power, _letter in enumerate("KMGT", start=1):
    _UNITS |= {_letter: 1000**_power, f"{_letter}B": 1000**_power, f"{_letter}IB": 1024**_power}


@dataclass(frozen=True)
class Device:
    """A place for arrays: ``kind`` is "auto", "cpu" or "cuda", ``index`` the number of the GPU."""

    kind: str
    index: int = 0

    def __str__(self) -> str:
        return f"cuda:{self.index}" if self.kind == "cuda" else self.kind


@dataclass(frozen=True)
class CudaDevice:
    """What the driver says of one GPU. ``memory`` is in bytes."""

    index: int
    name: str
    memory: int


def parse_device(text: str | Device) -> Device:
    """Read "auto", "cpu", "cuda" or "cuda:n".

    Raises
    ------
    ValueError
        The text is none of these.
    """
    if isinstance(text, Device):
        return text
    match = re.fullmatch(r"(auto|cpu|cuda)(?::(\d+))?", text)
    if match is None or (match[2] is not None and match[1] != "cuda"):
        msg = f'device must be "auto", "cpu", "cuda" or "cuda:n", got {text!r}'
        raise ValueError(msg)
    return Device(match[1], int(match[2] or 0))


@functools.cache
def cuda_devices() -> tuple[CudaDevice, ...]:
    """List the GPUs that the NVIDIA driver knows; empty without a driver. Needs no CUDA package."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ()
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    devices = []
    for index in range(count.value):
        handle = ctypes.c_int()
        name = ctypes.create_string_buffer(256)
        memory = ctypes.c_size_t()
        driver.cuDeviceGet(ctypes.byref(handle), index)
        driver.cuDeviceGetName(name, len(name), handle)
        driver.cuDeviceTotalMem_v2(ctypes.byref(memory), handle)
        devices.append(CudaDevice(index, name.value.decode(errors="replace"), memory.value))
    return tuple(devices)


def default_workers() -> int:
    """Count the threads that this process may use where nobody says how many.

    The smallest of the cores that it may run on, the quota of its container, what the environment says
    (STACKALIGN_NUM_THREADS, else the smaller of NUMBA_NUM_THREADS and OMP_NUM_THREADS), the threads of the dask worker
    or this thread's share under dask's threaded scheduler, and the limit of ``threadpoolctl.threadpool_limits``. Within
    a function of ours that was given `workers`, at most those.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [_quota(_read_words, int(time.monotonic() // QUOTA_SECONDS)), _environment_threads(), _dask_threads(cores)]
    limits.append(_blas.caller_limit())
    return within_limit(min([cores, *(n for n in limits if n is not None)]))


QUOTA_SECONDS = 5.0
"""Time for which a quota that was read is believed."""

_limit: ContextVar[int | None] = ContextVar("stackalign_workers", default=None)


@contextmanager
def working(workers: Any) -> Iterator[None]:
    """Hold all that is called within to a number of threads; None, and what is not a number, change nothing."""
    try:
        n = operator.index(workers)
    except TypeError:
        n = 0
    token = _limit.set(n if n >= 1 else _limit.get())
    try:
        yield
    finally:
        _limit.reset(token)


def within_limit(n: int) -> int:
    """Threads, at most as many as the function of ours that is running was given."""
    limit = _limit.get()
    return n if limit is None else min(n, limit)


@functools.lru_cache(maxsize=1)
def _quota(read: Callable[[str], list[str]], _moment: int) -> int | None:
    """Cores' worth of time that control groups allow: the least of this process's group and of those above it."""
    least = None
    for folder, names in _groups(read):
        words = [word for name in names for word in read(f"{folder}/{name}")]
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]) > 0:
            n = max(1, int(words[0]) // int(words[1]))
            least = n if least is None else min(least, n)
    return least


def _groups(read: Callable[[str], list[str]]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Folders of the control groups that this process is in, with the files of quota and period, of both versions."""
    yield "/sys/fs/cgroup", ("cpu.max",)
    for name in ("cpu", "cpu,cpuacct"):
        yield f"/sys/fs/cgroup/{name}", ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    for line in read("/proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = f"/sys/fs/cgroup/{controllers}" if controllers else "/sys/fs/cgroup"
        files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
        parts = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(parts), 0, -1):
            yield "/".join([root, *parts[:depth]]), files


_doubted: set[tuple[str, str]] = set()


def _environment_threads() -> int | None:
    """Threads that the environment allows; a value without a meaning is named once and left out."""
    own = _threads_of("STACKALIGN_NUM_THREADS")
    if own is not None:
        return own
    others = [_threads_of(name) for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")]
    return min((n for n in others if n is not None), default=None)


def _threads_of(name: str) -> int | None:
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    outermost = text.partition(",")[0].strip()  # OpenMP takes a number for each level of nesting
    if outermost.isdecimal() and int(outermost) > 0:
        return int(outermost)
    if (name, text) not in _doubted:
        _doubted.add((name, text))
        msg = f"{name}={text!r} is no number of threads above 0 and is ignored"
        warnings.warn(msg, StackalignWarning, stacklevel=4)
    return None


def _dask_threads(cores: int) -> int | None:
    """Threads of the dask worker that runs this, or the share of a thread of dask's pool; imports nothing."""
    distributed: Any
    threaded: Any
    distributed, threaded = sys.modules.get("distributed"), sys.modules.get("dask.threaded")
    if distributed is not None and hasattr(distributed, "get_worker"):
        try:
            worker = distributed.get_worker()
        except (ValueError, AttributeError):  # not within a task
            worker = None
        if worker is not None:
            return max(1, int(getattr(worker, "state", worker).nthreads))
    if threaded is not None:
        pools = [threaded.default_pool, *(pool for some in list(threaded.pools.values()) for pool in some.values())]
        for pool in pools:
            prefix = getattr(pool, "_thread_name_prefix", None)
            if prefix and threading.current_thread().name.startswith(f"{prefix}_"):
                return max(1, cores // int(pool._max_workers))
    return None


def _read_words(path: str) -> list[str]:
    """Words of a small kernel file; none where the system does not have it."""
    file = Path(path)
    try:
        return file.read_text().split() if file.is_file() else []
    except OSError:
        return []


def available_memory() -> int:
    """Memory that can be had now, in bytes: of the machine, or less where the container's limit is lower."""
    words = _read_words("/proc/meminfo")
    available = int(words[words.index("MemAvailable:") + 1]) * 1024 if "MemAvailable:" in words else 4 * 1024**3
    limit, used = _read_words("/sys/fs/cgroup/memory.max"), _read_words("/sys/fs/cgroup/memory.current")
    if limit and used and limit[0].isdigit():
        available = min(available, max(0, int(limit[0]) - int(used[0])))
    return available


def default_memory_limit() -> int:
    """Memory that a long run takes unless told otherwise: a quarter of what is available, 4 GB at most."""
    return min(available_memory() // 4, 4 * 10**9)


def parse_bytes(text: str | int) -> int:
    """Read a size such as ``512MB``, ``2GiB`` or ``1000000``.

    Raises
    ------
    ValueError
        The text is not a positive number with one of the units B, KB, MB, GB, TB, KiB, MiB, GiB, TiB.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([A-Za-z]*)\s*", str(text))
    n = 0 if match is None else int(float(match[1]) * _UNITS.get(match[2].upper(), 0))
    if n < 1:
        msg = f"a size must be a positive number with a unit such as MB or GiB, got {text!r}"
        raise ValueError(msg)
    return n


def format_bytes(n: float) -> str:
    """Write a size with three digits, in units of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(n) < 999.5:
            return f"{n:.0f} {unit}" if unit == "B" or abs(n) >= 99.95 else f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"
