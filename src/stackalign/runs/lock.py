"""One run per output: a lock file beside it that names host, process and start."""

import errno
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from stackalign.errors import DataError, OutputLockedError
from stackalign.io._owner import is_left_behind, owner_token
from stackalign.io._portable import CLOEXEC, pread, pwrite
from stackalign.io._writer import full_disk_as_data_error

__all__ = ["OutputLock"]

_UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class OutputLock:
    """The right to write an output, held by one process on one host.

    The lock is one of the kernel (`flock`), so that it ends with its process, however that ends. The text of the file
    names the holder, for the message to a second run; where the file system has no locks across hosts, it decides.

    Parameters
    ----------
    output : Path
        The lock file is ``.NAME.lock`` in its folder.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        self.path = output.with_name(f".{output.name}.lock")
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock, also over from a dead process of this host.

        Raises
        ------
        OutputLockedError
            Another run writes this output.
        DataError
            The folder cannot be written.
        """
        with full_disk_as_data_error(self.path, str(self._output)):
            while self._fd is None:
                self._try()

    def _try(self) -> None:
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | CLOEXEC, 0o666)
        try:
            free = _lock(fd)
            if free is False:
                raise self._refusal(_owner(fd))
            if not _is_still(fd, self.path):  # released, and removed, between our opening and locking it
                os.close(fd)
                return
            owner = _owner(fd)
            here = owner.get("host") == socket.gethostname()
            if owner and not (here and (free or is_left_behind(str(owner.get("token"))))):
                raise self._refusal(owner)
            os.ftruncate(fd, 0)
            pwrite(fd, json.dumps(_me()).encode(), 0)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def _refusal(self, owner: dict[str, Any]) -> OutputLockedError:
        who = f"process {owner.get('pid', '?')} on {owner.get('host', '?')}, since {owner.get('time', '?')}"
        elsewhere = owner.get("host") not in (None, socket.gethostname())
        remedy = f"if that run has ended, delete {self.path}" if elsewhere else "wait for it, or choose another output"
        msg = f"output {self._output} is being written by another run ({who}); {remedy}"
        return OutputLockedError(msg)

    def release(self) -> None:
        """Give the lock back and remove its file."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            if _is_still(fd, self.path):
                self.path.unlink()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EROFS, errno.EACCES, errno.EPERM):
                msg = f"the lock {self.path} cannot be removed ({error.strerror}); delete it"
                raise DataError(msg) from error
        finally:
            os.close(fd)


def _lock(fd: int) -> bool | None:
    """Take the kernel's lock; None where the file system has none, and the file's content has to decide."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if error.errno in _UNSUPPORTED:
            return None
        raise
    return True


def _is_still(fd: int, path: Path) -> bool:
    """Tell whether a path still names the open file."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _me() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "token": owner_token(),
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _owner(fd: int) -> dict[str, Any]:
    """What a lock file says of its holder; nothing where it is empty or torn."""
    try:
        owner = json.loads(pread(fd, 4096, 0) or b"{}")
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}
