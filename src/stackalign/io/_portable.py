"""Positioned reads and writes, and flags of `os.open`, also where the system has no calls for them, as on Windows."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["CLOEXEC", "pread", "preadv", "pwrite", "remove_tree"]

CLOEXEC = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""Files are not inherited by child processes, and are not text; both where the system knows such flags."""

_position = threading.Lock()
"""Where reading moves the position of the file, one thread reads at a time."""


def pread(fd: int, count: int, position: int) -> bytes:
    """See `os.pread`."""
    if hasattr(os, "pread"):
        return os.pread(fd, count, position)
    with _position:
        os.lseek(fd, position, os.SEEK_SET)
        return os.read(fd, count)


def pwrite(fd: int, data: Any, position: int) -> int:
    """See `os.pwrite`."""
    if hasattr(os, "pwrite"):
        return os.pwrite(fd, data, position)
    with _position:
        os.lseek(fd, position, os.SEEK_SET)
        return os.write(fd, data)


def preadv(fd: int, buffers: Sequence[Any], position: int) -> int:
    """See `os.preadv`."""
    if hasattr(os, "preadv"):
        return os.preadv(fd, buffers, position)
    total = 0
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        while len(view):
            part = pread(fd, len(view), position + total)
            if not part:
                return total
            view[: len(part)] = part
            view, total = view[len(part) :], total + len(part)
    return total


def remove_tree(folder: Path) -> None:
    """Delete a folder with all that is in it by names alone, as not every system opens folders; follow no links."""
    for place, folders, files in os.walk(folder, topdown=False):
        for name in files:
            Path(place, name).unlink()
        for name in folders:
            inner = Path(place, name)
            if inner.is_symlink():
                inner.unlink()
            else:
                inner.rmdir()
    folder.rmdir()
