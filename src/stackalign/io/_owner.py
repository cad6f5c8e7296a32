"""Names that say which process made a file, and whether that process is still there."""

import functools
import hashlib
import itertools
import os
import re
import socket
from pathlib import Path

__all__ = ["is_left_behind", "owner_token"]

_PATTERN = re.compile(r"([0-9a-f]{8})-(\d+)-(\d+)-\d+")
_counter = itertools.count()


def owner_token() -> str:
    """Return a new name that no other process, thread or call on any host uses."""
    return f"{_host()}-{_self(os.getpid())}-{next(_counter)}"


def is_left_behind(name: str) -> bool:
    """Tell whether a name begins with the token of a process of this host that is gone.

    A process of another host, or of another container, cannot be asked; its files are never taken for left behind.
    """
    match = _PATTERN.match(name)
    if match is None or match[1] != _host():
        return False
    pid, started = int(match[2]), int(match[3])
    now = _start_time(pid)
    if now is not None:
        return now != started  # the number was given to another process since
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


@functools.cache  # a process that was forked asks again, with its own number
def _self(pid: int) -> str:
    return f"{pid}-{_start_time(pid) or 0}"


@functools.cache
def _host() -> str:
    """Identify the host and, on Linux, the space of process numbers: containers of one host have several."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256(f"{socket.gethostname()}\0{space}".encode()).hexdigest()[:8]


def _start_time(pid: int) -> int | None:
    """Return when a process began, in the clock ticks of Linux; None where it is gone or cannot be seen."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    # A process that has ended but was not yet waited for writes nothing any more.
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
