"""Faults: at a counted event, permissions that hold for root too, small disks, a device without memory."""

import ctypes
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stackalign import backends
from stackalign.backends import Backend

__all__ = ["MAY_MOUNT", "at_event", "deny", "fill_device", "mounted", "obey_permissions"]

_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.listdir", "os.scandir"}
"""What the interpreter tells audit hooks of when something in the folder of the outputs is touched."""

_CALLS = ("fsync", "pwrite")
"""Of `os`, of which audit hooks are not told."""

_VERSION_3 = 0x20080522
_OVERRIDE = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""


def at_event(out: Path, number: int, act: Callable[[], object]) -> Callable[[], int]:
    """Act just before the event of that number, from 0, of what this process does with the folder of its outputs.

    Returns
    -------
    callable
        How many events there were.
    """
    count, busy = 0, False

    def met() -> None:
        nonlocal count, busy
        if busy:
            return
        count += 1
        if count == number + 1:
            busy = True
            act()
            busy = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        if os.fsdecode(arguments[0]).startswith(str(out)):
            met()

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any) -> Any:
            met()
            return function(*arguments)

        return call

    sys.addaudithook(hook)
    for name in _CALLS:
        setattr(os, name, counted(getattr(os, name)))
    return lambda: count


def obey_permissions() -> None:
    """Give up the right of root to read and write what the permissions of files forbid; see capabilities(7)."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, data):
        raise OSError(ctypes.get_errno(), "capget")
    for k in range(3):  # effective, permitted and inheritable ones of the first 32
        data[k] &= ~_OVERRIDE
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


def deny(folder: Path) -> list[Path]:
    """Let nothing be made or removed in a folder and in those of its unfinished runs; returns them, the folder last."""
    folders = [path for path in (*folder.glob("*.partial"), folder) if path.is_dir()]
    for path in folders:
        path.chmod(0o500)
    return folders


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[Callable[[], object]]:
    """Make a folder a file system of some bytes; gives a function that makes it large."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True, capture_output=True)
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _may_mount() -> bool:
    """Tell whether this process may mount, by doing it."""
    with TemporaryDirectory() as folder:
        try:
            with mounted(Path(folder), 4096):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


MAY_MOUNT = os.name == "posix" and os.geteuid() == 0 and _may_mount()


def fill_device(first: int, count: int) -> Callable[[], int]:
    """Let the calls first..first+count of the backend of this process fail as CuPy's do where a GPU is full.

    Returns
    -------
    callable
        How many calls there were.
    """
    backend: Any = backends.load("cpu")
    calls = 0

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if first < calls <= first + count:
                msg = "Out of memory allocating 1,073,741,824 bytes (allocated so far: 84,000,000,000 bytes)."
                raise MemoryError(msg)
            return function(*arguments, **options)

        return call

    for name in vars(Backend):
        function = getattr(backend, name, None)
        if not name.startswith("_") and callable(function) and name not in ("asarray", "to_numpy", "unavailable"):
            setattr(backend, name, guarded(function))
    return lambda: calls
